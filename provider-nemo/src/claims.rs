//! What an access token says of itself, where it is a JWT: read as the platform's own clients read it, and not checked. It
//! came from the token endpoint; whoever it is presented to checks it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AccessToken, Account, ExposeSecret as _, Scopes};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// The claims that matter here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    oid: Option<Value>,
    upn: Option<Value>,
    email: Option<Value>,
    preferred_username: Option<Value>,
    scp: Option<Value>,
    scope: Option<Value>,
}

impl Claims {
    /// The claims, if the token is a JWT.
    pub(crate) fn of(token: &AccessToken) -> Option<Self> {
        let mut parts = token.secret().expose_secret().split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
        serde_json::from_slice(&json).ok()
    }

    /// The scopes that were granted.
    pub(crate) fn scopes(&self) -> Scopes {
        let stated =
            [&self.scp, &self.scope].into_iter().flatten().map(scopes).find(|scopes| !scopes.is_empty());
        stated.unwrap_or_default()
    }

    /// Who it is of.
    pub(crate) fn account(&self) -> Option<Account> {
        let subject = text(&self.oid).or_else(|| text(&self.sub))?;
        let name = text(&self.upn).or_else(|| text(&self.email)).or_else(|| text(&self.preferred_username));
        Some(Account { issuer: text(&self.iss), subject, name })
    }
}

fn text(value: &Option<Value>) -> Option<String> {
    value.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A list with spaces between, or a JSON array.
fn scopes(value: &Value) -> Scopes {
    match value {
        Value::String(list) => Scopes::parse(list),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Scopes::none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(payload: &Value) -> Claims {
        Claims::of(&AccessToken::new(format!("e30.{}.x", URL_SAFE_NO_PAD.encode(payload.to_string()))))
            .unwrap()
    }

    #[test]
    fn scopes_are_read_from_either_claim_in_either_form() {
        for (payload, granted) in [
            (json!({"scp": "a:b c"}), "a:b c"),
            (json!({"scp": ["a:b", "c", 7]}), "a:b c"),
            (json!({"scope": "a:b"}), "a:b"),
            (json!({"scp": "", "scope": ["a:b"]}), "a:b"),
            (json!({"scp": "x", "scope": "y"}), "x"),
            (json!({"scp": 7}), ""),
            (json!({}), ""),
        ] {
            assert_eq!(claims(&payload).scopes().to_string(), granted, "{payload}");
        }
    }

    #[test]
    fn who_it_is_of_is_told_as_the_platforms_status_tells_it() {
        let told = |payload| claims(&payload).account().map(|account| (account.subject, account.name));
        let both = |subject: &str, name: &str| Some((subject.to_owned(), Some(name.to_owned())));
        assert_eq!(told(json!({"sub": "s", "oid": "o", "upn": "u", "email": "e"})), both("o", "u"));
        assert_eq!(told(json!({"sub": "s", "email": "e", "preferred_username": "p"})), both("s", "e"));
        assert_eq!(told(json!({"sub": "s", "preferred_username": "p"})), both("s", "p"));
        assert_eq!(told(json!({"sub": "s"})), Some(("s".into(), None)));
        assert_eq!(told(json!({"email": "e"})), None);
        for opaque in ["opaque", "a.b", "a.b.c", "a.b.c.d", ""] {
            assert!(Claims::of(&AccessToken::new(opaque)).is_none(), "{opaque}");
        }
    }
}
