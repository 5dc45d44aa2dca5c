//! A sign-in whose ID token does not hold (OpenID Connect Core section 3.1.3.7) leaves no login.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{build, device, literal};
use keyfob_auth_core::{Acquired, AuthError, CredentialProvider, ErrorKind, LoginRequest, TokenRequest};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, IdToken, IdTokenHook, IdTokenSignature, Settings},
};
use keyfob_provider_oidc::{Flow, OidcBuilder};
use serde_json::{Value, json};
use url::Url;

fn browser(server: &AuthorizationServer) -> OidcBuilder {
    device(server).flow(Flow::Browser).pushed_authorization_requests(false)
}

/// What comes of a sign-in of alice's, and the URL that she was sent to.
async fn sign_in(builder: OidcBuilder) -> (Result<Acquired, AuthError>, Url) {
    let provider = build(builder);
    let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
    let callback = Person::new("alice").answer(&url).await.unwrap();
    (provider.finish(pending, callback.url.as_str()).await, Url::parse(&url).unwrap())
}

fn claim(name: &'static str, value: Value) -> IdTokenHook {
    IdTokenHook::new(move |token| token.claims[name] = value.clone())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn oidc_core_3_1_3_7_a_sign_in_whose_id_token_does_not_hold_leaves_no_login() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let hook = |change: fn(&mut IdToken)| IdTokenHook::new(change);
    let mut cases = vec![
        (claim("iss", json!(format!("{}/", server.issuer()))), "`iss`"),
        (claim("sub", json!("")), "`sub`"),
        (claim("aud", json!("other")), "`aud`"),
        (claim("aud", json!(["cli", "other"])), "`id_token_audiences`"),
        (claim("azp", json!("other")), "`azp`"),
        (claim("exp", json!(now() - 1000)), "`exp`"),
        (claim("iat", json!(now() + 1000)), "`iat`"),
        (claim("nonce", json!(null)), "no `nonce`"),
        (claim("nonce", json!("another's")), "answers another login (`nonce`)"),
        (claim("at_hash", json!("of another token")), "`at_hash`"),
        (claim("c_hash", json!("of another code")), "`c_hash`"),
        (hook(|token| token.header["alg"] = json!("none")), "unsigned"),
        (hook(|token| token.instead = Some("e30.a.b.c.d".into())), "JWE"),
    ];
    if cfg!(feature = "jose") {
        cases.extend([
            (hook(|token| token.signature = IdTokenSignature::Stranger), "signature is wrong"),
            (hook(|token| token.signature = IdTokenSignature::Missing), "signature is wrong"),
            (hook(|token| token.header["kid"] = json!("unknown")), "does not publish (`kid`)"),
            (
                hook(|token| {
                    token.header["alg"] = json!("HS256");
                    token.signature = IdTokenSignature::HmacOfPublicKey;
                }),
                "shared secret",
            ),
        ]);
    }
    for (hook, said) in cases {
        server.set_id_token_hook(hook);
        server.reset_counters();
        let (outcome, _) = sign_in(browser(&server)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{said}");
        assert!(error.message().contains(said), "{said}: {error}");
        let counters = server.counters();
        assert_eq!((counters.token, counters.code_reuse), (1, 0), "{said}");
    }
    server.set_id_token_hook(IdTokenHook::default());
    let login = sign_in(browser(&server)).await.0.unwrap().login.unwrap();
    assert_eq!(login.account.unwrap().subject, "subject-alice");
}

#[tokio::test]
async fn oidc_core_3_1_3_7_3_who_else_an_id_token_may_be_for_is_configured() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let both = IdTokenHook::new(|token| {
        token.claims["aud"] = json!(["cli", "web"]);
        token.claims["azp"] = json!("cli");
    });
    server.set_id_token_hook(both);
    sign_in(browser(&server).id_token_audience("web")).await.0.unwrap();
    let error = sign_in(browser(&server).id_token_audience("another")).await.0.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.message().contains("\"web\""), "{error}");
}

#[tokio::test]
async fn oidc_core_3_1_3_7_11_a_nonce_that_was_not_sent_is_refused() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server.set_id_token_hook(claim("nonce", json!("another's")));
    let builder = device(&server).flow(Flow::Password).username("alice").password(literal("alice-password"));
    let error = build(builder).acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("a login that was not made here (`nonce`)"), "{error}");
    assert_eq!(server.counters().requests_of("password"), 1);
}

#[tokio::test]
async fn oidc_core_3_1_2_1_max_age_is_sent_and_auth_time_then_required() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let builder = || browser(&server).max_age(Duration::from_secs(300));
    let (outcome, url) = sign_in(builder()).await;
    outcome.unwrap();
    assert!(url.query_pairs().any(|(name, value)| name == "max_age" && value == "300"), "{url}");
    for auth_time in [json!(null), json!(now() - 1000)] {
        server.set_id_token_hook(claim("auth_time", auth_time.clone()));
        let error = sign_in(builder()).await.0.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("`auth_time`"), "{error}");
        // Who does not ask does not mind.
        sign_in(browser(&server)).await.0.unwrap();
    }
}
