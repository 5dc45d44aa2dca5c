//! [`CredentialProvider`]: gets tokens. What it is asked, and what it says of itself.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, Uri};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    AuthError,
    interaction::Interaction,
    login::{Acquired, Login},
    token::{AccessToken, Presentation, Scopes},
};

/// Gets access tokens from one source, for one identity.
///
/// A provider knows nothing of caching, locking, storing, retrying or clocks: the [`Session`](crate::Session) that it is
/// given to does all that. Two methods are required; a provider for a service of your own is an afternoon's work
/// (`docs/writing-a-provider.md`), and [`testing::provider`](crate::testing::provider) proves it right.
///
/// # What an implementation must guarantee
/// - **No interaction outside [`login`](Self::login)**: `acquire` never prompts, prints or opens anything.
/// - **One exchange a call**: `acquire` sends the request that can rotate a refresh token once. The engine repeats.
/// - **Errors of the right kind**: the engine decides by [`ErrorKind`](crate::ErrorKind) alone. Above all, only a server's
///   explicit verdict on this refresh token is `LoginRejected`; a 429, a 5xx or a cut connection is `Transient`.
/// - **No secrets** in `Debug`, in errors or in their sources.
///
/// # What it may assume
/// - It is never asked twice at once with the same refresh token, unless it said that token to be
///   [reusable](Login::reusable). Requests without a login may come in parallel.
/// - Every call runs on the [context](crate::Context)'s executor, a Tokio runtime, so that timers and sockets work whatever
///   runtime the application has; there is a hard limit on its time, after which the call is dropped.
/// - `acquire` is not dropped because a caller went away. `login` is: dropping it must leave nothing half done.
/// - A panic becomes an error of that one call.
///
/// # Examples
/// ```
/// use keyfob_auth_core::{AccessToken, Acquired, AuthError, CredentialProvider, Identity, Login, TokenRequest, async_trait};
///
/// #[derive(Debug)]
/// struct Fixed;
///
/// #[async_trait]
/// impl CredentialProvider for Fixed {
///     fn identity(&self) -> Identity {
///         Identity::new("fixed")
///     }
///
///     async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
///         Ok(Acquired::token(AccessToken::new("abc").expires_in(600)))
///     }
/// }
/// ```
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync {
    /// What was configured: no I/O, nothing secret, nothing learnt. It never changes.
    fn identity(&self) -> Identity;

    /// Gets an access token without a person, from the login if one is given and the grant uses it. Returns the login too
    /// where the exchange made or changed it.
    ///
    /// # Errors
    /// [`LoginRequired`](crate::ErrorKind::LoginRequired) where only a person can make a login and there is none;
    /// [`LoginRejected`](crate::ErrorKind::LoginRejected) if the server refused this refresh token;
    /// [`InteractionRequired`](crate::ErrorKind::InteractionRequired), with the challenge, if a person must act;
    /// the other kinds as they say.
    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError>;

    /// Signs a person in. `previous` is what an earlier sign-in left, for hints. By default there is no such thing, and an
    /// [`acquire`](Self::acquire) takes its place.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`Refused`](crate::ErrorKind::Refused) if the person said no or let it expire.
    ///
    /// # Cancellation
    /// Dropped when the caller of [`Session::login`](crate::Session::login) goes away.
    async fn login(
        &self,
        request: &LoginRequest,
        previous: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        let _ = (previous, ui);
        self.acquire(&request.token, None).await
    }

    /// Tells the server that the login is over (RFC 7009), and the access tokens that came of it: those at hand that have not
    /// expired, [`MAX_TOKENS`](crate::store::MAX_TOKENS) at most, that of the session's own scopes first. By default there is
    /// nobody to tell.
    ///
    /// # Errors
    /// What kept the server from revoking them, or that there is nothing that can be revoked; all is forgotten locally all the
    /// same.
    async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        let _ = (login, tokens);
        Ok(())
    }

    /// How the token goes onto a request; called once, when it is published. By default `Authorization: Bearer`.
    ///
    /// Of a token that is bound to a certificate it is asked again, without the login and on the caller's own task, where a
    /// client comes with another certificate: so it must be quick.
    ///
    /// # Errors
    /// If the token cannot be put into a header, or is bound to a certificate that the provider has no more: it is renewed
    /// then.
    fn present(&self, token: &AccessToken, login: Option<&Login>) -> Result<Presentation, AuthError> {
        let _ = login;
        Presentation::bearer(token)
    }

    /// Whether this redirect says that the token is no good: a login page in the place of an answer. The error is the
    /// caller's if there is no other token; it says what to do next. By default only a 401 says so (RFC 6750 section 3).
    ///
    /// It is asked of answers with a 3xx status that came from listed origins to requests with a token, on the caller's own
    /// task, so it must be quick. `from` is where the answer came from.
    fn refusal(&self, from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<AuthError> {
        let _ = (from, status, headers);
        None
    }

    /// What may be kept. By default memory only: a literal or a managed identity's token must never be copied to disk.
    fn keeps(&self) -> Keep {
        Keep::Memory
    }

    /// Whether its logins hold a [binding key](Login::binding_key). A session of such a provider on a store that drops
    /// keys is refused when it is built.
    fn binds_logins(&self) -> bool {
        false
    }

    /// The configured scopes that this login was not made for, since they were added later: a renewal does not get them (RFC
    /// 6749 section 6), a new login does. By default none that is known. It must be quick.
    fn missing_scopes(&self, login: &Login) -> Scopes {
        let _ = login;
        Scopes::none()
    }

    /// A number that changes when the local secret does (a key file replaced), so that a refusal is tried again at once.
    ///
    /// It is asked whenever a remembered refusal would be returned, so it must be quick.
    fn secret_revision(&self) -> Option<u64> {
        None
    }
}

/// What may be kept of what a provider returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Nothing: every request for a token asks the provider, those that come at once together.
    Nothing,
    /// In this process's memory only, whatever store was given.
    Memory,
    /// In the store.
    Store,
}

/// What was configured: who asks whom, as far as it tells one login from another.
///
/// No secret, no account learnt. The label (a profile's name, say) tells alice's login from bob's at the same client.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// The kind of provider: `oidc`, `keycloak`.
    pub kind: String,
    /// How a login comes about: `device_code`, `client_credentials`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grant: String,
    /// The issuer, or the URL that stands for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// The client id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The tenant, where the issuer does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// A name given to it here: the profile's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

impl Identity {
    /// An identity of this kind, with nothing else said.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// Says how a login comes about.
    #[must_use]
    pub fn grant(mut self, grant: impl Into<String>) -> Self {
        self.grant = grant.into();
        self
    }

    /// Names the issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Names the client.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// Names the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Gives it a name here.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// What an access token is asked for.
///
/// The default asks for what the provider was configured with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TokenRequest {
    /// The scopes; none for the configured ones.
    pub scopes: Scopes,
    /// Logical names of the target services (RFC 8693 section 2.1, and what some servers ask for elsewhere).
    pub audiences: Vec<String>,
    /// URIs of the target services (RFC 8707).
    pub resources: Vec<String>,
    /// On whose behalf (RFC 8693). Its tokens stay in a bounded part of the memory and are never stored.
    pub subject: Option<Subject>,
    /// A demand that the resource server made of the next token. Not part of what is asked for, but of how.
    pub challenge: Option<Challenge>,
}

impl TokenRequest {
    /// Asks for these scopes.
    pub fn scopes<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self { scopes: scopes.into_iter().collect(), ..Self::default() }
    }

    /// Asks for this audience too.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Asks for this resource too.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Asks on behalf of this subject.
    #[must_use]
    pub fn with_subject(mut self, subject: Subject) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Hands on this challenge.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// What tells its token from others below the same login: order does not matter, nor does a challenge.
    pub fn key(&self) -> RequestKey {
        RequestKey {
            scopes: self.scopes.iter().map(str::to_owned).collect(),
            audiences: self.audiences.iter().cloned().collect(),
            resources: self.resources.iter().cloned().collect(),
        }
    }
}

/// What tells one access token from others below the same login.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The scopes asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    /// The audiences asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub audiences: BTreeSet<String>,
    /// The resources asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
}

/// On whose behalf a token is asked for (RFC 8693 section 2.1).
#[derive(Clone, Debug)]
pub struct Subject {
    /// The subject's token.
    pub token: SecretString,
    /// What kind of token it is, as a URN of RFC 8693 section 3.
    pub token_type: String,
}

impl Subject {
    /// The access token of a caller.
    pub fn access_token(token: impl Into<SecretString>) -> Self {
        Self { token: token.into(), token_type: "urn:ietf:params:oauth:token-type:access_token".into() }
    }
}

/// What a resource server demands of the next token (claims challenge, step-up: RFC 9470).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// The error code of the challenge: `insufficient_user_authentication`, `insufficient_claims`.
    pub error: Option<String>,
    /// Claims to ask for, as JSON (OpenID Connect Core section 5.5).
    pub claims: Option<String>,
    /// Authentication contexts, in order of preference (RFC 9470 section 3).
    pub acr_values: Option<String>,
    /// How old the sign-in may be (RFC 9470 section 3).
    pub max_age: Option<Duration>,
    /// The scopes that the resource needs (RFC 6750 section 3).
    pub scope: Option<Scopes>,
}

/// What a sign-in is asked for: a [`TokenRequest`], and what a person is asked.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoginRequest {
    /// What the access token is asked for, and the challenge to satisfy.
    pub token: TokenRequest,
    /// The account to propose (`login_hint`).
    pub account_hint: Option<String>,
    /// Whether the person is asked again (`prompt`: `login`, `consent`, `select_account`).
    pub prompt: Option<String>,
}

impl LoginRequest {
    /// A sign-in for this token.
    pub fn new(token: TokenRequest) -> Self {
        Self { token, ..Self::default() }
    }

    /// A sign-in that satisfies this challenge.
    pub fn satisfying(challenge: Challenge) -> Self {
        Self::new(TokenRequest::default().with_challenge(challenge))
    }

    /// Proposes an account.
    #[must_use]
    pub fn with_account_hint(mut self, account: impl Into<String>) -> Self {
        self.account_hint = Some(account.into());
        self
    }

    /// Says whether the person is asked again.
    #[must_use]
    pub fn with_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = Some(prompt.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_key_ignores_order_and_challenge() {
        let one = TokenRequest::scopes(["a", "b"]).with_audience("x").with_audience("y");
        let other = TokenRequest::scopes(["b", "a", "b"])
            .with_audience("y")
            .with_audience("x")
            .with_challenge(Challenge::default());
        assert_eq!(one.key(), other.key());
        assert_ne!(one.key(), TokenRequest::scopes(["a"]).key());
    }
}
