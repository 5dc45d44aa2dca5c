//! Renewals lose no rotated refresh token, and none is spent in vain (RFC 6749 section 6, RFC 9449 section 5).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Script, answer, build, device, literal, login};
use keyfob_auth_core::{
    AccessToken, Binding, Context, CredentialProvider, ErrorKind, ExposeSecret, Login, Session, TokenRequest,
    TokenStore as _, store::MemoryStore,
};
use keyfob_idp::server::{
    AuthorizationServer, Endpoint, Fault, IdToken, IdTokenHook, IdTokenSignature, Settings,
};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use serde_json::json;

/// Alice by her password, at the public client.
fn alice(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "cli")
        .flow(Flow::Password)
        .username("alice")
        .password(literal("alice-password"))
        .scopes(["openid", "read"])
        .token_endpoint(server.token_endpoint())
        .timeout(Duration::from_secs(60))
}

/// A process of its own, but for the store.
fn session(builder: OidcBuilder, store: &Arc<MemoryStore>) -> Session {
    let context = Context::new();
    let provider = builder.build(&context).unwrap();
    Session::new(Arc::new(provider), Arc::clone(store) as _, &context).unwrap()
}

async fn stored(session: &Session, store: &MemoryStore) -> Login {
    store.load(&session.identity().into()).await.unwrap().unwrap().0.login.unwrap()
}

/// Requests by password, by refresh token, and logins that were ended because a refresh token came twice.
fn counts(server: &AuthorizationServer) -> (u64, u64, u64) {
    let counters = server.counters();
    (counters.requests_of("password"), counters.requests_of("refresh_token"), counters.families_killed)
}

/// What is wrong when the login is renewed.
enum Wrong {
    Answers(Endpoint, Fault),
    Token(fn(&mut IdToken)),
}

/// Renews a login where this is wrong, and once more where nothing is.
async fn nothing_is_lost(name: &str, wrong: Wrong) {
    let server = AuthorizationServer::start(Settings::default()).await;
    let store = Arc::new(MemoryStore::new());
    let first = session(alice(&server), &store);
    first.token().await.unwrap();
    let before = stored(&first, &store).await;
    match wrong {
        Wrong::Answers(endpoint, fault) => server.faults().set_always(endpoint, Some(fault)),
        Wrong::Token(hook) => server.set_id_token_hook(IdTokenHook::new(hook)),
    }
    // It has not seen the server's keys yet.
    let second = session(alice(&server), &store);
    second.refresh().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(counts(&server), (1, 1, 0), "{name}");
    let after = stored(&second, &store).await;
    assert_ne!(after.refresh_token_hash(), before.refresh_token_hash(), "{name}: it was rotated");
    let id_token = |login: &Login| login.id_token.as_ref().map(|token| token.expose_secret().to_owned());
    // A build without `jose` takes no notice of keys and signatures.
    let noticed = cfg!(feature = "jose") || !(name.contains("key") || name.contains("signature"));
    assert_eq!(id_token(&after) == id_token(&before), noticed, "{name}: the old ID token stays");
    for endpoint in [Endpoint::Jwks, Endpoint::Discovery] {
        server.faults().set_always(endpoint, None);
    }
    second.refresh().await.unwrap();
    assert_eq!(counts(&server), (1, 2, 0), "{name}: by the new refresh token");
}

#[tokio::test]
async fn oidc_core_12_2_an_id_token_that_cannot_be_checked_in_time_loses_no_refresh_token() {
    if cfg!(feature = "jose") {
        let hangs = Fault::Delay(Duration::from_secs(60));
        tokio::join!(
            nothing_is_lost("the keys hang", Wrong::Answers(Endpoint::Jwks, hangs.clone())),
            nothing_is_lost("who says where the keys are hangs", Wrong::Answers(Endpoint::Discovery, hangs)),
        );
    }
}

#[tokio::test]
async fn oidc_core_12_2_an_id_token_that_cannot_be_checked_loses_no_refresh_token() {
    use Endpoint::{Discovery, Jwks};
    use Wrong::{Answers, Token};
    let redirect = Fault::Status { status: 302, retry_after: None, body: None };
    for (name, wrong) in [
        ("the keys cannot be had now", Answers(Jwks, Fault::status(503))),
        ("the keys are gone", Answers(Jwks, Fault::status(404))),
        ("the keys are forbidden", Answers(Jwks, Fault::status(403))),
        ("the keys are elsewhere", Answers(Jwks, redirect)),
        ("the keys cannot be read", Answers(Jwks, Fault::Html(200))),
        ("nobody says where the keys are", Answers(Discovery, Fault::status(404))),
        ("unknown key", Token(|token| token.header["kid"] = json!("unknown"))),
        ("wrong signature", Token(|token| token.signature = IdTokenSignature::Stranger)),
        ("unsigned", Token(|token| token.header["alg"] = json!("none"))),
        ("encrypted", Token(|token| token.instead = Some("e30.a.b.c.d".into()))),
        ("no JWT", Token(|token| token.instead = Some("opaque".into()))),
        ("aud", Token(|token| token.claims["aud"] = json!("other"))),
        ("azp", Token(|token| token.claims["azp"] = json!("other"))),
        ("at_hash", Token(|token| token.claims["at_hash"] = json!("other"))),
        ("no exp", Token(|token| token.claims["exp"] = json!(null))),
        ("no sub", Token(|token| token.claims["sub"] = json!(null))),
    ] {
        nothing_is_lost(name, wrong).await;
    }
}

/// A build that can sign nothing.
#[cfg(not(feature = "jose"))]
#[tokio::test]
async fn what_is_bound_to_a_key_is_not_sent_without_a_proof() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let bound = Login { binding_key: Some("key".into()), ..login(&server).await };
    let provider = build(device(&server));
    let error = provider.acquire(&TokenRequest::default(), Some(&bound)).await.unwrap_err();
    let token = AccessToken::new("at").with_binding(Binding::Dpop("thumbprint".into()));
    for error in [error, provider.present(&token, Some(&bound)).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("keyfob's feature `jose`"), "{error}");
    }
    assert!(server.requests().is_empty());
}

/// The answer, with these header lines.
fn with_headers(answer: &str, lines: &str) -> String {
    answer.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"), 1)
}

fn date(ahead: u64) -> String {
    let date = std::time::SystemTime::now() + Duration::from_secs(ahead);
    format!("date: {}", httpdate::fmt_http_date(date))
}

#[tokio::test]
async fn rfc9111_5_1_the_date_of_a_cached_answer_is_no_clock() {
    let good = answer("200 OK", r#"{"access_token":"at","token_type":"Bearer"}"#);
    for (age, offset) in [("", true), ("\r\nage: 3600", false), ("\r\nage: 0", false)] {
        let script = Script::start([with_headers(&good, &format!("{}{age}", date(3600)))]).await;
        let builder =
            Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
        let provider = build(builder);
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
        assert_eq!(provider.server_clock_offset().is_some(), offset, "{age:?}");
    }
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn rfc8705_3_1_a_token_is_bound_to_the_certificate_that_it_names() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use keyfob_idp::server::ClientCertificate;

    let own = ClientCertificate::self_signed("self.test");
    let token = |claims: serde_json::Value| {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        answer("200 OK", &json!({"access_token": token, "token_type": "Bearer"}).to_string())
    };
    for (claims, shown, binding) in [
        (json!({"cnf": {"x5t#S256": own.thumbprint}}), true, Binding::Certificate(own.thumbprint.clone())),
        // The file was replaced meanwhile.
        (json!({"cnf": {"x5t#S256": "another"}}), true, Binding::Certificate("another".into())),
        (json!({"cnf": {"jkt": "key"}}), true, Binding::None),
        (json!({}), true, Binding::None),
        // Whoever shows it for this client sees to it.
        (json!({"cnf": {"x5t#S256": "a proxy's"}}), false, Binding::None),
    ] {
        let script = Script::start([token(claims.clone())]).await;
        let mut builder =
            Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
        if shown {
            builder = builder.certificate(literal(&own.certificate)).certificate_key(literal(&own.key));
        }
        let acquired = build(builder).acquire(&TokenRequest::default(), None).await.unwrap();
        assert_eq!(*acquired.access.binding(), binding, "{claims}");
    }
}

#[cfg(feature = "jose")]
mod keys {
    use common::{last, service};
    use keyfob_auth_core::{authorize::Origins, middleware::AuthClient};
    use keyfob_idp::server::{Algorithm, Client, Dpop, SigningKey};

    use super::*;

    #[tokio::test]
    async fn rfc9449_5_a_login_without_a_key_is_not_spent_for_bound_tokens() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let known = login(&server).await;
        let provider = build(device(&server).dpop(true));
        let error = provider.acquire(&TokenRequest::default(), Some(&known)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRequired);
        assert!(error.to_string().contains("without a key (DPoP)"), "{error}");
        assert!(server.requests().is_empty());
        // By a password nobody has to come.
        let store = Arc::new(MemoryStore::new());
        session(alice(&server), &store).token().await.unwrap();
        let token = session(alice(&server).dpop(true), &store).refresh().await.unwrap();
        assert!(matches!(token.binding(), Binding::Dpop(_)), "{:?}", token.binding());
        assert_eq!(counts(&server), (2, 0, 0));
    }

    #[tokio::test]
    async fn without_a_refresh_token_a_key_is_used_as_long_as_it_is_configured() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let request = TokenRequest::default();
        let bound = build(service(&server).dpop(true)).acquire(&request, None).await.unwrap();
        let login = bound.login.unwrap();
        let plain = build(service(&server)).acquire(&request, Some(&login)).await.unwrap();
        assert_eq!(*plain.access.binding(), Binding::None);
        assert_eq!(last(&server, "/token").header("dpop"), None);
        let again = build(service(&server).dpop(true)).acquire(&request, Some(&login)).await.unwrap();
        assert_eq!(again.access.binding(), bound.access.binding());
    }

    #[tokio::test]
    async fn a_token_is_not_presented_with_another_key_than_its_own() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let provider = build(service(&server).dpop(true));
        let request = TokenRequest::default();
        let [one, other] = [
            provider.acquire(&request, None).await.unwrap(),
            provider.acquire(&request, None).await.unwrap(),
        ];
        provider.present(&one.access, one.login.as_ref()).unwrap();
        let error = provider.present(&one.access, other.login.as_ref()).unwrap_err();
        assert!(error.to_string().contains("another key than the login's"), "{error}");
        let unbound = AccessToken::new("at").with_binding(Binding::Dpop("thumbprint".into()));
        provider.present(&unbound, None).unwrap_err();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tokens_of_first_exchanges_at_the_same_time_are_renewed_where_the_login_has_another_key() {
        let mut client = Client::confidential("service", "service-secret");
        client.dpop = Dpop::Required;
        // Long enough for all to be under way before the first is answered.
        let settings = Settings { response_delay: Duration::from_millis(300), ..Settings::default() };
        let server = AuthorizationServer::start(settings.with_client(client)).await;
        let builder = || service(&server).dpop(true).token_endpoint(server.token_endpoint());
        let store = Arc::new(MemoryStore::new());
        let three = |session: &Session| {
            [session.clone(), session.for_scopes(["read"]), session.for_scopes(["write"])]
        };
        let [a, b, c] = three(&session(builder(), &store));
        let (a, b, c) = tokio::join!(a.token(), b.token(), c.token());
        let keys = [a, b, c].map(|token| format!("{:?}", token.unwrap().binding()));
        assert_eq!(server.counters().token, 3);
        assert!(keys[0] != keys[1] && keys[1] != keys[2], "they did run at the same time: {keys:?}");

        // Another process has one key for all.
        let later = session(builder(), &store);
        let mut later_keys = Vec::new();
        for session in three(&later) {
            let http = AuthClient::builder(session.clone())
                .origins(Origins::new().with(server.issuer()).unwrap())
                .http(reqwest::ClientBuilder::no_proxy)
                .build()
                .unwrap();
            assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
            later_keys.push(format!("{:?}", session.token().await.unwrap().binding()));
        }
        assert_eq!(server.counters().api, 3, "no call was refused first");
        assert_eq!(server.counters().token, 5, "the token of the login's own key still serves");
        later_keys.dedup();
        assert_eq!(later_keys.len(), 1, "{later_keys:?}");
    }

    #[tokio::test]
    async fn rfc9449_4_2_a_proof_names_the_algorithm_of_the_logins_key() {
        for (algorithm, name) in [(Algorithm::Es256, "ES256"), (Algorithm::Es384, "ES384")] {
            let key = SigningKey::generate(algorithm).pkcs8_pem();
            let script =
                Script::start([answer("200 OK", r#"{"access_token":"at","token_type":"DPoP"}"#)]).await;
            let builder =
                Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
            let login = Login { binding_key: Some(key.into()), ..Login::default() };
            let provider = build(builder.dpop(true));
            provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap();
            let request = script.requests().pop().unwrap();
            let proof = request.lines().find_map(|line| line.strip_prefix("dpop: ")).unwrap();
            assert_eq!(common::jwt(proof)[0]["alg"], name);
        }
    }

    #[tokio::test]
    async fn rfc9449_11_1_a_clock_that_has_moved_costs_one_request_more() {
        let good = answer("200 OK", r#"{"access_token":"at","token_type":"DPoP"}"#);
        let bad = answer("400 Bad Request", r#"{"error":"invalid_dpop_proof"}"#);
        for (now_ahead, requests) in [(7200, 3), (0, 3), (3600, 2)] {
            let script = Script::start([
                with_headers(&good, &date(3600)),
                with_headers(&bad, &date(now_ahead)),
                with_headers(&good, &date(now_ahead)),
            ])
            .await;
            let builder =
                Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
            let provider = build(builder.dpop(true));
            provider.acquire(&TokenRequest::default(), None).await.unwrap();
            let outcome = provider.acquire(&TokenRequest::default(), None).await;
            assert_eq!((outcome.is_ok(), script.requests().len()), (requests == 3, requests), "{now_ahead}");
        }
    }
}
