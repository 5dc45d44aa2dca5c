use std::{fs, path::Path};

use keyfob_auth_core::{ErrorKind, ExposeSecret as _, Lifetime, registry::Value};

use super::*;

async fn acquire(provider: &StaticToken, request: TokenRequest) -> Result<AccessToken, AuthError> {
    provider.acquire(&request, None).await.map(|acquired| acquired.access)
}

async fn text_of(provider: &StaticToken) -> String {
    acquire(provider, TokenRequest::default()).await.unwrap().secret().expose_secret().to_owned()
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), (value, None))).collect())
}

fn sh(script: &str) -> Value {
    Value::List(["sh", "-c", script].map(text).into())
}

fn path(path: &Path) -> Value {
    text(path.to_str().unwrap())
}

fn settings(token: Value) -> Settings {
    Settings::new("profile.work").with("token", token, Some(2))
}

fn from(settings: &Settings) -> Result<StaticToken, AuthError> {
    StaticToken::from_settings(settings, &Context::new())
}

#[tokio::test]
async fn a_literal_is_handed_on_and_does_not_expire() {
    let token = acquire(&StaticToken::literal("abc"), TokenRequest::default()).await.unwrap();
    assert_eq!((token.secret().expose_secret(), token.lifetime()), ("abc", Lifetime::Unlimited));
}

#[tokio::test]
async fn what_surrounds_a_token_is_not_part_of_it() {
    assert_eq!(text_of(&StaticToken::literal(" abc\r\n\n")).await, "abc");
    let blank = acquire(&StaticToken::literal(" \n"), TokenRequest::default()).await.unwrap_err();
    assert_eq!(blank.kind(), ErrorKind::NotConfigured);
}

#[tokio::test]
async fn a_token_that_cannot_be_used_is_told_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    // `{"alg":"none"}` and `{"exp":1}`.
    for (token, kind, said) in [
        ("eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x", ErrorKind::Refused, "days ago; replace it"),
        ("a\nmarker", ErrorKind::Refused, "no HTTP header can carry"),
        ("{\"marker\": 1}", ErrorKind::Configuration, "name the key that holds the token"),
        ("\n", ErrorKind::NotConfigured, "it is empty"),
    ] {
        fs::write(&file, token).unwrap();
        let provider = from(&settings(table([("file", path(&file))]))).unwrap();
        let error = acquire(&provider, TokenRequest::default()).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(said) && !text.contains("marker"), "{text}");
        assert!(text.ends_with("/token, for `token` of profile.work]"), "{text}");
    }
}

#[tokio::test]
async fn settings_take_every_form_of_a_secret_and_keys_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, json) = (folder.path().join("plain"), folder.path().join("json"));
    fs::write(&plain, "from-file\n").unwrap();
    fs::write(&json, r#"{"other": 1, "api key": "from-json"}"#).unwrap();
    let printing = "echo '{\"accessToken\": \"from-printed-json\", \"expiresOn\": 1}'";
    let plugin = "test -n \"$KUBERNETES_EXEC_INFO\" && echo '{\"kind\": \"ExecCredential\", \"status\": \
                  {\"token\": \"from-plugin\"}}'";
    for (value, expected) in [
        (text("from-literal"), "from-literal"),
        (table([("file", path(&plain))]), "from-file"),
        (table([("command", sh("echo from-command"))]), "from-command"),
        (table([("command", sh(plugin))]), "from-plugin"),
        (table([("file", path(&json)), ("key", text("api key"))]), "from-json"),
        (table([("command", sh(printing)), ("key", text("accessToken"))]), "from-printed-json"),
    ] {
        let settings = settings(value);
        let provider = from(&settings).unwrap();
        settings.finish().unwrap();
        assert_eq!(text_of(&provider).await, expected);
        assert_eq!(provider.identity().label, "work");
    }
    let provider = from(&settings(table([("env", text("KEYFOB_TEST_UNSET"))]))).unwrap();
    let error = acquire(&provider, TokenRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains("KEYFOB_TEST_UNSET"), "{error}");
}

#[tokio::test]
async fn constructors_are_the_same_sources() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), r#"{"a": "from-json"}"#).unwrap();
    assert_eq!(text_of(&StaticToken::file(file.path()).json_key("a")).await, "from-json");
    assert_eq!(text_of(&StaticToken::command(["echo", "printed"])).await, "printed");
    let unset = acquire(&StaticToken::env("KEYFOB_TEST_UNSET"), TokenRequest::default()).await.unwrap_err();
    assert!(unset.to_string().contains("KEYFOB_TEST_UNSET"), "{unset}");
}

#[test]
fn each_wrong_setting_is_named() {
    let with = |key: &str, value| settings(text("abc")).with(key, value, Some(3));
    for (settings, said) in [
        (Settings::new("profile.work"), "profile.work: `token` is missing"),
        (settings(Value::Integer(1)), "`token` must be a text, { env ="),
        (
            settings(table([("key", text("a"))])),
            "profile.work.token: `key` goes with one of `file` and `command`",
        ),
        (settings(table([("key", text("a")), ("env", text("B"))])), "profile.work.token: unknown key `env`"),
        (
            settings(table([("key", text("")), ("file", text("x"))])),
            "profile.work.token: `key` must not be empty",
        ),
        (
            settings(table([("key", text("a")), ("command", Value::List(Vec::new()))])),
            "`key` goes with one of",
        ),
        (
            settings(table([("key", text("a")), ("file", text("x")), ("command", sh("true"))])),
            "`key` goes with one of",
        ),
        (with("header", text("x api")), "`header` \"x api\" is no name of an HTTP header"),
        (with("header", Value::Integer(1)), "`header` must be a text, not a whole number"),
        (with("scheme", text("Bearer:")), "`scheme` \"Bearer:\" is no authentication scheme"),
    ] {
        let error = from(&settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(said), "{said:?} is not in {error}");
    }
}

#[test]
fn header_and_scheme_are_the_settings() {
    let settings =
        settings(text("abc")).with("header", text("X-Api-Key"), None).with("scheme", text("Key"), None);
    let provider = from(&settings).unwrap();
    settings.finish().unwrap();
    let Presentation::Header(name, value) = provider.present(&AccessToken::new("abc"), None).unwrap() else {
        panic!("no header");
    };
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-key", "Key abc"));
}

#[tokio::test]
async fn a_callback_is_told_what_is_asked_for() {
    let provider = StaticToken::callback(|request| async move {
        Ok(AccessToken::new(request.scopes.to_string()).expires_in(60))
    });
    let token = acquire(&provider, TokenRequest::scopes(["a", "b"])).await.unwrap();
    assert_eq!(token.secret().expose_secret(), "a b");
    let blocking = StaticToken::blocking_callback(|request| Ok(AccessToken::new(request.scopes.to_string())));
    let token = acquire(&blocking, TokenRequest::scopes(["c"])).await.unwrap();
    assert_eq!(token.secret().expose_secret(), "c");
    let failing = StaticToken::callback(async |_| Err(AuthError::transient("later")));
    assert_eq!(acquire(&failing, TokenRequest::default()).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[test]
fn a_replaced_file_has_another_revision() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let provider = StaticToken::file(file.path());
    let before = provider.secret_revision();
    fs::write(file.path(), "another").unwrap();
    assert_ne!(before, provider.secret_revision());
    assert_ne!(StaticToken::literal("a").secret_revision(), StaticToken::literal("b").secret_revision());
}

#[test]
fn two_of_them_are_never_taken_for_the_same() {
    let (one, other) = (StaticToken::literal("a"), StaticToken::literal("b"));
    assert_ne!(one.identity(), other.identity());
    assert_eq!(one.identity(), one.identity());
}

#[test]
fn debug_shows_no_secret_and_nothing_is_stored() {
    let provider = StaticToken::literal("marker");
    assert!(!format!("{provider:?}").contains("marker"));
    assert_eq!(provider.keeps(), Keep::Memory);
}
