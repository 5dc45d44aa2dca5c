//! Access tokens: what a provider returns, how long it lives, what it is bound to, and how it goes onto a request.

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::AuthError;

/// Scopes (RFC 6749 section 3.3) in the order in which they were given, each once.
///
/// Order is kept because servers see it; comparing two sets is [`Scopes::sorted`]'s business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// No scopes: the provider's configured ones, or the server's default.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The scopes of a space-separated list, as OAuth answers write them.
    pub fn parse(list: &str) -> Self {
        list.split_whitespace().collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this scope is among them.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|s| s == scope)
    }

    /// The scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The scopes as a set, for comparing.
    pub fn sorted(&self) -> BTreeSet<&str> {
        self.iter().collect()
    }
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(scopes: I) -> Self {
        let mut all: Vec<String> = Vec::new();
        for scope in scopes {
            let scope = scope.into();
            if !scope.is_empty() && !all.contains(&scope) {
                all.push(scope);
            }
        }
        Self(all)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// How long an access token lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifetime {
    /// So long from when the request was sent (`expires_in`).
    In(Duration),
    /// Until this moment.
    At(SystemTime),
    /// Not said: the engine reads the token's `exp` if it is a JWT, else it takes
    /// [`Limits::unknown_lifetime`](crate::Limits::unknown_lifetime).
    #[default]
    Unknown,
    /// It does not expire by time (an API key), unless it is a JWT that says otherwise.
    Unlimited,
}

/// What an access token is bound to: who presents it must prove more than having it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Binding {
    /// Nothing: a bearer token.
    #[default]
    None,
    /// The DPoP key with this JWK SHA-256 thumbprint (RFC 9449 section 6.1).
    Dpop(String),
    /// The client certificate with this SHA-256 thumbprint (RFC 8705 section 3.1).
    Certificate(String),
}

/// An access token, as a provider returns it.
#[derive(Clone)]
pub struct AccessToken {
    secret: SecretString,
    lifetime: Lifetime,
    scopes: Option<Scopes>,
    refresh_in: Option<Duration>,
    binding: Binding,
    age: Option<Duration>,
    reread_after: Option<Duration>,
}

impl AccessToken {
    /// A bearer token of [unknown](Lifetime::Unknown) life.
    pub fn new(secret: impl Into<SecretString>) -> Self {
        Self {
            secret: secret.into(),
            lifetime: Lifetime::Unknown,
            scopes: None,
            refresh_in: None,
            binding: Binding::None,
            age: None,
            reread_after: None,
        }
    }

    /// Says how long it lives.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Says so many seconds of life, from when the request was sent.
    #[must_use]
    pub fn expires_in(self, seconds: u64) -> Self {
        self.with_lifetime(Lifetime::In(Duration::from_secs(seconds)))
    }

    /// Says which scopes were granted: those that the server named, else those that were asked for (RFC 6749 section 5.1).
    #[must_use]
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// Adds the server's hint when to renew it, counted as the life is.
    #[must_use]
    pub fn with_refresh_in(mut self, after: Duration) -> Self {
        self.refresh_in = Some(after);
        self
    }

    /// Says what it is bound to.
    #[must_use]
    pub fn with_binding(mut self, binding: Binding) -> Self {
        self.binding = binding;
        self
    }

    /// Says how long ago the request for it was sent.
    ///
    /// Only a login needs it, where a person may have taken minutes before that request. Without it a login's life
    /// counts from the answer, and an [`acquire`](crate::CredentialProvider::acquire)'s from its call.
    #[must_use]
    pub fn with_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Says that its source may hold another one at any time (a file, whose reading costs nothing): it is asked again after
    /// so long, and this token is not served any longer without that. When it expires is [said](Self::with_lifetime) apart.
    #[must_use]
    pub fn with_reread_after(mut self, after: Duration) -> Self {
        self.reread_after = Some(after);
        self
    }

    /// The token itself.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// How long it lives.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The granted scopes, where they are known.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.scopes.as_ref()
    }

    /// The server's hint when to renew it.
    pub fn refresh_in(&self) -> Option<Duration> {
        self.refresh_in
    }

    /// What it is bound to.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// After how long its source is asked again, whatever its life.
    pub fn reread_after(&self) -> Option<Duration> {
        self.reread_after
    }

    /// How long ago its request was sent, if the provider measured it.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("lifetime", &self.lifetime)
            .field("scopes", &self.scopes)
            .field("refresh_in", &self.refresh_in)
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}

/// How a token goes onto a request. Made once, when the token is published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Presentation {
    /// This header, the same on every request.
    Header(HeaderName, HeaderValue),
    /// Headers signed anew for every request (DPoP). The signer and its nonces outlive renewals.
    Signed(Arc<dyn RequestSigner>),
}

impl Presentation {
    /// `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the token has characters that no header can carry.
    pub fn bearer(token: &AccessToken) -> Result<Self, AuthError> {
        Self::header(header::AUTHORIZATION, "Bearer ", token)
    }

    /// `NAME: PREFIX TOKEN` with any header and any prefix (`"Bearer "`, `""`).
    ///
    /// The value's bytes are wiped when the last clone of it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the token has characters that no header can carry.
    pub fn header(name: HeaderName, prefix: &str, token: &AccessToken) -> Result<Self, AuthError> {
        let secret = token.secret.expose_secret();
        let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len()));
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(secret.as_bytes());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).map_err(|_| {
            AuthError::refused(
                "the access token has characters that no HTTP header can carry (a line break?)",
            )
        })?;
        value.set_sensitive(true);
        Ok(Self::Header(name, value))
    }
}

/// Signs requests, for tokens that are [bound](Binding) to a key.
///
/// One signer serves all tokens of one login, so that nonces learnt with one token are used with the next.
pub trait RequestSigner: fmt::Debug + Send + Sync {
    /// The headers for this one request (RFC 9449 sections 4 and 7).
    ///
    /// # Errors
    /// What kept it from signing.
    fn sign(&self, method: &Method, uri: &Uri) -> Result<HeaderMap, AuthError>;

    /// Sees the answer; `true` if the request is worth sending once more (the server demanded a new nonce).
    fn observe(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool;
}

/// Reads `exp` (RFC 7519 section 4.1.4) from a token that looks like a JWT, without checking anything.
///
/// `None` if it is no JWT, has no `exp`, or one beyond all reason. Access tokens are opaque to clients; this is the
/// fallback for answers without `expires_in`.
pub fn jwt_expiry(token: &str) -> Option<SystemTime> {
    const LATEST: f64 = 253_402_300_799.0; // the end of the year 9999
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let claims: serde_json::Value = str::from_utf8(&json).ok()?.parse().ok()?;
    let exp = claims.get("exp")?.as_f64()?;
    (0.0..=LATEST).contains(&exp).then(|| UNIX_EPOCH + Duration::from_secs_f64(exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn scopes_keep_order_and_drop_repeats() {
        let scopes = Scopes::parse(" b  a b ");
        assert_eq!(scopes.to_string(), "b a");
        assert_eq!(scopes.sorted(), Scopes::parse("a b").sorted());
    }

    #[test]
    fn rfc7519_4_1_4_exp_is_read_from_a_jwt_only() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(jwt_expiry(&jwt(r#"{"exp":1900000000}"#)), at(1_900_000_000));
        assert_eq!(jwt_expiry(&jwt(r#"{"exp":1900000000.0}"#)), at(1_900_000_000));
        for odd in ["", "a.b.c", "opaque", "a.b", &jwt("{}"), &jwt(r#"{"exp":-1}"#), &jwt(r#"{"exp":1e300}"#)]
        {
            assert_eq!(jwt_expiry(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_bearer_header_is_sensitive_and_refuses_line_breaks() {
        let Ok(Presentation::Header(name, value)) = Presentation::bearer(&AccessToken::new("abc")) else {
            panic!("no header");
        };
        assert_eq!((name, value.as_bytes()), (header::AUTHORIZATION, &b"Bearer abc"[..]));
        assert!(value.is_sensitive());
        assert!(Presentation::bearer(&AccessToken::new("a\r\nb: c")).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = AccessToken::new("marker-secret").expires_in(5);
        assert!(!format!("{token:?}").contains("marker"));
    }
}
