//! What is said of settings that are wrong.

use super::*;

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn settings() -> Settings {
    Settings::new("profile.work")
        .in_file("/etc/keyfob.toml")
        .at_line(Some(1))
        .with("issuer", text("https://idp"), Some(2))
        .with("isuer", text("x"), Some(3))
        .with("scopes", Value::List(vec![text("a"), Value::Integer(1)]), Some(4))
        .with("secret", Value::Table([("envv".into(), (text("X"), Some(5)))].into()), Some(5))
        .with("flow", text("divice"), Some(6))
}

#[test]
fn errors_name_key_line_and_what_was_meant() {
    let s = settings();
    assert_eq!(s.require_string("issuer").unwrap(), "https://idp");
    let said = |error: AuthError| error.to_string();
    assert_eq!(
        said(s.finish().unwrap_err()),
        "profile.work: unknown key `flow`; known here: issuer [/etc/keyfob.toml, line 6]"
    );
    assert_eq!(
        said(s.strings("scopes").unwrap_err()),
        "profile.work: `scopes` must be a list of texts, but its item 2 is a whole number [/etc/keyfob.toml, line 4]"
    );
    assert_eq!(
        said(s.secret("secret").unwrap_err()),
        "profile.work.secret: unknown key `envv`; did you mean `env`? [/etc/keyfob.toml, line 5]"
    );
    let flow = said(s.one_of("flow", &["device", "client_credentials"]).unwrap_err());
    assert!(flow.contains("did you mean `device`?") && flow.contains("line 6"), "{flow}");
    let isuer = said(s.finish().unwrap_err());
    assert!(isuer.contains("`isuer`; did you mean `issuer`?"), "{isuer}");
    assert!(said(s.require_string("client_id").unwrap_err()).contains("`client_id` is missing"));
}

#[test]
fn a_required_key_that_is_misspelt_is_told_with_its_line() {
    let said = |found: &str, wanted: &str| {
        let s = Settings::new("profile.work").at_line(Some(1)).with(found, text("x"), Some(3));
        s.require_string(wanted).unwrap_err().to_string()
    };
    for (found, wanted) in [
        ("isuer", "issuer"),
        ("Issuer", "issuer"),
        ("clientId", "client_id"),
        ("client-id", "client_id"),
        ("client_ID", "client_id"),
        ("relam", "realm"),
        ("provder", "provider"),
    ] {
        let expected =
            format!("profile.work: the key `{wanted}` is missing; did you mean it by `{found}`? [line 3]");
        assert_eq!(said(found, wanted), expected);
    }
    for (found, wanted) in
        [("client_secret", "client_id"), ("subject", "issuer"), ("key_id", "key"), ("scopes", "issuer")]
    {
        let expected = format!("profile.work: the key `{wanted}` is missing [line 1]");
        assert_eq!(said(found, wanted), expected, "{found}");
    }
    let s = Settings::new("profile.work").with("tokn", text("x"), Some(3)).with("name", text("x"), Some(4));
    assert_eq!(
        s.bad("token", "is missing").to_string(),
        "profile.work: `token` is missing; did you mean it by `tokn`? [line 3]"
    );
    s.string("tokn").unwrap();
    let said = s.bad("token", "is missing").to_string();
    assert_eq!(said, "profile.work: `token` is missing", "somebody knows that key");
}

#[test]
fn paths_start_in_the_files_folder() {
    let values = [("a", "k.pem"), ("b", "/k.pem"), ("empty", "")];
    let s = Settings::new("x").in_file("/etc/keyfob.toml");
    let s = values.into_iter().fold(s, |s, (key, value)| s.with(key, text(value), None));
    assert_eq!(s.path("a").unwrap(), Some("/etc/k.pem".into()));
    assert_eq!(s.path("b").unwrap(), Some("/k.pem".into()));
    assert!(s.path("empty").is_err(), "it would be the folder itself");
}

#[test]
fn literal_secrets_are_noted_when_they_are_read() {
    let below = [("token".into(), (text("marker"), None))].into();
    let s = Settings::new("profile.a.b")
        .labelled("a.b")
        .with("client_secret", text("marker"), None)
        .with("issuer", text("https://idp"), None)
        .with("below", Value::Table(below), None)
        .with("empty", text(""), Some(7));
    s.string("issuer").unwrap();
    assert!(s.literal_secrets().is_empty());
    s.secret("client_secret").unwrap();
    let below = s.table("below").unwrap().unwrap();
    below.secret("token").unwrap();
    assert_eq!(s.literal_secrets(), ["profile.a.b.below.token", "profile.a.b.client_secret"]);
    assert_eq!((s.label(), below.label()), ("a.b", "a.b"));
    assert!(s.secret("empty").unwrap_err().to_string().contains("must not be empty [line 7]"));
}

#[test]
fn each_wrong_form_of_a_secret_is_told_apart() {
    let said = |entries: &[(&str, Value)]| {
        let table = entries.iter().map(|(key, value)| ((*key).to_owned(), (value.clone(), None))).collect();
        let s = Settings::new("profile.work").with("token", Value::Table(table), Some(2));
        s.secret("token").unwrap_err().to_string()
    };
    for (entries, expected) in [
        (&[("evn", text("X"))][..], "unknown key `evn`; did you mean `env`?"),
        (&[("env", text("X")), ("file", text("x"))], "only one of env, file, command"),
        (&[("env", Value::Integer(1))], "`env` must be a text, not a whole number"),
        (&[("env", text(""))], "`env` must not be empty"),
        (&[("file", Value::Bool(true))], "`file` must be a text, not true or false"),
        (&[("command", text("pass show x"))], "`command` must be a list: [\"PROGRAM\", …], not a text"),
        (
            &[("command", Value::List(vec![text("pass"), Value::Integer(1)]))],
            "but its item 2 is a whole number",
        ),
        (&[("command", Value::List(Vec::new()))], "must name a program"),
        (
            &[],
            "{ env = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", …] }, not an empty table",
        ),
    ] {
        let said = said(entries);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn debug_shows_no_value() {
    let s = Settings::new("x").with("secret", text("marker"), None);
    assert!(!format!("{s:?} {:?}", text("marker")).contains("marker"));
}
