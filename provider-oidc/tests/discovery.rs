//! Discovery: how often it is asked for, and what is believed.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Script, answer, build, literal, service};
use keyfob_auth_core::{Context, CredentialProvider, ErrorKind, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Discovery, Endpoint, Fault, Settings};
use keyfob_provider_oidc::Oidc;
use serde_json::{Value, json};

async fn error_kind(provider: &Oidc) -> Option<ErrorKind> {
    provider.acquire(&TokenRequest::default(), None).await.err().map(|error| error.kind())
}

async fn server_saying(member: &str, value: Value) -> AuthorizationServer {
    let mut settings = Settings::default();
    settings.metadata.insert(member.into(), value);
    AuthorizationServer::start(settings).await
}

#[tokio::test]
async fn rfc8414_3_metadata_is_found_where_there_is_no_openid_configuration() {
    let server =
        AuthorizationServer::start(Settings { discovery: Discovery::Rfc8414Only, ..Settings::default() })
            .await;
    assert_eq!(error_kind(&build(service(&server))).await, None);
    let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    let expected = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/token"];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn an_issuer_without_metadata_is_a_wrong_issuer() {
    let server =
        AuthorizationServer::start(Settings { discovery: Discovery::Neither, ..Settings::default() }).await;
    let error = build(service(&server)).acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Configuration, Some(404)));
    assert_eq!((server.counters().discovery, server.counters().token), (2, 0));
    let said = error.to_string();
    for part in [
        "look at `issuer`: its host, its realm or tenant, and a base path",
        &format!("(nor at {})", server.url("/.well-known/oauth-authorization-server")),
        &format!("(HTTP 404) [{}]", server.url("/.well-known/openid-configuration")),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn rfc8414_3_3_another_issuer_gets_no_secret() {
    for issuer in [json!("https://other.example"), json!(null), json!(7)] {
        let server = server_saying("issuer", issuer).await;
        assert_eq!(error_kind(&build(service(&server))).await, Some(ErrorKind::Configuration));
        assert_eq!((server.counters().discovery, server.counters().token), (1, 0));
    }
    let server = AuthorizationServer::start(Settings::default()).await;
    let builder =
        Oidc::builder(format!("{}/", server.issuer()), "service").client_secret(literal("service-secret"));
    assert_eq!(
        error_kind(&build(builder)).await,
        Some(ErrorKind::Configuration),
        "a slash more is another issuer"
    );
    assert_eq!(server.counters().token, 0);
}

#[tokio::test]
async fn rfc8414_2_an_endpoint_that_is_not_protected_gets_no_secret() {
    for url in ["http://idp.example/token", "https://idp.example/token#x", "ldap://idp.example", "/token"] {
        let server = server_saying("token_endpoint", json!(url)).await;
        assert_eq!(error_kind(&build(service(&server))).await, Some(ErrorKind::Configuration), "{url}");
    }
}

#[tokio::test]
async fn concurrent_askers_cost_one_fetch() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server.faults().push(Endpoint::Discovery, Fault::Delay(Duration::from_millis(200)));
    assert_eq!(ask(&server, 20).await, vec![None; 20]);
    assert_eq!((server.counters().discovery, server.counters().token), (1, 20));
}

#[tokio::test]
async fn concurrent_askers_share_a_failed_fetch() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server
        .faults()
        .set_always(Endpoint::Discovery, Some(Fault::status(503).delayed(Duration::from_millis(300))));
    assert_eq!(ask(&server, 20).await, vec![Some(ErrorKind::Transient); 20]);
    assert_eq!(
        (server.counters().discovery, server.counters().token),
        (3, 0),
        "one attempt: a request that is safe to repeat"
    );
    server.faults().clear();
    assert_eq!(ask(&server, 1).await, [None], "another context, another attempt");
}

/// How so many providers of one context fare that ask at once.
async fn ask(server: &AuthorizationServer, how_many: usize) -> Vec<Option<ErrorKind>> {
    let context = Context::new();
    let tasks: Vec<_> = (0..how_many)
        .map(|n| {
            let provider = Arc::new(service(server).label(n.to_string()).build(&context).unwrap());
            tokio::spawn(async move { error_kind(&provider).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn a_dropped_fetch_is_made_by_the_next_one() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    server.faults().push(Endpoint::Discovery, Fault::Delay(Duration::from_secs(60)));
    assert!(tokio::time::timeout(Duration::from_millis(100), error_kind(&provider)).await.is_err());
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!(server.counters().discovery, 2);
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    for (fault, requests) in [
        (Fault::status(500), 1),
        (Fault::status(503), 3),
        (Fault::DropBefore, 3),
        (Fault::too_many_requests(Some(5)), 1),
    ] {
        server.reset_counters();
        server.faults().set_always(Endpoint::Discovery, Some(fault));
        assert_eq!(error_kind(&provider).await, Some(ErrorKind::Transient));
        assert_eq!(server.requests().len(), requests);
    }
    server.faults().clear();
    server.reset_counters();
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!((server.counters().discovery, server.counters().token), (1, 1));
}

#[tokio::test]
async fn a_fetch_that_fails_for_a_moment_is_made_again() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server.faults().push(Endpoint::Discovery, Fault::status(503));
    server.faults().push(Endpoint::Discovery, Fault::DropBefore);
    assert_eq!(error_kind(&build(service(&server))).await, None);
    assert_eq!((server.counters().discovery, server.counters().token), (3, 1));
}

#[tokio::test]
async fn oidc_discovery_4_an_old_document_serves_while_it_cannot_be_fetched_anew() {
    let server = AuthorizationServer::start_on_own_thread(Settings::default());
    let provider = build(service(&server));
    assert_eq!(error_kind(&provider).await, None);
    pass(Duration::from_secs(3590)).await;
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!(server.counters().discovery, 1, "within the hour");

    server.faults().set_always(Endpoint::Discovery, Some(Fault::status(503)));
    pass(Duration::from_secs(20)).await;
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!(server.counters().discovery, 4, "one attempt a minute, of three requests");

    server.faults().clear();
    pass(Duration::from_secs(61)).await;
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!(error_kind(&provider).await, None);
    assert_eq!((server.counters().discovery, server.counters().token), (5, 6));
}

/// Lets time pass on Tokio's clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn oidc_discovery_4_2_a_page_that_answers_for_every_path_is_no_document() {
    let page = answer("200 OK", "<html>hello</html>");
    let script = Script::start([page.clone(), page]).await;
    let builder = Oidc::builder(&script.url, "id").client_secret(literal("s"));
    assert_eq!(error_kind(&build(builder)).await, Some(ErrorKind::Transient));
    let lines: Vec<_> =
        script.requests().iter().filter_map(|r| r.lines().next().map(str::to_owned)).collect();
    assert_eq!(
        lines,
        [
            "GET /.well-known/openid-configuration HTTP/1.1",
            "GET /.well-known/oauth-authorization-server HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn rfc8414_3_2_a_document_is_what_it_holds_whatever_type_it_is_said_to_be() {
    let token = answer("200 OK", r#"{"access_token":"at","token_type":"Bearer"}"#);
    for (kind, page, good) in [
        ("application/json; charset=utf-8", false, true),
        ("text/plain", false, true),
        ("application/octet-stream", false, true),
        ("application/json", true, false),
        ("text/html", true, false),
    ] {
        let document = r#"{"issuer":"$URL","token_endpoint":"$URL/token"}"#;
        let body = if page { "<html></html>" } else { document };
        // Its end is that of the connection.
        let said = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{body}");
        let script = Script::start([said.clone(), if good { token.clone() } else { said }]).await;
        let builder = Oidc::builder(&script.url, "id").client_secret(literal("s"));
        let kind_of_error = error_kind(&build(builder)).await;
        assert_eq!(kind_of_error, if good { None } else { Some(ErrorKind::Transient) }, "{kind}");
        assert_eq!(script.requests().len(), 2, "{kind}");
    }
}

#[tokio::test]
async fn rfc8414_3_1_an_issuer_with_a_path_is_asked_at_both_places() {
    let script = Script::start([answer("404 Not Found", ""), answer("404 Not Found", "")]).await;
    let builder = Oidc::builder(format!("{}/realms/a", script.url), "id").client_secret(literal("s"));
    assert_eq!(error_kind(&build(builder)).await, Some(ErrorKind::Configuration));
    let lines: Vec<_> =
        script.requests().iter().filter_map(|r| r.lines().next().map(str::to_owned)).collect();
    assert_eq!(
        lines,
        [
            "GET /realms/a/.well-known/openid-configuration HTTP/1.1",
            "GET /.well-known/oauth-authorization-server/realms/a HTTP/1.1"
        ]
    );
}
