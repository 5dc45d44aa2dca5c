//! What an answer says went wrong (RFC 6749 section 5.2), and what that means for who asked.

use keyfob_auth_core::{AuthError, Challenge, ErrorKind};
use serde_json::Value;

use crate::{
    http::Reply,
    json::{self, Members},
};

/// The longest error code and description that are kept of an answer.
const LONGEST: usize = 1000;

/// What was asked for, as far as errors depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// The beginning of the message: `the refresh`.
    pub(crate) what: &'a str,
    /// Whether the login's own refresh token was sent, so that `invalid_grant` is a verdict on the login.
    pub(crate) spends_login: bool,
    /// The challenge that the request was to satisfy.
    pub(crate) challenge: Option<&'a Challenge>,
}

/// The error in an answer, if it is one: by its member `error`, whatever the status, else by its status.
pub(crate) fn error_in(reply: &Reply, asked: &Asked<'_>) -> Option<AuthError> {
    let members = Members::read(&reply.body, &["error", "error_description", "error_uri", "claims"]);
    let Some(members) = members.filter(|members| members.get("error").is_some_and(is_said)) else {
        return (!reply.is_success()).then(|| reply.bare_error(asked.what));
    };
    let Some(code) = json::text(members.get("error")) else {
        // Something of the server's own making: only the status is left to go by.
        return Some(reply.bare_error(asked.what));
    };
    let code = shortened(code);
    let kind = kind_of(&code, reply, asked);
    let what = asked.what;
    let message = match kind {
        ErrorKind::LoginRejected => format!("{what}: the server no longer accepts the refresh token"),
        ErrorKind::Transient => format!("{what}: the server cannot do it now"),
        ErrorKind::InteractionRequired => format!("{what}: the server wants a person to sign in again"),
        _ => format!("{what} was refused"),
    };
    let description = json::text(members.get("error_description")).map(shortened);
    let mut error = reply.error(AuthError::new(kind, message)).with_oauth(code.clone(), description);
    if let Some(page) = json::text(members.get("error_uri")).and_then(page) {
        error = error.with_oauth_uri(page);
    }
    if kind == ErrorKind::InteractionRequired {
        // `claims`: what a claims challenge of the token endpoint demands of the next sign-in (Microsoft).
        let mut challenge = asked.challenge.cloned().unwrap_or_default();
        challenge.error = challenge.error.or(Some(code));
        challenge.claims = json::text(members.get("claims")).map(str::to_owned).or(challenge.claims);
        error = error.with_challenge(challenge);
    }
    match reply.retry_after {
        // A pending device login is no failure, and has a pace all the same.
        Some(after)
            if kind == ErrorKind::Transient || error.oauth_error() == Some("authorization_pending") =>
        {
            Some(error.with_retry_after(after))
        }
        _ => Some(error),
    }
}

/// Whether an answer is an error, by its member `error` or its status.
pub(crate) fn is_error(reply: &Reply) -> bool {
    let said = || Members::read(&reply.body, &["error"])?.get("error").map(is_said);
    !reply.is_success() || said() == Some(true)
}

/// The OAuth error code of an answer, if it has one.
pub(crate) fn code_of(reply: &Reply) -> Option<String> {
    let members = Members::read(&reply.body, &["error"])?;
    json::text(members.get("error")).map(shortened)
}

fn kind_of(code: &str, reply: &Reply, asked: &Asked<'_>) -> ErrorKind {
    // An overloaded server's word is no verdict.
    if reply.is_overload() {
        return ErrorKind::Transient;
    }
    match code {
        "invalid_grant" if asked.spends_login => ErrorKind::LoginRejected,
        code => kind_of_code(code),
    }
}

/// What a code means wherever it is said: by an endpoint, or by a person's browser.
pub(crate) fn kind_of_code(code: &str) -> ErrorKind {
    match code {
        "temporarily_unavailable" | "server_error" | "slow_down" => ErrorKind::Transient,
        // OpenID Connect Core section 3.1.2.6, and "Unmet Authentication Requirements".
        "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required"
        | "unmet_authentication_requirements" => ErrorKind::InteractionRequired,
        _ => ErrorKind::Refused,
    }
}

/// Whether a member says something: some servers send `"error": null` or `""` with a success.
fn is_said(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
        && value.as_str().is_none_or(|text| !text.trim().is_empty())
}

/// What an error names as the page about it (`error_uri`, RFC 6749 section 5.2), if that can be shown to a person. It is not
/// shortened: a part of it would lead elsewhere.
pub(crate) fn page(text: &str) -> Option<String> {
    let allowed = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    json::web_url(text).filter(|url| url.len() <= LONGEST && url.bytes().all(allowed))
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use ErrorKind::{InteractionRequired, LoginRejected, Refused, Transient};
    use zeroize::Zeroizing;

    use super::*;

    pub(crate) fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            headers: reqwest::header::HeaderMap::new(),
            retry_after: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
            origin: "https://idp.example/token".into(),
        }
    }

    const REFRESH: Asked<'_> = Asked { what: "the refresh", spends_login: true, challenge: None };
    const GRANT: Asked<'_> = Asked { what: "the request", spends_login: false, challenge: None };

    fn kind(asked: &Asked<'_>, status: u16, body: &str) -> Option<ErrorKind> {
        error_in(&reply(status, body), asked).map(|error| {
            assert_eq!(error.status(), Some(status));
            assert!(error.to_string().contains(&format!("(HTTP {status})")), "{error}");
            assert_eq!(error.origin(), Some("https://idp.example/token"));
            error.kind()
        })
    }

    #[test]
    fn rfc6749_5_2_the_error_member_is_read_before_the_status() {
        for (status, body, on_refresh, elsewhere) in [
            (400, r#"{"error":"invalid_grant"}"#, Some(LoginRejected), Some(Refused)),
            (401, r#"{"error":"invalid_grant"}"#, Some(LoginRejected), Some(Refused)),
            (200, r#"{"error":"invalid_grant"}"#, Some(LoginRejected), Some(Refused)),
            (400, r#"{"error":" invalid_grant "}"#, Some(LoginRejected), Some(Refused)),
            (429, r#"{"error":"invalid_grant"}"#, Some(Transient), Some(Transient)),
            (500, r#"{"error":"invalid_grant"}"#, Some(Transient), Some(Transient)),
            (503, r#"{"error":"invalid_grant"}"#, Some(Transient), Some(Transient)),
            (400, r#"{"error":"Invalid_Grant"}"#, Some(Refused), Some(Refused)),
            (401, r#"{"error":"invalid_client"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"unauthorized_client"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"invalid_scope"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"invalid_target"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"invalid_request"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"unsupported_grant_type"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"never_heard_of_it"}"#, Some(Refused), Some(Refused)),
            (400, r#"{"error":"temporarily_unavailable"}"#, Some(Transient), Some(Transient)),
            (200, r#"{"error":"server_error"}"#, Some(Transient), Some(Transient)),
            (400, r#"{"error":"slow_down"}"#, Some(Transient), Some(Transient)),
            (
                400,
                r#"{"error":"interaction_required"}"#,
                Some(InteractionRequired),
                Some(InteractionRequired),
            ),
            (400, r#"{"error":"login_required"}"#, Some(InteractionRequired), Some(InteractionRequired)),
            (400, r#"{"error":"consent_required"}"#, Some(InteractionRequired), Some(InteractionRequired)),
            // The error is no text, or says nothing.
            (400, r#"{"error":{"code":400}}"#, Some(Refused), Some(Refused)),
            (200, r#"{"error":true}"#, Some(Refused), Some(Refused)),
            (503, r#"{"error":["invalid_grant"]}"#, Some(Transient), Some(Transient)),
            (200, r#"{"error":null,"access_token":"a"}"#, None, None),
            (200, r#"{"error":"","access_token":"a"}"#, None, None),
            (400, r#"{"error":""}"#, Some(Refused), Some(Refused)),
            // No JSON: only the status is left. That is never a verdict on the refresh token.
            (400, "", Some(Refused), Some(Refused)),
            (400, "<html>invalid_grant</html>", Some(Refused), Some(Refused)),
            (400, r#"["invalid_grant"]"#, Some(Refused), Some(Refused)),
            (401, "", Some(Refused), Some(Refused)),
            (403, "no", Some(Refused), Some(Refused)),
            (404, "", Some(Refused), Some(Refused)),
            (302, "", Some(Refused), Some(Refused)),
            (408, "", Some(Transient), Some(Transient)),
            (429, "", Some(Transient), Some(Transient)),
            (500, "oops", Some(Transient), Some(Transient)),
            (502, "<html></html>", Some(Transient), Some(Transient)),
            (503, "", Some(Transient), Some(Transient)),
            (504, "", Some(Transient), Some(Transient)),
            (200, "", None, None),
            (204, "", None, None),
            (200, "{}", None, None),
        ] {
            assert_eq!(kind(&REFRESH, status, body), on_refresh, "refresh: {status} {body}");
            assert_eq!(kind(&GRANT, status, body), elsewhere, "elsewhere: {status} {body}");
        }
    }

    #[test]
    fn rfc6749_5_2_code_description_and_uri_are_kept_and_bounded() {
        let long = "x".repeat(100_000);
        let body = format!(r#"{{"error":"invalid_client","error_description":"{long}"}}"#);
        let error = error_in(&reply(401, &body), &GRANT).unwrap();
        assert_eq!(error.oauth_error(), Some("invalid_client"));
        assert_eq!(error.oauth_description().map(str::len), Some(LONGEST));
        let error =
            error_in(&reply(401, r#"{"error":"invalid_client","error_description":7}"#), &GRANT).unwrap();
        assert_eq!(error.oauth_description(), None);

        let page = "https://idp.example/errors?code=invalid_client";
        for (uri, kept) in [
            (page, Some(page)),
            ("http://idp.example/errors", Some("http://idp.example/errors")),
            ("javascript:alert(1)", None),
            ("/errors", None),
            ("https://idp.example/\\u001b[2J", None),
            ("https://idp.example/two words", None),
            (&format!("https://idp.example/{long}"), None),
            ("", None),
        ] {
            let body = format!(r#"{{"error":"invalid_client","error_uri":"{uri}"}}"#);
            let error = error_in(&reply(401, &body), &GRANT).unwrap();
            assert_eq!(
                (error.oauth_error(), error.oauth_uri()),
                (Some("invalid_client"), kept),
                "{uri:.100}"
            );
        }
        let error = error_in(&reply(400, r#"{"error":"invalid_client","error_uri":7}"#), &GRANT).unwrap();
        assert_eq!(error.oauth_uri(), None);
    }

    #[test]
    fn retry_after_goes_with_transient_errors() {
        let after = |status, body| {
            let reply = Reply { retry_after: Some(Duration::from_secs(7)), ..reply(status, body) };
            error_in(&reply, &GRANT).and_then(|error| error.retry_after())
        };
        assert_eq!(after(429, ""), Some(Duration::from_secs(7)));
        assert_eq!(after(503, r#"{"error":"temporarily_unavailable"}"#), Some(Duration::from_secs(7)));
        assert_eq!(after(400, r#"{"error":"authorization_pending"}"#), Some(Duration::from_secs(7)));
        assert_eq!(after(400, r#"{"error":"invalid_client"}"#), None);
    }

    #[test]
    fn a_demand_for_a_person_carries_the_challenge() {
        let mut challenge = Challenge::default();
        challenge.claims = Some("{\"a\":1}".into());
        let asked = Asked { challenge: Some(&challenge), ..REFRESH };
        let error = error_in(&reply(400, r#"{"error":"interaction_required"}"#), &asked).unwrap();
        assert_eq!(error.challenge().and_then(|c| c.claims.as_deref()), Some("{\"a\":1}"));
        assert_eq!(error.challenge().and_then(|c| c.error.as_deref()), Some("interaction_required"));
        let error = error_in(&reply(400, r#"{"error":"interaction_required","claims":"{\"b\":2}"}"#), &asked)
            .unwrap();
        assert_eq!(error.challenge().and_then(|c| c.claims.as_deref()), Some("{\"b\":2}"));
    }
}
