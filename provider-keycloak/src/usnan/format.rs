//! What `tokens.json` holds: an object with a `refresh_token`.

use std::fmt;

use keyfob_auth_core::{ExposeSecret, SecretString};
use keyfob_store_file::shared::Change;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

const REFRESH_TOKEN: &str = "refresh_token";

/// The refresh token in it, if there is one. What is wrong with it is told without quoting it.
pub(super) fn read(content: &[u8]) -> Result<Option<SecretString>, String> {
    let members = Members::parse(content)?;
    // Of members of one name the last counts, as it does for Python.
    let Some((_, raw)) = members.0.iter().rev().find(|(name, _)| name == REFRESH_TOKEN) else {
        return Ok(None);
    };
    let token: Option<String> =
        serde_json::from_str(raw.get()).map_err(|_| format!("its `{REFRESH_TOKEN}` is no text"))?;
    Ok(token.filter(|token| !token.is_empty()).map(SecretString::from))
}

/// The content with this refresh token, or without one; all other members stay as they are written, and where they are.
pub(super) fn write(content: Option<&[u8]>, token: Option<&SecretString>) -> Result<Change, String> {
    let mut members = content.map_or(Ok(Members::default()), Members::parse)?.0;
    let place = members.iter().position(|(name, _)| name == REFRESH_TOKEN).unwrap_or_default();
    members.retain(|(name, _)| name != REFRESH_TOKEN);
    let token = token.map(secret_text).transpose()?;
    if token.is_none() && members.is_empty() {
        return Ok(Change::Remove);
    }
    let mut written: Vec<[&str; 2]> = Vec::with_capacity(members.len() + 1);
    let names = members.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>, _>>()?;
    written.extend(names.iter().zip(&members).map(|(name, (_, raw))| [name.as_str(), raw.get()]));
    let name = text(REFRESH_TOKEN)?;
    if let Some(token) = &token {
        let token = str::from_utf8(token).map_err(|_| "no text for JSON")?;
        written.insert(place.min(written.len()), [&name, token]);
    }
    // As Python's `json.dumps` writes it.
    let length: usize = written.iter().map(|[name, value]| name.len() + value.len() + 4).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 2));
    for (number, [name, value]) in written.iter().enumerate() {
        for part in [if number == 0 { "{" } else { ", " }, name, ": ", value] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.push(b'}');
    Ok(Change::Write(bytes))
}

fn text(text: &str) -> Result<String, String> {
    serde_json::to_string(text).map_err(|_| "no text for JSON".into())
}

/// In memory that is wiped, and large enough at once: memory that grows leaves copies behind.
fn secret_text(secret: &SecretString) -> Result<Zeroizing<Vec<u8>>, String> {
    let secret = secret.expose_secret();
    let mut text = Zeroizing::new(Vec::with_capacity(6 * secret.len() + 2));
    serde_json::to_writer(&mut *text, secret).map_err(|_| "no text for JSON")?;
    Ok(text)
}

/// The members of a JSON object as they are written, in their order.
#[derive(Default)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn parse(content: &'a [u8]) -> Result<Self, String> {
        let text = str::from_utf8(content).map_err(|_| "not UTF-8")?;
        // serde's own message may quote the input.
        serde_json::from_str(text)
            .map_err(|error| format!("no JSON object: line {}, column {}", error.line(), error.column()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(member) = map.next_entry()? {
                    members.0.push(member);
                }
                Ok(members)
            }
        }

        from.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(content: Option<&str>, token: Option<&str>) -> Option<String> {
        let token = token.map(|token| SecretString::from(token.to_owned()));
        match write(content.map(str::as_bytes), token.as_ref()).unwrap() {
            Change::Write(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            Change::Remove => None,
            Change::Keep => panic!("nothing is to be done"),
        }
    }

    #[test]
    fn the_refresh_token_is_read_as_their_client_reads_it() {
        for (content, token) in [
            (r#"{"refresh_token": "r"}"#, Some("r")),
            ("{\n  \"other\": [1, {}],\n  \"refresh_token\" : \"a\\u00e4\\\"\"\n}\n", Some("aä\"")),
            (r#"{"refresh_token": "first", "refresh_token": "last"}"#, Some("last")),
            (r#"{"refresh\u005ftoken": "r"}"#, Some("r")),
            (r#"{"refresh_token": ""}"#, None),
            (r#"{"refresh_token": null}"#, None),
            (r#"{"access_token": "a"}"#, None),
            ("{}", None),
        ] {
            let read = read(content.as_bytes()).unwrap();
            assert_eq!(read.as_ref().map(ExposeSecret::expose_secret), token, "{content}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_without_quoting_it() {
        let deep = "[".repeat(100_000);
        for content in [
            "",
            " ",
            "marker",
            "[]",
            "null",
            r#""marker""#,
            r#"{"refresh_token": "marker"#,
            r#"{"refresh_token": "marker"} marker"#,
            r#"{"refresh_token": ["marker"]}"#,
            r#"{"refresh_token": 5}"#,
            "{\"refresh_token\": \"marker\0\"}",
            &format!("{{\"a\": {deep}"),
        ] {
            let why = read(content.as_bytes()).unwrap_err();
            assert!(!why.contains("marker"), "{why}");
            assert!(write(Some(content.as_bytes()), None).is_err() || why.contains("no text"), "{content}");
        }
        assert_eq!(read(b"{\"refresh_token\": \"\xff\"}").unwrap_err(), "not UTF-8");
    }

    #[test]
    fn what_is_written_is_what_their_client_writes() {
        assert_eq!(rewritten(None, Some("r")).as_deref(), Some(r#"{"refresh_token": "r"}"#));
        assert_eq!(rewritten(Some("{}"), Some("r")).as_deref(), Some(r#"{"refresh_token": "r"}"#));
        assert_eq!(rewritten(None, None), None);
        assert_eq!(rewritten(Some(r#"{"refresh_token": "r"}"#), None), None);
        for odd in ["a\"b\\c\n\u{0}", "ä🔑", ""] {
            let written = rewritten(None, Some(odd)).unwrap();
            let read = read(written.as_bytes()).unwrap();
            assert_eq!(read.map_or(String::new(), |token| token.expose_secret().to_owned()), odd);
        }
    }

    #[test]
    fn members_that_are_not_ours_stay_as_they_are_written() {
        let content = r#"{"a": 1.50, "refresh_token": "old", "b": {"x" : [ ]}, "refresh_token": "older", "ä\u0009": "ä"}"#;
        assert_eq!(
            rewritten(Some(content), Some("new")).as_deref(),
            Some(r#"{"a": 1.50, "refresh_token": "new", "b": {"x" : [ ]}, "ä\t": "ä"}"#)
        );
        assert_eq!(
            rewritten(Some(content), None).as_deref(),
            Some(r#"{"a": 1.50, "b": {"x" : [ ]}, "ä\t": "ä"}"#)
        );
    }
}
