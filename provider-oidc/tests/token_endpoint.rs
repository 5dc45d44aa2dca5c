//! What a token endpoint may answer (RFC 6749 sections 3 and 5), up to what a session makes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::sync::Arc;

use common::{Script, answer, build, literal, service};
use keyfob_auth_core::{
    Context, CredentialProvider, ErrorKind, Login, Scopes, Session, TokenRequest,
    store::{MemoryStore, TokenStore as _},
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use serde_json::{Value, json};

fn client(script: &Script) -> OidcBuilder {
    Oidc::builder(&script.url, "id").client_secret(literal("s")).token_endpoint(&script.url)
}

fn ok(body: &Value) -> String {
    answer("200 OK", &body.to_string())
}

#[tokio::test]
async fn rfc6749_7_1_a_token_of_an_unknown_type_is_not_used() {
    for kind in ["mac", "N_A", "DPoP"] {
        let unknown = json!({"access_token": "marker", "token_type": kind, "expires_in": 300});
        let known = json!({"access_token": "good", "token_type": "bEARER", "expires_in": 300});
        let script = Script::start([ok(&unknown), ok(&known)]).await;
        let (context, store) = (Context::new(), Arc::new(MemoryStore::new()));
        let provider = client(&script).build(&context).unwrap();
        let session =
            Session::builder(Arc::new(provider)).store(store.clone()).context(&context).build().unwrap();
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains(kind) && !format!("{error:?}").contains("marker"), "{error:?}");
        assert!(session.cached().is_none() && session.cached_header().is_none());
        for key in store.list().await.unwrap() {
            let (record, _) = store.load(&key).await.unwrap().unwrap();
            assert!(!String::from_utf8_lossy(&record.to_bytes().unwrap()).contains("marker"));
        }
        assert_eq!(script.requests().len(), 1);
        assert_eq!(session.refresh().await.unwrap().secret(), "good");
        assert_eq!(script.requests().len(), 2);
    }
}

#[tokio::test]
async fn rfc6749_5_1_scopes_that_are_not_said_are_those_that_were_asked_for_and_fewer_are_told() {
    let token = |scope: Value| ok(&json!({"access_token": "at", "refresh_token": "rt", "scope": scope}));
    for (said, granted) in [
        (json!(null), "read write"),
        (json!(""), "read write"),
        (json!("read"), "read"),
        (json!("write read"), "write read"),
    ] {
        let granted = Scopes::parse(granted);
        // A client's own token, as the application sees it.
        let script = Script::start([token(said.clone())]).await;
        let context = Context::new();
        let provider = client(&script).scopes(["read", "write"]).build(&context).unwrap();
        let session = Session::builder(Arc::new(provider)).context(&context).build().unwrap();
        assert_eq!(session.token().await.unwrap().scopes(), Some(&granted), "{said}");
        assert_eq!(session.status().await.unwrap().scopes, Some(granted.clone()), "{said}");
        assert_eq!(script.requests().len(), 1);

        // A person's login, and what a renewal that says nothing grants: the same, or what it asked for.
        let silent = || token(json!(null));
        let script = Script::start([token(said.clone()), silent(), silent()]).await;
        let person = client(&script).flow(Flow::Password).username("alice").password(literal("p"));
        let provider = build(person.scopes(["read", "write"]));
        let acquired = provider.acquire(&TokenRequest::default(), None).await.unwrap();
        let login = acquired.login.unwrap();
        assert_eq!((acquired.access.scopes(), login.scopes.as_ref()), (Some(&granted), Some(&granted)));
        let renewed = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap();
        assert_eq!(renewed.access.scopes(), Some(&granted), "{said}");
        let narrow = provider.acquire(&TokenRequest::scopes(["read"]), Some(&login)).await.unwrap();
        assert_eq!(narrow.access.scopes(), Some(&Scopes::parse("read")), "{said}");
        assert_eq!(narrow.login.unwrap().scopes, Some(granted), "a narrower token narrows no login");
        assert_eq!(script.requests().len(), 3);
    }
}

#[tokio::test]
async fn rfc6749_5_2_error_description_and_uri_are_told() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).token_endpoint(server.token_endpoint()));
    for (status, code) in [(400, "invalid_request"), (400, "invalid_scope"), (401, "invalid_client")] {
        server.reset_counters();
        let page = format!("https://idp.example/errors#{code}");
        let body = json!({"error": code, "error_description": "because", "error_uri": page, "other": [1]});
        server.faults().push(Endpoint::Token, Fault::Status { status, retry_after: None, body: Some(body) });
        let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(status)));
        assert_eq!((error.oauth_error(), error.oauth_description()), (Some(code), Some("because")));
        assert_eq!(error.oauth_uri(), Some(page.as_str()));
        assert!(
            error.to_string().contains(&format!("{code}: because (see {page}) (HTTP {status})")),
            "{error}"
        );
        assert_eq!(server.counters().token, 1);
    }
}

#[tokio::test]
async fn rfc6749_5_2_an_error_that_is_no_json_shows_nothing_of_itself() {
    let html = format!("<html>marker {}</html>", "x".repeat(100_000));
    for (status, kind) in [
        ("400 Bad Request", ErrorKind::Refused),
        ("401 Unauthorized", ErrorKind::Refused),
        ("403 Forbidden", ErrorKind::Refused),
        ("500 Internal Server Error", ErrorKind::Transient),
        ("502 Bad Gateway", ErrorKind::Transient),
        ("200 OK", ErrorKind::Transient),
    ] {
        for body in
            [html.as_str(), "error=invalid_grant&marker", r#"["marker"]"#, r#"{"error":{"marker":1}}"#]
        {
            let script = Script::start([answer(status, body)]).await;
            let provider = build(client(&script));
            let request = TokenRequest::default();
            let error = provider.acquire(&request, Some(&Login::default())).await.unwrap_err();
            // An object with an error that cannot be read is an error all the same.
            let expected =
                if body.starts_with('{') && status.starts_with('2') { ErrorKind::Refused } else { kind };
            assert_eq!(error.kind(), expected, "{status} {body:.40}");
            assert_eq!(error.status().map(|it| it.to_string()).as_deref(), Some(&status[..3]));
            let source = std::error::Error::source(&error).map(|source| format!("{source} {source:?}"));
            let told = format!("{error} {error:?} {source:?}");
            assert!(!told.contains("marker") && told.len() < 1000, "{told:.2000}");
            assert_eq!((error.oauth_error(), script.requests().len()), (None, 1));
        }
    }
}

#[tokio::test]
async fn rfc6749_3_2_an_endpoint_with_a_fragment_is_refused() {
    let builder = |url: &str| {
        Oidc::builder("https://idp.example", "id").client_secret(literal("s")).token_endpoint(url)
    };
    for url in ["https://idp.example/token#", "https://idp.example/token?a=b#top"] {
        let error = builder(url).build(&Context::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(
            error.to_string().contains("token_endpoint") && error.to_string().contains("fragment"),
            "{error}"
        );
    }
    builder("https://idp.example/token?a=b").build(&Context::new()).unwrap();

    // Neither is one that the server's metadata names.
    let mut settings = Settings::default();
    settings.metadata.insert("token_endpoint".into(), json!("https://idp.example/token#top"));
    let server = AuthorizationServer::start(settings).await;
    let error = build(service(&server)).acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert!(
        error.to_string().contains("token_endpoint") && error.to_string().contains("fragment"),
        "{error}"
    );
    assert_eq!((server.counters().discovery, server.counters().token), (1, 0));
}
