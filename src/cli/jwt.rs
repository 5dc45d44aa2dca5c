//! Reads a JWT, without verifying anything.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::AuthError;
use serde_json::{Value, json};

/// The header and the claims of a JWT (RFC 7519), as JSON.
///
/// # Errors
/// [`Refused`](keyfob_auth_core::ErrorKind::Refused) if it is no JWT, or an encrypted one. The error shows nothing of it.
pub(super) fn decode(token: &str) -> Result<String, AuthError> {
    let parts: Vec<&str> = token.split('.').collect();
    match parts[..] {
        [header, claims, _] => match (part(header), part(claims)) {
            (Some(header @ Value::Object(_)), Some(claims @ Value::Object(_))) => {
                Ok(format!("{:#}", json!({ "header": header, "claims": claims })))
            }
            _ => Err(opaque()),
        },
        [header, _, _, _, _] if part(header).is_some() => Err(AuthError::refused(
            "the token is an encrypted JWT: only the server it is meant for can read it",
        )),
        _ => Err(opaque()),
    }
}

fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?).ok()
}

fn opaque() -> AuthError {
    AuthError::refused("the token is opaque, no JWT: there is nothing to decode")
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.sig", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn header_and_claims_are_shown() {
        let shown: Value =
            serde_json::from_str(&decode(&jwt(r#"{"sub":"alice","exp":1}"#)).unwrap()).unwrap();
        assert_eq!(shown, json!({ "header": { "alg": "none" }, "claims": { "sub": "alice", "exp": 1 } }));
    }

    #[test]
    fn what_is_no_jwt_is_refused_without_being_shown() {
        for odd in [
            "marker",
            "marker.marker.marker",
            "",
            "a.b",
            &jwt("[]"),
            &jwt("marker"),
            &format!("{}.x", jwt("{}")),
        ] {
            let error = decode(odd).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{odd}");
            assert!(!format!("{error:?}").contains("marker"));
        }
        let encrypted = format!("{}.a.b.c.d", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir"}"#));
        assert!(decode(&encrypted).unwrap_err().to_string().contains("encrypted"));
    }
}
