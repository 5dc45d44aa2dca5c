//! [`Record`]: what a store keeps under one login key.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{LoginKey, StoreError, StoreErrorKind};
use crate::{
    AuthError, ErrorKind,
    login::{self, Digest, Login},
    provider::RequestKey,
    token::{Binding, Scopes},
    wire,
};

/// How many access tokens a record keeps at most: the newest.
pub const MAX_TOKENS: usize = 32;

/// What a store keeps under one login key: the login, its access tokens by request, and the last attempt.
///
/// One record has one version and one lease. A record per token would put one refresh token into many of them, and under
/// rotation two would spend it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The login, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Access tokens, newest last, at most [`MAX_TOKENS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<StoredToken>,
    /// The last attempt to renew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// When an access token was last obtained.
    #[serde(default, with = "wire::optional_time", skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<SystemTime>,
}

impl Record {
    /// A record of this login, without tokens.
    pub fn with_login(login: Login) -> Self {
        Self { login: Some(login), ..Self::default() }
    }

    /// The access token for this request.
    pub fn token(&self, request: &RequestKey) -> Option<&StoredToken> {
        self.tokens.iter().rev().find(|token| token.request == *request)
    }

    /// All access tokens, oldest first.
    pub fn tokens(&self) -> &[StoredToken] {
        &self.tokens
    }

    /// Puts an access token in the place of the one for the same request; the oldest gives way where there are too many.
    pub fn put_token(&mut self, token: StoredToken) {
        self.tokens.retain(|old| old.request != token.request);
        self.tokens.push(token);
        if self.tokens.len() > MAX_TOKENS {
            self.tokens.remove(0);
        }
    }

    /// The access tokens that have not expired, the newest first.
    pub(crate) fn good_tokens(&self, now: SystemTime) -> Vec<SecretString> {
        let good = |token: &&StoredToken| token.expires_at.is_none_or(|end| now < end);
        self.tokens.iter().rev().filter(good).map(|token| token.secret.clone()).collect()
    }

    /// Drops the tokens that this says to drop.
    pub fn retain_tokens(&mut self, keep: impl FnMut(&StoredToken) -> bool) {
        self.tokens.retain(keep);
    }

    /// The record as JSON, in memory that is wiped.
    ///
    /// # Errors
    /// Never for a record made by this crate.
    #[inline]
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        write_json(self)
    }

    /// The record that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`], without a word of the content.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        read_json(bytes)
    }

    /// A hash of the login's refresh token.
    pub(crate) fn refresh_token_hash(&self) -> Option<String> {
        self.login.as_ref().and_then(Login::refresh_token_hash)
    }

    /// About how many bytes a renewed record of this one may take: what is reserved before a refresh token is spent.
    pub(crate) fn room_for_answer(&self) -> u64 {
        /// What surrounds a secret: its times, scopes and names.
        const AROUND: usize = 1024;
        let login = self.login.iter().flat_map(|login| {
            let own = [&login.refresh_token, &login.id_token, &login.binding_key];
            own.into_iter().flatten().chain(login.fields.values())
        });
        let secrets = login.chain(self.tokens.iter().map(|token| &token.secret));
        let now: usize = secrets.map(|secret| AROUND + secret.expose_secret().len()).sum();
        (now as u64 * 2).max(32 * 1024)
    }
}

/// A record together with its key: the form for stores whose places do not show the key.
#[derive(Debug, Serialize, Deserialize)]
struct Keyed<K, R> {
    key: K,
    record: R,
}

impl Record {
    /// The record and its key as JSON, in memory that is wiped.
    ///
    /// # Errors
    /// Never for a record made by this crate.
    #[inline]
    pub fn to_keyed_bytes(&self, key: &LoginKey) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        write_json(&Keyed { key, record: self })
    }

    /// What [`to_keyed_bytes`](Self::to_keyed_bytes) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`], without a word of the content.
    #[inline]
    pub fn from_keyed_bytes(bytes: &[u8]) -> Result<(LoginKey, Self), StoreError> {
        let keyed: Keyed<LoginKey, Self> = read_json(bytes)?;
        Ok((keyed.key, keyed.record))
    }
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    let corrupt = |place: String| StoreError::new(StoreErrorKind::Corrupt, format!("no token record{place}"));
    // serde would fill a structure from a list, by position.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(corrupt(String::new()));
    }
    // serde's own message may quote the input.
    let place = |error: serde_json::Error| format!(" (line {}, column {})", error.line(), error.column());
    serde_json::from_slice(bytes).map_err(|error| corrupt(place(error)))
}

fn write_json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut buffer = wire::WipingBuffer::with_capacity(8 * 1024);
    serde_json::to_writer(&mut buffer, value).map_err(|_| {
        StoreError::new(StoreErrorKind::Unsupported, "a record that cannot be written as JSON")
    })?;
    Ok(buffer.into_inner())
}

/// An access token as it is kept: with the times that it was published with.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredToken {
    /// What it was asked for.
    pub request: RequestKey,
    /// The token.
    #[serde(with = "wire::secret")]
    pub secret: SecretString,
    /// When its request was sent.
    #[serde(with = "wire::time")]
    pub obtained_at: SystemTime,
    /// When it expires; `None` if not by time.
    #[serde(default, with = "wire::optional_time", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<SystemTime>,
    /// The server's hint when to renew it, counted from `obtained_at`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_in: Option<u64>,
    /// The granted scopes, if the server named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// What it is bound to.
    #[serde(default, skip_serializing_if = "unbound")]
    pub binding: Binding,
}

fn unbound(binding: &Binding) -> bool {
    *binding == Binding::None
}

impl StoredToken {
    /// A hash of the token, to compare by.
    pub(crate) fn digest(&self) -> Digest {
        login::digest(self.secret.expose_secret())
    }
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("request", &self.request)
            .field("obtained_at", &self.obtained_at)
            .field("expires_at", &self.expires_at)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The last attempt to renew below a login.
///
/// Written before a refresh token is spent, so that whoever finds it knows that an answer may have been lost; and after a
/// failure, so that another process does not repeat it at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// A hash of the refresh token that was spent, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<String>,
    /// What was asked for.
    #[serde(default)]
    pub request: RequestKey,
    /// When it was begun.
    #[serde(with = "wire::time")]
    pub at: SystemTime,
    /// How it ended.
    pub outcome: Outcome,
    /// The provider's [`secret_revision`](crate::CredentialProvider::secret_revision) then: with another, a failure does
    /// not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_revision: Option<u64>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Not yet: it is under way, or its end was never written (the process was killed, the answer lost).
    Pending,
    /// With a token.
    Renewed,
    /// With an error.
    Failed {
        /// [`ErrorKind::as_str`].
        kind: String,
        /// The message.
        message: String,
        /// The OAuth error code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oauth_error: Option<String>,
        /// The server's description of the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oauth_description: Option<String>,
        /// Where it came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
        /// The HTTP status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Whether it is worth repeating at all.
        #[serde(default = "yes")]
        repeatable: bool,
        /// Whether the answer may have been lost after the server rotated the refresh token.
        #[serde(default)]
        answer_lost: bool,
        /// How many failed one after another.
        #[serde(default)]
        failures: u32,
        /// When it may be tried again.
        #[serde(with = "wire::time")]
        not_before: SystemTime,
    },
}

fn yes() -> bool {
    true
}

impl Outcome {
    /// A failure as it is kept.
    pub(crate) fn failed(error: &AuthError, failures: u32, not_before: SystemTime) -> Self {
        Self::Failed {
            kind: error.kind().as_str().to_owned(),
            message: error.message().to_owned(),
            oauth_error: error.oauth_error().map(str::to_owned),
            oauth_description: error.oauth_description().map(str::to_owned),
            origin: error.origin().map(str::to_owned),
            status: error.status(),
            repeatable: error.is_repeatable(),
            answer_lost: error.is_answer_lost(),
            failures,
            not_before,
        }
    }

    /// The failure as an error, as far as it was kept, and how long after `now` it may be tried again.
    pub(crate) fn error(&self, now: SystemTime) -> Option<(AuthError, Duration)> {
        let Self::Failed {
            kind,
            message,
            oauth_error,
            oauth_description,
            origin,
            status,
            repeatable,
            answer_lost,
            not_before,
            failures: _,
        } = self
        else {
            return None;
        };
        let mut error = AuthError::new(ErrorKind::from_name(kind), message);
        if let Some(code) = oauth_error {
            error = error.with_oauth(code, oauth_description.clone());
        }
        if let Some(origin) = origin {
            error = error.with_origin(origin);
        }
        if let Some(status) = status {
            error = error.with_status(*status);
        }
        if !repeatable {
            error = error.once();
        }
        if *answer_lost {
            error = error.with_answer_lost();
        }
        Some((error, not_before.duration_since(now).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> StoredToken {
        StoredToken {
            request: RequestKey { scopes: [name.to_owned()].into(), ..RequestKey::default() },
            secret: format!("secret-{name}").into(),
            obtained_at: SystemTime::UNIX_EPOCH,
            expires_at: None,
            refresh_in: None,
            scopes: None,
            binding: Binding::None,
        }
    }

    #[test]
    fn tokens_are_bounded_and_the_oldest_gives_way() {
        let mut record = Record::default();
        for i in 0..=MAX_TOKENS {
            record.put_token(token(&i.to_string()));
        }
        record.put_token(token("1"));
        assert_eq!(record.tokens().len(), MAX_TOKENS);
        assert!(record.token(&token("0").request).is_none());
        assert_eq!(record.tokens().last().map(StoredToken::digest), Some(token("1").digest()));
    }

    #[test]
    fn a_record_survives_writing_and_reading() {
        let mut record = Record::with_login(Login::with_refresh_token("r"));
        record.put_token(token("a"));
        let error = AuthError::refused("no").with_oauth("invalid_client", None).with_status(401).once();
        record.attempt = Some(Attempt {
            spent: record.refresh_token_hash(),
            request: token("a").request,
            at: SystemTime::UNIX_EPOCH,
            outcome: Outcome::failed(&error, 3, SystemTime::UNIX_EPOCH + Duration::from_secs(5)),
            secret_revision: Some(7),
        });
        let bytes = record.to_bytes().unwrap();
        let read = Record::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let (error, wait) = read.attempt.unwrap().outcome.error(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            (error.kind(), error.status(), error.is_repeatable()),
            (ErrorKind::Refused, Some(401), false)
        );
        assert_eq!(wait, Duration::from_secs(5));
    }

    #[test]
    fn what_is_no_record_is_refused_without_quoting_it() {
        for text in ["", "[]", r#"{"login":"marker"}"#, "{\"tokens\":[{\"secret\":\"marker\"", "nul\0"] {
            let error = Record::from_bytes(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
        }
    }
}
