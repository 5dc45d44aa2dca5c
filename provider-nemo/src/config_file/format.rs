//! What a context's user holds, and how it is written.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{
    Binding, ExposeSecret, Login, RequestKey, SecretString, jwt_expiry,
    store::{LoginKey, Record, StoreError, StoredToken, TryLease},
};
use keyfob_store_file::shared::{Change, Held, SharedFile, TokenFormat};
use zeroize::Zeroizing;

use super::{
    config::{Config, optional},
    edit::{self, Edited},
    yaml::{self, Node},
};

/// Stands where the format demands an access token and there is none: expired, so that whoever reads it renews. Its header
/// says RS256, because the platform's own client renews an unsigned token by making another.
const EXPIRED: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjF9.expired";
/// What a user has that is ours to change.
const OURS: [&str; 4] = ["type", "token", "refresh_token", "api_key"];

/// One context's user in the configuration.
#[derive(Clone, Debug)]
pub(super) struct NemoFormat {
    pub(super) context: String,
    pub(super) user: String,
    pub(super) base_url: Option<String>,
}

impl TokenFormat for NemoFormat {
    fn kind(&self) -> &str {
        super::KIND
    }

    fn name(&self) -> &str {
        &self.user
    }

    fn check(&self, _: &LoginKey) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, content: &[u8]) -> Result<Held, String> {
        let text = text_of(content)?;
        let root = yaml::parse(text)?;
        let config = Config::checked(root.as_ref())?;
        config.item("users", &self.user)?.map_or(Ok(Held::default()), held_by)
    }

    fn held(&self, record: &Record, found: &Held) -> Held {
        let refresh_token = record.login.as_ref().and_then(|login| login.refresh_token.clone());
        let same = same_secret(refresh_token.as_ref(), found.refresh_token.as_ref());
        let access_token = record
            .token(&RequestKey::default())
            .map(|token| token.secret.clone())
            // Another one's may be another person's.
            .or_else(|| found.access_token.clone().filter(|_| same && refresh_token.is_some()))
            .or_else(|| refresh_token.is_some().then(|| EXPIRED.to_owned().into()));
        Held { refresh_token, access_token }
    }

    fn rest(&self, record: &Record) -> Record {
        let mut rest = record.clone();
        if let Some(login) = &mut rest.login {
            login.refresh_token = None;
        }
        rest
    }

    fn join(&self, held: &Held, rest: Option<&Record>) -> Record {
        let mut record = rest.cloned().unwrap_or_default();
        if held.refresh_token.is_some() {
            record.login.get_or_insert_with(Login::default).refresh_token.clone_from(&held.refresh_token);
        }
        if let Some(token) =
            held.access_token.as_ref().filter(|token| rest.is_none() && token.expose_secret() != EXPIRED)
        {
            record.put_token(as_stored(token));
        }
        record
    }

    fn write(&self, content: Option<&[u8]>, held: &Held) -> Result<Change, String> {
        let old = text_of(content.unwrap_or_default())?;
        let mut text = self.with_context(old)?;
        for (key, value) in [
            ("type", Some(if held.is_empty() { "no-auth" } else { "oauth" })),
            ("api_key", None),
            ("token", held.access_token.as_ref().map(ExposeSecret::expose_secret)),
            ("refresh_token", held.refresh_token.as_ref().map(ExposeSecret::expose_secret)),
        ] {
            text = changed(&text, |text, config| {
                let user = config.item("users", &self.user)?.ok_or("its user is not there")?;
                match value {
                    Some(value) => edit::set(text, user, key, value, &["type", "name", "token"]),
                    None => edit::remove(text, user, key),
                }
            })?;
        }
        self.verify(old, &text, held)?;
        Ok(Change::Write(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// The platform's own lock, which is per context, and ours, which is per user: two contexts may share one.
    fn try_lease(&self, file: &SharedFile) -> Result<TryLease, StoreError> {
        file.try_lease_with(&self.their_lock(file), self.name())
    }
}

impl NemoFormat {
    /// Where the real client locks while it renews.
    fn their_lock(&self, file: &SharedFile) -> PathBuf {
        let context = self.context.replace(std::path::is_separator, "_");
        let mut name = file.path().file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{context}.oauth-refresh.lock"));
        file.path().with_file_name(name)
    }

    /// The text with this context in it, made as the real client makes one, if it is not there.
    fn with_context(&self, old: &str) -> Edited {
        let Self { context, user, base_url } = self;
        let root = yaml::parse(old)?;
        let config = Config::checked(root.as_ref())?;
        if config.item("contexts", context)?.is_some() {
            return Ok(Zeroizing::new(old.to_owned()));
        }
        if context.is_empty()
            || !context.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(format!("the context {context:?} cannot be made: use letters, digits, `-` and `_`"));
        }
        let cluster = config.name_of(context, "cluster")?;
        let (has_cluster, has_user) = (config.item("clusters", &cluster)?, config.item("users", user)?);
        let fresh = root.is_none();
        let mut text = Zeroizing::new(old.to_owned());
        if config.current_context()?.is_none() {
            text = with_current_context(&text, context)?;
        }
        let name = format!("name: {}", *edit::scalar(context));
        let [cluster_name, user_name] = [&cluster, user].map(|name| edit::scalar(name));
        if has_cluster.is_none() {
            let Some(base_url) = base_url else {
                return Err(format!(
                    "it has no context {context:?}, and nobody said for which platform to make one: set `base_url`, or make \
                     it with the platform's own client"
                ));
            };
            let (name, url) =
                (format!("name: {}", *cluster_name), format!("base_url: {}", *edit::scalar(base_url)));
            text = changed(&text, |text, config| {
                edit::append(text, config.0, "clusters", &[&name, &url, "metadata: {}"])
            })?;
        }
        if has_user.is_none() {
            let name = format!("name: {}", *user_name);
            text = changed(&text, |text, config| {
                edit::append(text, config.0, "users", &["type: no-auth", &name])
            })?;
        }
        let (cluster, user) = (format!("cluster: {}", *cluster_name), format!("user: {}", *user_name));
        let lines = [
            &*name,
            &cluster,
            &user,
            "workspace: default",
            "preferences:",
            "  output_format: table",
            "  timestamp_format: iso8601",
            "  truncate: true",
            "  color_output: true",
            "metadata: {}",
        ];
        text = changed(&text, |text, config| edit::append(text, config.0, "contexts", &lines))?;
        if fresh {
            text.push_str("telemetry_enabled: true\n");
        }
        Ok(text)
    }

    /// That what was to change has changed, and nothing else: whatever the text was like.
    fn verify(&self, old: &str, new: &str, held: &Held) -> Result<(), String> {
        let unsure = || "it is written in a way that is not changed safely".to_owned();
        let (before, after) = (yaml::parse(old)?, yaml::parse(new).map_err(|_| unsure())?);
        let config = Config::checked(after.as_ref()).map_err(|_| unsure())?;
        let user = config.item("users", &self.user)?.ok_or_else(unsure)?;
        let found = held_by(user).map_err(|_| unsure())?;
        let kept = same_secret(found.access_token.as_ref(), held.access_token.as_ref())
            && same_secret(found.refresh_token.as_ref(), held.refresh_token.as_ref());
        let (Some(before), Some(after)) = (&before, &after) else {
            return if kept && before.is_none() { Ok(()) } else { Err(unsure()) };
        };
        let made = Config(Some(before)).item("contexts", &self.context)?.is_none();
        if kept && self.rest_is_same(before, after, made) { Ok(()) } else { Err(unsure()) }
    }

    /// Whether nothing but our user has changed; and if the context was made, nothing else has been added.
    fn rest_is_same(&self, before: &Node<'_>, after: &Node<'_>, made: bool) -> bool {
        let (Some(before), Some(after)) = (before.pairs(), after.pairs()) else { return false };
        let lists = ["clusters", "users", "contexts"];
        let mut after = after.iter();
        let kept = before.iter().all(|(key, old)| {
            let Some((new_key, new)) = after.next() else { return false };
            if !key.says(new_key) {
                return false;
            }
            match key.text() {
                Some("current_context") if made && old.is_null() => new.text() == Some(&self.context),
                Some(list) if lists.contains(&list) => {
                    let (old, new) = (old.items().unwrap_or_default(), new.items().unwrap_or_default());
                    new.len().saturating_sub(old.len()) <= usize::from(made)
                        && new.len() >= old.len()
                        && old.iter().zip(new).all(|(old, new)| self.is_same(list, old, new))
                }
                _ => old.says(new),
            }
        });
        let added = ["current_context", "clusters", "users", "contexts"];
        kept && after.all(|(key, _)| made && key.text().is_some_and(|key| added.contains(&key)))
    }

    fn is_same(&self, list: &str, old: &Node<'_>, new: &Node<'_>) -> bool {
        let ours = |node: &Node<'_>| {
            list == "users" && matches!(node.get("name"), Ok(Some(name)) if name.text() == Some(&self.user))
        };
        if !(ours(old) && ours(new)) {
            return old.says(new);
        }
        let (old, new) = (others(old), others(new));
        let same = |(old, new): (&&(Node<'_>, Node<'_>), _)| says(old, new);
        old.len() == new.len() && old.iter().zip(new).all(same)
    }
}

/// The pairs of a user that are not ours to change.
fn others<'n, 't>(user: &'n Node<'t>) -> Vec<&'n (Node<'t>, Node<'t>)> {
    let pairs = user.pairs().unwrap_or_default().iter();
    pairs.filter(|(key, _)| !key.text().is_some_and(|key| OURS.contains(&key))).collect()
}

fn says(old: &(Node<'_>, Node<'_>), new: &(Node<'_>, Node<'_>)) -> bool {
    old.0.says(&new.0) && old.1.says(&new.1)
}

/// What a user holds. A type that is not there means no login, as it does for the real client.
fn held_by(user: &Node<'_>) -> Result<Held, String> {
    let secret = |key| Ok::<_, String>(optional(user, key)?.map(|text| SecretString::from(text.to_owned())));
    let kind = optional(user, "type")?;
    if kind == Some("api-key") || user.find("api_key")?.is_some() {
        return Ok(Held { refresh_token: None, access_token: legacy(user)? });
    }
    match kind {
        Some("oauth") => {
            let access_token = secret("token")?.filter(|token| !token.expose_secret().is_empty());
            if access_token.is_none() {
                return Err("a user is of type `oauth` and has no `token`".into());
            }
            let refresh_token = secret("refresh_token")?.filter(|token| !token.expose_secret().is_empty());
            Ok(Held { refresh_token, access_token })
        }
        Some("no-auth") | None => Ok(Held::default()),
        Some(_) => Err("a user is of a type that is neither `oauth` nor `no-auth`".into()),
    }
}

/// What an API key of former releases stands for: a principal's name for an unsigned token, anything else for itself.
fn legacy(user: &Node<'_>) -> Result<Option<SecretString>, String> {
    let key = user.get("api_key")?.and_then(Node::text).unwrap_or_default().trim();
    if !key.contains('@') {
        return Ok((!key.is_empty()).then(|| key.to_owned().into()));
    }
    // Always the same, so that it is the same token at every look: the real client puts in the time.
    let claims = serde_json::json!({ "sub": key, "iat": 0, "email": key });
    let [header, claims] = [r#"{"alg":"none","typ":"JWT"}"#.to_owned(), claims.to_string()];
    Ok(Some(format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)).into()))
}

/// An access token that came without its times: they are in it, or nowhere. Then it never expires, as for the real client.
fn as_stored(token: &SecretString) -> StoredToken {
    const LIFE: Duration = Duration::from_secs(3600);
    let expires_at = jwt_expiry(token.expose_secret());
    let guessed = || expires_at.and_then(|at| at.checked_sub(LIFE)).map(|at| at.min(SystemTime::now()));
    StoredToken {
        request: RequestKey::default(),
        secret: token.clone(),
        obtained_at: issued_at(token.expose_secret()).or_else(guessed).unwrap_or(UNIX_EPOCH),
        expires_at,
        refresh_in: None,
        scopes: None,
        binding: Binding::None,
    }
}

/// `iat` (RFC 7519 section 4.1.6) of a token that looks like a JWT, without checking anything.
fn issued_at(token: &str) -> Option<SystemTime> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iat: f64,
    }

    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let Claims { iat } = serde_json::from_slice(&json).ok()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(iat).ok()?)
}

fn same_secret(a: Option<&SecretString>, b: Option<&SecretString>) -> bool {
    a.map(ExposeSecret::expose_secret) == b.map(ExposeSecret::expose_secret)
}

/// One change of the text, seen as it is then.
fn changed(text: &str, change: impl FnOnce(&str, Config<'_, '_>) -> Edited) -> Edited {
    let root = yaml::parse(text)?;
    change(text, Config(root.as_ref()))
}

fn with_current_context(text: &str, context: &str) -> Edited {
    let root = yaml::parse(text)?;
    match &root {
        Some(root) => edit::set(text, root, "current_context", context, &[]),
        None => {
            let fresh = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            Ok(Zeroizing::new(format!("{text}{fresh}current_context: {}\n", *edit::scalar(context))))
        }
    }
}

pub(super) fn text_of(content: &[u8]) -> Result<&str, String> {
    str::from_utf8(content).map_err(|_| "not UTF-8".into())
}
