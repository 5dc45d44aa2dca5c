use keyfob_auth_core::{
    AccessToken, Acquired, CredentialProvider, ErrorKind, Identity, Login, TokenRequest, async_trait,
};

use super::*;

const FILE: &str = r#"# comment
default_profile = "work"

[profile.work]
provider = "fixed"
token = "abc"
scopes = ["a", "b"]
store = "memory"
number = 3

[profile.odd]
provider = "fixed"
tokn = "marker-secret"
store = "memory"
"#;

fn error(text: &str) -> String {
    let error = Config::parse(text, "/etc/keyfob.toml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.to_string()
}

#[test]
fn profiles_are_found_by_name_and_by_default() {
    let config = Config::parse(FILE, "/etc/keyfob.toml").unwrap();
    assert_eq!(config.profiles().collect::<Vec<_>>(), ["odd", "work"]);
    assert_eq!(config.settings(None).unwrap().label(), "work");
    let work = config.settings(Some("work")).unwrap();
    assert_eq!(work.strings("scopes").unwrap().unwrap(), ["a", "b"]);
    assert_eq!(work.integer("number").unwrap(), Some(3));
    let only = Config::parse("[profile.\"a.b\"]", "x").unwrap();
    assert_eq!(only.settings(None).unwrap().label(), "a.b");
    let none_named = Config::parse("[profile.a]\n[profile.b]", "x").unwrap().settings(None).unwrap_err();
    assert!(none_named.to_string().contains("there are: a, b"), "{none_named}");
    assert!(none_named.to_string().contains("write `default_profile = \"a\"` at the top"), "{none_named}");
}

#[test]
fn an_unknown_profile_lists_those_there_are() {
    let config = Config::parse(FILE, "/etc/keyfob.toml").unwrap();
    assert_eq!(
        config.settings(Some("wrok")).unwrap_err().to_string(),
        "there is no profile \"wrok\"; did you mean `work`? (there are: odd, work) [/etc/keyfob.toml]"
    );
    let absent = Config::parse("default_profile = \"x\"\n[profile.a]", "/c").unwrap();
    assert_eq!(
        absent.settings(None).unwrap_err().to_string(),
        "`default_profile` is \"x\", but there is no profile of that name (there are: a) [/c, line 1]"
    );
    assert!(absent.settings(Some("a")).is_ok());
}

#[test]
fn errors_at_the_top_name_key_and_line() {
    assert_eq!(
        error("\nprofiles = 3"),
        "unknown key `profiles`; did you mean `profile`? [/etc/keyfob.toml, line 2]"
    );
    assert!(error("default_profle = \"a\"").contains("; did you mean `default_profile`?"));
    assert!(error("x = 1").contains("; known here: `default_profile` and the tables [profile.NAME]"));
    assert_eq!(
        error("\n\ndefault_profile = 3"),
        "`default_profile` must be a text, not of type integer [/etc/keyfob.toml, line 3]"
    );
    assert!(error("profile = 3").ends_with("[/etc/keyfob.toml, line 1]"));
    assert!(error("[profile.\"\"]\n").contains("line 1"));
}

#[test]
fn an_error_of_syntax_names_line_and_column_and_shows_nothing_of_the_line() {
    let text = "[profile.work]\nclient_secret = \"marker-secret\nissuer = \"x\"\n";
    let said = error(text);
    assert!(said.contains("/etc/keyfob.toml, line 2, column ") && !said.contains("marker"), "{said}");
    for broken in [
        "[profile.work\n",
        "a = 'marker",
        "a = 1\na = \"marker\"",
        "= marker",
        "[[profile.marker",
        "a = marker",
    ] {
        let error = Config::parse(broken, "/c").unwrap_err();
        let all =
            format!("{error} {error:?} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(all.contains("line ") && !all.contains("marker"), "{all}");
    }
}

#[test]
fn a_bad_profile_does_not_stop_the_others() {
    let text = format!(
        "{FILE}\n[profile]\nflat = 3\n\n[profile.huge]\nnumber = 99999999999999999999\nwhen = 2024-01-01\n"
    );
    let config = Config::parse(&text.replace("[profile]\nflat", "[profile.x]\nflat"), "/c").unwrap();
    assert!(config.settings(Some("work")).is_ok());
    let huge = config.settings(Some("huge")).unwrap_err().to_string();
    assert!(huge.contains("profile.huge.number") && huge.contains("/c, line 20"), "{huge}");
    let flat = Config::parse("profile.flat = 3\nprofile.work.provider = \"x\"", "/c").unwrap();
    assert!(flat.settings(Some("work")).is_ok());
    assert!(flat.settings(Some("flat")).unwrap_err().to_string().contains("/c, line 1"));
}

#[test]
fn a_date_is_no_text() {
    let config = Config::parse("[profile.work]\nissuer = 2024-01-01", "/c").unwrap();
    let error = config.settings(None).unwrap().string("issuer").unwrap_err().to_string();
    assert_eq!(error, "profile.work: `issuer` must be a text, not a date [/c, line 2]");
}

#[test]
fn numbers_of_every_form_are_read() {
    let config = Config::parse("[profile.x]\na = 1_000\nb = 0xff\nc = 1.5\nd = -1", "/c").unwrap();
    let settings = config.settings(None).unwrap();
    assert_eq!((settings.integer("a").unwrap(), settings.integer("b").unwrap()), (Some(1000), Some(255)));
    assert!(settings.integer("c").is_err() && settings.integer("d").is_err());
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let deep = format!("[profile.x]\na = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Config::parse(&deep, "/c").is_err());
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let error = Config::load(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(Config::load(folder.path()).unwrap_err().kind(), ErrorKind::Configuration);
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert_eq!(Config::load(&path).unwrap_err().kind(), ErrorKind::Configuration);
}

#[test]
fn the_default_place_is_the_platforms() {
    let with = |set: &[(&str, &str)]| {
        let set: BTreeMap<String, OsString> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        path_from(move |name| set.get(name).cloned(), Some("/home/alice".into()))
    };
    assert_eq!(with(&[("KEYFOB_CONFIG", "/k.toml"), ("XDG_CONFIG_HOME", "/x")]), Some("/k.toml".into()));
    if cfg!(all(unix, not(target_os = "macos"))) {
        assert_eq!(with(&[("XDG_CONFIG_HOME", "/x")]), Some("/x/keyfob/config.toml".into()));
        assert_eq!(with(&[("XDG_CONFIG_HOME", "x")]), Some("/home/alice/.config/keyfob/config.toml".into()));
        assert_eq!(path_from(|_| None, None), None);
    }
}

#[test]
fn debug_shows_no_value() {
    assert!(!format!("{:?}", Config::parse(FILE, "/c").unwrap()).contains("marker"));
}

#[derive(Debug)]
struct Fixed(String);

#[async_trait]
impl CredentialProvider for Fixed {
    fn identity(&self) -> Identity {
        Identity::new("fixed")
    }

    async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        Ok(Acquired::token(AccessToken::new(self.0.as_str())))
    }
}

fn registry() -> Registry {
    Registry::new().absent("oidc", "oidc").provider("fixed", |settings, _| {
        settings.strings("scopes")?;
        settings.integer("number")?;
        settings.secret("token").map(|_| Fixed("abc".into()))
    })
}

#[test]
fn an_unknown_key_of_the_profile_in_use_is_named_with_its_line() {
    let config = Config::parse(FILE, "/c").unwrap();
    let error = config.profile(Some("odd"), &registry(), &Context::new()).unwrap_err().to_string();
    assert_eq!(error, "profile.odd: unknown key `tokn`; did you mean `token`? [/c, line 13]");
}

#[test]
fn a_provider_that_is_not_compiled_in_names_its_feature() {
    let config =
        Config::parse("[profile.a]\nprovider = \"oidc\"\n[profile.b]\nprovider = \"nobodys\"", "/c").unwrap();
    let said = |name| config.profile(Some(name), &registry(), &Context::new()).unwrap_err().to_string();
    assert!(said("a").contains("feature `oidc`") && said("a").contains("/c, line 2"), "{}", said("a"));
    assert!(said("b").contains("there are: fixed") && said("b").contains("/c, line 4"), "{}", said("b"));
}
