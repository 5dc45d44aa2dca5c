//! Profiles of a configuration file: what they leave out, and the store that goes with the provider.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use common::{oidc, start};
use keyfob_auth_core::{
    AuthError, Context, ErrorKind, NoInteraction, Session,
    registry::{Profile, Registry, Settings, Value},
};
use keyfob_idp::server::AuthorizationServer;
use keyfob_provider_nemo::{Nemo, config_file::NemoStore};
use serde_json::json;

fn registry() -> Registry {
    Registry::new().provider("nemo", Nemo::from_settings).store("nemo", NemoStore::from_settings)
}

/// Contexts by name and platform; the first is the current one.
fn config(contexts: &[(&str, &str)]) -> String {
    let part = |line: &dyn Fn(&str, &str) -> String| -> String {
        contexts.iter().map(|(n, u)| line(n, u)).collect()
    };
    format!(
        "current_context: {}\nclusters:\n{}users:\n{}contexts:\n{}",
        contexts[0].0,
        part(&|name, url| format!("- name: {name}-cluster\n  base_url: {url}/\n")),
        part(&|name, _| format!("- type: no-auth\n  name: {name}-user\n")),
        part(&|name, _| format!("- name: {name}\n  cluster: {name}-cluster\n  user: {name}-user\n")),
    )
}

fn profile(file: &Path, keys: &[(&str, Value)], context: &Context) -> Result<Profile, AuthError> {
    let text = |text: &str| Value::String(text.into());
    let mut settings = Settings::new("profile.work").labelled("work").with("provider", text("nemo"), Some(2));
    let path = text(file.to_str().unwrap());
    for (key, value) in
        [("config_file", path), ("username", text("alice")), ("password", text("alice-password"))]
    {
        settings = settings.with(key, value, Some(3));
    }
    let settings = keys.iter().fold(settings, |all, (key, value)| all.with(*key, value.clone(), Some(9)));
    registry().profile(&settings, context)
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

async fn log_in(session: &Session) {
    session.login(Arc::new(NoInteraction)).await.unwrap();
}

/// The lines of this context's user.
fn user(file: &Path, name: &str) -> String {
    let content = fs::read_to_string(file).unwrap();
    let users = content.split("users:\n").nth(1).unwrap().split("contexts:\n").next().unwrap();
    let user = users.split("- type: ").find(|user| user.contains(&format!("name: {name}-user")));
    user.unwrap().to_owned()
}

async fn servers() -> [AuthorizationServer; 2] {
    [start(&oidc(json!({}))).await, start(&oidc(json!({}))).await]
}

#[tokio::test]
async fn a_profiles_store_follows_its_provider() {
    let [one, two] = servers().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    for (chosen, user_of_it, other) in [(None, "one", "two"), (Some("two"), "two", "one")] {
        fs::write(&file, config(&[("one", one.issuer()), ("two", two.issuer())])).unwrap();
        let keys: Vec<_> =
            [("store", text("nemo"))].into_iter().chain(chosen.map(|name| ("context", text(name)))).collect();
        let context = Context::new();
        log_in(&profile(&file, &keys, &context).unwrap().session).await;
        assert!(user(&file, user_of_it).contains("refresh_token: "), "{chosen:?}");
        assert_eq!(user(&file, other), format!("no-auth\n  name: {other}-user\n"));
    }
    assert_eq!((one.counters().requests_of("password"), two.counters().requests_of("password")), (1, 1));
}

/// A long-lived process stays where it began: the login of one platform is not renewed at the other.
#[tokio::test]
async fn another_current_context_changes_nothing_for_a_session_that_is_there() {
    let [one, two] = servers().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, config(&[("one", one.issuer()), ("two", two.issuer())])).unwrap();
    let context = Context::new();
    let session = profile(&file, &[("store", text("nemo"))], &context).unwrap().session;
    log_in(&session).await;
    let changed = fs::read_to_string(&file).unwrap().replace("current_context: one", "current_context: two");
    fs::write(&file, changed).unwrap();
    session.refresh().await.unwrap();
    assert_eq!(one.counters().requests_of("refresh_token"), 1);
    assert_eq!(two.requests().len(), 0);
}

#[tokio::test]
async fn a_context_of_another_platform_is_refused() {
    let [one, two] = servers().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, config(&[("one", one.issuer())])).unwrap();
    let keys = [("store", text("nemo")), ("base_url", text(two.issuer()))];
    let error = profile(&file, &keys, &Context::new()).unwrap().session.token().await.unwrap_err();
    assert!(error.to_string().contains(&format!("not for {}", two.issuer())), "{error}");
    assert_eq!((one.requests().len(), two.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_login_in_another_store_is_bound_to_its_platform() {
    let [one, two] = servers().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let (keys, context) = ([("store", text("memory"))], Context::new());
    fs::write(&file, config(&[("one", one.issuer())])).unwrap();
    log_in(&profile(&file, &keys, &context).unwrap().session).await;
    // The next process finds the context pointed elsewhere.
    fs::write(&file, config(&[("one", two.issuer())])).unwrap();
    let later = profile(&file, &keys, &context).unwrap().session;
    assert!(later.refresh().await.is_err());
    assert_eq!(two.counters().requests_of("refresh_token"), 0);
}

#[tokio::test]
async fn without_a_platform_it_is_not_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let session = profile(&file, &[("store", text("memory"))], &Context::new()).unwrap().session;
    let error = session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(
        error.to_string().contains("NMP_BASE_URL") && error.to_string().contains("config.yaml"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_in_a_profile_is_told_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let table = |keys: &[(&str, Value)]| {
        Value::Table(
            keys.iter()
                .map(|(key, value)| ((*key).to_owned(), (value.clone(), Some(9))))
                .collect::<BTreeMap<_, _>>(),
        )
    };
    for (key, value, said) in [
        (
            "base_url",
            text("http://nemo.example"),
            "`base_url` must be an https URL (http is accepted on loopback only)",
        ),
        ("base_url", text("nemo.example"), "`base_url`"),
        (
            "flow",
            text("browser"),
            "must be one of \"device\", \"password\", \"workload\", \"token\" or \"unsigned\"",
        ),
        ("flow", text("workload"), "`workload_token` is needed for the workload flow"),
        ("flow", text("unsigned"), "`unsigned` is needed for the unsigned flow"),
        ("unsigned", table(&[]), "email"),
        ("unsigned", table(&[("email", text("a@b")), ("mail", text("x"))]), "mail"),
        ("proxy", text("socks://x"), "`proxy` must be"),
        ("scopes", Value::List(vec![text("a\"b")]), "`scopes` have characters"),
        ("refresh_scopes", text("all"), "\"granted\" or \"default\""),
        ("pasword", text("x"), "unknown key `pasword`"),
    ] {
        let error =
            profile(&folder.path().join("c"), &[(key, value), ("store", text("memory"))], &Context::new());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{key}");
        assert!(error.to_string().contains(said), "{error}");
    }
}
