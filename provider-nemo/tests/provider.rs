//! The provider against the embedded server, which plays a platform and its identity provider.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{fs, sync::Arc, time::Duration};

use common::{Shown, describing, discoveries, jwt, literal, oidc, platform, start};
use keyfob_auth_core::{
    AuthError, Context, CredentialProvider, ErrorKind, ExposeSecret as _, Keep, Login, LoginRequest,
    NoInteraction, Session, TokenRequest,
    registry::SecretSource,
    store::MemoryStore,
    testing::provider::{Capabilities, all},
};
use keyfob_idp::server::{AuthorizationServer, AutoApprove, DEVICE_CODE_GRANT, Endpoint, Fault, Settings};
use keyfob_provider_nemo::{Nemo, NemoBuilder, NemoFlow, Unsigned};
use serde_json::{Value, json};

fn build(builder: NemoBuilder) -> Nemo {
    builder.build(&Context::new()).unwrap()
}

fn alice(server: &AuthorizationServer) -> NemoBuilder {
    Nemo::builder(server.issuer()).username("alice").password(literal("alice-password"))
}

async fn acquire(nemo: &Nemo, login: Option<&Login>) -> Result<keyfob_auth_core::Acquired, AuthError> {
    nemo.acquire(&TokenRequest::default(), login).await
}

/// A login of alice's, by her password.
async fn login_of(nemo: &Nemo) -> Login {
    acquire(nemo, None).await.unwrap().login.unwrap()
}

fn answer(body: &Value) -> Fault {
    Fault::Status { status: 200, retry_after: None, body: Some(body.clone()) }
}

#[tokio::test]
async fn a_person_signs_in_with_a_code_and_the_login_is_renewed() {
    let settings = Settings {
        device_interval: Duration::from_secs(1),
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
        ..platform(&oidc(json!({})))
    };
    let server = AuthorizationServer::start(settings).await;
    let nemo = build(Nemo::builder(format!("{}/", server.issuer())));
    let ui = Shown::new();
    let acquired = nemo.login(&LoginRequest::default(), None, Arc::clone(&ui) as _).await.unwrap();
    let login = acquired.login.unwrap();
    assert_eq!(ui.prompts().len(), 1);
    assert_eq!(login.account.as_ref().map(|account| account.subject.as_str()), Some("subject-alice"));
    assert_eq!(
        login.scopes.as_ref().unwrap().to_string(),
        "openid offline_access platform:read platform:write"
    );
    assert!(login.id_token.is_none(), "nothing looks at it");

    let renewed = acquire(&nemo, Some(&login)).await.unwrap().login.unwrap();
    assert_ne!(renewed.refresh_token_hash(), login.refresh_token_hash());
    assert_eq!(renewed.scopes, login.scopes);
    assert_eq!(renewed.account, login.account);
    let counters = server.counters();
    assert_eq!((counters.requests_of(DEVICE_CODE_GRANT), counters.requests_of("refresh_token")), (1, 1));
    assert_eq!((counters.discovery, counters.jwks), (0, 0), "the issuer itself is not asked");
    assert_eq!(discoveries(&server), 1, "asked once, remembered by the context");
}

#[tokio::test]
async fn the_platform_is_asked_once_for_all_of_a_context() {
    let server = start(&oidc(json!({}))).await;
    let context = Context::new();
    let sessions: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|label| {
            let nemo = alice(&server).label(label).build(&context).unwrap();
            Session::new(Arc::new(nemo), Arc::new(MemoryStore::new()), &context).unwrap()
        })
        .collect();
    let tokens: Vec<_> =
        sessions.into_iter().map(|session| tokio::spawn(async move { session.token().await })).collect();
    for token in tokens {
        token.await.unwrap().unwrap();
    }
    assert_eq!((server.counters().requests_of("password"), discoveries(&server)), (3, 1));
}

#[tokio::test]
async fn without_authentication_there_is_no_token_and_nothing_is_sent() {
    let server = AuthorizationServer::start(describing(json!({"auth_enabled": false, "oidc": null}))).await;
    let url = server.issuer();
    for builder in [
        alice(&server),
        Nemo::builder(url).workload_token(literal("e30.e30.x")),
        Nemo::builder(url).unsigned(Unsigned::new("dev@example.test")),
    ] {
        let error = acquire(&build(builder), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured, "an optional origin is called without a token");
        assert!(error.to_string().contains("authentication is off"), "{error}");
    }
    let person = build(Nemo::builder(url));
    let login = Login::with_refresh_token("marker");
    assert_eq!(acquire(&person, Some(&login)).await.unwrap_err().kind(), ErrorKind::NotConfigured);
    let refused = person.login(&LoginRequest::default(), None, Arc::new(NoInteraction)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotConfigured);
    person.revoke(&login, &[]).await.unwrap();
    assert_eq!(server.requests().len(), discoveries(&server));
}

#[tokio::test]
async fn what_a_platform_does_not_offer_is_told_with_what_can_be_done() {
    let device = |url: &str| Nemo::builder(url);
    let password = |url: &str| Nemo::builder(url).username("alice").password(literal("alice-password"));
    let workload = |url: &str| Nemo::builder(url).workload_token(literal("e30.e30.x"));
    let unsigned = |url: &str| Nemo::builder(url).unsigned(Unsigned::new("dev@example.test"));
    type Flow<'a> = &'a dyn Fn(&str) -> NemoBuilder;
    let on = |oidc: Value| json!({"auth_enabled": true, "oidc": oidc});
    let cases: [(Flow<'_>, Value, ErrorKind, &str); 9] = [
        (
            &device,
            on(oidc(json!({"device_authorization_endpoint": null}))),
            ErrorKind::Refused,
            "flow = \"password\"",
        ),
        (&device, on(Value::Null), ErrorKind::Refused, "flow = \"unsigned\""),
        (&password, on(oidc(json!({"token_endpoint": ""}))), ErrorKind::Refused, "no `token_endpoint`"),
        (&password, on(oidc(json!({"client_id": 7}))), ErrorKind::Refused, "no `client_id`"),
        (
            &password,
            on(oidc(json!({"token_endpoint": "http://idp.example/token"}))),
            ErrorKind::Configuration,
            "`token_endpoint` must be an https URL",
        ),
        (&workload, on(oidc(json!({}))), ErrorKind::Refused, "workload_token_exchange_enabled"),
        (&unsigned, on(oidc(json!({}))), ErrorKind::Refused, "takes no unsigned tokens"),
        (&password, json!({"status": "ok"}), ErrorKind::Configuration, "is this a NeMo Platform?"),
        (&password, json!([]), ErrorKind::Transient, "no JSON object"),
    ];
    for (flow, document, kind, said) in cases {
        let server = AuthorizationServer::start(describing(document.clone())).await;
        let nemo = build(flow(server.issuer()));
        let error = nemo.login(&LoginRequest::default(), None, Arc::new(NoInteraction)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{document}: {error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().starts_with("nemo"), "{error}");
        assert_eq!(server.counters().token, 0);
    }
}

#[tokio::test]
async fn a_sign_in_without_the_scopes_it_asked_for_fails_and_leaves_nothing() {
    let asked = json!({"scope_prefix": "api://nmp"});
    let opaque = |scope: Value| json!({"access_token": "opaque", "refresh_token": "r", "scope": scope});
    let with = |claims: Value| json!({"access_token": jwt(&claims), "refresh_token": "r"});
    for (body, missing) in [
        (with(json!({"sub": "a", "scp": "platform:read"})), Some("platform:write")),
        (with(json!({"sub": "a", "scope": "openid"})), Some("platform:read platform:write")),
        (with(json!({"sub": "a"})), Some("platform:read platform:write")),
        (with(json!({"sub": "a", "scp": ["platform:read", "api://nmp/platform:write"]})), None),
        (opaque(json!("openid api://nmp/platform:read")), Some("platform:write")),
        (opaque(Value::Null), None),
    ] {
        let server = start(&oidc(asked.clone())).await;
        server.faults().push(Endpoint::Token, answer(&body));
        let context = Context::new();
        let (nemo, store) = (alice(&server).build(&context).unwrap(), MemoryStore::new());
        let session = Session::new(Arc::new(nemo), Arc::new(store), &context).unwrap();
        let token = session.login(Arc::new(NoInteraction)).await;
        let logged_in = session.status().await.unwrap().refreshable;
        match missing {
            Some(missing) => {
                let error = token.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                assert!(error.to_string().contains(&format!("was not granted {missing},")), "{error}");
                assert!(!logged_in, "{body}");
            }
            None => assert!(token.is_ok() && logged_in, "{body}: {token:?}"),
        }
        assert_eq!(server.counters().token, 1);
    }
}

#[tokio::test]
async fn a_refused_password_is_tried_once() {
    let server = start(&oidc(json!({}))).await;
    let context = Context::new();
    let nemo =
        Nemo::builder(server.issuer()).username("alice").password(literal("marker")).build(&context).unwrap();
    let session = Session::new(Arc::new(nemo), Arc::new(MemoryStore::new()), &context).unwrap();
    for _ in 0..5 {
        let error = session.token().await.unwrap_err();
        assert!(error.to_string().contains("\"alice\" or its password was refused"), "{error}");
        assert!(!format!("{error:?}").contains("marker"));
    }
    assert_eq!(server.counters().requests_of("password"), 1);
}

#[tokio::test]
async fn narrower_scopes_get_the_prefix_too() {
    let server = start(&oidc(json!({"scope_prefix": "api://nmp"}))).await;
    let nemo = build(alice(&server));
    let login = login_of(&nemo).await;
    let request = TokenRequest::scopes(["platform:read"]);
    let narrow = nemo.acquire(&request, Some(&login)).await.unwrap();
    assert_eq!(narrow.access.scopes().unwrap().to_string(), "api://nmp/platform:read");
    let last = server.requests().pop().unwrap();
    assert_eq!(last.parameter("scope"), Some("api://nmp/platform:read"));
}

#[tokio::test]
async fn scopes_that_were_added_since_the_login_are_told_without_the_prefix() {
    let server = start(&oidc(json!({"scope_prefix": "api://nmp"}))).await;
    let before = build(alice(&server).scopes(["platform:read"]));
    let login = login_of(&before).await;
    assert!(before.missing_scopes(&login).is_empty());
    let now = build(alice(&server).scopes(["platform:read", "platform:write", "form:write"]));
    assert_eq!(now.missing_scopes(&login).to_string(), "platform:write form:write");
    assert!(build(alice(&server)).missing_scopes(&login).is_empty(), "the platform's defaults are its own");
    assert!(now.missing_scopes(&Login::default()).is_empty(), "made by another tool");
}

#[tokio::test]
async fn a_login_is_not_renewed_at_another_platform() {
    let (here, there) = (start(&oidc(json!({}))).await, start(&oidc(json!({}))).await);
    let login = login_of(&build(alice(&here))).await;
    let other = build(alice(&there));
    let error = acquire(&other, Some(&login)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(error.to_string().contains(&format!("is for {}", here.issuer())), "{error}");
    other.revoke(&login, &[]).await.unwrap_err();
    assert_eq!((there.counters().token, there.counters().revocation), (0, 0));
}

#[tokio::test]
async fn a_logout_revokes_where_the_issuer_says_how() {
    for (metadata, revocations) in [(json!({}), 1), (json!({"revocation_endpoint": null}), 0)] {
        let settings =
            Settings { metadata: metadata.as_object().cloned().unwrap(), ..platform(&oidc(json!({}))) };
        let server = AuthorizationServer::start(settings).await;
        let nemo = build(alice(&server));
        nemo.revoke(&login_of(&nemo).await, &[]).await.unwrap();
        assert_eq!(server.counters().revocation, revocations);
    }
}

#[tokio::test]
async fn a_workloads_token_is_read_at_each_exchange() {
    let enabled = json!({
        "workload_token_exchange_enabled": true, "workload_audience": "nemo", "workload_scope": "openid",
        "workload_client_id": "cli",
    });
    let server = start(&oidc(enabled)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let nemo = build(Nemo::builder(server.issuer()).workload_token(SecretSource::File(file.clone())));
    assert_eq!((nemo.flow(), nemo.keeps()), (NemoFlow::Workload, Keep::Memory));

    let absent = acquire(&nemo, None).await.unwrap_err();
    fs::write(&file, " \n").unwrap();
    let empty = acquire(&nemo, None).await.unwrap_err();
    for error in [absent, empty] {
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    assert_eq!(server.counters().token, 0);

    let given = json!({
        "access_token": "x", "expires_in": 300, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    for subject in ["nmp_obo_v1.one", "e30.e30.two"] {
        server.faults().push(Endpoint::Token, answer(&given));
        fs::write(&file, format!("{subject}\n")).unwrap();
        let acquired = acquire(&nemo, None).await.unwrap();
        assert!(acquired.login.is_none(), "there is nothing to log out of");
        assert_eq!(server.requests().pop().unwrap().parameter("subject_token"), Some(subject));
    }
    assert_eq!(server.counters().token, 2);
}

#[tokio::test]
async fn a_given_token_is_used_as_it_is_and_never_renewed() {
    let server = start(&oidc(json!({}))).await;
    let given = |token: &str| build(Nemo::builder(server.issuer()).access_token(literal(token)));
    for token in ["opaque", &jwt(&json!({"exp": 4_000_000_000_u32}))] {
        let nemo = given(token);
        assert_eq!((nemo.flow(), nemo.keeps()), (NemoFlow::Token, Keep::Memory));
        let acquired = acquire(&nemo, None).await.unwrap();
        assert_eq!(acquired.access.secret().expose_secret(), token);
        assert!(acquired.login.is_none());
    }
    let error = acquire(&given(&jwt(&json!({"exp": 1}))), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("cannot be renewed"), "{error}");
    assert_eq!(server.requests().len(), 0, "the platform has no say in it");
}

#[tokio::test]
async fn an_unsigned_token_is_made_where_nobody_can_sign_in() {
    let server = AuthorizationServer::start(describing(json!({"auth_enabled": true, "oidc": null}))).await;
    let about = Unsigned::new("dev@example.test").lifetime(Duration::from_secs(60));
    let nemo = build(Nemo::builder(server.issuer()).unsigned(about).scopes(["platform:read"]));
    let token = acquire(&nemo, None).await.unwrap().access;
    assert!(token.secret().expose_secret().ends_with('.'), "nothing signs it");
    assert_eq!((nemo.flow(), nemo.keeps()), (NemoFlow::Unsigned, Keep::Memory));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn nobody_is_asked_while_nobody_is_logged_in() {
    let server = start(&oidc(json!({}))).await;
    let error = acquire(&build(Nemo::builder(server.issuer())), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_conforms() {
    let server = start(&oidc(json!({}))).await;
    all(&build(Nemo::builder(server.issuer())), &Capabilities::attended()).await;
    all(&build(alice(&server)), &Capabilities::unattended().secrets(["alice-password"])).await;
    let given = Nemo::builder(server.issuer()).access_token(literal("s3cret-token"));
    all(&build(given), &Capabilities::unattended().secrets(["s3cret-token"])).await;
    server.set_down(true);
    all(&build(Nemo::builder(server.issuer())), &Capabilities::attended()).await;
}
