//! A refused password is sent once (RFC 6749 section 4.3), in whatever words it is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Script, answer, build, elsewhen, literal};
use keyfob_auth_core::{
    CredentialProvider, ErrorKind, Session, TokenRequest, store::MemoryStore, testing::FakeClock,
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};

fn alice(issuer: &str) -> OidcBuilder {
    Oidc::builder(issuer, "cli").flow(Flow::Password).username("alice").password(literal("alice-password"))
}

/// Its clock says 2030.
fn session(builder: OidcBuilder) -> (Arc<FakeClock>, Session) {
    let (clock, context) = elsewhen();
    let provider = builder.build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    (clock, session)
}

#[tokio::test]
async fn rfc6749_4_3_whatever_the_server_refuses_a_password_with_it_is_sent_once() {
    use ErrorKind::{InteractionRequired, Refused};
    let said = |status, code: &str| Fault::OAuthError { status, error: code.into(), description: None };
    for (fault, kind) in [
        (said(400, "invalid_grant"), Refused),
        (said(401, "invalid_grant"), Refused),
        (said(400, "invalid_credentials"), Refused),
        (said(401, "access_denied"), Refused),
        (said(403, "mfa_required"), Refused),
        (said(400, "interaction_required"), InteractionRequired),
        (said(400, "login_required"), InteractionRequired),
        (Fault::status(400), Refused),
        (Fault::status(401), Refused),
        (Fault::status(403), Refused),
        (Fault::status(302), Refused),
        (Fault::Html(400), Refused),
        (Fault::Html(401), Refused),
    ] {
        let server = AuthorizationServer::start(Settings::default()).await;
        server.faults().set_always(Endpoint::Token, Some(fault.clone()));
        let (clock, session) = session(alice(server.issuer()).scopes(["read"]));
        for _ in 0..5 {
            let error = session.token().await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            let named = error.to_string().contains("\"alice\" or its password was refused");
            assert_eq!(named, error.oauth_error() == Some("invalid_grant"), "{error}");
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(server.counters().token, 1, "{fault:?}: a second try might lock the account");
    }
}

#[tokio::test]
async fn a_password_whose_id_token_is_refused_is_sent_once() {
    let server = AuthorizationServer::start(Settings::default()).await;
    // By this clock it has expired.
    let (clock, expired) = session(alice(server.issuer()).scopes(["openid"]));
    for _ in 0..5 {
        let error = expired.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(server.counters().token, 1);
    if cfg!(feature = "jose") {
        server.faults().set_always(Endpoint::Jwks, Some(Fault::status(404)));
        let (clock, keyless) = session(alice(server.issuer()).scopes(["openid"]));
        for _ in 0..5 {
            assert!(keyless.token().await.unwrap_err().to_string().contains("keys"));
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(server.counters().token, 2);
    }
}

#[tokio::test]
async fn an_overloaded_server_and_one_that_was_not_asked_have_refused_no_password() {
    for (endpoint, fault, requests) in [
        (Endpoint::Token, Fault::status(503), 2),
        (Endpoint::Token, Fault::too_many_requests(Some(1)), 2),
        (Endpoint::Token, Fault::oauth_error("temporarily_unavailable"), 2),
        (Endpoint::Discovery, Fault::status(403), 1),
    ] {
        let server = AuthorizationServer::start(Settings::default()).await;
        server.faults().set_always(endpoint, Some(fault.clone()));
        let (clock, session) = session(alice(server.issuer()).scopes(["read"]));
        session.token().await.unwrap_err();
        server.faults().set_always(endpoint, None);
        clock.advance(Duration::from_secs(3600));
        session.token().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(server.counters().token, requests, "{fault:?}");
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_id_token_that_was_asked_for_and_did_not_come_is_missed() {
    for (scopes, missed) in [("openid read", true), ("read", false)] {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let script =
            Script::start([answer("200 OK", r#"{"access_token":"at","token_type":"Bearer"}"#)]).await;
        let provider = build(alice(&script.url).token_endpoint(&script.url).scopes(scopes.split(' ')));
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
        drop(guard);
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.contains("no ID token came"), missed, "{said}");
    }
}
