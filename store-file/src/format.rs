//! What a record's file holds.
//!
//! ```text
//! {"keyfob":1,"write":"0123…","bytes":4711,"sum":"89ab…","content":
//! {"key":{…},"record":{…}}
//! }
//! ```
//!
//! One JSON value, for people and their tools; read by its lines, so that no secret is copied. Later formats keep the
//! beginning up to the number.

use keyfob_auth_core::store::{LoginKey, Record, StoreError, StoreErrorKind, Version};
use zeroize::Zeroizing;

/// The largest file that is written or read: more than twice a record at its bounds.
pub(crate) const LARGEST: usize = 1024 * 1024;

const FORMAT: u64 = 1;
const OPENING: &[u8] = b"{\"keyfob\":";
const CLOSING: &[u8] = b"\n}\n";
/// No first line is longer.
const LONGEST_HEAD: usize = 256;

/// A record to be written.
pub(crate) struct Encoded {
    head: String,
    body: Zeroizing<Vec<u8>>,
    pub(crate) version: Version,
}

impl Encoded {
    /// The file's contents, in pieces.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        [self.head.as_bytes(), &self.body, CLOSING]
    }

    pub(crate) fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).iter().sum()
    }
}

/// A record with a version of its own.
pub(crate) fn encode(key: &LoginKey, record: &Record) -> Result<Encoded, StoreError> {
    let body = record.to_keyed_bytes(key)?;
    let write = format!("{:032x}", fastrand::u128(..));
    let encoded = Encoded { head: head(&write, &body), body, version: Version::new(write) };
    if encoded.len() > LARGEST {
        let message =
            format!("a record of {} bytes is more than a file store keeps ({LARGEST})", encoded.len());
        return Err(StoreError::new(StoreErrorKind::Unsupported, message));
    }
    Ok(encoded)
}

/// Why contents are no record of this format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A later keyfob wrote them.
    Newer(String),
    /// Not keyfob's, or damaged. Quotes nothing.
    Corrupt(String),
}

/// What [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<(LoginKey, Record, Version), Unreadable> {
    let corrupt = |why: &str| Unreadable::Corrupt(why.to_owned());
    let rest = bytes.strip_prefix(OPENING).ok_or_else(|| corrupt("not a record of keyfob"))?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let number = str::from_utf8(number).unwrap_or_default();
    match number.parse() {
        Ok(FORMAT) => {}
        Ok(0) => return Err(corrupt("not a record of keyfob")),
        _ if digits > 0 && rest.starts_with(b",") => return Err(Unreadable::Newer(number.to_owned())),
        _ => return Err(corrupt("not a record of keyfob")),
    }
    if bytes.len() > LARGEST {
        return Err(corrupt("too large"));
    }
    let cut = || corrupt("cut short or damaged");
    let end = bytes.iter().take(LONGEST_HEAD).position(|byte| *byte == b'\n').ok_or_else(cut)? + 1;
    let (found, body) = bytes.split_at(end);
    let body = body.strip_suffix(CLOSING).ok_or_else(cut)?;
    let write = str::from_utf8(found).ok().and_then(|head| head.split('"').nth(5)).ok_or_else(cut)?;
    // The one head that this content may have.
    if write.len() != 32 || head(write, body).as_bytes() != found {
        return Err(cut());
    }
    let (key, record) =
        Record::from_keyed_bytes(body).map_err(|error| Unreadable::Corrupt(error.to_string()))?;
    Ok((key, record, Version::new(write)))
}

fn head(write: &str, body: &[u8]) -> String {
    let (bytes, sum) = (body.len(), sum([write.as_bytes(), body]));
    format!(
        "{{\"keyfob\":{FORMAT},\"write\":\"{write}\",\"bytes\":{bytes},\"sum\":\"{sum:016x}\",\"content\":\n"
    )
}

/// Against accidents, not against forgers, who could write a whole record as well: FNV-1a's numbers, but eight bytes at a
/// time (little-endian, zeros after the last), and with the upper half folded into the lower one, or two changes of a
/// word's highest bit would undo each other. Each step is a bijection, so that no damage to a single word goes unnoticed.
fn sum(parts: [&[u8]; 2]) -> u64 {
    parts.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, part| {
        let (words, rest) = part.as_chunks();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        words.iter().chain([&last]).fold(sum, |sum, word| {
            let sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
            sum ^ (sum >> 32)
        })
    })
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::{Identity, Login};

    use super::*;

    fn sample() -> (LoginKey, Vec<u8>) {
        let key = LoginKey::from(Identity::new("test").label("a\n\0b"));
        let encoded = encode(&key, &Record::with_login(Login::with_refresh_token("marker"))).unwrap();
        (key, encoded.parts().concat())
    }

    #[test]
    fn what_was_written_is_read() {
        let (key, bytes) = sample();
        let (read, record, version) = decode(&bytes).unwrap();
        assert_eq!((read, version.as_str().len()), (key, 32));
        assert!(record.login.is_some());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let (_, bytes) = sample();
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..length]), Err(Unreadable::Corrupt(_))), "cut at {length}");
        }
        for place in 0..bytes.len() {
            for other in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[place] = other;
                let unreadable = decode(&changed);
                assert!(other == bytes[place] || unreadable.is_err(), "{other} at {place}");
                assert!(!format!("{unreadable:?}").contains("marker"));
            }
        }
        assert!(decode(&[&bytes[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn damage_to_several_words_at_once_is_noticed() {
        let (_, bytes) = sample();
        let body = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let refused =
            |bytes: &[u8]| decode(bytes).unwrap_err() == Unreadable::Corrupt("cut short or damaged".into());
        for (one, other) in [(0, 1), (1, 2), (0, 5)].map(|(one, other)| (body + one * 8, body + other * 8)) {
            let mut swapped = bytes.clone();
            (0..8).for_each(|n| swapped.swap(one + n, other + n));
            assert!(refused(&swapped), "swapped at {one} and {other}");
            for bit in 0..64 {
                let mut changed = bytes.clone();
                for word in [one, other] {
                    changed[word + bit / 8] ^= 1 << (bit % 8);
                }
                assert!(refused(&changed), "bit {bit} at {one} and {other}");
            }
        }
    }

    #[test]
    fn the_checksum_is_the_same_on_every_machine_and_for_ever() {
        let write = "0123456789abcdef0123456789abcdef";
        let expected = format!(
            "{{\"keyfob\":1,\"write\":\"{write}\",\"bytes\":10,\"sum\":\"01a365f715d729d7\",\"content\":\n"
        );
        assert_eq!(head(write, b"{\"key\":{}}"), expected);
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        for (text, newer) in [
            ("{\"keyfob\":2,\"anything\":", true),
            ("{\"keyfob\":99999999999999999999999,", true),
            ("{\"keyfob\":2", false),
            ("{\"keyfob\":,", false),
            ("{\"keyfob\":0,", false),
            ("{\"keyfob\":-1,", false),
            ("{\"keyfob\":\"2\",", false),
            ("{}", false),
            ("\0\0\0\0", false),
        ] {
            assert_eq!(matches!(decode(text.as_bytes()), Err(Unreadable::Newer(_))), newer, "{text}");
        }
    }
}
