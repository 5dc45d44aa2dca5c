//! [`Clock`]: the two clocks by which a token expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock and the monotonic one, both the coarse kind: reading them costs some nanoseconds, and they are a few
/// milliseconds behind.
///
/// A token is expired when either says so. Set back, the wall clock is caught by the monotonic one; suspended, the
/// monotonic one (which may stand still then) is caught by the wall clock. Set back while suspended is not caught.
#[derive(Clone, Debug, Default)]
pub struct Clock(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    System,
    #[cfg(feature = "testing")]
    Fake(std::sync::Arc<crate::testing::FakeClock>),
}

/// A moment on both clocks, in nanoseconds: since 1970, and since an arbitrary moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) wall: u64,
    pub(crate) mono: u64,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that tests move.
    #[cfg(feature = "testing")]
    pub fn fake(clock: std::sync::Arc<crate::testing::FakeClock>) -> Self {
        Self(Kind::Fake(clock))
    }

    /// The time on the wall clock.
    pub fn wall(&self) -> SystemTime {
        to_system_time(self.now().wall)
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> Now {
        match &self.0 {
            Kind::System => system_now(),
            #[cfg(feature = "testing")]
            Kind::Fake(clock) => fake_now(clock),
        }
    }
}

#[cfg(feature = "testing")]
#[cold]
fn fake_now(clock: &crate::testing::FakeClock) -> Now {
    clock.now()
}

#[cfg(unix)]
#[inline(always)]
fn system_now() -> Now {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCKS: (ClockId, ClockId) = (ClockId::RealtimeCoarse, ClockId::MonotonicCoarse);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCKS: (ClockId, ClockId) = (ClockId::Realtime, ClockId::Monotonic);
    // Neither is negative on a machine whose clock is past 1970.
    let nanos = |id| {
        let t = clock_gettime(id);
        (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
    };
    Now { wall: nanos(CLOCKS.0), mono: nanos(CLOCKS.1) }
}

#[cfg(not(unix))]
fn system_now() -> Now {
    use std::{sync::OnceLock, time::Instant};
    static START: OnceLock<Instant> = OnceLock::new(); // an arbitrary moment, the same for the process
    Now {
        wall: to_nanos(SystemTime::now()),
        mono: saturating_nanos(START.get_or_init(Instant::now).elapsed()),
    }
}

/// Nanoseconds, at most some 584 years.
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn to_nanos(time: SystemTime) -> u64 {
    saturating_nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn to_system_time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

impl Now {
    /// This moment on both clocks, later by so much.
    pub(crate) fn plus(self, by: Duration) -> Self {
        let by = saturating_nanos(by);
        Self { wall: self.wall.saturating_add(by), mono: self.mono.saturating_add(by) }
    }

    /// Whether either clock has come to `deadline`.
    #[inline]
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.wall >= deadline.wall || self.mono >= deadline.mono
    }

    /// How long until either clock comes to `deadline`.
    pub(crate) fn until(self, deadline: Self) -> Duration {
        Duration::from_nanos(
            deadline.wall.saturating_sub(self.wall).min(deadline.mono.saturating_sub(self.mono)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_clock_reaches_a_deadline() {
        let start = Now { wall: 100, mono: 10 };
        let deadline = start.plus(Duration::from_nanos(5));
        assert!(!start.reached(deadline));
        assert!(Now { wall: 105, mono: 10 }.reached(deadline), "suspended");
        assert!(Now { wall: 0, mono: 15 }.reached(deadline), "set back");
        assert!(!start.reached(start.plus(Duration::MAX)), "never");
    }

    #[test]
    fn the_system_clocks_are_within_a_second_of_the_precise_ones() {
        let precise = to_nanos(SystemTime::now());
        assert!(system_now().wall.abs_diff(precise) < 1_000_000_000);
        assert!(system_now().mono <= system_now().mono);
    }
}
