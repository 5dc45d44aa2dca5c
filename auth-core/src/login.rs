//! [`Login`]: what a sign-in leaves behind.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    token::{AccessToken, Scopes},
    wire,
};

/// Who signed in, as the provider told.
///
/// Compared by [`Account::is`] when a renewal answers: it may not turn into somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who issued the identity (the ID token's `iss`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The subject there (`sub`): stable, and often no name that a person would know.
    pub subject: String,
    /// The name to show: `preferred_username`, `email` or `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Account {
    /// Whether the two are the same person: equal subjects, and equal issuers where both are known.
    pub fn is(&self, other: &Self) -> bool {
        self.subject == other.subject
            && (self.issuer.is_none() || other.issuer.is_none() || self.issuer == other.issuer)
    }

    /// The name to show, else the subject.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.subject)
    }
}

/// What a sign-in leaves behind: access tokens hang below it.
///
/// Client credentials leave none; with DPoP, one that holds only the key.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Login {
    /// The refresh token (RFC 6749 section 1.5).
    #[serde(default, with = "wire::optional_secret", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretString>,
    /// Whether the refresh token is known to be reusable. Unless it is, the engine takes it for one that rotates: spends
    /// it under the store's lease only, and never twice.
    #[serde(default)]
    pub reusable: bool,
    /// When the refresh token expires, if the server said.
    #[serde(default, with = "wire::optional_time", skip_serializing_if = "Option::is_none")]
    pub refresh_expires_at: Option<SystemTime>,
    /// Who signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The ID token (OpenID Connect Core section 2), as received.
    #[serde(default, with = "wire::optional_secret", skip_serializing_if = "Option::is_none")]
    pub id_token: Option<SecretString>,
    /// The scopes granted at sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// The private key that the tokens are bound to (DPoP), as the provider writes it.
    #[serde(default, with = "wire::optional_secret", skip_serializing_if = "Option::is_none")]
    pub binding_key: Option<SecretString>,
    /// Fields of the product's own. Values may be secret.
    #[serde(default, with = "wire::secret_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, SecretString>,
}

impl Login {
    /// A login with a refresh token that may rotate.
    pub fn with_refresh_token(token: impl Into<SecretString>) -> Self {
        Self { refresh_token: Some(token.into()), ..Self::default() }
    }

    /// This login after a renewal: what the answer left out stays as it was, its refresh token above all
    /// (RFC 6749 section 6).
    #[must_use]
    pub fn renewed_by(&self, answer: Self) -> Self {
        let rotated =
            answer.refresh_token.is_some() && answer.refresh_token_hash() != self.refresh_token_hash();
        let mut fields = self.fields.clone();
        fields.extend(answer.fields);
        Self {
            reusable: if rotated { answer.reusable } else { self.reusable || answer.reusable },
            refresh_expires_at: answer.refresh_expires_at.or(if rotated {
                None
            } else {
                self.refresh_expires_at
            }),
            refresh_token: answer.refresh_token.or_else(|| self.refresh_token.clone()),
            account: match (&self.account, answer.account) {
                // A renewal's ID token often carries fewer claims.
                (Some(old), Some(new)) => Some(Account {
                    issuer: new.issuer.or_else(|| old.issuer.clone()),
                    subject: new.subject,
                    name: new.name.or_else(|| old.name.clone()),
                }),
                (old, new) => new.or_else(|| old.clone()),
            },
            id_token: answer.id_token.or_else(|| self.id_token.clone()),
            scopes: answer.scopes.or_else(|| self.scopes.clone()),
            binding_key: answer.binding_key.or_else(|| self.binding_key.clone()),
            fields,
        }
    }

    /// A hash of the refresh token, to tell which one an attempt spent without keeping it.
    pub fn refresh_token_hash(&self) -> Option<String> {
        self.refresh_token.as_ref().map(|token| fingerprint(token.expose_secret()))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("account", &self.account)
            .field("scopes", &self.scopes)
            .field("refreshable", &self.refresh_token.is_some())
            .field("reusable", &self.reusable)
            .field("refresh_expires_at", &self.refresh_expires_at)
            .field("bound", &self.binding_key.is_some())
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What an exchange brought: an access token and, where there is one, the login it hangs below.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// The access token.
    pub access: AccessToken,
    /// The login: new or renewed. `None` where the grant leaves none, and where it stayed as it was.
    pub login: Option<Login>,
}

impl Acquired {
    /// An access token without a login.
    pub fn token(access: AccessToken) -> Self {
        Self { access, login: None }
    }

    /// An access token and the login it hangs below.
    pub fn with_login(access: AccessToken, login: Login) -> Self {
        Self { access, login: Some(login) }
    }
}

/// SHA-256: tells two secrets apart without keeping either.
pub(crate) type Digest = [u8; 32];

pub(crate) fn digest(secret: &str) -> Digest {
    hmac_sha256::Hash::hash(secret.as_bytes())
}

/// The [`digest`] in lower-case hexadecimal, as records have it.
pub(crate) fn fingerprint(secret: &str) -> String {
    hex(&digest(secret))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_6_a_renewal_without_a_refresh_token_keeps_the_old_one() {
        let old = Login { reusable: true, ..Login::with_refresh_token("r1") };
        let new = old.renewed_by(Login::default());
        assert_eq!(new.refresh_token_hash(), old.refresh_token_hash());
        assert!(new.reusable);
    }

    #[test]
    fn a_rotated_token_forgets_what_was_said_of_the_old_one() {
        let old = Login {
            reusable: true,
            refresh_expires_at: Some(SystemTime::UNIX_EPOCH),
            account: Some(Account { name: Some("alice".into()), subject: "1".into(), issuer: None }),
            ..Login::with_refresh_token("r1")
        };
        let answer = Login {
            account: Some(Account { subject: "1".into(), ..Account::default() }),
            ..Login::with_refresh_token("r2")
        };
        let new = old.renewed_by(answer);
        assert_eq!(new.refresh_token_hash(), Some(fingerprint("r2")));
        assert!(!new.reusable && new.refresh_expires_at.is_none());
        assert_eq!(new.account.and_then(|a| a.name).as_deref(), Some("alice"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut login = Login::with_refresh_token("marker-1");
        login.id_token = Some("marker-2".to_owned().into());
        login.binding_key = Some("marker-3".to_owned().into());
        login.fields.insert("x".into(), "marker-4".to_owned().into());
        assert!(!format!("{login:?}").contains("marker"));
    }
}
