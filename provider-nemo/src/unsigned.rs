//! Unsigned tokens: what a platform in development takes anybody's word for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AccessToken, Acquired, AuthError, Lifetime, Scopes};
use serde_json::{Map, Value};

use crate::discovery::Discovery;

/// How long a token lives where nothing is said.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// Whom unsigned tokens are about.
#[derive(Clone, Debug)]
#[must_use]
pub struct Unsigned {
    pub(crate) email: String,
    pub(crate) principal_id: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) lifetime: Duration,
    pub(crate) audience: Option<String>,
    pub(crate) issuer: Option<String>,
}

impl Unsigned {
    /// Whoever has this address.
    pub fn new(email: impl Into<String>) -> Self {
        Self {
            email: email.into(),
            principal_id: None,
            groups: Vec::new(),
            lifetime: LIFETIME,
            audience: None,
            issuer: None,
        }
    }

    /// The principal's id (`sub`). Unsaid: the address.
    pub fn principal_id(mut self, id: impl Into<String>) -> Self {
        self.principal_id = Some(id.into());
        self
    }

    /// The groups that the principal is in.
    pub fn groups<S: Into<String>>(mut self, groups: impl IntoIterator<Item = S>) -> Self {
        self.groups = groups.into_iter().map(Into::into).collect();
        self
    }

    /// How long a token lives, to the second. Unsaid: an hour.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whom tokens are for (`aud`).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Who is said to have issued them (`iss`).
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// A new token.
    ///
    /// # Errors
    /// Refused if people can sign in at the platform.
    pub(crate) fn acquire(
        &self,
        platform: &Discovery,
        scopes: &Scopes,
        now: SystemTime,
    ) -> Result<Acquired, AuthError> {
        if platform.has_identity_provider() {
            return Err(platform.refused(
                "the platform has an identity provider, and takes no unsigned tokens: leave `flow` out, and log in",
            ));
        }
        let issued_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expiry = issued_at.saturating_add(self.lifetime.as_secs());
        let token = AccessToken::new(self.token(scopes, issued_at, expiry))
            .with_lifetime(Lifetime::At(UNIX_EPOCH + Duration::from_secs(expiry)));
        Ok(Acquired::token(token))
    }

    fn token(&self, scopes: &Scopes, issued_at: u64, expiry: u64) -> String {
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("sub", self.principal_id.as_ref().unwrap_or(&self.email).as_str().into());
        say("iat", issued_at.into());
        say("email", self.email.as_str().into());
        if !self.groups.is_empty() {
            say("groups", self.groups.clone().into());
        }
        if !scopes.is_empty() {
            say("scope", scopes.to_string().into());
        }
        say("exp", expiry.into());
        for (name, value) in [("aud", &self.audience), ("iss", &self.issuer)] {
            if let Some(value) = value {
                say(name, value.as_str().into());
            }
        }
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        format!(
            "{}.{}.",
            part(r#"{"alg":"none","typ":"JWT"}"#.into()),
            part(Value::Object(claims).to_string())
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(token: &str) -> Value {
        let mut parts = token.split('.');
        let mut part = || URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        assert_eq!(part(), br#"{"alg":"none","typ":"JWT"}"#);
        let claims = serde_json::from_slice(&part()).unwrap();
        assert_eq!(part(), b"", "nothing signs it");
        claims
    }

    #[test]
    fn a_token_says_what_the_platforms_own_client_lets_it_say() {
        let least = Unsigned::new("dev@example.test");
        assert_eq!(
            claims(&least.token(&Scopes::none(), 5, 3605)),
            json!({"sub": "dev@example.test", "iat": 5, "email": "dev@example.test", "exp": 3605})
        );
        let most =
            Unsigned::new("dev@example.test").principal_id("p").groups(["g", "h"]).audience("a").issuer("i");
        assert_eq!(
            claims(&most.token(&Scopes::parse("platform:read x"), 5, 6)),
            json!({
                "sub": "p", "iat": 5, "email": "dev@example.test", "groups": ["g", "h"],
                "scope": "platform:read x", "exp": 6, "aud": "a", "iss": "i",
            })
        );
    }
}
