//! When to renew, how long to pause, which invalidation counts: pure functions.

use std::time::Duration;

use crate::{AuthError, ErrorKind, clock::Now};

/// What a slot holds, as far as a decision needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    pub(crate) token: Option<Times>,
    /// Before when the last failure may not be repeated.
    pub(crate) not_before: Option<Now>,
    pub(crate) in_flight: bool,
}

/// A token's times on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// When its request was sent.
    pub(crate) obtained: Now,
    pub(crate) refresh_at: Now,
    pub(crate) expires_at: Now,
}

impl Times {
    /// Before which, on the wall clock, it cannot have been obtained.
    pub(crate) fn first(&self) -> u64 {
        self.obtained.wall.saturating_sub(SKEW)
    }

    #[inline]
    pub(crate) fn expired(&self, now: Now) -> bool {
        now.reached(self.expires_at)
    }

    /// In the early window, or obtained in the future (the wall clock was set back).
    pub(crate) fn due(&self, now: Now) -> bool {
        now.reached(self.refresh_at) || now.wall < self.first()
    }
}

/// Coarse clocks and other machines' clocks differ by this much without anybody having set one back.
const SKEW: u64 = 2_000_000_000;

/// What to do about a caller who wants a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Serve the token at hand.
    Serve,
    /// Serve the token at hand and renew it beside.
    ServeAndRenew,
    /// Renew, or join the exchange under way, and wait for it.
    Renew,
    /// Report the last failure: it is too early to try again.
    Report,
}

pub(crate) fn decide(view: &View, now: Now) -> Decision {
    let paused = view.not_before.is_some_and(|not_before| !now.reached(not_before));
    match view.token {
        Some(token) if !token.expired(now) => {
            if token.due(now) && !paused && !view.in_flight {
                Decision::ServeAndRenew
            } else {
                Decision::Serve
            }
        }
        _ if paused && !view.in_flight => Decision::Report,
        _ => Decision::Renew,
    }
}

/// The times of a token that lives so long from `sent`.
///
/// The early window is a tenth of the life, at most five minutes, and begins up to half as much earlier by `jitter` (0 to
/// 1), so that many processes do not come at once. The server's hint replaces it, with the jitter added; a tenth of the
/// life is the least, or a hint of nothing would be a renewal per request.
pub(crate) fn times(sent: Now, life: Option<Duration>, refresh_in: Option<Duration>, jitter: f64) -> Times {
    const LONGEST_WINDOW: Duration = Duration::from_secs(300);
    let Some(life) = life else {
        let never = Now { wall: u64::MAX, mono: u64::MAX };
        return Times { obtained: sent, refresh_at: never, expires_at: never };
    };
    let window = (life / 10).min(LONGEST_WINDOW);
    let refresh_after = match refresh_in.filter(|hint| *hint < life) {
        Some(hint) => hint.max(life / 10) + (window.min((life - hint) / 2)).mul_f64(jitter),
        None => life.saturating_sub(window + (window / 2).mul_f64(jitter)),
    };
    Times { obtained: sent, refresh_at: sent.plus(refresh_after), expires_at: sent.plus(life) }
}

/// The times of a token that somebody else obtained, from the wall clock alone: it expires at `expires_at`, but is never
/// given more than its whole life from now.
pub(crate) fn adopted_times(
    now: Now,
    obtained: u64,
    expires_at: Option<u64>,
    refresh_in: Option<Duration>,
    jitter: f64,
) -> Times {
    let life = expires_at.map(|at| Duration::from_nanos(at.saturating_sub(obtained)));
    let age = now.wall.saturating_sub(obtained);
    let sent = Now { wall: now.wall - age, mono: now.mono.saturating_sub(age) };
    let behind = age - (now.mono - sent.mono); // where the monotonic clock began after the token
    let mut times = times(sent, life, refresh_in, jitter);
    times.refresh_at.mono = times.refresh_at.mono.saturating_sub(behind);
    times.expires_at.mono = times.expires_at.mono.saturating_sub(behind);
    times.obtained.wall = obtained;
    times
}

/// How long to pause after the `failures`th failure in a row; `None` for ever.
///
/// What may pass by itself is tried again after a second, then twice that, at most a minute. What somebody has to mend is
/// asked at first every few seconds, then once a minute. The server's `Retry-After` is the least.
pub(crate) fn pause(error: &AuthError, failures: u32, jitter: f64) -> Option<Duration> {
    const MENDED: [f64; 8] = [2.0, 2.5, 4.5, 4.5, 9.0, 18.0, 36.0, 60.0];
    const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
    if !error.is_repeatable() {
        return None;
    }
    let nth = failures.max(1) as usize - 1;
    let pause = match error.kind() {
        // Nobody was asked: look again as soon as somebody may have logged in elsewhere.
        ErrorKind::LoginRequired | ErrorKind::NotConfigured => Duration::from_millis(200),
        ErrorKind::Transient | ErrorKind::Store => {
            let seconds = 2_f64.powi(i32::try_from(nth.min(6)).unwrap_or(6)).min(60.0);
            Duration::from_secs_f64(seconds * (1.0 + jitter / 4.0))
        }
        _ => Duration::from_secs_f64(MENDED[nth.min(MENDED.len() - 1)] * (1.0 - jitter / 10.0)),
    };
    Some(error.retry_after().map_or(pause, |after| pause.max(after.min(LONGEST_RETRY_AFTER))))
}

/// Which reports of a bad token count: the first at once; if the next token is refused too, after a second, then twice
/// that, at most a minute. So an API that refuses every token does not become a renewal per request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Invalidations {
    count: u32,
    not_before: Option<Now>,
    forget_at: Option<Now>,
}

impl Invalidations {
    /// Whether the last report is so long ago that it says nothing any more.
    pub(crate) fn forgotten(&self, now: Now) -> bool {
        self.forget_at.is_none_or(|at| now.reached(at))
    }

    /// Whether this report counts, and the state after it.
    pub(crate) fn report(self, now: Now) -> Option<Self> {
        const LONGEST: u32 = 6;
        if self.not_before.is_some_and(|not_before| !now.reached(not_before)) {
            return None;
        }
        let count = if self.forgotten(now) { 0 } else { self.count };
        let pause = Duration::from_secs(1 << count.min(LONGEST)).min(Duration::from_secs(60));
        Some(Self {
            count: count + 1,
            not_before: Some(now.plus(pause)),
            forget_at: Some(now.plus(pause * 2 + Duration::from_secs(60))),
        })
    }
}

/// A number from 0 to 1, for the jitter.
pub(crate) fn jitter() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Now {
        Now { wall: 1_000_000_000_000, mono: 5_000_000_000 }.plus(s(seconds))
    }

    #[test]
    fn decisions() {
        use Decision::*;
        let token = Some(times(at(0), Some(s(600)), None, 0.0)); // due at 540, expires at 600
        let never = None;
        let cases = [
            // token, failure's not before, in flight, now, decision
            (None, never, false, 0, Renew),
            (None, never, true, 0, Renew),
            (None, Some(at(5)), false, 4, Report),
            (None, Some(at(5)), false, 5, Renew),
            (None, Some(at(5)), true, 4, Renew),
            (token, never, false, 539, Serve),
            (token, never, false, 540, ServeAndRenew),
            (token, never, true, 541, Serve),
            (token, Some(at(550)), false, 541, Serve),
            (token, Some(at(550)), false, 550, ServeAndRenew),
            (token, Some(at(700)), false, 599, Serve),
            (token, never, false, 600, Renew),
            (token, Some(at(700)), false, 600, Report),
            (token, Some(at(700)), true, 600, Renew),
        ];
        for (i, (token, not_before, in_flight, now, decision)) in cases.into_iter().enumerate() {
            assert_eq!(decide(&View { token, not_before, in_flight }, at(now)), decision, "case {i}");
        }
    }

    #[test]
    fn the_window_scales_with_the_life() {
        let window = |life, jitter| {
            let t = times(at(0), Some(life), None, jitter);
            t.refresh_at.until(t.expires_at)
        };
        assert_eq!(window(s(600), 0.0), s(60));
        assert_eq!(window(s(600), 1.0), s(90));
        assert_eq!(window(s(2), 0.0), Duration::from_millis(200));
        assert_eq!(window(s(86_400), 0.0), s(300));
        assert_eq!(window(s(0), 1.0), s(0));
    }

    #[test]
    fn the_servers_hint_replaces_the_window() {
        let due = |hint, jitter| at(0).until(times(at(0), Some(s(3600)), Some(hint), jitter).refresh_at);
        assert_eq!(due(s(1800), 0.0), s(1800));
        assert_eq!(due(s(1800), 1.0), s(2100));
        assert_eq!(due(s(4000), 0.0), s(3300), "a hint beyond the life is none");
        assert_eq!(due(s(0), 0.0), s(360), "never at once");
    }

    #[test]
    fn a_token_obtained_in_the_future_is_stale_and_gets_no_more_than_its_life() {
        let now = at(1000);
        let obtained = now.plus(s(500)).wall;
        let t = adopted_times(now, obtained, Some(now.plus(s(1100)).wall), None, 0.0);
        assert!(t.due(now) && !t.expired(now));
        assert!(t.expired(now.plus(s(600))));
    }

    #[test]
    fn an_adopted_token_expires_by_both_clocks_also_on_a_young_machine() {
        let now = Now { wall: 1_000_000_000_000_000, mono: 5_000_000_000 };
        let obtained = now.wall - 100_000_000_000;
        let t = adopted_times(now, obtained, Some(obtained + 600_000_000_000), None, 0.0);
        assert!(!t.due(now));
        assert_eq!(now.until(t.expires_at), s(500));
        assert!(Now { wall: 0, mono: now.mono + 500_000_000_000 }.reached(t.expires_at));
    }

    #[test]
    fn pauses_grow_and_honour_retry_after() {
        let transient = AuthError::transient("x");
        let seconds = |error: &AuthError, n| pause(error, n, 0.0).map(|p| p.as_secs_f64());
        assert_eq!(
            (1..=8).map(|n| seconds(&transient, n)).collect::<Option<Vec<_>>>().unwrap(),
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        );
        assert_eq!(seconds(&transient.clone().with_retry_after(s(30)), 1), Some(30.0));
        assert_eq!(seconds(&transient.with_retry_after(s(90_000)), 1), Some(3600.0));
        let refused = AuthError::refused("x");
        assert_eq!(
            (1..=9).map(|n| seconds(&refused, n)).collect::<Option<Vec<_>>>().unwrap(),
            [2.0, 2.5, 4.5, 4.5, 9.0, 18.0, 36.0, 60.0, 60.0]
        );
        assert_eq!(seconds(&refused.once(), 1), None);
    }

    #[test]
    fn a_revoked_secret_is_asked_three_times_in_five_seconds_at_most_and_its_mending_seen_within_five() {
        let refused = AuthError::refused("x");
        for jitter in [0.0, 0.5, 0.999] {
            let mut asked = vec![0.0];
            for n in 1..=5 {
                asked.push(asked[asked.len() - 1] + pause(&refused, n, jitter).unwrap().as_secs_f64());
            }
            assert!(asked.iter().filter(|t| **t <= 5.0).count() <= 3, "{asked:?}");
            let next = asked.iter().copied().find(|t| *t > 5.0).unwrap();
            assert!(next <= 10.0, "{asked:?}");
        }
    }

    #[test]
    fn an_api_that_refuses_every_token_is_believed_less_and_less() {
        let mut state = Invalidations::default();
        let mut counted = Vec::new();
        for second in 0..100 {
            if let Some(next) = state.report(at(second)) {
                state = next;
                counted.push(second);
            }
        }
        assert_eq!(counted, [0, 1, 3, 7, 15, 31, 63]);
        assert!(state.report(at(1000)).is_some_and(|s| s.count == 1), "forgotten after a while");
    }
}
