//! Introspection (RFC 7662).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::time::{Duration, SystemTime};

use common::{Script, answer, build, device, last, literal, login, service};
use keyfob_auth_core::{CredentialProvider, ErrorKind, ExposeSecret, Scopes, SecretString, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc};

#[tokio::test]
async fn rfc7662_2_2_what_the_server_says_of_a_token() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).scopes(["read", "write"]));
    let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access.secret().clone();
    let said = provider.introspect(&token).await.unwrap();
    assert!(said.active);
    assert_eq!(said.scopes, Some(Scopes::parse("read write")));
    assert_eq!(said.client_id.as_deref(), Some("service"));
    let left = said.expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
    assert_eq!(said.members["client_id"], "service");
    // RFC 7662 section 2.1: as a form, and authenticated.
    let request = last(&server, "/introspect");
    assert_eq!((request.method.as_str(), request.parameter("token")), ("POST", Some(token.expose_secret())));
    assert!(request.header("authorization").unwrap().starts_with("Basic ") && request.query.is_empty());
    // A person's token says whose it is.
    let person = service(&server).flow(Flow::Password).username("alice").password(literal("alice-password"));
    let token = build(person).acquire(&TokenRequest::default(), None).await.unwrap().access;
    let said = provider.introspect(token.secret()).await.unwrap();
    assert_eq!(said.subject.as_deref(), Some("subject-alice"));
}

#[tokio::test]
async fn rfc7662_2_2_a_token_that_is_not_good_is_inactive_and_nothing_else_is_said() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access.secret().clone();
    assert!(server.revoke_access_token(token.expose_secret()));
    for token in [token, SecretString::from("never issued"), SecretString::from("a b&c=ü")] {
        let said = provider.introspect(&token).await.unwrap();
        assert!(!said.active && said.members.is_empty());
        assert_eq!((said.scopes, said.subject, said.client_id, said.expires_at), (None, None, None, None));
    }
    assert_eq!(server.counters().introspection, 3, "nothing is remembered: each answer is the server's");
}

#[tokio::test]
async fn rfc7662_2_3_a_failure_is_an_error_and_not_inactive() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let token = SecretString::from("marker");
    let provider = build(service(&server).introspection_endpoint(server.url("/introspect")));
    for (fault, kind) in [
        (Fault::status(503), ErrorKind::Transient),
        (Fault::too_many_requests(Some(7)), ErrorKind::Transient),
        (Fault::DropAfter, ErrorKind::Transient),
        (Fault::Malformed, ErrorKind::Transient),
        (Fault::status(403), ErrorKind::Refused),
        (Fault::oauth_error("invalid_client"), ErrorKind::Refused),
        (Fault::Html(200), ErrorKind::Transient),
    ] {
        server.reset_counters();
        server.faults().push(Endpoint::Introspection, fault.clone());
        let error = provider.introspect(&token).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert_eq!(error.provider(), Some("oidc"));
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        assert_eq!(server.counters().introspection, 1, "{fault:?}");
    }
    let wrong = build(service(&server).client_secret(literal("wrong")));
    assert_eq!(wrong.introspect(&token).await.unwrap_err().oauth_error(), Some("invalid_client"));
}

#[tokio::test]
async fn rfc7662_2_2_active_must_be_true_or_false() {
    for body in [r#"{"active":"true"}"#, r#"{"active":1}"#, "{}", r#"{"active":null}"#] {
        let script = Script::start([answer("200 OK", body)]).await;
        let builder = Oidc::builder(&script.url, "svc").client_secret(literal("s"));
        let provider = build(builder.introspection_endpoint(&script.url));
        let error = provider.introspect(&SecretString::from("t")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("`active`"), "{error}");
        assert_eq!(script.requests().len(), 1);
    }
}

#[tokio::test]
async fn rfc7662_4_no_answer_is_kept_so_none_outlives_the_token() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access.secret().clone();
    for _ in 0..2 {
        assert!(provider.introspect(&token).await.unwrap().active);
    }
    // Long before its `exp`.
    assert!(server.revoke_access_token(token.expose_secret()));
    assert!(!provider.introspect(&token).await.unwrap().active);
    assert_eq!(server.counters().introspection, 3);
}

#[tokio::test]
async fn rfc7662_2_1_a_client_that_proves_nothing_does_not_ask() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let token = login(&server).await.refresh_token.unwrap();
    let error = build(device(&server)).introspect(&token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("client_secret"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_server_without_introspection_says_so() {
    let metadata = serde_json::json!({"introspection_endpoint": null}).as_object().unwrap().clone();
    let server = AuthorizationServer::start(Settings { metadata, ..Settings::default() }).await;
    let error = build(service(&server)).introspect(&SecretString::from("t")).await.unwrap_err();
    assert!(error.to_string().contains("offers no introspection"), "{error}");
    assert_eq!((server.counters().introspection, server.counters().discovery), (0, 1));
}
