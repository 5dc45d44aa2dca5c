//! Revocation (RFC 7009).

mod common;

use std::{sync::Arc, time::Duration};

use common::{build, device, login, service};
use keyfob_auth_core::{CredentialProvider, ErrorKind, ExposeSecret, Login, Session, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use serde_json::json;

#[tokio::test]
async fn rfc7009_2_1_the_token_is_posted_with_its_hint_and_client_authentication() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let login = login(&server).await;
    let provider = build(device(&server));
    provider.revoke(&login, &[]).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.query.len()), ("POST", 0));
    assert_eq!(sent.parameter("token"), login.refresh_token.as_ref().map(ExposeSecret::expose_secret));
    assert_eq!(sent.parameter("token_type_hint"), Some("refresh_token"));
    assert_eq!((sent.parameter("client_id"), sent.header("authorization")), (Some("cli"), None));
    assert_eq!((server.counters().revocation, server.counters().families_revoked), (1, 1));
    let error = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRejected);
    provider.revoke(&login, &[]).await.unwrap();

    // A client with a secret proves who it is, as at the token endpoint.
    let service = build(service(&server));
    let token = service.acquire(&TokenRequest::default(), None).await.unwrap().access.secret().clone();
    service.revoke_access_token(&token).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.parameter("token_type_hint"), Some("access_token"));
    assert!(sent.header("authorization").unwrap().starts_with("Basic "));
    assert_eq!((server.counters().revocation, server.counters().access_tokens_revoked), (3, 1));
}

#[tokio::test]
async fn rfc7009_2_1_a_logout_revokes_the_refresh_token_and_the_access_tokens() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(device(&server));
    let acquired = provider.acquire(&TokenRequest::default(), Some(&login(&server).await)).await.unwrap();
    let (login, access) = (acquired.login.clone().unwrap(), acquired.access.secret().clone());
    let session = Session::builder(Arc::new(provider.clone())).build().unwrap();
    session.adopt(acquired).await.unwrap();
    let report = session.logout().await.unwrap();
    assert!(report.revoked && report.problems.is_empty(), "{report:?}");
    let sent: Vec<_> = server.requests().into_iter().filter(|request| request.path == "/revoke").collect();
    for (request, hint, token) in [
        (&sent[0], "refresh_token", login.refresh_token.as_ref().unwrap()),
        (&sent[1], "access_token", &access),
    ] {
        assert_eq!(request.parameter("token_type_hint"), Some(hint));
        assert_eq!(request.parameter("token"), Some(token.expose_secret()));
    }
    assert_eq!((sent.len(), server.counters().families_revoked), (2, 1));
}

#[tokio::test]
async fn rfc7009_2_1_without_a_refresh_token_the_access_tokens_are_what_is_revoked() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(device(&server));
    let acquired = provider.acquire(&TokenRequest::default(), Some(&login(&server).await)).await.unwrap();
    let login = Login { refresh_token: None, ..acquired.login.unwrap() };
    provider.revoke(&login, &[acquired.access.secret().clone()]).await.unwrap();
    assert_eq!((server.counters().revocation, server.counters().access_tokens_revoked), (1, 1));
}

#[tokio::test]
async fn an_access_token_that_lives_on_is_told_unless_the_server_ends_none_by_itself() {
    for (fault, said) in [
        (Fault::oauth_error("unsupported_token_type"), None),
        (Fault::unavailable(None), Some("the refresh token was revoked, but the revocation: ")),
    ] {
        let server = AuthorizationServer::start(Settings::default()).await;
        let provider = build(device(&server));
        let login = login(&server).await;
        server.faults().push(Endpoint::Revocation, Fault::Delay(Duration::ZERO));
        server.faults().push(Endpoint::Revocation, fault);
        let outcome = provider.revoke(&login, &["marker".into(), "marker".into()]).await;
        assert_eq!(outcome.is_err(), said.is_some());
        if let (Err(error), Some(said)) = (outcome, said) {
            assert!(error.message().starts_with(said), "{error}");
            assert!(error.message().contains("good until it expires"), "{error}");
            assert!(!format!("{error:?}").contains("marker"));
        }
        assert_eq!(server.counters().revocation, 2, "one refusal is enough");
    }
}

#[tokio::test]
async fn a_server_that_did_not_hear_of_the_login_is_not_asked_again_for_each_token() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let login = login(&server).await;
    server.faults().push(Endpoint::Revocation, Fault::unavailable(None));
    build(device(&server)).revoke(&login, &["marker".into()]).await.unwrap_err();
    assert_eq!(server.counters().revocation, 1);
}

#[tokio::test]
async fn rfc7009_2_2_an_unknown_token_is_revoked_already() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for provider in [build(device(&server)), build(service(&server))] {
        provider.revoke(&Login::with_refresh_token("nobody's"), &[]).await.unwrap();
    }
    assert_eq!(server.counters().revocation, 2);
}

#[tokio::test]
async fn rfc7009_2_2_a_success_is_one_whatever_the_body() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(device(&server));
    for fault in [Fault::Html(200), Fault::status(200), Fault::status(204), Fault::EmptyBody] {
        server.faults().push(Endpoint::Revocation, fault);
        provider.revoke(&Login::with_refresh_token("x"), &[]).await.unwrap();
    }
    assert_eq!(server.counters().revocation, 4);
}

#[tokio::test]
async fn rfc7009_2_2_1_unavailable_means_that_the_token_lives() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(device(&server));
    let login = login(&server).await;
    server.faults().push(Endpoint::Revocation, Fault::unavailable(Some(9)));
    let error = provider.revoke(&login, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(503)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    assert_eq!(server.counters().revocation, 1, "the caller repeats");
    let renewed = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap().login.unwrap();
    provider.revoke(&renewed, &[]).await.unwrap();
    assert_eq!((server.counters().revocation, server.counters().families_revoked), (2, 1));
}

#[tokio::test]
async fn rfc7009_2_2_1_unsupported_token_type_is_told() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(device(&server));
    server.faults().push(Endpoint::Revocation, Fault::oauth_error("unsupported_token_type"));
    let error = provider.revoke(&Login::with_refresh_token("marker"), &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("unsupported_token_type")));
    assert!(!format!("{error:?}").contains("marker"));
    assert_eq!(server.counters().revocation, 1);
}

#[tokio::test]
async fn a_server_without_revocation_says_so() {
    let mut settings = Settings::default();
    settings.metadata.insert("revocation_endpoint".into(), json!(null));
    let server = AuthorizationServer::start(settings).await;
    let error = build(device(&server)).revoke(&Login::with_refresh_token("x"), &[]).await.unwrap_err();
    assert!(error.message().contains("offers no revocation"), "{error}");
    assert_eq!(server.counters().revocation, 0);
}

#[tokio::test]
async fn nothing_to_revoke_costs_no_request_and_is_not_called_revoked() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let error = build(device(&server)).revoke(&Login::default(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("nothing to revoke"), "{error}");
    assert!(server.requests().is_empty());
}
