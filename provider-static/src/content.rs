//! From what a source holds to an access token: plain text, a member of a JSON object, or kubectl's exec credential.

use std::time::{Duration, SystemTime};

use keyfob_auth_core::{
    AccessToken, AuthError, ExposeSecret as _, Lifetime, SecretString, jwt_expiry, registry::SecretSource,
};
use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::json::{Member, Members};

/// How long a file's content is served before the file is read again.
pub(crate) const REREAD: Duration = Duration::from_secs(10);

/// How long a token of such a source serves, where the token itself does not end sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// For ever: there will be no other.
    ForEver,
    /// Until the source is read again, which costs nothing.
    UntilReread,
    /// As long as nobody says, and then the source is asked again.
    AsIsUsual,
}

impl Serves {
    pub(crate) fn of(source: &SecretSource) -> Self {
        match source {
            SecretSource::Literal(_) | SecretSource::Env(_) => Self::ForEver,
            SecretSource::File(_) => Self::UntilReread,
            SecretSource::Configured(source, _) => Self::of(source),
            _ => Self::AsIsUsual,
        }
    }
}

/// The access token that this text holds: under this name if it is a JSON object.
pub(crate) fn access_token(
    text: &SecretString,
    name: Option<&str>,
    serves: Serves,
) -> Result<AccessToken, AuthError> {
    let text = text.expose_secret().trim_ascii();
    match name {
        Some(name) => timed(&member(text, name)?, None, serves),
        None if text.starts_with('{') => {
            let (token, until) = exec_credential(text)?;
            timed(&token, until, serves)
        }
        None => timed(&text.into(), None, serves),
    }
}

/// The access token, with what is known of its life.
pub(crate) fn timed(
    token: &SecretString,
    until: Option<SystemTime>,
    serves: Serves,
) -> Result<AccessToken, AuthError> {
    // Tokens have no spaces, but what people paste into variables and files has.
    let token = token.expose_secret().trim_ascii();
    if token.is_empty() {
        return Err(AuthError::not_configured("it is empty"));
    }
    let until = until.or_else(|| jwt_expiry(token));
    if let Some(ago) = until.and_then(|until| SystemTime::now().duration_since(until).ok()) {
        return Err(AuthError::refused(format!("the token expired {} ago; replace it", in_words(ago))));
    }
    let lifetime = match until {
        Some(until) => Lifetime::At(until),
        None if serves == Serves::AsIsUsual => Lifetime::Unknown,
        None => Lifetime::Unlimited,
    };
    let token = AccessToken::new(token).with_lifetime(lifetime);
    Ok(if serves == Serves::UntilReread { token.with_reread_after(REREAD) } else { token })
}

fn member(json: &str, name: &str) -> Result<SecretString, AuthError> {
    let members = Members::parse(json.as_bytes()).map_err(|why| {
        AuthError::configuration(format!(
            "its key `{name}` is to hold the token, but it cannot be read: {why}"
        ))
    })?;
    match members.get(name) {
        Member::Text(token) => Ok(token),
        Member::Absent => Err(AuthError::not_configured(format!(
            "it has no token under the key `{name}` ({})",
            members.names()
        ))),
        Member::NoText => Err(AuthError::configuration(format!(
            "what it has under the key `{name}` is no text, so no token"
        ))),
    }
}

/// What a credential plugin of kubectl's prints (Kubernetes reference, "client-go credential plugins").
#[derive(Deserialize)]
struct ExecCredential {
    kind: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<Text>,
    expiration_timestamp: Option<String>,
}

struct Text(SecretString);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(text.into()))
    }
}

fn exec_credential(json: &str) -> Result<(SecretString, Option<SystemTime>), AuthError> {
    // The error's own words can quote what is there.
    let credential = serde_json::from_str::<ExecCredential>(json).ok();
    let Some(credential) = credential.filter(|credential| credential.kind == "ExecCredential") else {
        return Err(AuthError::configuration(
            "it is JSON, but no ExecCredential: name the key that holds the token",
        ));
    };
    let Some(Status { token, expiration_timestamp }) = credential.status else {
        return Err(AuthError::configuration("the ExecCredential has no status, so no token"));
    };
    let Some(Text(token)) = token else {
        return Err(AuthError::configuration(
            "the ExecCredential has no token; client certificates are not taken from it",
        ));
    };
    let until = |text: String| {
        OffsetDateTime::parse(&text, &Rfc3339).map(SystemTime::from).map_err(|_| {
            AuthError::configuration(
                "the ExecCredential's expirationTimestamp is no time (RFC 3339: 2030-01-31T12:00:00Z)",
            )
        })
    };
    Ok((token, expiration_timestamp.map(until).transpose()?))
}

fn in_words(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use keyfob_auth_core::ErrorKind::{Configuration, NotConfigured, Refused};

    use super::*;

    /// `{"alg":"none"}` and `{"exp":4102444800}`: the end of 2099.
    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.x";
    /// The same with `{"exp":1}`.
    const EXPIRED: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x";
    const END_OF_2099: u64 = 4_102_444_800;

    fn read(text: &str, name: Option<&str>) -> Result<AccessToken, AuthError> {
        access_token(&text.into(), name, Serves::AsIsUsual)
    }

    fn exec(status: &str) -> String {
        format!(r#"{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", {status}}}"#)
    }

    #[test]
    fn each_form_gives_its_token_and_its_end() {
        let at = |seconds| Lifetime::At(UNIX_EPOCH + Duration::from_secs(seconds));
        let nested = r#"{"z": 1, "token": "abc", "deep": {"token": "no"}}"#;
        for (text, name, token, lifetime) in [
            (" abc\r\n", None, "abc", Lifetime::Unknown),
            (JWT, None, JWT, at(END_OF_2099)),
            (nested, Some("token"), "abc", Lifetime::Unknown),
            (r#"{"a b": " abc\n"}"#, Some("a b"), "abc", Lifetime::Unknown),
            (&exec(r#""status": {"token": "abc"}"#), None, "abc", Lifetime::Unknown),
            (
                &exec(r#""status": {"token": "abc", "expirationTimestamp": "2099-12-31T23:30:00.5-00:30"}"#),
                None,
                "abc",
                Lifetime::At(UNIX_EPOCH + Duration::from_millis(END_OF_2099 * 1000 + 500)),
            ),
            (
                &exec(&format!(
                    r#""status": {{"token": "{JWT}", "expirationTimestamp": "2100-01-01T00:00:09Z"}}"#
                )),
                None,
                JWT,
                at(END_OF_2099 + 9),
            ),
        ] {
            let read = read(text, name).unwrap();
            assert_eq!((read.secret().expose_secret(), read.lifetime()), (token, lifetime), "{text}");
        }
    }

    #[test]
    fn every_bad_content_is_told_without_quoting_it() {
        let no_status = exec(r#""spec": {"marker": 1}"#);
        for (text, name, kind, said) in [
            ("", None, NotConfigured, "it is empty"),
            (" \n", None, NotConfigured, "it is empty"),
            (EXPIRED, None, Refused, "days ago; replace it"),
            (r#"{"token": "marker"}"#, None, Configuration, "name the key that holds the token"),
            ("{marker", None, Configuration, "no ExecCredential: name the key"),
            (&no_status, None, Configuration, "has no status"),
            (
                &exec(r#""status": {"clientKeyData": "marker"}"#),
                None,
                Configuration,
                "has no token; client cert",
            ),
            (&exec(r#""status": {"token": ""}"#), None, NotConfigured, "it is empty"),
            (
                &exec(r#""status": {"token": "marker", "expirationTimestamp": "tomorrow"}"#),
                None,
                Configuration,
                "expirationTimestamp is no time",
            ),
            (
                &exec(r#""status": {"token": "marker", "expirationTimestamp": "2001-01-01T00:00:00Z"}"#),
                None,
                Refused,
                "days ago; replace it",
            ),
            (
                "marker",
                Some("key"),
                Configuration,
                "its key `key` is to hold the token, but it cannot be read: it is no",
            ),
            (r#"{"key": "marker"#, Some("key"), Configuration, "no JSON from line 1"),
            (
                r#"{"other": "marker"}"#,
                Some("key"),
                NotConfigured,
                "no token under the key `key` (it has `other`)",
            ),
            ("{}", Some("key"), NotConfigured, "(it has none)"),
            (r#"{"key": ""}"#, Some("key"), NotConfigured, "no token under the key `key`"),
            (r#"{"key": ["marker"]}"#, Some("key"), Configuration, "under the key `key` is no text"),
        ] {
            let error = read(text, name).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert_eq!(error.kind(), kind, "{text}");
            assert!(shown.contains(said) && !shown.contains("marker"), "{text}: {shown}");
        }
    }

    #[test]
    fn how_long_it_serves_is_the_sources_and_the_tokens_to_say() {
        let end = Lifetime::At(UNIX_EPOCH + Duration::from_secs(END_OF_2099));
        for (text, serves, lifetime, reread_after) in [
            ("abc", Serves::ForEver, Lifetime::Unlimited, None),
            ("abc", Serves::UntilReread, Lifetime::Unlimited, Some(REREAD)),
            ("abc", Serves::AsIsUsual, Lifetime::Unknown, None),
            (JWT, Serves::ForEver, end, None),
            (JWT, Serves::UntilReread, end, Some(REREAD)),
            (JWT, Serves::AsIsUsual, end, None),
        ] {
            let token = access_token(&text.into(), None, serves).unwrap();
            assert_eq!(
                (token.lifetime(), token.reread_after()),
                (lifetime, reread_after),
                "{text} {serves:?}"
            );
        }
    }
}
