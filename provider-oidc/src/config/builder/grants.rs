//! What the password, JWT bearer and token exchange grants send, as a program says it.

use keyfob_auth_core::{AuthError, SecretString, registry::SecretSource};

use super::OidcBuilder;
use crate::callback::SecretCallback;

impl OidcBuilder {
    /// The user name of [`Flow::Password`](crate::Flow::Password).
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The password of [`Flow::Password`](crate::Flow::Password), read when it is needed.
    pub fn password(mut self, password: impl Into<SecretSource>) -> Self {
        self.password = Some(SecretCallback::Source(password.into()));
        self
    }

    /// The assertion of [`Flow::JwtBearer`](crate::Flow::JwtBearer), read at each use. Without one, the key or signer signs it.
    pub fn assertion(mut self, assertion: impl Into<SecretSource>) -> Self {
        self.grant_assertion = Some(SecretCallback::Source(assertion.into()));
        self
    }

    /// The assertion of [`Flow::JwtBearer`](crate::Flow::JwtBearer), from a function of the application's own at each use. Providers with different
    /// functions at one client need different [labels](Self::label): their tokens would be taken for each other's.
    pub fn assertion_from<F, R>(mut self, assertion: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretString, AuthError>> + Send + 'static,
    {
        self.grant_assertion = Some(SecretCallback::function(assertion));
        self
    }

    /// Whom an assertion of [`Flow::JwtBearer`](crate::Flow::JwtBearer) that is signed here is about (`sub`). Unsaid: the client.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The token to exchange (RFC 8693 section 2.1) where a request names no subject, read at each use.
    pub fn subject_token(mut self, token: impl Into<SecretSource>) -> Self {
        self.subject_token = Some(SecretCallback::Source(token.into()));
        self
    }

    /// The token to exchange, from a function of the application's own at each use. Providers with different functions at one
    /// client need different [labels](Self::label): their tokens would be taken for each other's.
    pub fn subject_token_from<F, R>(mut self, token: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretString, AuthError>> + Send + 'static,
    {
        self.subject_token = Some(SecretCallback::function(token));
        self
    }

    /// What kind of token the configured subject's is (RFC 8693 section 3). Unsaid: an access token.
    pub fn subject_token_type(mut self, kind: impl Into<String>) -> Self {
        self.subject_token_type = Some(kind.into());
        self
    }

    /// The token of who acts for the subject (RFC 8693 section 2.1), read at each use.
    pub fn actor_token(mut self, token: impl Into<SecretSource>) -> Self {
        self.actor_token = Some(SecretCallback::Source(token.into()));
        self
    }

    /// What kind of token the actor's is (RFC 8693 section 3). Unsaid: an access token.
    pub fn actor_token_type(mut self, kind: impl Into<String>) -> Self {
        self.actor_token_type = Some(kind.into());
        self
    }

    /// What kind of token is wanted (RFC 8693 section 3). Unsaid: the server decides.
    pub fn requested_token_type(mut self, kind: impl Into<String>) -> Self {
        self.requested_token_type = Some(kind.into());
        self
    }
}
