//! Reading JSON as real servers write it.

use std::{fmt, time::Duration};

use keyfob_auth_core::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};
use serde_json::Value;
use url::Url;

/// The longest time that a number of seconds is taken for: some 136 years. Longer ones mean "for ever".
const LONGEST: f64 = u32::MAX as f64;

/// The members of a JSON object; `None` if it is anything else.
///
/// Serde would fill a struct from a JSON array as well, by position.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    if bytes.first() == Some(&b'{') { serde_json::from_slice(bytes).ok() } else { None }
}

/// A text that is not empty.
pub(crate) fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// A URL as the server wrote it, if it is one for a browser.
pub(crate) fn web_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "https" | "http") && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// A number, or the text of one.
pub(crate) fn number(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// A time in seconds, more than none of them. Zero, less and nonsense are not told from absent.
pub(crate) fn seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = number(value).filter(|seconds| *seconds > 0.0)?;
    Duration::try_from_secs_f64(seconds.min(LONGEST)).ok()
}

/// A member that is a secret: a text that is not empty, or absent.
#[derive(Default)]
pub(crate) struct Secret(pub(crate) Option<SecretString>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            // The only copy of its own: `String` would be made with room to spare, and moved.
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret((!text.is_empty()).then(|| SecretString::from(text))))
            }

            fn visit_unit<E: Error>(self) -> Result<Secret, E> {
                Ok(Secret(None))
            }
        }

        from.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_object_is_read() {
        assert!(object::<Value>(b" {\"a\":1}\n").is_some());
        assert!(object::<Value>(b"\xef\xbb\xbf{}").is_some(), "a byte order mark");
        for odd in [&b""[..], b"[]", b"[\"token\"]", b"null", b"\"text\"", b"{", b"<html>", b"{} {}", b"\xff"]
        {
            assert!(object::<Value>(odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn seconds_are_read_as_servers_write_them() {
        for (value, millis) in [
            (json!(3600), Some(3_600_000)),
            (json!("3600"), Some(3_600_000)),
            (json!(" 60 "), Some(60_000)),
            (json!(1.5), Some(1500)),
            (json!("1.5"), Some(1500)),
            (json!(6e1), Some(60_000)),
            (json!(0), None),
            (json!("0"), None),
            (json!(-5), None),
            (json!("soon"), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(""), None),
            (json!(null), None),
            (json!([60]), None),
            (json!(true), None),
            (json!(1e300), Some(u128::from(u32::MAX) * 1000)),
            (json!(u64::MAX), Some(u128::from(u32::MAX) * 1000)),
        ] {
            assert_eq!(seconds(Some(&value)).map(|s| s.as_millis()), millis, "{value}");
        }
    }
}
