//! The ID token, as it comes straight from the token endpoint (OpenID Connect Core 1.0 sections 2 and 3.1.3.7).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Account, AuthError};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::json;

/// How far this machine's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);

/// What an ID token must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) now: SystemTime,
}

/// Whom an ID token names, once its claims are checked.
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) account: Account,
    /// Whether it is past its `exp`, so that only what is known already can be compared with it.
    pub(crate) expired: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    azp: Option<Value>,
    exp: Option<Value>,
    preferred_username: Option<Value>,
    upn: Option<Value>,
    email: Option<Value>,
    name: Option<Value>,
}

/// Reads an ID token and checks `iss`, `aud`, `azp`, `sub` and `exp`.
///
/// Its signature is not checked: it came from the token endpoint over TLS, which vouches for it (OpenID Connect Core
/// section 3.1.3.7, point 6).
pub(crate) fn read(token: &str, expected: &Expected<'_>) -> Result<Checked, AuthError> {
    let refuse = |why: &str| Err(AuthError::refused(format!("the ID token is not accepted: {why}")));
    let parts: Vec<&str> = token.splitn(6, '.').collect();
    let (header, payload) = match parts[..] {
        [header, payload, _] => (header, payload),
        [_, _, _, _, _] => return refuse("it is encrypted (JWE), which this client is not set up for"),
        _ => return refuse("it is no JWT"),
    };
    let Some(header) = decode::<Map<String, Value>>(header) else {
        return refuse("its header cannot be read");
    };
    if header.contains_key("enc") {
        return refuse("it is encrypted (JWE), which this client is not set up for");
    }
    match json::text(header.get("alg")) {
        None => return refuse("its header names no `alg`"),
        Some(alg) if alg.eq_ignore_ascii_case("none") => return refuse("it is unsigned (`alg` none)"),
        Some(_) => {}
    }
    if header.contains_key("crit") {
        return refuse("its header demands (`crit`) what this client does not know");
    }
    let Some(claims) = decode::<Claims>(payload) else { return refuse("its claims cannot be read") };

    match claims.iss.as_ref().and_then(Value::as_str) {
        Some(iss) if iss == expected.issuer => {}
        Some(iss) => return refuse(&format!("it is of another issuer (`iss` is {iss:?})")),
        None => return refuse("it names no issuer (`iss`)"),
    }
    let audiences: Vec<&str> = match &claims.aud {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&expected.client_id) {
        return refuse("it is not for this client (`aud`)");
    }
    match &claims.azp {
        Some(Value::String(azp)) if azp == expected.client_id => {}
        Some(_) => return refuse("it was issued to another client (`azp`)"),
        None if audiences.iter().any(|aud| *aud != expected.client_id) => {
            return refuse("it is for other audiences too and does not say to whom it was issued (`azp`)");
        }
        None => {}
    }
    let Some(subject) = claims.sub.as_ref().and_then(Value::as_str).filter(|sub| !sub.is_empty()) else {
        return refuse("it names no subject (`sub`)");
    };
    let Some(exp) = json::number(claims.exp.as_ref()) else {
        return refuse("it does not say when it expires (`exp`)");
    };
    let now = expected.now.duration_since(UNIX_EPOCH).unwrap_or_default();

    let names = [&claims.preferred_username, &claims.upn, &claims.email, &claims.name];
    let name = names.into_iter().find_map(|claim| json::text(claim.as_ref()));
    Ok(Checked {
        account: Account {
            issuer: Some(expected.issuer.to_owned()),
            subject: subject.to_owned(),
            name: name.map(str::to_owned),
        },
        expired: exp + LEEWAY.as_secs_f64() <= now.as_secs_f64(),
    })
}

/// The account that signed in.
///
/// # Errors
/// Refused if the ID token does not hold, `exp` included.
pub(crate) fn account_of_login(token: &str, expected: &Expected<'_>) -> Result<Account, AuthError> {
    let checked = read(token, expected)?;
    if checked.expired {
        return Err(AuthError::refused(
            "the ID token is not accepted: it has expired (`exp`); is this machine's clock right?",
        ));
    }
    Ok(checked.account)
}

/// The account that a renewal answered for; `None` if the ID token is not fresh enough to replace anything.
///
/// It must be the account of the login (OpenID Connect Core section 12.2). An expired one is no reason to throw away the
/// refresh token that came with it: this machine's clock may be ahead.
///
/// # Errors
/// Refused if the ID token does not hold, or is another account's.
pub(crate) fn account_of_renewal(
    token: &str,
    expected: &Expected<'_>,
    known: Option<&Account>,
) -> Result<Option<Account>, AuthError> {
    let checked = read(token, expected)?;
    if known.is_some_and(|known| !known.is(&checked.account)) {
        return Err(AuthError::refused("the server renewed somebody else's login (`sub` of the ID token)"));
    }
    if checked.expired {
        tracing::warn!("the ID token of a renewal has expired already; is this machine's clock right?");
        return Ok(None);
    }
    Ok(Some(checked.account))
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    json::object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://idp.example";
    const NOW: u64 = 1_800_000_000;

    fn expected() -> Expected<'static> {
        Expected { issuer: ISSUER, client_id: "client", now: UNIX_EPOCH + Duration::from_secs(NOW) }
    }

    fn jwt(header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn claims() -> Value {
        json!({"iss": ISSUER, "sub": "1", "aud": "client", "exp": NOW + 300, "preferred_username": "alice"})
    }

    /// The token with these claims changed; null removes one.
    fn with(changes: &Value) -> String {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        jwt(&json!({"alg": "RS256"}), &claims)
    }

    fn accepted(token: &str) -> Account {
        account_of_login(token, &expected()).unwrap()
    }

    #[track_caller]
    fn refused(token: &str, why: &str) {
        let error = account_of_login(token, &expected()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_valid_id_token_names_the_account() {
        let account = accepted(&with(&json!({})));
        assert_eq!(account.issuer.as_deref(), Some(ISSUER));
        assert_eq!((account.subject.as_str(), account.name.as_deref()), ("1", Some("alice")));
    }

    #[test]
    fn the_name_is_the_first_that_a_person_would_know() {
        for (changes, name) in [
            (json!({"email": "a@x", "name": "Alice A."}), Some("alice")),
            (json!({"preferred_username": "", "email": "a@x"}), Some("a@x")),
            (json!({"preferred_username": 7, "name": "Alice A."}), Some("Alice A.")),
            (json!({"preferred_username": null}), None),
        ] {
            assert_eq!(accepted(&with(&changes)).name.as_deref(), name, "{changes}");
        }
    }

    #[test]
    fn invalid_iss() {
        refused(&with(&json!({"iss": "https://idp.example/"})), "`iss`");
        refused(&with(&json!({"iss": "https://other.example"})), "`iss`");
        refused(&with(&json!({"iss": null})), "`iss`");
        refused(&with(&json!({"iss": [ISSUER]})), "`iss`");
    }

    #[test]
    fn missing_sub() {
        refused(&with(&json!({"sub": null})), "`sub`");
        refused(&with(&json!({"sub": ""})), "`sub`");
        refused(&with(&json!({"sub": 1})), "`sub`");
    }

    #[test]
    fn invalid_aud() {
        refused(&with(&json!({"aud": "other"})), "`aud`");
        refused(&with(&json!({"aud": []})), "`aud`");
        refused(&with(&json!({"aud": null})), "`aud`");
        refused(&with(&json!({"aud": ["other"], "azp": "client"})), "`aud`");
        refused(&with(&json!({"aud": {"client": true}})), "`aud`");
    }

    #[test]
    fn invalid_secondary_aud() {
        refused(&with(&json!({"aud": ["client", "other"]})), "`azp`");
        accepted(&with(&json!({"aud": ["client", "other"], "azp": "client"})));
        accepted(&with(&json!({"aud": ["client"]})));
        accepted(&with(&json!({"aud": ["client", "client"]})));
    }

    #[test]
    fn invalid_azp() {
        refused(&with(&json!({"azp": "other"})), "`azp`");
        refused(&with(&json!({"aud": ["client", "other"], "azp": "other"})), "`azp`");
        refused(&with(&json!({"azp": 7})), "`azp`");
        accepted(&with(&json!({"azp": "client"})));
    }

    #[test]
    fn expired_exp() {
        refused(&with(&json!({"exp": NOW - 60})), "`exp`");
        refused(&with(&json!({"exp": 0})), "`exp`");
        refused(&with(&json!({"exp": null})), "`exp`");
        refused(&with(&json!({"exp": "tomorrow"})), "`exp`");
        accepted(&with(&json!({"exp": NOW - 59})));
        accepted(&with(&json!({"exp": NOW as f64 + 0.5})));
        accepted(&with(&json!({"exp": 1e300})));
    }

    #[test]
    fn alg_none() {
        for alg in [json!("none"), json!("None"), json!(null), json!("")] {
            refused(&jwt(&json!({"alg": alg}), &claims()), "`alg`");
        }
    }

    #[test]
    fn unknown_crit() {
        refused(&jwt(&json!({"alg": "RS256", "crit": ["x"]}), &claims()), "`crit`");
    }

    #[test]
    fn encrypted_jwe() {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM"}).to_string());
        refused(&format!("{header}.a2V5.aXY.Y2lwaGVy.dGFn"), "JWE");
        refused(&jwt(&json!({"alg": "dir", "enc": "A256GCM"}), &claims()), "JWE");
    }

    #[test]
    fn malformed_jwt() {
        for token in ["", ".", "..", "a.b.c", "not a token", "e30.e30", "W10.W10.x", "e30.e30.e30.e30"] {
            assert!(account_of_login(token, &expected()).is_err(), "{token:?}");
        }
        let good = with(&json!({}));
        assert!(account_of_login(&format!("{good}.x"), &expected()).is_err());
        assert!(account_of_login(&good.replace('.', ". "), &expected()).is_err());
    }

    #[test]
    fn invalid_sub_on_refresh() {
        let account = |subject: &str| Account { subject: subject.into(), ..Account::default() };
        let token = with(&json!({}));
        assert!(account_of_renewal(&token, &expected(), None).unwrap().is_some());
        assert!(account_of_renewal(&token, &expected(), Some(&account("1"))).unwrap().is_some());
        assert!(account_of_renewal(&token, &expected(), Some(&account("2"))).is_err());
        let elsewhere = Account { issuer: Some("https://other.example".into()), ..account("1") };
        assert!(account_of_renewal(&token, &expected(), Some(&elsewhere)).is_err());
    }

    #[test]
    fn an_expired_id_token_loses_no_renewal() {
        let token = with(&json!({"exp": NOW - 1000}));
        assert_eq!(account_of_renewal(&token, &expected(), None).unwrap(), None);
        let other = Account { subject: "2".into(), ..Account::default() };
        assert!(
            account_of_renewal(&token, &expected(), Some(&other)).is_err(),
            "its subject counts all the same"
        );
    }
}
