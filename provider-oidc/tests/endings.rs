//! What a logout does at the server, and what it says that it did.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use common::{build, device, last, literal};
use keyfob_auth_core::{CredentialProvider, ErrorKind, ExposeSecret, Login, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc};

/// Alice's login, with an ID token, at a provider that ends her session too.
async fn logged_in(server: &AuthorizationServer) -> (Oidc, Login) {
    let alice = device(server).flow(Flow::Password).username("alice").password(literal("alice-password"));
    let provider = build(alice.end_session(true));
    let login = provider.acquire(&TokenRequest::default(), None).await.unwrap().login.unwrap();
    assert!(login.refresh_token.is_some() && login.id_token.is_some());
    server.reset_counters();
    (provider, login)
}

#[tokio::test]
async fn rp_initiated_logout_2_the_id_token_is_posted_and_in_no_url() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (provider, login) = logged_in(&server).await;
    provider.revoke(&login, &[]).await.unwrap();
    assert_eq!((server.counters().revocation, server.counters().end_session), (1, 1));
    let sent = last(&server, "/end_session");
    let hint = login.id_token.as_ref().unwrap().expose_secret();
    assert_eq!((sent.method.as_str(), sent.parameter("id_token_hint")), ("POST", Some(hint)));
    assert_eq!(sent.parameter("client_id"), Some("cli"));
    assert!(sent.query.is_empty(), "{:?}", sent.query);
}

#[tokio::test]
async fn what_could_not_be_done_is_said_whichever_it_is() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let revocation = (Endpoint::Revocation, Fault::oauth_error("unsupported_token_type"));
    let session = (Endpoint::EndSession, Fault::status(400));
    for (faults, said) in [
        (vec![revocation.clone()], vec!["the revocation was refused"]),
        (vec![session.clone()], vec!["the refresh token was revoked, but the logout"]),
        (vec![revocation, session], vec!["the revocation was refused", "and the logout"]),
    ] {
        let (provider, login) = logged_in(&server).await;
        for (endpoint, fault) in faults {
            server.faults().push(endpoint, fault);
        }
        let error = provider.revoke(&login, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        for part in said {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert_eq!((server.counters().revocation, server.counters().end_session), (1, 1), "both are tried");
    }
}

#[tokio::test]
async fn without_a_refresh_token_the_session_is_what_can_be_ended() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (provider, login) = logged_in(&server).await;
    let login = Login { refresh_token: None, ..login };
    provider.revoke(&login, &[]).await.unwrap();
    assert_eq!((server.counters().revocation, server.counters().end_session), (0, 1));
    let error = build(device(&server)).revoke(&login, &[]).await.unwrap_err();
    assert!(error.message().contains("nothing to revoke"), "{error}");
    assert_eq!(server.requests().len(), 1, "the logout before");
}
