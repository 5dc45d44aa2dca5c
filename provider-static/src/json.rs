//! [`Members`]: a JSON object that holds secrets, read and written without leaving copies behind.

use std::fmt;

use keyfob_auth_core::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The members of a JSON object in their order, each value as it is written.
#[derive(Clone)]
pub(crate) struct Members(Vec<(String, Zeroizing<String>)>);

/// What a member is, for who wants a text.
pub(crate) enum Member {
    Absent,
    Text(SecretString),
    NoText,
}

impl Members {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The object that this is; else why not, without quoting it.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json).trim_ascii();
        match json.first() {
            None => Err("it is empty".into()),
            Some(b'{') => {
                // The error's own words can quote what is there.
                serde_json::from_slice(json)
                    .map_err(|error| format!("no JSON from line {}, column {}", error.line(), error.column()))
            }
            Some(_) => Err("it is no JSON object".into()),
        }
    }

    /// The text of this name. An empty one and `null` are none.
    pub(crate) fn get(&self, name: &str) -> Member {
        let Some((_, value)) = self.0.iter().find(|(known, _)| known == name) else { return Member::Absent };
        match serde_json::from_str::<Option<String>>(value).map(|text| text.map(SecretString::from)) {
            Ok(Some(text)) if !text.expose_secret().trim_ascii().is_empty() => Member::Text(text),
            Ok(_) => Member::Absent,
            Err(_) => Member::NoText,
        }
    }

    /// Puts this text under this name, in the place of what is there.
    pub(crate) fn set(&mut self, name: &str, text: &SecretString) {
        let text = text.expose_secret();
        // Room for the longest way to write it: memory that grows leaves copies behind.
        let mut json = Zeroizing::new(String::with_capacity(text.len() * 6 + 2));
        json.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => json.extend(['\\', c]),
                '\0'..' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
                _ => json.push(c),
            }
        }
        json.push('"');
        self.put(name.to_owned(), json);
    }

    fn put(&mut self, name: String, value: Zeroizing<String>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The object, written as Python's `json.dump` writes one.
    pub(crate) fn json(&self) -> Zeroizing<Vec<u8>> {
        let names: Vec<String> =
            self.0.iter().map(|(name, _)| serde_json::Value::from(name.as_str()).to_string()).collect();
        let values = self.0.iter().map(|(_, value)| value);
        let length =
            names.iter().map(String::len).sum::<usize>() + values.map(|v| v.len() + 4).sum::<usize>();
        let mut json = Zeroizing::new(Vec::with_capacity(length + 2));
        json.push(b'{');
        for (n, (name, (_, value))) in names.iter().zip(&self.0).enumerate() {
            if n > 0 {
                json.extend_from_slice(b", ");
            }
            json.extend_from_slice(name.as_bytes());
            json.extend_from_slice(b": ");
            json.extend_from_slice(value.as_bytes());
        }
        json.push(b'}');
        json
    }

    /// The names that are there, for messages: no more than a few.
    pub(crate) fn names(&self) -> String {
        const MOST: usize = 8;
        let names: Vec<String> =
            self.0.iter().take(MOST).map(|(name, _)| format!("`{:.40}`", name.escape_debug())).collect();
        match (names.is_empty(), self.0.len() > MOST) {
            (true, _) => "it has none".into(),
            (false, false) => format!("it has {}", names.join(", ")),
            (false, true) => format!("it has {}, …", names.join(", ")),
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::none();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.put(name, Zeroizing::new(value.get().to_owned()));
                }
                Ok(members)
            }
        }

        from.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(members: &Members, name: &str) -> Option<String> {
        match members.get(name) {
            Member::Text(text) => Some(text.expose_secret().to_owned()),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_touched_stays_as_it_was_written() {
        let json = r#"{"b": "x\u00e9", "a": 1e400, "n": {"deep": [1.0, null]}, "ü": "ü"}"#;
        let mut members = Members::parse(json.as_bytes()).unwrap();
        assert_eq!(&members.json()[..], json.as_bytes());
        members.set("b", &"new".into());
        members.set("c", &"q\"\\\u{1}é".into());
        let written = members.json();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            r#"{"b": "new", "a": 1e400, "n": {"deep": [1.0, null]}, "ü": "ü", "c": "q\"\\\u0001é"}"#
        );
        let again = Members::parse(&written).unwrap();
        assert_eq!(text(&again, "c").unwrap(), "q\"\\\u{1}é");
        assert_eq!(&Members::none().json()[..], b"{}");
    }

    #[test]
    fn members_are_told_apart() {
        let members = Members::parse(
            b"\xef\xbb\xbf {\"a\": \"x\", \"e\": \" \", \"z\": null, \"n\": 1, \"a\": \"y\"}\n",
        );
        let members = members.unwrap();
        assert_eq!(text(&members, "a").as_deref(), Some("y"), "the last of two, as Python has it");
        for absent in ["e", "z", "b"] {
            assert!(matches!(members.get(absent), Member::Absent), "{absent}");
        }
        assert!(matches!(members.get("n"), Member::NoText));
        assert_eq!(members.names(), "it has `a`, `e`, `z`, `n`");
    }

    #[test]
    fn what_is_no_object_is_told_without_quoting_it() {
        for (json, why) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"[\"marker\"]", "it is no JSON object"),
            (b"marker", "it is no JSON object"),
            (b"\"marker\"", "it is no JSON object"),
            (b"{\"token\": \"marker", "no JSON from line 1, column 17"),
            (b"{\"token\":\n marker}", "no JSON from line 2, column 2"),
            (b"{\"token\": \"x\"} marker", "no JSON from line 1, column 16"),
            (b"{\"\xff\": 1}", "no JSON from line 1, column 3"),
        ] {
            assert_eq!(Members::parse(json).err().as_deref(), Some(why));
        }
    }
}
