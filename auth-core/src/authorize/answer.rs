//! What an answer says about the token that came with the request.

use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, StatusCode};

use super::challenge::{HttpChallenge, challenges};
use crate::{Challenge, Scopes};

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that keyfob could do: it is the caller's.
    Nothing,
    /// Another token: this one is expired or revoked (RFC 6750 section 3.1, `invalid_token`), or so it seems.
    AnotherToken,
    /// A token that satisfies this (a claims challenge; step-up, RFC 9470).
    Satisfaction(Challenge),
    /// A new proof, with the server's nonce (RFC 9449 section 9). The token is not at fault.
    Nonce,
}

/// Whether an answer with this status says anything of the token that came with the request.
#[inline]
pub(super) fn speaks_of_the_token(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED
}

/// Reads an answer to a request that carried a token.
///
/// Only a 401 speaks of the token. One that names no error means it too: RFC 6750 section 3.1 lets a server say nothing
/// where it saw no token, and many say nothing ever. So does one with an error that nobody defined.
pub(super) fn meaning(status: StatusCode, headers: &HeaderMap) -> Meaning {
    if !speaks_of_the_token(status) {
        return Meaning::Nothing;
    }
    let said = challenges(headers).into_iter().filter(|c| c.is("Bearer") || c.is("DPoP")).map(|c| one(&c));
    // Of several challenges the most particular counts; one without an error only says which schemes there are.
    said.max_by_key(|(rank, _)| *rank).map_or(Meaning::AnotherToken, |(_, meaning)| meaning)
}

fn one(challenge: &HttpChallenge) -> (u8, Meaning) {
    let error = challenge.param("error");
    if error == Some("use_dpop_nonce") {
        return (4, Meaning::Nonce);
    }
    if let Some(demand) = demand(challenge, error) {
        return (3, Meaning::Satisfaction(demand));
    }
    match error {
        None => (0, Meaning::AnotherToken),
        Some("insufficient_scope" | "invalid_request" | "invalid_dpop_proof" | "insufficient_claims") => {
            (2, Meaning::Nothing)
        }
        Some(_) => (1, Meaning::AnotherToken),
    }
}

/// A demand on the next token, where the challenge makes one that can be read.
///
/// Azure sends `claims` with `insufficient_claims` or `invalid_token`: they are what counts.
fn demand(challenge: &HttpChallenge, error: Option<&str>) -> Option<Challenge> {
    let step_up = error == Some("insufficient_user_authentication");
    let claims = match error {
        Some("insufficient_scope" | "invalid_request") => None,
        _ => challenge.param("claims").and_then(claims),
    };
    if !step_up && claims.is_none() {
        return None;
    }
    let text = |name| challenge.param(name).filter(|value| !value.is_empty()).map(str::to_owned);
    Some(Challenge {
        error: error.map(str::to_owned),
        claims,
        acr_values: text("acr_values"),
        max_age: text("max_age").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
        scope: text("scope").map(|scope| Scopes::parse(&scope)),
    })
}

/// The claims as JSON: base64 of either alphabet, padded or not, or the JSON itself.
fn claims(text: &str) -> Option<String> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    let json = match GeneralPurpose::new(&alphabet, LENIENT).decode(text) {
        Ok(bytes) => String::from_utf8(bytes).ok()?,
        Err(_) => text.to_owned(),
    };
    json.parse::<serde_json::Value>().is_ok_and(|claims| claims.is_object()).then_some(json)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::header;

    use super::*;

    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"x":"ÿ?>~"}}"#;

    fn of(status: u16, values: &[&str]) -> Meaning {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        meaning(StatusCode::from_u16(status).unwrap(), &headers)
    }

    fn demanded(error: &str, set: impl FnOnce(&mut Challenge)) -> Meaning {
        let mut challenge = Challenge { error: Some(error.into()), ..Challenge::default() };
        set(&mut challenge);
        Meaning::Satisfaction(challenge)
    }

    #[test]
    fn rfc6750_3_1_errors_are_told_apart() {
        use Meaning::{AnotherToken, Nonce, Nothing};
        for (status, headers, expected) in [
            (401, &[][..], AnotherToken),
            (401, &["Bearer"], AnotherToken),
            (401, &[r#"Bearer realm="x""#], AnotherToken),
            (401, &[r#"Bearer error="invalid_token""#], AnotherToken),
            (401, &[r#"bearer ERROR=invalid_token"#], AnotherToken),
            (401, &[r#"Bearer error="token_expired""#], AnotherToken),
            (401, &[r#"Basic realm="x""#], AnotherToken),
            (401, &[r#"Bearer error="insufficient_scope""#], Nothing),
            (401, &[r#"Bearer error="invalid_request""#], Nothing),
            (401, &[r#"Bearer error="insufficient_claims""#], Nothing),
            (401, &[r#"Bearer error="insufficient_claims", claims="!!""#], Nothing),
            (401, &[r#"DPoP error="invalid_dpop_proof""#], Nothing),
            (401, &[r#"DPoP error="use_dpop_nonce""#], Nonce),
            (401, &[r#"DPoP error="invalid_token""#], AnotherToken),
            (403, &[r#"Bearer error="insufficient_scope", scope="x""#], Nothing),
            (403, &[r#"Bearer error="invalid_token""#], Nothing),
            (400, &[r#"Bearer error="invalid_request""#], Nothing),
            (200, &[r#"Bearer error="invalid_token""#], Nothing),
            (407, &["Bearer"], Nothing),
        ] {
            assert_eq!(of(status, headers), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn rfc6750_3_of_several_challenges_the_most_particular_counts() {
        assert_eq!(of(401, &["Bearer, DPoP error=use_dpop_nonce"]), Meaning::Nonce);
        assert_eq!(of(401, &["Bearer error=invalid_token", "DPoP error=use_dpop_nonce"]), Meaning::Nonce);
        assert_eq!(of(401, &["Bearer", "Bearer error=insufficient_scope"]), Meaning::Nothing);
        assert_eq!(of(401, &["Basic error=insufficient_scope, Bearer"]), Meaning::AnotherToken);
        assert_eq!(
            of(
                401,
                &["Bearer error=invalid_token, Bearer error=insufficient_user_authentication, acr_values=a"]
            ),
            demanded("insufficient_user_authentication", |c| c.acr_values = Some("a".into()))
        );
    }

    #[test]
    fn rfc9470_3_the_challenge_names_acr_values_and_max_age() {
        let header = r#"Bearer error="insufficient_user_authentication",
            error_description="more", acr_values="myACR other", max_age="5", scope="a b""#
            .replace('\n', " ");
        assert_eq!(
            of(401, &[&header]),
            demanded("insufficient_user_authentication", |c| {
                c.acr_values = Some("myACR other".into());
                c.max_age = Some(Duration::from_secs(5));
                c.scope = Some(Scopes::parse("a b"));
            })
        );
        let odd = r#"DPoP error="insufficient_user_authentication", max_age=-1"#;
        assert_eq!(of(401, &[odd]), demanded("insufficient_user_authentication", |_| ()));
    }

    #[test]
    fn claims_are_read_from_every_form_of_base64() {
        let claims = |c: &mut Challenge| c.claims = Some(CLAIMS.into());
        for encoded in [STANDARD.encode(CLAIMS), URL_SAFE_NO_PAD.encode(CLAIMS)] {
            let header = format!(r#"Bearer realm="", error="insufficient_claims", claims="{encoded}""#);
            assert_eq!(of(401, &[&header]), demanded("insufficient_claims", claims), "{encoded}");
        }
        assert_eq!(
            of(401, &[r#"Bearer error="insufficient_claims", claims="{\"a\":1}""#]),
            demanded("insufficient_claims", |c| c.claims = Some(r#"{"a":1}"#.into()))
        );
        let azure = format!(r#"Bearer error="invalid_token", claims="{}""#, STANDARD.encode(CLAIMS));
        assert_eq!(of(401, &[&azure]), demanded("invalid_token", claims));
        let scope = format!(r#"Bearer error="insufficient_scope", claims="{}""#, STANDARD.encode(CLAIMS));
        assert_eq!(of(401, &[&scope]), Meaning::Nothing);
        let no_object = format!(r#"Bearer error="invalid_token", claims="{}""#, STANDARD.encode("[1]"));
        assert_eq!(of(401, &[&no_object]), Meaning::AnotherToken);
    }
}
