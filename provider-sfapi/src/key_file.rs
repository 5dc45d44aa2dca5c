//! Keys as NERSC's users have them: a file that Iris gave, or its content.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use keyfob_auth_core::{AuthError, ErrorKind, ExposeSecret, SecretString, registry::SecretSource};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// The folder of the real clients, below the home folder.
const FOLDER: &str = ".superfacility";
/// The client's id in the environment.
const CLIENT_ID: &str = "SFAPI_CLIENT_ID";
/// The key in the environment.
const SECRET: &str = "SFAPI_SECRET";
/// How long a client id of NERSC's is.
const ID_LENGTH: usize = 13;
/// The permissions that a private key's file must not give.
const TOO_OPEN: u32 = 0o177;
/// What is wrong with an empty file.
const EMPTY: &str = "the key is empty; download it from Iris again";

/// Where the key comes from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// A path, or the beginning of a name in `~/.superfacility`.
    Named(String),
    /// A key as any other secret.
    Secret(SecretSource),
    /// `SFAPI_CLIENT_ID` and `SFAPI_SECRET`.
    Environment,
}

/// A key and, where it says so, the client it belongs to.
pub(crate) struct Key {
    pub(crate) client_id: Option<String>,
    pub(crate) text: SecretString,
    /// Where it came from, as errors name it.
    pub(crate) origin: String,
}

impl KeySource {
    /// Changes when the key does, or what keeps it from being read.
    pub(crate) fn revision(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        let path = match self {
            Self::Named(name) => find(name).ok(),
            Self::Secret(source) => match innermost(source) {
                SecretSource::File(path) => Some(path.clone()),
                other => return other.revision(),
            },
            Self::Environment => {
                for name in [SECRET, CLIENT_ID] {
                    SecretSource::Env(name.into()).revision().hash(&mut hasher);
                }
                return Some(hasher.finish());
            }
        };
        path.hash(&mut hasher);
        if let Some(path) = path {
            mode(&path).hash(&mut hasher);
            SecretSource::File(path).revision().hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// The client, as far as it is known without reading the key.
    pub(crate) fn client_id(&self) -> Option<String> {
        matches!(self, Self::Environment).then(client_in_environment).flatten()
    }

    /// What tells this key from another, without reading it.
    pub(crate) fn name(&self) -> String {
        match self {
            // A relative path is another file elsewhere.
            Self::Named(name) if has_folder(name) => {
                let absolute = std::path::absolute(at_home(name, home().as_deref()));
                absolute.map_or_else(|_| name.clone(), |path| path.display().to_string())
            }
            Self::Named(name) => name.clone(),
            Self::Secret(_) | Self::Environment => String::new(),
        }
    }

    /// Reads the key now.
    pub(crate) async fn read(&self) -> Result<Key, AuthError> {
        match self {
            Self::Named(name) => {
                let path = find(name)?;
                check_permissions(&path)?;
                let origin = format!("key file {}", path.display());
                let text =
                    SecretSource::File(path.clone()).read().await.map_err(|error| match error.kind() {
                        // It is there: nobody without a client has such a file.
                        ErrorKind::NotConfigured => {
                            AuthError::configuration(EMPTY).with_origin(origin.clone())
                        }
                        _ => error,
                    })?;
                let json = path.extension().is_some_and(|extension| extension == "json");
                parse(&text, json, origin)
            }
            Self::Secret(source) => {
                if let SecretSource::File(path) = innermost(source) {
                    check_permissions(path)?;
                }
                parse(&source.read().await?, false, source.to_string())
            }
            Self::Environment => {
                let text = SecretSource::Env(SECRET.into()).read().await.map_err(|error| match error.kind() {
                    ErrorKind::NotConfigured => error.with_message(format!(
                        "there is no key: name one (`key`), or set the environment variables {CLIENT_ID} and {SECRET}"
                    )),
                    _ => error,
                })?;
                let mut key = parse(&text, false, format!("environment variable {SECRET}"))?;
                key.client_id = client_in_environment().or(key.client_id);
                Ok(key)
            }
        }
    }
}

/// Whether a setting's text is the key itself, rather than a path or a nickname.
pub(crate) fn is_a_key(text: &str) -> bool {
    text.contains("-----BEGIN") || text.trim_start().starts_with('{')
}

fn innermost(source: &SecretSource) -> &SecretSource {
    match source {
        SecretSource::Configured(inner, _) => innermost(inner),
        other => other,
    }
}

fn client_in_environment() -> Option<String> {
    env::var(CLIENT_ID).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from)
}

/// Whether it is a path rather than a nickname.
pub(crate) fn has_folder(name: &str) -> bool {
    name.contains(std::path::is_separator)
}

fn at_home(name: &str, home: Option<&Path>) -> PathBuf {
    match (name.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

/// The file of this name: a path, else the only file in `~/.superfacility` that begins with it.
fn find(name: &str) -> Result<PathBuf, AuthError> {
    find_in(name, home().as_deref())
}

fn find_in(name: &str, home: Option<&Path>) -> Result<PathBuf, AuthError> {
    let path = at_home(name, home);
    if path.is_file() {
        return Ok(path);
    }
    let absent = |what: String| {
        AuthError::not_configured(format!("there is no key {name:?}: {what}"))
            .with_origin(format!("key {name:?}"))
    };
    // Somebody has keys: that is no reason to go on as nobody.
    let unclear = |what: String| {
        AuthError::configuration(format!("which key is {name:?}? {what}"))
            .with_origin(format!("key {name:?}"))
    };
    let Some(home) = home else {
        return Err(absent("it is no file, and there is no home folder to look for it in".into()));
    };
    let folder = home.join(FOLDER);
    let shown = folder.display();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(absent(format!("it is no file, and the folder {shown} does not exist")));
        }
        Err(error) => return Err(unclear(format!("{shown} cannot be read")).with_source(error)),
    };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    found.sort();
    let names = |paths: &[PathBuf]| {
        let names = paths.iter().filter_map(|path| path.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
    };
    let fits = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    let fitting: Vec<PathBuf> = found.iter().filter(|path| fits(path)).cloned().collect();
    match fitting.as_slice() {
        [one] => Ok(one.clone()),
        [] if found.is_empty() => Err(absent(format!("it is no file, and {shown} is empty"))),
        [] => Err(absent(format!(
            "it is no file, and none in {shown} begins with it; there are: {}",
            names(&found)
        ))),
        several => Err(unclear(format!(
            "several files in {shown} begin with it ({}); name one of them whole",
            names(several)
        ))),
    }
}

/// A file's permissions, where there are such.
fn mode(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A private key is its owner's alone.
fn check_permissions(path: &Path) -> Result<(), AuthError> {
    // What cannot be looked at cannot be read either, and that says why.
    let Some(mode) = mode(path).filter(|mode| mode & TOO_OPEN != 0) else { return Ok(()) };
    let shown = path.display();
    Err(AuthError::configuration(format!(
        "the key file is open to more than its owner's reading and writing (mode {mode:04o}); mend it with: chmod 600 {shown}"
    ))
    .with_origin(format!("key file {shown}")))
}

/// Reads what Iris gives: PEM with the client's id on the line before it, or JSON with `client_id` and `secret`; or a bare key.
fn parse(text: &SecretString, json: bool, origin: String) -> Result<Key, AuthError> {
    let bad = |what: &str| AuthError::configuration(format!("the key {what}")).with_origin(origin.clone());
    let content = text.expose_secret().trim_start_matches('\u{feff}').trim();
    if content.is_empty() {
        return Err(AuthError::configuration(EMPTY).with_origin(origin));
    }
    if json || content.starts_with('{') {
        return parse_json(content, &bad).map(|(client_id, text)| Key {
            client_id,
            text,
            origin: origin.clone(),
        });
    }
    let Some(begin) = content.find("-----BEGIN") else {
        return Err(bad(
            "holds no private key: neither PEM (`-----BEGIN …`) nor JSON; is it the file that Iris gave?",
        ));
    };
    let (before, pem) = content.split_at(begin);
    let client_id = match before.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(id) if id.chars().all(|c| c.is_ascii_graphic()) => Some(id.to_owned()),
        Some(_) => return Err(bad("has a first line that is no client id")),
        None => None,
    };
    Ok(Key { client_id, text: pem.into(), origin: origin.clone() })
}

fn parse_json(
    content: &str,
    bad: &impl Fn(&str) -> AuthError,
) -> Result<(Option<String>, SecretString), AuthError> {
    let Ok(Value::Object(members)) = serde_json::from_str::<Value>(content) else {
        return Err(bad("is no JSON object; is the file whole?"));
    };
    if members.contains_key("kty") {
        return Ok((None, content.into()));
    }
    let client_id = match members.get("client_id") {
        None => None,
        Some(Value::String(id)) if !id.trim().is_empty() => Some(id.trim().to_owned()),
        Some(_) => return Err(bad("has a `client_id` that is no text")),
    };
    let text = match members.get("secret") {
        // A key that is a text: PEM, or a JWK that somebody put into quotes.
        Some(Value::String(text)) => SecretString::from(text.as_str()),
        Some(Value::Object(jwk)) => as_text(jwk),
        Some(_) => return Err(bad("has a `secret` that is no key")),
        None => return Err(bad("has no `secret`, where the key should be")),
    };
    Ok((client_id, text))
}

fn as_text(jwk: &Map<String, Value>) -> SecretString {
    let text = Zeroizing::new(serde_json::to_string(jwk).unwrap_or_default());
    SecretString::from(text.as_str())
}

/// Whether it looks like one of NERSC's client ids.
pub(crate) fn looks_like_an_id(id: &str) -> bool {
    id.chars().count() == ID_LENGTH
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;

    fn read(text: &str, json: bool) -> Result<Key, AuthError> {
        parse(&text.into(), json, "key file k.pem".into())
    }

    #[test]
    fn every_form_of_a_key_file_is_read() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----";
        let crlf = format!("fakeclientid1\r\n{}\r\n", pem.replace('\n', "\r\n"));
        for (text, json, id) in [
            (format!("fakeclientid1\n{pem}\n"), false, Some("fakeclientid1")),
            (format!("  fakeclientid1  \n{pem}"), false, Some("fakeclientid1")),
            (format!("\n\nfakeclientid1\n{pem}"), false, Some("fakeclientid1")),
            (format!("fakeclientid1\t\n{pem}"), false, Some("fakeclientid1")),
            (format!("\u{feff}fakeclientid1\n{pem}"), false, Some("fakeclientid1")),
            (crlf, false, Some("fakeclientid1")),
            (pem.into(), false, None),
            (r#"{"client_id":"fakeclientid1","secret":{"kty":"RSA"}}"#.into(), true, Some("fakeclientid1")),
            (
                r#"{"client_id":"fakeclientid1","secret":"{\"kty\":\"RSA\"}"}"#.into(),
                true,
                Some("fakeclientid1"),
            ),
            (r#"{"client_id":"fakeclientid1","secret":"-----BEGIN"}"#.into(), false, Some("fakeclientid1")),
            (r#"{"kty":"RSA"}"#.into(), false, None),
        ] {
            let key = read(&text, json).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(key.client_id.as_deref(), id, "{text:?}");
            let text = key.text.expose_secret();
            assert!(text.starts_with("-----BEGIN") || text == r#"{"kty":"RSA"}"#, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_file_says_what_it_is() {
        for (text, json, said) in [
            ("", false, "is empty"),
            (" \r\n", true, "is empty"),
            ("fakeclientid1\n", false, "neither PEM"),
            ("a b\n-----BEGIN", false, "first line that is no client id"),
            ("{\"client_id\":", true, "is the file whole"),
            ("[]", true, "no JSON object"),
            (r#"{"client_id":"a"}"#, true, "no `secret`"),
            (r#"{"client_id":7,"secret":"marker"}"#, true, "`client_id` that is no text"),
            (r#"{"client_id":"a","secret":["marker"]}"#, true, "`secret` that is no key"),
        ] {
            let Err(error) = read(text, json) else { panic!("{text:?}") };
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!(error.origin(), Some("key file k.pem"));
            assert!(!error.to_string().contains("marker"), "{error}");
        }
    }

    #[test]
    fn a_nickname_names_exactly_one_file() {
        let home = tempfile::tempdir().unwrap();
        let find = |name: &str| find_in(name, Some(home.path()));
        assert!(find("prod").unwrap_err().to_string().contains("does not exist"));
        let folder = home.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        assert!(find("prod").unwrap_err().to_string().contains("is empty"));
        for name in ["prod-a.pem", "prod-b.json", "test.pem"] {
            fs::write(folder.join(name), "").unwrap();
        }
        fs::create_dir(folder.join("test-folder")).unwrap();
        assert_eq!(find("test").unwrap(), folder.join("test.pem"));
        assert_eq!(find("prod-a").unwrap(), folder.join("prod-a.pem"));
        assert_eq!(find("~/.superfacility/test.pem").unwrap(), folder.join("test.pem"));
        let error = find("prod").unwrap_err();
        assert!(error.to_string().contains("prod-a.pem, prod-b.json"), "{error}");
        let error = find("none").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains("there are: prod-a.pem, prod-b.json, test.pem"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_private_key_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o200, true),
            (0o640, false),
            (0o644, false),
            (0o604, false),
            (0o700, false),
            (0o777, false),
        ] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let checked = check_permissions(file.path());
            assert_eq!(checked.is_ok(), good, "{mode:o}");
            if let Err(error) = checked {
                let mend = format!("chmod 600 {}", file.path().display());
                assert!(error.to_string().contains(&mend), "{error}");
            }
        }
    }
}
