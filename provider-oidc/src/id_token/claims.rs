//! [`IdTokenClaims`]: what an ID token says of the person.

use std::fmt;

use keyfob_auth_core::{ExposeSecret as _, Login};
use serde_json::{Map, Value};

use super::Parts;
use crate::json;

/// What the ID token of a login says of the person who signed in (OpenID Connect Core section 5.1).
///
/// It is what the server said at the sign-in, or at the last renewal that brought an ID token. `Debug` shows the names of
/// the claims alone.
#[derive(Clone, PartialEq)]
pub struct IdTokenClaims(Map<String, Value>);

/// The claims of the login's ID token; `None` if it has none.
///
/// The token was checked when it came. It may have expired since: that ends no login.
pub fn claims_of(login: &Login) -> Option<IdTokenClaims> {
    let token = login.id_token.as_ref()?;
    Parts::split(token.expose_secret()).ok()?.claims().map(IdTokenClaims)
}

impl IdTokenClaims {
    /// The claim of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All claims.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The person's id at the issuer (`sub`): with the issuer, the only claim that stands for one person for ever.
    pub fn subject(&self) -> Option<&str> {
        json::text(self.get("sub"))
    }

    /// A name to show: `preferred_username`, `upn`, `email` or `name`, the first that there is.
    pub fn name(&self) -> Option<&str> {
        name(&self.0)
    }

    /// The e-mail address (`email`). Whether the server has verified it says the claim `email_verified`.
    pub fn email(&self) -> Option<&str> {
        json::text(self.get("email"))
    }

    /// The groups (`groups`), where the server is set up to tell them.
    pub fn groups(&self) -> Vec<&str> {
        match self.get("groups") {
            Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
            one => json::text(one).into_iter().collect(),
        }
    }
}

impl fmt::Debug for IdTokenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The name that a person would know.
pub(super) fn name(claims: &Map<String, Value>) -> Option<&str> {
    ["preferred_username", "upn", "email", "name"].into_iter().find_map(|name| json::text(claims.get(name)))
}
