//! The authorization code grant in two steps, as a web application has it, and what hangs on it: PAR, DPoP, step-up, logout.

use std::sync::Arc;

use keyfob::{
    Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, Login, LoginRequest, Session,
    authorize::Origins,
    keycloak::Keycloak,
    middleware::AuthClient,
    oidc::{Flow, Oidc, browser::Pending, claims_of},
    store::{LoginKey, MemoryStore, TokenStore as _},
};
use keyfob_idp::keycloak::{Keycloak as Server, client_secret};
use serde_json::json;

use crate::{Turn, clients::literal};

/// What a web application registers.
const CALLBACK: &str = "http://127.0.0.1:8999/callback";

/// Goes through the pages as a person, and comes back with the answer's query.
async fn sign_in(server: &Server, url: &str) -> String {
    let redirect = server.authorize(url, "alice", false).await.unwrap();
    redirect.split_once('?').unwrap().1.to_owned()
}

#[tokio::test]
async fn a_web_application_signs_a_person_in_in_two_steps() {
    let Some(server) = Turn::wait("authorization code in two steps; with PAR; wrong answers").await else {
        return;
    };
    for pushed in [false, true] {
        let context = Context::new();
        let web = Oidc::builder(server.issuer(), "web")
            .client_secret(literal(&client_secret("web").unwrap()))
            .flow(Flow::Browser)
            .scopes(["openid", "api:read"])
            .redirect_uri(CALLBACK)
            .pushed_authorization_requests(pushed)
            .build(&context)
            .unwrap();
        let (url, pending) = web.start(&LoginRequest::default(), None).await.unwrap();
        assert_eq!(url.contains("request_uri="), pushed, "{url}");
        assert_eq!(url.contains("code_challenge="), !pushed, "nothing but the reference is in the URL");

        // It waits in the application's own session, as text.
        let kept = serde_json::to_string(&pending).unwrap();
        let answer = sign_in(&server, &url).await;
        assert!(answer.contains("iss="), "{answer}");
        let pending: Pending = serde_json::from_str(&kept).unwrap();
        let acquired = web.finish(pending.clone(), &answer).await.unwrap();
        let claims = claims_of(acquired.login.as_ref().unwrap()).unwrap();
        assert_eq!(claims.name(), Some("alice"));

        let session = Session::new(Arc::new(web.clone()), Arc::new(MemoryStore::new()), &context).unwrap();
        session.adopt(acquired).await.unwrap();
        let token = session.token().await.unwrap();
        assert_eq!(server.introspect(token.secret()).await.unwrap()["username"], "alice");
        session.refresh().await.unwrap();

        // The code was spent, and Keycloak ends what came of it.
        let error = web.finish(pending, &answer).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.oauth_error()),
            (ErrorKind::Refused, Some("invalid_grant")),
            "{error}"
        );
        let (_, another) = web.start(&LoginRequest::default(), None).await.unwrap();
        let error = web.finish(another, &answer).await.unwrap_err();
        assert!(error.message().contains("`state`"), "{error}");
    }
}

#[tokio::test]
async fn pkce_is_there_where_keycloak_demands_it() {
    let Some(server) = Turn::wait("a client that demands PKCE").await else { return };
    let context = Context::new();
    let provider = Oidc::builder(server.issuer(), "native-pkce").flow(Flow::Browser).build(&context).unwrap();
    let (url, pending) =
        provider.start(&LoginRequest::default(), Some("http://127.0.0.1:54321/cb")).await.unwrap();
    let answer = sign_in(&server, &url).await;
    provider.finish(pending, &answer).await.unwrap();
}

#[tokio::test]
async fn tokens_are_bound_to_the_logins_key() {
    let Some(server) = Turn::wait("DPoP: login, renewal, another process, an API").await else { return };
    let store = Arc::new(MemoryStore::new());
    let provider = || {
        Oidc::builder(server.issuer(), "native-dpop")
            .flow(Flow::Browser)
            .scopes(["openid", "api:read"])
            .dpop(true)
            .redirect_uri("http://127.0.0.1:54321/cb")
            .build(&Context::new())
            .unwrap()
    };
    let first = provider();
    let (url, pending) = first.start(&LoginRequest::default(), None).await.unwrap();
    let acquired = first.finish(pending, &sign_in(&server, &url).await).await.unwrap();
    let session = Session::new(Arc::new(first), Arc::clone(&store) as _, &Context::new()).unwrap();
    session.adopt(acquired).await.unwrap();
    let token = session.token().await.unwrap();
    let seen = server.introspect(token.secret()).await.unwrap();
    let thumbprint = seen["cnf"]["jkt"].as_str().unwrap().to_owned();
    assert!(format!("{:?}", token.binding()).contains(&thumbprint), "{seen}");

    // Another process: the key is in the login, and Keycloak takes no other.
    let other = Session::new(Arc::new(provider()), Arc::clone(&store) as _, &Context::new()).unwrap();
    let renewed = other.refresh().await.unwrap();
    assert_eq!(server.introspect(renewed.secret()).await.unwrap()["cnf"]["jkt"], json!(thumbprint));
    let key = LoginKey::from(other.identity());
    let (record, _) = store.load(&key).await.unwrap().unwrap();
    assert!(record.login.unwrap().binding_key.is_some());

    // An API that judges proofs: Keycloak's own user info.
    let origins = Origins::new().with(server.base()).unwrap();
    let api = AuthClient::builder(other).origins(origins).build().unwrap();
    let answer = api.get(server.endpoint("userinfo")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.headers());
    let bare = reqwest::Client::new().get(server.endpoint("userinfo")).bearer_auth(renewed.secret());
    assert_eq!(bare.send().await.unwrap().status(), 401, "who steals it cannot use it");
}

#[tokio::test]
async fn a_logout_with_the_browser_ends_the_sso_session() {
    let Some(server) = Turn::wait("RP-initiated logout").await else { return };
    let provider = Keycloak::builder(server.base(), "test", "native")
        .flow(Flow::Browser)
        .oidc(|oidc| oidc.redirect_uri("http://127.0.0.1:54321/cb"))
        .build(&Context::new())
        .unwrap();
    let (url, pending) = provider.oidc().start(&LoginRequest::default(), None).await.unwrap();
    let acquired = provider.oidc().finish(pending, &sign_in(&server, &url).await).await.unwrap();
    assert_eq!(server.session_count("alice").await.unwrap(), 1);
    let url = provider.oidc().end_session_url(acquired.login.as_ref(), None).await.unwrap();
    let answer = reqwest::get(url.expose_secret()).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(server.session_count("alice").await.unwrap(), 0);
}

#[tokio::test]
async fn a_logout_without_the_browser_ends_the_sso_session() {
    let Some(server) = Turn::wait("logout with the ID token posted").await else { return };
    let provider = Keycloak::builder(server.base(), "test", "native")
        .flow(Flow::Browser)
        .oidc(|oidc| oidc.redirect_uri("http://127.0.0.1:54321/cb").end_session(true))
        .build(&Context::new())
        .unwrap();
    let (url, pending) = provider.oidc().start(&LoginRequest::default(), None).await.unwrap();
    let login = provider.oidc().finish(pending, &sign_in(&server, &url).await).await.unwrap().login.unwrap();
    assert_eq!(server.session_count("alice").await.unwrap(), 1);
    // Without the refresh token, whose revocation would end it too.
    provider.revoke(&Login { refresh_token: None, ..login }, &[]).await.unwrap();
    assert_eq!(server.session_count("alice").await.unwrap(), 0);
}
