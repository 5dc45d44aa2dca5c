//! `StaticToken` passes the provider suite, and works in a session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use keyfob_auth_core::{
    AccessToken, Context, ErrorKind, Session,
    registry::{Registry, SecretSource, Settings, Value},
    store::MemoryStore,
    testing::provider::{Capabilities, all},
};
use keyfob_provider_static::StaticToken;

/// `{"alg":"none"}` and `{"exp":4102444800}`: the end of 2099.
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.x";
/// `{"alg":"none"}` and `{"exp":1}`.
const EXPIRED: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x";

fn session(provider: StaticToken, context: &Context) -> Session {
    Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), context).unwrap()
}

#[tokio::test]
async fn a_literal_conforms() {
    all(&StaticToken::literal("s3cret-token"), &Capabilities::unattended().secrets(["s3cret-token"])).await;
}

#[tokio::test]
async fn a_command_conforms() {
    let command = SecretSource::Command(["sh", "-c", "echo s3cret-token"].map(str::to_owned).to_vec());
    all(&StaticToken::secret(command), &Capabilities::unattended().secrets(["s3cret-token"])).await;
}

#[tokio::test]
async fn a_callback_conforms() {
    let provider = StaticToken::callback(async |_| Ok(AccessToken::new("s3cret-token").expires_in(60)));
    all(&provider, &Capabilities::unattended().secrets(["s3cret-token"])).await;
}

#[tokio::test]
async fn a_literal_jwt_expires_when_it_says() {
    let context = Context::new();
    let expires =
        |token| session(StaticToken::literal(token), &context).token_blocking().map(|t| t.expires_at());
    assert!(expires(JWT).unwrap().is_some());
    assert_eq!(expires("opaque").unwrap(), None);
    let error = expires(EXPIRED).unwrap_err();
    assert!(!error.to_string().contains(EXPIRED), "{error}");
}

#[tokio::test]
async fn two_literals_in_one_context_stay_two() {
    let (context, store) = (Context::new(), Arc::new(MemoryStore::new()));
    for token in ["one", "other"] {
        let session = Session::new(Arc::new(StaticToken::literal(token)), store.clone(), &context).unwrap();
        assert_eq!(session.token().await.unwrap().secret(), token);
    }
}

#[tokio::test]
async fn a_callback_is_asked_again_only_when_it_must_be() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let provider = StaticToken::callback(move |_| {
        let n = counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(AccessToken::new(format!("token-{n}")).expires_in(600)) }
    });
    let session = session(provider, &Context::new());
    for _ in 0..3 {
        assert_eq!(session.token().await.unwrap().secret(), "token-0");
    }
    assert_eq!(session.refresh().await.unwrap().secret(), "token-1");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_callback_that_panics_is_an_error() {
    let provider = StaticToken::callback(async |request| match request.scopes.is_empty() {
        true => panic!("marker"),
        false => Ok(AccessToken::new("abc")),
    });
    let error = session(provider, &Context::new()).token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn the_registry_makes_one_from_settings() {
    let settings = |key: &str| {
        Settings::new("profile.work").with("provider", Value::String("static".into()), Some(2)).with(
            key,
            Value::String("abc".into()),
            Some(3),
        )
    };
    let registry = Registry::new().provider("static", StaticToken::from_settings);
    let profile = registry.profile(&settings("token"), &Context::new()).unwrap();
    assert_eq!(profile.session.token().await.unwrap().secret(), "abc");
    assert_eq!(profile.literal_secrets, ["profile.work.token"]);
    assert!(registry.profile(&settings("tokn"), &Context::new()).is_err());
}
