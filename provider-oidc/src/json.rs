//! Reading JSON as real servers write it.

use std::{fmt, time::Duration};

use keyfob_auth_core::SecretString;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroize;

/// The longest time that a number of seconds is taken for: some 136 years. Longer ones mean "for ever".
const LONGEST: f64 = u32::MAX as f64;

/// The members of a JSON object; `None` if it is anything else.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match str::from_utf8(without_mark(bytes)).ok()?.parse() {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// Without the byte order mark that some servers begin with.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
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

/// The members of an answer that holds secrets: wiped when this is dropped.
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Those of these names; nothing is kept of others. `None` if it is no JSON object, or has one of them twice: others may
    /// have read the other one.
    pub(crate) fn read(bytes: &[u8], names: &[&str]) -> Option<Self> {
        let mut from = serde_json::Deserializer::from_slice(without_mark(bytes));
        let members = Wanted(names).deserialize(&mut from).ok()?;
        from.end().ok()?;
        Some(members)
    }

    /// All of them.
    pub(crate) fn all(bytes: &[u8]) -> Option<Self> {
        object(bytes).map(Self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes a secret out: a text that is not empty, or absent. `None` if it is anything else.
    pub(crate) fn take(&mut self, name: &str) -> Option<Option<SecretString>> {
        match self.0.get_mut(name) {
            None | Some(Value::Null) => Some(None),
            // Moved: it was made without room to spare.
            Some(Value::String(text)) => {
                Some((!text.is_empty()).then(|| SecretString::from(std::mem::take(text))))
            }
            Some(_) => None,
        }
    }
}

/// The names of the members that are kept.
struct Wanted<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Members, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members, A::Error> {
        let mut members = Members(Map::new());
        while let Some(name) = from.next_key::<String>()? {
            if !self.0.contains(&name.as_str()) {
                from.next_value::<IgnoredAny>()?;
            } else if members.0.contains_key(&name) {
                return Err(A::Error::custom("a member that is there twice"));
            } else {
                members.0.insert(name, from.next_value()?);
            }
        }
        Ok(members)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_object_is_read() {
        assert!(object(b" {\"a\":1}\n").is_some());
        assert!(object(b"\xef\xbb\xbf{}").is_some(), "a byte order mark");
        for odd in [&b""[..], b"[]", b"[\"token\"]", b"null", b"\"text\"", b"{", b"<html>", b"{} {}", b"\xff"]
        {
            assert!(object(odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn a_secret_is_a_text_or_absent() {
        let names = ["a", "b", "c", "d", "e", "x"];
        let answer = b"{\"a\":\"s3cret\",\"b\":\"\",\"c\":null,\"d\":7,\"e\":\"\\u0073\",\"y\":1,\"y\":\"\xff\",\"z\":1e999}";
        let mut members = Members::read(answer, &names).unwrap();
        assert!(members.get("y").is_none() && members.get("z").is_none(), "what nobody wants does no harm");
        let mut taken = |name| members.take(name).map(|s| s.map(|s| s.expose_secret().to_owned()));
        assert_eq!(taken("a"), Some(Some("s3cret".into())));
        assert_eq!(taken("e"), Some(Some("s".into())));
        for absent in ["b", "c", "x"] {
            assert_eq!(taken(absent), Some(None), "{absent}");
        }
        assert_eq!(taken("d"), None);
        for odd in [r#"{"a":"1","a":"2"}"#, r#"{"a":"1","\u0061":"2"}"#, "[]", "\"a\"", "{", "{}{}", ""] {
            assert!(Members::read(odd.as_bytes(), &["a"]).is_none(), "{odd}");
        }
    }

    #[test]
    fn every_text_is_wiped() {
        let mut value = json!({"a": "s3cret", "b": ["s3cret", {"c": "s3cret"}], "d": 7});
        wipe(&mut value);
        assert_eq!(value, json!({"a": "", "b": ["", {"c": ""}], "d": 7}));
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
