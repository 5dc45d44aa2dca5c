//! Access tokens are for the resource: a client neither reads them (RFC 9068 section 6) nor puts them where others read them
//! (RFC 9700 section 4.3.2).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{Script, answer, build, device, jwt, literal, service};
use keyfob_auth_core::{
    Binding, Context, CredentialProvider, ErrorKind, ExposeSecret, Session, TokenRequest, authorize::Origins,
    middleware::AuthClient, store::MemoryStore,
};
use keyfob_idp::server::{AccessTokenFormat, AuthorizationServer, Settings};
use keyfob_provider_oidc::{Flow, Oidc};
use serde_json::json;

#[tokio::test]
async fn rfc9068_6_of_an_access_token_nothing_counts_but_exp_where_the_answer_says_no_life() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |exp: u64| {
        let claims = json!({
            "iss": "https://other.example", "aud": "another", "sub": "somebody", "client_id": "another", "exp": exp,
            "nbf": now + 10_000, "iat": now + 10_000, "scope": "admin", "cnf": {"jkt": "key", "x5t#S256": "certificate"},
        });
        // Unsigned too: that is for the resource to mind.
        let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}.", encode(json!({"alg": "none", "typ": "JWT"})), encode(claims))
    };
    for (exp, expires_in, life) in [
        (now + 100, None, 100),
        (now + 100, Some(500), 500),
        // The answer is what counts.
        (now - 100, Some(500), 500),
    ] {
        let token = claims(exp);
        let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in});
        let script = Script::start([answer("200 OK", &body.to_string())]).await;
        let context = Context::new();
        let builder = Oidc::builder(&script.url, "svc").client_secret(literal("s"));
        let provider = builder.token_endpoint(&script.url).build(&context).unwrap();
        let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
        let served = session.token().await.unwrap();
        assert_eq!(served.secret(), token);
        assert_eq!((served.scopes(), served.binding()), (None, &Binding::None));
        let left = served.expires_at().unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(life + 1) && left > Duration::from_secs(life - 60), "{left:?}");
        assert_eq!(script.requests().len(), 1);
    }
}

#[tokio::test]
async fn rfc9068_2_the_peer_of_these_tests_issues_tokens_of_the_standards_form() {
    let settings = Settings { access_token_format: AccessTokenFormat::Jwt, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let acquired = build(service(&server)).acquire(&TokenRequest::default(), None).await.unwrap();
    let [header, claims] = jwt(acquired.access.secret().expose_secret());
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        assert!(!claims[name].is_null(), "{name}: {claims}");
    }
}

#[tokio::test]
async fn rfc9700_4_3_2_no_token_is_in_any_url() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let context = Context::new();
    let builder = Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret"));
    let builder = builder.flow(Flow::Password).username("alice").password(literal("alice-password"));
    let provider = builder.scopes(["openid", "read"]).end_session(true).build(&context).unwrap();
    let session = Session::new(Arc::new(provider.clone()), Arc::new(MemoryStore::new()), &context).unwrap();
    let first = session.token().await.unwrap();
    let login = session.stored_login().await.unwrap().unwrap();
    let token = session.refresh().await.unwrap();
    let secret = token.secret().into();
    assert!(provider.introspect(&secret).await.unwrap().active);
    provider.user_info(&secret, Some(&login)).await.unwrap();
    let http = AuthClient::builder(session.clone())
        .origins(Origins::new().with(server.issuer()).unwrap())
        .http(reqwest::ClientBuilder::no_proxy)
        .build()
        .unwrap();
    assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
    provider.revoke_access_token(&secret).await.unwrap();
    session.logout().await.unwrap();
    let counters = server.counters();
    let ended = (counters.revocation, counters.end_session);
    assert_eq!((counters.token, counters.introspection, counters.user_info, counters.api), (2, 1, 1, 1));
    assert_eq!(ended, (3, 1));
    let secrets = [first.secret(), token.secret()].map(str::to_owned);
    let kept = [login.refresh_token.unwrap(), login.id_token.unwrap()];
    let kept = kept.map(|secret| secret.expose_secret().to_owned());
    for request in server.requests() {
        for secret in secrets.iter().chain(&kept) {
            assert!(!format!("{}?{:?}", request.path, request.query).contains(secret), "{}", request.path);
        }
    }
}

#[tokio::test]
async fn rfc8707_2_a_resource_of_a_request_is_an_absolute_uri_or_nothing_is_sent() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let login = common::login(&server).await;
    for bad in ["orders", "https://api.example/#top"] {
        let request = TokenRequest::default().with_resource("https://api.example").with_resource(bad);
        let person = build(device(&server));
        let browser = build(device(&server).flow(Flow::Browser));
        let asked = keyfob_auth_core::LoginRequest::new(request.clone());
        for error in [
            build(service(&server)).acquire(&request, None).await.unwrap_err(),
            person.acquire(&request, Some(&login)).await.unwrap_err(),
            person.login(&asked, None, common::Shown::new()).await.unwrap_err(),
            browser.start(&asked, None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().contains(&format!("{bad:?} must be an absolute URI")), "{error}");
        }
    }
    assert!(server.requests().is_empty());
}
