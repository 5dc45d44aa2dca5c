//! Servers that say again, in their errors, what they were sent; and observers that panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::sync::{Arc, Mutex};

use common::{device, literal, service};
use keyfob_auth_core::{
    AuthError, Context, CredentialProvider, ErrorKind, Login, SecretString, TokenRequest,
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{ClientAuth, Exchange, Flow, Observer, Oidc, OidcBuilder, explain};
use serde_json::json;

#[derive(Clone, Default)]
struct Told(Arc<Mutex<String>>);

impl Observer for Told {
    fn exchanged(&self, exchange: &Exchange) {
        *self.0.lock().unwrap() += &format!("{exchange}{exchange:?}");
    }
}

/// An error in whose every text is what was sent.
fn echo(code: &str) -> Fault {
    let text = "Wrong client for marker-secret: marker%2Bsecret";
    let body =
        json!({"error": code, "error_description": text, "error_uri": format!("https://x.example/{text}")});
    Fault::Status { status: 400, retry_after: None, body: Some(body) }
}

type Asked = std::pin::Pin<Box<dyn Future<Output = AuthError>>>;

fn acquire(provider: Oidc, login: Option<Login>) -> Asked {
    Box::pin(async move { provider.acquire(&TokenRequest::default(), login.as_ref()).await.unwrap_err() })
}

#[tokio::test]
async fn a_secret_that_a_server_says_again_is_in_no_error_and_nothing_that_is_told() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let marker = || SecretString::from("marker-secret");
    let login = || Login::with_refresh_token("marker-secret");
    let posted = |secret: &str| {
        Oidc::builder(server.issuer(), "service")
            .client_secret(literal(secret))
            .client_auth(ClientAuth::ClientSecretPost)
    };
    let password =
        || device(&server).flow(Flow::Password).username("alice").password(literal("marker-secret"));
    let basic = || Oidc::builder(server.issuer(), "service").client_secret(literal("marker-secret"));
    type Ask<'a> = Box<dyn Fn(Oidc) -> Asked + 'a>;
    let cases: Vec<(&str, Endpoint, OidcBuilder, Ask<'_>)> = vec![
        ("refresh", Endpoint::Token, device(&server), Box::new(|it| acquire(it, Some(login())))),
        ("password", Endpoint::Token, password(), Box::new(|it| acquire(it, None))),
        ("secret in the form", Endpoint::Token, posted("marker-secret"), Box::new(|it| acquire(it, None))),
        ("secret in a header", Endpoint::Token, basic(), Box::new(|it| acquire(it, None))),
        (
            "revocation",
            Endpoint::Revocation,
            device(&server),
            Box::new(|it| Box::pin(async move { it.revoke(&login(), &[]).await.unwrap_err() })),
        ),
        (
            "introspection",
            Endpoint::Introspection,
            service(&server),
            Box::new(|it| Box::pin(async move { it.introspect(&marker()).await.unwrap_err() })),
        ),
        (
            "user info",
            Endpoint::UserInfo,
            device(&server),
            Box::new(|it| Box::pin(async move { it.user_info(&marker(), None).await.unwrap_err() })),
        ),
    ];
    for (what, endpoint, builder, ask) in cases {
        let (told, context) = (Told::default(), Context::new());
        explain(&context, Arc::new(told.clone())).unwrap();
        server.reset_counters();
        server.faults().push(endpoint, echo("invalid_request"));
        let error = ask(builder.build(&context).unwrap()).await;
        assert_eq!(error.oauth_error(), Some("invalid_request"), "{what}: {error}");
        assert!(error.to_string().contains("Wrong client for (not shown): "), "{what}: {error}");
        let told = told.0.lock().unwrap().clone();
        assert!(told.contains("Wrong client for (not shown): "), "{what}: {told}");
        assert!(!format!("{error} {error:?} {told}").contains("marker-secret"), "{what}: {error:?} {told}");
        assert_eq!(server.requests().len(), 2, "{what}: discovery, and what was asked for");
    }
}

#[tokio::test]
async fn what_a_refusal_says_is_recorded_without_the_token() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = device(&server).build(&Context::new()).unwrap();
    server.faults().push(Endpoint::Token, echo("invalid_grant"));
    let error =
        provider.acquire(&TokenRequest::default(), Some(&Login::with_refresh_token("marker-secret"))).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRejected);
    assert_eq!(
        error.oauth_description(),
        Some("Wrong client for (not shown): marker%2Bsecret"),
        "it is what a record keeps"
    );
}

#[tokio::test]
async fn a_panicking_observer_costs_no_answer() {
    struct Panics;

    impl Observer for Panics {
        fn exchanged(&self, _: &Exchange) {
            panic!("a bug of the application's");
        }
    }

    let server = AuthorizationServer::start(Settings::default()).await;
    let context = Context::new();
    explain(&context, Arc::new(Panics)).unwrap();
    let provider = service(&server).build(&context).unwrap();
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    assert_eq!((server.counters().discovery, server.counters().token), (1, 1));
}
