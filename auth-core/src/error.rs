//! [`AuthError`]: what happened, and what the caller should do about it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::provider::Challenge;

/// What happened, in the terms of what can be done about it.
///
/// It is also the contract between a provider and the engine: the engine decides by the kind alone whether it re-reads
/// the store, backs off, drops a refresh token or lets a chain go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This source is not configured here (a variable that is unset, a file that is absent). A chain goes on.
    NotConfigured,
    /// There is no login, or it is used up: a person has to log in first. A chain goes on.
    LoginRequired,
    /// The server refused this very refresh token (`invalid_grant`). From a provider it makes the engine re-read the
    /// store and ask an unattended provider again without the login; applications see [`ErrorKind::LoginRequired`].
    LoginRejected,
    /// Refused for good (a wrong client secret, a denied login): asking again changes nothing until something is mended.
    Refused,
    /// It may work later: unreachable, overloaded, timed out. See [`AuthError::retry_after`].
    Transient,
    /// A person has to act first, although there is a login. See [`AuthError::challenge`].
    InteractionRequired,
    /// The configuration is wrong.
    Configuration,
    /// The store failed, or something could not be kept.
    Store,
}

impl ErrorKind {
    /// The name under which the kind is stored and shown, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::LoginRequired => "login_required",
            Self::LoginRejected => "login_rejected",
            Self::Refused => "refused",
            Self::Transient => "transient",
            Self::InteractionRequired => "interaction_required",
            Self::Configuration => "configuration",
            Self::Store => "store",
        }
    }

    /// The kind of that name; [`ErrorKind::Transient`] for one that this version does not know.
    pub fn from_name(name: &str) -> Self {
        match name {
            "not_configured" => Self::NotConfigured,
            "login_required" => Self::LoginRequired,
            "login_rejected" => Self::LoginRejected,
            "refused" => Self::Refused,
            "interaction_required" => Self::InteractionRequired,
            "configuration" => Self::Configuration,
            "store" => Self::Store,
            _ => Self::Transient,
        }
    }
}

/// Why no token could be had, and what to do next.
///
/// Cloning is cheap: everybody who waited for one exchange gets the same error. Neither `Display` nor `Debug` nor any
/// [source](StdError::source) shows a secret; who builds one keeps it so (`reqwest::Error::without_url`).
#[derive(Clone)]
pub struct AuthError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    repeatable: bool,
    answer_lost: bool,
    oauth_error: Option<String>,
    oauth_description: Option<String>,
    oauth_uri: Option<String>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    provider: Option<String>,
    origin: Option<String>,
    challenge: Option<Box<Challenge>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl AuthError {
    /// An error of this kind; the message says what happened and, where it helps, what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            repeatable: true,
            answer_lost: false,
            oauth_error: None,
            oauth_description: None,
            oauth_uri: None,
            status: None,
            retry_after: None,
            provider: None,
            origin: None,
            challenge: None,
            source: None,
        }))
    }

    /// [`ErrorKind::NotConfigured`].
    pub fn not_configured(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotConfigured, message)
    }

    /// [`ErrorKind::LoginRequired`].
    pub fn login_required(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LoginRequired, message)
    }

    /// [`ErrorKind::LoginRejected`].
    pub fn login_rejected(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LoginRejected, message)
    }

    /// [`ErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// [`ErrorKind::Transient`].
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// [`ErrorKind::InteractionRequired`].
    pub fn interaction_required(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InteractionRequired, message)
    }

    /// [`ErrorKind::Configuration`].
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// [`ErrorKind::Store`].
    pub fn store(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Store, message)
    }

    fn edit(mut self, edit: impl FnOnce(&mut Inner)) -> Self {
        edit(Arc::make_mut(&mut self.0));
        self
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        self.edit(|e| e.kind = kind)
    }

    /// The same error with another message.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        let message = message.into();
        self.edit(|e| e.message = message)
    }

    /// Says that this one operation must not be repeated, whatever the source can still do (a password is never tried
    /// twice).
    #[must_use]
    pub fn once(self) -> Self {
        self.edit(|e| e.repeatable = false)
    }

    /// Adds the OAuth error code (RFC 6749 section 5.2) and its description.
    #[must_use]
    pub fn with_oauth(self, error: impl Into<String>, description: Option<String>) -> Self {
        let error = error.into();
        self.edit(|e| {
            e.oauth_error = Some(error);
            e.oauth_description = description;
        })
    }

    /// Adds the page that the server names for the error (`error_uri`, RFC 6749 section 5.2).
    #[must_use]
    pub fn with_oauth_uri(self, uri: impl Into<String>) -> Self {
        let uri = uri.into();
        self.edit(|e| e.oauth_uri = Some(uri))
    }

    /// Adds the HTTP status of the answer.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        self.edit(|e| e.status = Some(status))
    }

    /// Adds the time that has to pass before the next attempt.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.edit(|e| e.retry_after = Some(after))
    }

    /// Names the provider it concerns.
    #[must_use]
    pub fn with_provider(self, provider: impl Into<String>) -> Self {
        let provider = provider.into();
        self.edit(|e| e.provider = Some(provider))
    }

    /// Names where the value came from: a file, an environment variable, a URL without its query.
    #[must_use]
    pub fn with_origin(self, origin: impl Into<String>) -> Self {
        let origin = origin.into();
        self.edit(|e| e.origin = Some(origin))
    }

    /// Adds the challenge that [`Session::login_with`](crate::Session::login_with) takes.
    #[must_use]
    pub fn with_challenge(self, challenge: Challenge) -> Self {
        self.edit(|e| e.challenge = Some(Box::new(challenge)))
    }

    /// Keeps the error that caused this one. It must hold no secret.
    #[must_use]
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|e| e.source = Some(Arc::new(source)))
    }

    pub(crate) fn with_shared_source(self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.edit(|e| e.source = Some(source))
    }

    /// Says that the answer to an earlier exchange was lost after the server may have acted on it.
    #[must_use]
    pub fn with_answer_lost(self) -> Self {
        self.edit(|e| e.answer_lost = true)
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without the details that `Display` adds.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether this one operation is worth repeating. What the source can still do is the [kind](Self::kind)'s to say.
    pub fn is_repeatable(&self) -> bool {
        self.0.repeatable
    }

    /// Whether the answer to an earlier exchange was lost after the server may have rotated the refresh token.
    pub fn is_answer_lost(&self) -> bool {
        self.0.answer_lost
    }

    /// The OAuth error code, as the server sent it.
    pub fn oauth_error(&self) -> Option<&str> {
        self.0.oauth_error.as_deref()
    }

    /// The server's own description of the error.
    pub fn oauth_description(&self) -> Option<&str> {
        self.0.oauth_description.as_deref()
    }

    /// The page that the server names for the error. It is the server's to choose: nothing fetches it.
    pub fn oauth_uri(&self) -> Option<&str> {
        self.0.oauth_uri.as_deref()
    }

    /// The HTTP status of the answer that said no.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long to wait before the next attempt; `None` where nobody said.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The provider it concerns.
    pub fn provider(&self) -> Option<&str> {
        self.0.provider.as_deref()
    }

    /// Where the value came from: a file, an environment variable, a URL.
    pub fn origin(&self) -> Option<&str> {
        self.0.origin.as_deref()
    }

    /// What is demanded of a person, for [`ErrorKind::InteractionRequired`].
    pub fn challenge(&self) -> Option<&Challenge> {
        self.0.challenge.as_deref()
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provider) = &self.0.provider {
            write!(f, "{provider}: ")?;
        }
        f.write_str(&self.0.message)?;
        let said = [self.0.oauth_error.as_deref(), self.0.oauth_description.as_deref()];
        for text in said.into_iter().flatten() {
            write!(f, ": {}", Printable(text))?;
        }
        if let Some(uri) = &self.0.oauth_uri {
            write!(f, " (see {})", Printable(uri))?;
        }
        if let Some(status) = self.0.status {
            write!(f, " (HTTP {status})")?;
        }
        if let Some(origin) = &self.0.origin {
            write!(f, " [{origin}]")?;
        }
        if let Some(after) = self.0.retry_after {
            write!(f, "; try again in {} s", after.as_secs_f64().ceil())?;
        }
        Ok(())
    }
}

impl fmt::Debug for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthError({}: {self})", self.0.kind.as_str())
    }
}

impl StdError for AuthError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// A server's text, cut short and without control characters: it goes to terminals and logs.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 500;
        for c in self.0.trim().chars().take(LONGEST) {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        if self.0.chars().nth(LONGEST).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_provider_code_status_origin_and_delay() {
        let error = AuthError::refused("the client was refused")
            .with_provider("oidc")
            .with_oauth("invalid_client", Some("no\r\nsuch client".into()))
            .with_oauth_uri("https://idp.example/errors#1")
            .with_status(401)
            .with_origin("https://idp.example/token")
            .with_retry_after(Duration::from_millis(1500));
        assert_eq!(
            error.to_string(),
            "oidc: the client was refused: invalid_client: no  such client (see https://idp.example/errors#1) (HTTP 401) \
             [https://idp.example/token]; try again in 2 s"
        );
    }

    #[test]
    fn kinds_keep_their_names() {
        for kind in [
            ErrorKind::NotConfigured,
            ErrorKind::LoginRequired,
            ErrorKind::LoginRejected,
            ErrorKind::Refused,
            ErrorKind::Transient,
            ErrorKind::InteractionRequired,
            ErrorKind::Configuration,
            ErrorKind::Store,
        ] {
            assert_eq!(ErrorKind::from_name(kind.as_str()), kind);
        }
    }
}
