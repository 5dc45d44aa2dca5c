//! The ID token (OpenID Connect Core 1.0 sections 2, 3.1.3.7 and 12.2): its claims.
//!
//! Its signature is checked by `jose`, with that feature. Without it the token is believed because it came straight from the
//! token endpoint over TLS, which vouches for it (section 3.1.3.7, point 6).

mod claims;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Account, AuthError};
use serde_json::{Map, Value};

pub use self::claims::{IdTokenClaims, claims_of};
use crate::json;

/// How far this machine's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);

/// What an ID token must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// Whom it may be for besides the client.
    pub(crate) audiences: &'a [String],
    pub(crate) now: SystemTime,
    /// The `nonce` that was sent.
    pub(crate) nonce: Option<&'a str>,
    /// The access token that came with it, for `at_hash`.
    pub(crate) access_token: Option<&'a str>,
    /// The authorization code that it came for, for `c_hash`.
    pub(crate) code: Option<&'a str>,
    /// The age of the sign-in that was demanded.
    pub(crate) max_age: Option<Duration>,
    /// The authentication contexts one of which was demanded; not those that were merely wished for.
    pub(crate) acr_values: Option<&'a str>,
    /// The login's ID token, where this one is to follow it.
    pub(crate) former: Option<&'a str>,
}

impl<'a> Expected<'a> {
    /// What every ID token must say.
    pub(crate) fn new(issuer: &'a str, client_id: &'a str, now: SystemTime) -> Self {
        Self {
            issuer,
            client_id,
            audiences: &[],
            now,
            nonce: None,
            access_token: None,
            code: None,
            max_age: None,
            acr_values: None,
            former: None,
        }
    }
}

/// The account that signed in.
///
/// # Errors
/// Refused if the ID token does not hold.
pub(crate) fn account_of_login(token: &str, expected: &Expected<'_>) -> Result<Account, AuthError> {
    let token = IdToken::read(token, expected)?;
    if let Some(why) = token.untimely(expected.now)? {
        return Err(refused(&format!("{why}; is this machine's clock right?")));
    }
    let claim = |name| token.claims.get(name).filter(|value| !value.is_null());
    match (expected.nonce, claim("nonce")) {
        (Some(sent), Some(Value::String(nonce))) if nonce == sent => {}
        (None, None) => {}
        (Some(_), None) => return Err(refused("it does not answer this login (no `nonce`)")),
        (Some(_), Some(_)) => return Err(refused("it answers another login (`nonce`)")),
        (None, Some(_)) => return Err(refused("it answers a login that was not made here (`nonce`)")),
    }
    if let Some(max_age) = expected.max_age {
        let Some(signed_in) = json::number(claim("auth_time")) else {
            return Err(refused("it does not say when the person signed in (`auth_time`), which was asked"));
        };
        if signed_in + (max_age.saturating_add(LEEWAY)).as_secs_f64() < seconds(expected.now) {
            return Err(refused("the person signed in longer ago than was demanded (`auth_time`)"));
        }
    }
    if let Some(demanded) = expected.acr_values
        && !json::text(claim("acr"))
            .is_some_and(|acr| demanded.split_ascii_whitespace().any(|one| one == acr))
    {
        return Err(refused(&format!(
            "the person did not sign in in a way that was demanded (`acr` is none of {demanded:?})"
        )));
    }
    Ok(token.account)
}

/// The account that a renewal answered for; `None` if the ID token is not one to replace the login's.
///
/// It must be the account of the login (OpenID Connect Core section 12.2). What else may be wrong with it is no reason to
/// throw away the refresh token that came with it: this machine's clock may be off, the person have signed in again, or the
/// token be one that cannot be read here. A warning says what it is.
///
/// # Errors
/// Refused if the ID token is of another issuer, or another account's.
pub(crate) fn account_of_renewal(
    token: &str,
    expected: &Expected<'_>,
    known: Option<&Account>,
) -> Result<Option<Account>, AuthError> {
    // Of any token whose claims can be read, whatever else is wrong with it.
    let claims = token.split('.').nth(1).and_then(decode).unwrap_or_default();
    let said = |name| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(iss) = said("iss").filter(|iss| *iss != expected.issuer) {
        return Err(other_issuer(iss));
    }
    if let Some((known, sub)) = known.zip(said("sub")) {
        let account =
            Account { issuer: Some(expected.issuer.to_owned()), subject: sub.to_owned(), name: None };
        if !known.is(&account) {
            return Err(refused("the server renewed somebody else's login (`sub`)"));
        }
    }
    match IdToken::renewing(token, expected) {
        Ok(token) => Ok(Some(token.account)),
        Err(error) => {
            tracing::warn!(%error, "the ID token of a renewal is not taken; the old one stays");
            Ok(None)
        }
    }
}

fn other_issuer(iss: &str) -> AuthError {
    refused(&format!("it is of another issuer (`iss` is {iss:?})"))
}

/// An error about an ID token.
pub(crate) fn refused(why: &str) -> AuthError {
    AuthError::refused(format!("the ID token is not accepted: {why}"))
}

/// A signed JWT (RFC 7515 section 3.1), taken apart.
pub(crate) struct Parts<'a> {
    pub(crate) header: Map<String, Value>,
    /// What is signed.
    #[cfg_attr(not(feature = "jose"), expect(dead_code, reason = "no signature is checked"))]
    pub(crate) input: &'a str,
    payload: &'a str,
    #[cfg_attr(not(feature = "jose"), expect(dead_code, reason = "no signature is checked"))]
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes an ID token apart; it must be signed, and not encrypted.
    pub(crate) fn split(token: &'a str) -> Result<Self, AuthError> {
        let encrypted = || {
            refused(
                "it is encrypted (JWE), which cannot be read here; register the client for ID tokens that are only signed",
            )
        };
        let parts: Vec<&str> = token.splitn(6, '.').collect();
        let (header, payload, signature) = match parts[..] {
            [header, payload, signature] => (header, payload, signature),
            [_, _, _, _, _] => return Err(encrypted()),
            _ => return Err(refused("it is no JWT")),
        };
        let Some(object) = decode(header) else { return Err(refused("its header cannot be read")) };
        if object.contains_key("enc") {
            return Err(encrypted());
        }
        match json::text(object.get("alg")) {
            None => return Err(refused("its header names no `alg`")),
            Some(alg) if alg.eq_ignore_ascii_case("none") => {
                return Err(refused("it is unsigned (`alg` none)"));
            }
            Some(_) => {}
        }
        if object.contains_key("crit") {
            return Err(refused("its header demands (`crit`) what this client does not know"));
        }
        let input = &token[..header.len() + 1 + payload.len()];
        Ok(Self { header: object, input, payload, signature })
    }

    fn claims(&self) -> Option<Map<String, Value>> {
        decode(self.payload)
    }
}

/// An ID token of this issuer, for this client, of these tokens; whether its time is right is not said yet.
struct IdToken {
    account: Account,
    claims: Map<String, Value>,
}

impl IdToken {
    fn read(token: &str, expected: &Expected<'_>) -> Result<Self, AuthError> {
        let parts = Parts::split(token)?;
        let Some(claims) = parts.claims() else { return Err(refused("its claims cannot be read")) };
        match claims.get("iss").and_then(Value::as_str) {
            Some(iss) if iss == expected.issuer => {}
            Some(iss) => return Err(other_issuer(iss)),
            None => return Err(refused("it names no issuer (`iss`)")),
        }
        check_audience(&claims, expected)?;
        let Some(subject) = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty()) else {
            return Err(refused("it names no subject (`sub`)"));
        };
        let alg = json::text(parts.header.get("alg")).unwrap_or_default();
        for (name, value) in [("at_hash", expected.access_token), ("c_hash", expected.code)] {
            let Some(value) = value else { continue };
            check_hash(&claims, name, alg, value)?;
        }
        let account = Account {
            issuer: Some(expected.issuer.to_owned()),
            subject: subject.to_owned(),
            name: claims::name(&claims).map(str::to_owned),
        };
        Ok(Self { account, claims })
    }

    /// One that may replace the login's.
    fn renewing(token: &str, expected: &Expected<'_>) -> Result<Self, AuthError> {
        let token = Self::read(token, expected)?;
        if let Some(why) = token.untimely(expected.now)? {
            return Err(refused(&format!("{why}; is this machine's clock right?")));
        }
        match expected.former.and_then(|former| token.differs(former)) {
            Some(claim) => Err(refused(&format!("its `{claim}` is not that of the login"))),
            None => Ok(token),
        }
    }

    /// Why it does not hold now, if it does not.
    fn untimely(&self, now: SystemTime) -> Result<Option<&'static str>, AuthError> {
        let now = seconds(now);
        let leeway = LEEWAY.as_secs_f64();
        let time = |name| json::number(self.claims.get(name));
        let Some(expires) = time("exp") else {
            return Err(refused("it does not say when it expires (`exp`)"));
        };
        let Some(issued) = time("iat") else {
            return Err(refused("it does not say when it was issued (`iat`)"));
        };
        let starts = match self.claims.get("nbf").filter(|nbf| !nbf.is_null()) {
            Some(_) => time("nbf")
                .ok_or_else(|| refused("it does not say readably from when it is valid (`nbf`)"))?,
            None => issued,
        };
        Ok(if expires + leeway <= now {
            Some("it has expired (`exp`)")
        } else if issued - leeway > now {
            Some("it was issued in the future (`iat`)")
        } else if starts - leeway > now {
            Some("it is not valid yet (`nbf`)")
        } else {
            None
        })
    }

    /// The claim that must be as in the ID token of the login, and is not (OpenID Connect Core section 12.2).
    fn differs(&self, former: &str) -> Option<&'static str> {
        let former = Parts::split(former).ok()?.claims()?;
        let [new, old] = [&self.claims, &former].map(audiences);
        if new.len() != old.len() || !new.iter().all(|audience| old.contains(audience)) {
            return Some("aud");
        }
        ["auth_time", "nonce"].into_iter().find(|name| {
            let claim =
                |claims: &Map<String, Value>| claims.get(*name).filter(|value| !value.is_null()).cloned();
            claim(&self.claims).zip(claim(&former)).is_some_and(|(new, old)| new != old)
        })
    }
}

/// Whom it is for.
fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn check_audience(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), AuthError> {
    let client_id = expected.client_id;
    let audiences = audiences(claims);
    if !audiences.contains(&client_id) {
        return Err(refused("it is not for this client (`aud`)"));
    }
    let known = |aud: &str| aud == client_id || expected.audiences.iter().any(|known| known == aud);
    if let Some(stranger) = audiences.iter().find(|aud| !known(aud)) {
        return Err(refused(&format!(
            "it is for {stranger:?} too (`aud`), which is not known here; `id_token_audiences` names whom it may be for"
        )));
    }
    match claims.get("azp").filter(|azp| !azp.is_null()) {
        Some(Value::String(azp)) if azp == client_id => Ok(()),
        Some(_) => Err(refused("it was issued to another client (`azp`)")),
        None if audiences.iter().any(|aud| *aud != client_id) => {
            Err(refused("it is for other audiences too and does not say to whom it was issued (`azp`)"))
        }
        None => Ok(()),
    }
}

/// Checks the hash of what came with the token, if it has one (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11).
fn check_hash(claims: &Map<String, Value>, name: &str, alg: &str, value: &str) -> Result<(), AuthError> {
    let Some(claimed) = claims.get(name).filter(|hash| !hash.is_null()) else { return Ok(()) };
    match half_hash(alg, value.as_bytes()) {
        Some(hash) if claimed.as_str() != Some(hash.as_str()) => {
            Err(refused(&format!("it came with another token or code than it was made for (`{name}`)")))
        }
        _ => Ok(()),
    }
}

/// The left half of the hash that the algorithm goes with; `None` for an algorithm that is not known.
fn half_hash(alg: &str, value: &[u8]) -> Option<String> {
    let half = |hash: &[u8]| URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]);
    match alg.get(alg.len().saturating_sub(3)..) {
        Some("256") => Some(half(&hmac_sha256::Hash::hash(value))),
        #[cfg(feature = "jose")]
        Some("384") => Some(half(&openssl::sha::sha384(value))),
        // Ed25519 hashes by SHA-512 within.
        #[cfg(feature = "jose")]
        Some("512" | "DSA") => Some(half(&openssl::sha::sha512(value))),
        _ => None,
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn decode(part: &str) -> Option<Map<String, Value>> {
    json::object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}
