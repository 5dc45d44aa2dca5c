//! [`StaticToken`]: hands on a token that somebody else made.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, ExposeSecret as _, Identity, Keep,
    Lifetime, Login, Presentation, SecretString, TokenRequest, async_trait, jwt_expiry,
    registry::{SecretSource, Settings},
};

type Answer = Pin<Box<dyn Future<Output = Result<AccessToken, AuthError>> + Send>>;
type Callback = dyn Fn(TokenRequest) -> Answer + Send + Sync;

/// Hands on a token that somebody else made: a literal, or what a callback returns.
///
/// What it returns is kept in memory only and never copied to a store. A literal does not expire, unless it is a JWT that
/// says otherwise; a callback says how long its tokens live.
///
/// # Settings
/// `provider = "static"`, and `token`: a text, or one of `{ env = "NAME" }`, `{ file = "PATH" }` and
/// `{ command = ["PROGRAM", …] }`.
///
/// # Examples
/// ```
/// use keyfob_auth_core::AccessToken;
/// use keyfob_provider_static::StaticToken;
///
/// let literal = StaticToken::literal("an-api-key");
/// let callback = StaticToken::callback(|request| async move {
///     let scopes = request.scopes.to_string(); // what is asked for
///     Ok(AccessToken::new(format!("made for {scopes}")).expires_in(600))
/// });
/// # let _ = (literal, callback);
/// ```
#[derive(Clone)]
pub struct StaticToken {
    identity: Identity,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Secret(SecretSource),
    Callback(Arc<Callback>),
}

impl StaticToken {
    /// Always this token.
    pub fn literal(token: impl Into<SecretString>) -> Self {
        Self::secret(SecretSource::Literal(token.into()))
    }

    /// The token that is there when one is asked for: a variable, a file, what a program prints.
    pub fn secret(source: impl Into<SecretSource>) -> Self {
        Self { identity: unique("secret"), source: Source::Secret(source.into()) }
    }

    /// What the callback returns. It is told what is asked for, and called when a new token is needed: never twice at once
    /// for the same request, on the context's executor, and it must not wait for a person.
    pub fn callback<C, F>(callback: C) -> Self
    where
        C: Fn(TokenRequest) -> F + Send + Sync + 'static,
        F: Future<Output = Result<AccessToken, AuthError>> + Send + 'static,
    {
        let callback = move |request| -> Answer { Box::pin(callback(request)) };
        Self { identity: unique("callback"), source: Source::Callback(Arc::new(callback)) }
    }

    /// The provider that these settings describe.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if `token` is absent or has no known form.
    pub fn from_settings(settings: &Settings, _: &Context) -> Result<Self, AuthError> {
        let source = settings.secret("token")?.ok_or_else(|| settings.bad("token", "is missing"))?;
        let identity = Identity::new("static").grant("secret").label(settings.label());
        Ok(Self { identity, source: Source::Secret(source) })
    }
}

#[async_trait]
impl CredentialProvider for StaticToken {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    async fn acquire(&self, request: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        let token = match &self.source {
            Source::Secret(source) => {
                read(source).await.map_err(|error| error.with_origin(source.to_string()))?
            }
            Source::Callback(callback) => callback(request.clone()).await?,
        };
        Ok(Acquired::token(token))
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

/// A file or a program may have another token the next time, so it is asked again after a while.
fn lifetime(source: &SecretSource) -> Lifetime {
    match source {
        SecretSource::Literal(_) | SecretSource::Env(_) => Lifetime::Unlimited,
        SecretSource::Configured(source, _) => lifetime(source),
        _ => Lifetime::Unknown,
    }
}

/// The token that is there, if it is one that can be used.
async fn read(source: &SecretSource) -> Result<AccessToken, AuthError> {
    let secret = source.read().await?;
    // Tokens have no spaces, but what people paste into variables and files has.
    let token = secret.expose_secret().trim_ascii();
    if token.is_empty() {
        return Err(AuthError::not_configured("it is empty"));
    }
    let ago = jwt_expiry(token).and_then(|at| SystemTime::now().duration_since(at).ok());
    if let Some(ago) = ago {
        return Err(AuthError::refused(format!("the token expired {} ago; replace it", in_words(ago))));
    }
    let token = AccessToken::new(token).with_lifetime(lifetime(source));
    Presentation::bearer(&token)?;
    Ok(token)
}

fn in_words(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// An identity that no other provider has: neither a secret nor a closure may be part of it, yet two of them in one context
/// must not be taken for the same.
fn unique(grant: &str) -> Identity {
    static MADE: AtomicU64 = AtomicU64::new(1);
    Identity::new("static").grant(grant).client(format!("#{}", MADE.fetch_add(1, Ordering::Relaxed)))
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Secret(source) => source.to_string(),
            Source::Callback(_) => "a callback".into(),
        };
        f.debug_struct("StaticToken").field("identity", &self.identity).field("source", &source).finish()
    }
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::{ErrorKind, registry::Value};

    use super::*;

    async fn acquire(provider: &StaticToken, request: TokenRequest) -> Result<AccessToken, AuthError> {
        provider.acquire(&request, None).await.map(|acquired| acquired.access)
    }

    fn settings(token: Value) -> Settings {
        Settings::new("profile.work").with("token", token, Some(2))
    }

    #[tokio::test]
    async fn a_literal_is_handed_on_and_does_not_expire() {
        let token = acquire(&StaticToken::literal("abc"), TokenRequest::default()).await.unwrap();
        assert_eq!((token.secret().expose_secret(), token.lifetime()), ("abc", Lifetime::Unlimited));
    }

    #[tokio::test]
    async fn what_surrounds_a_token_is_not_part_of_it() {
        let token = acquire(&StaticToken::literal(" abc\r\n\n"), TokenRequest::default()).await.unwrap();
        assert_eq!(token.secret().expose_secret(), "abc");
        let blank = acquire(&StaticToken::literal(" \n"), TokenRequest::default()).await.unwrap_err();
        assert_eq!(blank.kind(), ErrorKind::NotConfigured);
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_used_is_refused_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        // `{"alg":"none"}` and `{"exp":1}`.
        for (token, said) in [
            ("eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x", "days ago; replace it"),
            ("a\nmarker", "no HTTP header can carry"),
        ] {
            std::fs::write(&file, token).unwrap();
            let s = settings(Value::Table(
                [("file".to_owned(), (Value::String(file.to_str().unwrap().into()), None))].into(),
            ));
            let provider = StaticToken::from_settings(&s, &Context::new()).unwrap();
            let error = acquire(&provider, TokenRequest::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            let text = error.to_string();
            assert!(text.contains(said) && !text.contains("marker"), "{text}");
            assert!(text.ends_with("/token, for `token` of profile.work]"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_callback_is_told_what_is_asked_for() {
        let provider = StaticToken::callback(|request| async move {
            Ok(AccessToken::new(request.scopes.to_string()).expires_in(60))
        });
        let token = acquire(&provider, TokenRequest::scopes(["a", "b"])).await.unwrap();
        assert_eq!(token.secret().expose_secret(), "a b");
        let failing = StaticToken::callback(async |_| Err(AuthError::transient("later")));
        assert_eq!(
            acquire(&failing, TokenRequest::default()).await.unwrap_err().kind(),
            ErrorKind::Transient
        );
    }

    #[tokio::test]
    async fn settings_take_every_form_of_a_secret() {
        let table = |form: &str, value| Value::Table([(form.to_owned(), (value, None))].into());
        let text = |text: &str| Value::String(text.into());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let command = Value::List(["sh", "-c", "echo from-command"].map(text).into());
        for (value, expected) in [
            (text("from-literal"), "from-literal"),
            (table("file", text(file.path().to_str().unwrap())), "from-file"),
            (table("command", command), "from-command"),
        ] {
            let settings = settings(value);
            let provider = StaticToken::from_settings(&settings, &Context::new()).unwrap();
            settings.finish().unwrap();
            let token = acquire(&provider, TokenRequest::default()).await.unwrap();
            assert_eq!(token.secret().expose_secret(), expected);
            assert_eq!(provider.identity().label, "work");
        }
        let unset = settings(table("env", text("KEYFOB_TEST_UNSET")));
        let provider = StaticToken::from_settings(&unset, &Context::new()).unwrap();
        let error = acquire(&provider, TokenRequest::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains("KEYFOB_TEST_UNSET"), "{error}");
    }

    #[test]
    fn an_absent_token_is_named() {
        let error = StaticToken::from_settings(&Settings::new("profile.work"), &Context::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("profile.work: `token` is missing"), "{error}");
        assert!(StaticToken::from_settings(&settings(Value::Integer(1)), &Context::new()).is_err());
    }

    #[test]
    fn a_replaced_file_has_another_revision() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let provider = StaticToken::secret(SecretSource::File(file.path().into()));
        let before = provider.secret_revision();
        std::fs::write(file.path(), "another").unwrap();
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
}
