//! `provider = "sfapi"` in a configuration file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{CLIENT, Nersc};
use keyfob_auth_core::{
    AuthError, Context, CredentialProvider, ErrorKind, TokenRequest,
    registry::{Settings, Value},
};
use keyfob_provider_sfapi::Sfapi;

fn text(value: &str) -> Value {
    Value::String(value.into())
}

fn read(keys: Vec<(&str, Value)>) -> Result<Sfapi, AuthError> {
    let settings = keys
        .into_iter()
        .enumerate()
        .fold(Settings::new("profile.nersc"), |all, (n, (key, value))| all.with(key, value, Some(n + 2)));
    let provider = Sfapi::from_settings(&settings, &Context::new())?;
    settings.finish()?;
    Ok(provider)
}

#[tokio::test]
async fn the_key_is_a_path_a_secret_or_itself() {
    let nersc = Nersc::start().await;
    let path = nersc.key_file();
    let url = || ("token_url", text(&nersc.server.token_endpoint()));
    let file = BTreeMap::from([("file".to_owned(), (text(path.to_str().unwrap()), None))]);
    for keys in [
        vec![("key", text(path.to_str().unwrap())), url()],
        vec![("key", Value::Table(file)), url()],
        vec![("key", text(&nersc.pem())), ("client_id", text(CLIENT)), url()],
        vec![
            ("key", text(path.to_str().unwrap())),
            ("scheme", text("")),
            ("scopes", Value::List(vec![text("read")])),
            ("signing_alg", text("RS256")),
            ("assertion_lifetime", Value::Integer(120)),
            ("assertion_claims", Value::Table(BTreeMap::from([("purpose".into(), (text("x"), None))]))),
            url(),
        ],
    ] {
        read(keys).unwrap().acquire(&TokenRequest::default(), None).await.unwrap();
    }
    assert_eq!(nersc.server.counters().token, 4);
}

#[test]
fn mistakes_are_named_with_key_and_line() {
    for (keys, said) in [
        (vec![("key", text(""))], "`key` must not be empty"),
        (vec![("key", Value::Integer(7))], "`key` must be"),
        (vec![("token_url", text("http://api.example/t"))], "`token_url` must be an https URL"),
        (vec![("keys", text("x"))], "did you mean `key`"),
        (vec![("scheme", text("Bearer "))], "`scheme` \"Bearer \" is no authentication scheme"),
    ] {
        let error = read(keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.origin().is_some_and(|origin| origin.starts_with("line 2")), "{error}");
    }
}

#[test]
fn clients_are_told_apart() {
    let identity = |keys| read(keys).unwrap().identity();
    let one = identity(vec![("key", text("prod"))]);
    assert_eq!((one.kind.as_str(), one.label.as_str()), ("sfapi", "nersc"));
    assert_eq!(one.tenant, "prod");
    assert_ne!(one, identity(vec![("key", text("test"))]));
    // A path is another file from another folder.
    assert!(identity(vec![("key", text("keys/prod.pem"))]).tenant.starts_with('/') || cfg!(windows));
    let settings =
        Settings::new("profile.nersc").in_file("/etc/keyfob.toml").with("key", text("keys/prod.pem"), None);
    let provider = Sfapi::from_settings(&settings, &Context::new()).unwrap();
    assert_eq!(provider.identity().tenant, "/etc/keys/prod.pem", "where the configuration file is");
}
