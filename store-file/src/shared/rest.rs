//! What another tool's file has no place for: kept in a file of ours beside it, as long as it belongs to what is there.
//!
//! ```text
//! {"keyfob_beside":1,"of":"0123…","write":"89ab…","record":
//! {…}
//! }
//! ```
//!
//! One JSON value, read by its lines, so that no secret is copied.

use keyfob_auth_core::store::{Record, StoreError};
use zeroize::Zeroizing;

use super::{Change, Content};

const OPENING: &str = "{\"keyfob_beside\":1,\"of\":\"";
const CLOSING: &[u8] = b"\n}\n";

/// A record without what the other tool's file holds of it.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    /// The hash of what their file held when it was written.
    pub(super) of: String,
    /// Another one for each write.
    pub(super) write: String,
    pub(super) record: Record,
}

impl Rest {
    pub(super) fn of(of: String, record: Record) -> Self {
        Self { of, write: format!("{:032x}", fastrand::u128(..)), record }
    }

    pub(super) fn encode(&self) -> Result<Change, StoreError> {
        let record = self.record.to_bytes()?;
        let head = self.head();
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + record.len() + CLOSING.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&record);
        bytes.extend_from_slice(CLOSING);
        Ok(Change::Write(bytes))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.iter().take(256).position(|byte| *byte == b'\n').unwrap_or_default();
        let (found, rest) = bytes.split_at(end);
        let quoted = |nth| str::from_utf8(found).ok().and_then(|head| head.split('"').nth(nth));
        let (of, write) = (quoted(5).unwrap_or_default(), quoted(9).unwrap_or_default());
        let body = rest.strip_prefix(b"\n").and_then(|rest| rest.strip_suffix(CLOSING));
        let mut read = Self { of: of.to_owned(), write: write.to_owned(), record: Record::default() };
        match body.filter(|_| !write.is_empty() && read.head().trim_end().as_bytes() == found) {
            Some(body) => read.record = Record::from_bytes(body).map_err(|error| error.to_string())?,
            None => return Err("not written by this keyfob".into()),
        }
        Ok(read)
    }

    fn head(&self) -> String {
        let Self { of, write, .. } = self;
        format!("{OPENING}{of}\",\"write\":\"{write}\",\"record\":\n")
    }
}

/// What was read, if it belongs to this.
pub(super) fn belonging<'a>(rest: Option<&'a Content<Option<Rest>>>, of: &str) -> Option<&'a Rest> {
    rest.and_then(|found| found.value.as_ref()).filter(|rest| rest.of == of)
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::Login;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_cut_is_noticed() {
        let rest = Rest::of("abc".into(), Record::with_login(Login::with_refresh_token("marker")));
        let Change::Write(bytes) = rest.encode().unwrap() else { panic!("nothing to write") };
        let read = Rest::decode(&bytes).unwrap();
        assert_eq!((read.of, read.write), (rest.of, rest.write));
        assert_eq!(read.record.to_bytes().unwrap(), rest.record.to_bytes().unwrap());
        for length in 0..bytes.len() {
            let cut = Rest::decode(&bytes[..length]);
            assert!(!format!("{:?}", cut.unwrap_err()).contains("marker"), "{length}");
        }
        for other in ["{}", "{\"keyfob_beside\":2,\"of\":\"abc\",\"write\":\"1\",\"record\":\n{}\n}\n"] {
            assert!(Rest::decode(other.as_bytes()).is_err(), "{other}");
        }
    }
}
