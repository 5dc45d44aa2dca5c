//! [`Clocks`]: how far the clocks of servers are off.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use reqwest::header::{AGE, DATE, HeaderMap};

/// How far a clock must be off before it is heeded: answers take their time, and `Date` has no fractions.
const NOTICEABLE: Duration = Duration::from_secs(5);
/// How many servers' clocks are remembered.
const MOST: usize = 1024;

/// How far a clock is off this machine's: whether ahead, and by how much.
pub(crate) type Skew = (bool, Duration);

/// How far the clocks of servers are off, by host.
#[derive(Default)]
pub(crate) struct Clocks(Mutex<HashMap<String, Skew>>);

impl Clocks {
    /// Takes in when a server says that it has answered (RFC 9110 section 6.6.1). An answer out of a cache (RFC 9111 section
    /// 5.1) was made at another time.
    pub(crate) fn learn(&self, host: &str, headers: &HeaderMap, now: SystemTime) {
        if headers.contains_key(AGE) {
            return;
        }
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else { return };
        let (ahead, by) = match date.duration_since(now) {
            Ok(by) => (true, by),
            Err(behind) => (false, behind.duration()),
        };
        let mut clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if by < NOTICEABLE {
            clocks.remove(host);
        } else if clocks.len() < MOST || clocks.contains_key(host) {
            clocks.insert(host.to_owned(), (ahead, by));
        }
    }

    /// What time it is there, when it is `now` here.
    pub(crate) fn time_at(&self, host: &str, now: SystemTime) -> SystemTime {
        match self.skew(host) {
            None => now,
            Some((true, by)) => now.checked_add(by).unwrap_or(now),
            Some((false, by)) => now.checked_sub(by).unwrap_or(now),
        }
    }

    /// Whether it is ahead, and by how much; `None` if it is right, or nothing is known of it.
    pub(crate) fn skew(&self, host: &str) -> Option<Skew> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }

    /// Whether it is noticeably elsewhere than it was thought to be.
    pub(crate) fn has_moved(&self, host: &str, since: Option<Skew>) -> bool {
        let [(ahead, by), (was_ahead, was_by)] = [self.skew(host), since].map(Option::unwrap_or_default);
        let moved = if ahead == was_ahead { by.abs_diff(was_by) } else { by.saturating_add(was_by) };
        moved >= NOTICEABLE
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_clock_has_moved_by_what_lies_between() {
        let clocks = Clocks::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let headers =
            [(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:50:37 GMT"))].into_iter().collect();
        clocks.learn("idp.example:443", &headers, now);
        let s = Duration::from_secs;
        for (since, moved) in [
            (None, true),
            (Some((true, s(60))), false),
            (Some((true, s(57))), false),
            (Some((true, s(120))), true),
            (Some((false, s(60))), true),
            (Some((false, Duration::MAX)), true),
        ] {
            assert_eq!(clocks.has_moved("idp.example:443", since), moved, "{since:?}");
        }
        assert!(!clocks.has_moved("other.example:443", None));
        assert!(clocks.has_moved("other.example:443", Some((false, s(60)))));
    }

    #[test]
    fn a_clock_is_heeded_once_it_is_noticeably_off() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let clocks = Clocks::default();
        for (date, seconds) in [
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("no date", 60),
            ("Sun, 06 Nov 1994 08:48:37 GMT", -60),
            ("Sun, 06 Nov 1994 08:49:40 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:34 GMT", 0),
        ] {
            let headers = [(DATE, HeaderValue::from_static(date))].into_iter().collect();
            clocks.learn("idp.example:443", &headers, now);
            let there = clocks.time_at("idp.example:443", now);
            let off = there.duration_since(now).map_or_else(
                |behind| -i64::try_from(behind.duration().as_secs()).unwrap(),
                |ahead| i64::try_from(ahead.as_secs()).unwrap(),
            );
            assert_eq!((off, clocks.skew("idp.example:443").is_some()), (seconds, seconds != 0), "{date}");
            assert_eq!(clocks.time_at("other.example:443", now), now);
        }
    }
}
