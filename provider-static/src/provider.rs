//! [`StaticToken`]: hands on a token that somebody else made.

use std::{env, fmt, future::Future, path::PathBuf};

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Keep, Login, Presentation,
    SecretString, TokenRequest, async_trait,
    registry::{SecretSource, Settings},
};

use crate::{
    callback::Callback,
    content::{self, Serves},
    header::Header,
    unique,
};

/// Hands on a token that somebody else made: one that is written down, or what a callback returns.
///
/// What it returns is kept in memory only and never copied to a store. It goes into `Authorization: Bearer`, unless
/// [`header`](Self::header) and [`scheme`](Self::scheme) say otherwise.
///
/// # How long a token serves
///
/// | Source | Served |
/// |---|---|
/// | [`literal`](Self::literal), [`env`](Self::env) | for ever, or until the `exp` of a JWT |
/// | [`file`](Self::file) | 10 s, then the file is read again; a JWT never beyond its `exp` |
/// | [`command`](Self::command) | until the ExecCredential's `expirationTimestamp`, else a JWT's `exp`, else [`unknown_lifetime`](keyfob_auth_core::Limits::unknown_lifetime) |
/// | [`callback`](Self::callback) | as it says; where it says nothing, as for a command |
///
/// # Settings
/// `provider = "static"`, `token` (any form of a secret; a file and a command may name the `key` of a JSON object), and
/// `header` and `scheme`.
///
/// # Examples
/// ```
/// use keyfob_auth_core::{AccessToken, AuthError};
/// use keyfob_provider_static::StaticToken;
///
/// let api_key = StaticToken::literal("an-api-key").header("x-api-key")?;
/// let projected = StaticToken::file("/var/run/secrets/tokens/api");
/// let one_of_many = StaticToken::file("/etc/service/tokens.json").json_key("billing");
/// let cloud = StaticToken::command(["aws", "eks", "get-token", "--cluster-name", "prod"]);
/// let callback = StaticToken::callback(|request| async move {
///     let scopes = request.scopes.to_string(); // what is asked for
///     Ok(AccessToken::new(format!("made for {scopes}")).expires_in(600))
/// });
/// # let _ = (api_key, projected, one_of_many, cloud, callback);
/// # Ok::<_, AuthError>(())
/// ```
#[derive(Clone)]
pub struct StaticToken {
    identity: Identity,
    source: Source,
    json_key: Option<String>,
    header: Header,
}

#[derive(Clone)]
enum Source {
    Secret(SecretSource),
    Callback(Callback),
}

impl StaticToken {
    /// Always this token.
    pub fn literal(token: impl Into<SecretString>) -> Self {
        Self::secret(SecretSource::Literal(token.into()))
    }

    /// The token that this environment variable holds. A process's environment does not change from outside, so it is read
    /// once for each session.
    pub fn env(variable: impl Into<String>) -> Self {
        Self::secret(SecretSource::Env(variable.into()))
    }

    /// The token that this file holds: plain text, or a member of a JSON object if [`json_key`](Self::json_key) names it.
    ///
    /// The file is looked up by its path each time, and links are followed: what Kubernetes projects into a pod is a link
    /// that is turned to another folder when the token is rotated. A change is seen within 10 s.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::secret(SecretSource::File(path.into()))
    }

    /// The token that this program prints: as plain text, as kubectl's
    /// [ExecCredential](https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins),
    /// or in the member of a JSON object that [`json_key`](Self::json_key) names.
    ///
    /// It is found on `PATH`, gets no input, 30 s, and the variable `KUBERNETES_EXEC_INFO` as kubectl sets it (unless this
    /// process has it). What it writes to its standard error stream is not shown. At most one runs at a time for the same
    /// request.
    pub fn command<S: Into<String>>(program_and_arguments: impl IntoIterator<Item = S>) -> Self {
        Self::secret(SecretSource::Command(program_and_arguments.into_iter().map(Into::into).collect()))
    }

    /// The token that is there when one is asked for: any of the sources above.
    pub fn secret(source: impl Into<SecretSource>) -> Self {
        Self::new(unique("static", "secret"), Source::Secret(source.into()))
    }

    /// What the callback returns. It is told what is asked for, and called when a new token is needed: at most one call at a
    /// time, whatever is asked for, on the context's executor, and it must not wait for a person.
    ///
    /// Where it says neither [`Lifetime`](keyfob_auth_core::Lifetime) nor, as a JWT, when it expires, it is called again
    /// after [`unknown_lifetime`](keyfob_auth_core::Limits::unknown_lifetime).
    pub fn callback<C, F>(callback: C) -> Self
    where
        C: Fn(TokenRequest) -> F + Send + Sync + 'static,
        F: Future<Output = Result<AccessToken, AuthError>> + Send + 'static,
    {
        Self::new(unique("static", "callback"), Source::Callback(Callback::new(callback)))
    }

    /// [`callback`](Self::callback) for one that blocks. It has a thread of its own while it runs; one that outlives the
    /// [limit of an exchange](keyfob_auth_core::Limits::exchange) keeps its turn until it returns.
    pub fn blocking_callback<C>(callback: C) -> Self
    where
        C: Fn(TokenRequest) -> Result<AccessToken, AuthError> + Send + Sync + 'static,
    {
        Self::new(unique("static", "callback"), Source::Callback(Callback::blocking(callback)))
    }

    fn new(identity: Identity, source: Source) -> Self {
        Self { identity, source, json_key: None, header: Header::default() }
    }

    /// Says that the source holds a JSON object, and under which of its keys the token is. A callback has no use for it.
    #[must_use]
    pub fn json_key(mut self, key: impl Into<String>) -> Self {
        self.json_key = Some(key.into());
        self
    }

    /// Says which header the token goes into. In any other than `Authorization` it stands alone, unless a
    /// [`scheme`](Self::scheme) is said.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if that is no name of a header (RFC 9110 section 5.1).
    pub fn header(mut self, name: &str) -> Result<Self, AuthError> {
        self.header.set_name(name)?;
        Ok(self)
    }

    /// Says what stands before the token, with a space between: `"Token"`. Empty for the token alone.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if that is no authentication scheme (RFC 9110 section
    /// 11.1).
    pub fn scheme(mut self, scheme: &str) -> Result<Self, AuthError> {
        self.header.set_scheme(scheme)?;
        Ok(self)
    }

    /// The provider that these settings describe.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if `token` is absent or has no known form, or `header`
    /// or `scheme` are none.
    pub fn from_settings(settings: &Settings, _: &Context) -> Result<Self, AuthError> {
        let (source, json_key) = match keyed(settings)? {
            Some((source, key)) => (Some(source), Some(key)),
            None => (settings.secret("token")?, None),
        };
        let source = source.ok_or_else(|| settings.bad("token", "is missing"))?;
        let identity = Identity::new("static").grant("secret").label(settings.label());
        let mut made = Self { json_key, ..Self::new(identity, Source::Secret(source)) };
        if let Some(name) = settings.string("header")? {
            made.header.set_name(&name).map_err(|error| settings.bad("header", error.message()))?;
        }
        if let Some(scheme) = settings.string("scheme")? {
            made.header.set_scheme(&scheme).map_err(|error| settings.bad("scheme", error.message()))?;
        }
        Ok(made)
    }
}

/// `token = { file = "PATH", key = "KEY" }`, or with `command`.
fn keyed(settings: &Settings) -> Result<Option<(SecretSource, String)>, AuthError> {
    let table = if settings.is_table("token") { settings.table("token")? } else { None };
    let Some(table) = table.filter(|table| table.has("key")) else { return Ok(None) };
    let key = table.require_string("key")?;
    let (file, command) = (table.path("file")?, table.strings("command")?);
    table.finish()?;
    let source = match (file, command) {
        (Some(path), None) => SecretSource::File(path),
        (None, Some(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => {
            SecretSource::Command(argv)
        }
        _ => return Err(table.bad("key", "goes with one of `file` and `command`, whose JSON it is a key of")),
    };
    Ok(Some((SecretSource::Configured(Box::new(source), format!("`token` of {}", settings.name())), key)))
}

#[async_trait]
impl CredentialProvider for StaticToken {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    async fn acquire(&self, request: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        let token = match &self.source {
            Source::Secret(source) => {
                let told = |error: AuthError| error.with_origin(source.to_string());
                let text = source.read_with(exec_info()).await.map_err(told)?;
                let token = content::access_token(&text, self.json_key.as_deref(), Serves::of(source));
                // What no header can carry is told with where it is from.
                token.and_then(|token| self.header.present(&token).map(|_| token)).map_err(told)?
            }
            Source::Callback(callback) => callback.call(request.clone()).await?,
        };
        Ok(Acquired::token(token))
    }

    fn present(&self, token: &AccessToken, _: Option<&Login>) -> Result<Presentation, AuthError> {
        self.header.present(token)
    }

    fn keeps(&self) -> Keep {
        Keep::Memory
    }

    fn secret_revision(&self) -> Option<u64> {
        match &self.source {
            Source::Secret(source) => source.revision(),
            Source::Callback(_) => None,
        }
    }
}

/// What kubectl tells a credential plugin; some do not work without it. That of a kubectl above us is passed on.
fn exec_info() -> &'static [(&'static str, &'static str)] {
    const NAME: &str = "KUBERNETES_EXEC_INFO";
    const INFO: &str = concat!(
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","#,
        r#""spec":{"interactive":false}}"#
    );
    if env::var_os(NAME).is_some() { &[] } else { &[(NAME, INFO)] }
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Secret(source) => source.to_string(),
            Source::Callback(_) => "a callback".into(),
        };
        f.debug_struct("StaticToken")
            .field("identity", &self.identity)
            .field("source", &source)
            .field("header", &self.header)
            .finish()
    }
}

#[cfg(test)]
#[path = "provider/tests.rs"]
mod tests;
