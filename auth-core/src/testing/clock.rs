//! [`FakeClock`]: a clock that tests move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{Clock, clock::Now, clock::saturating_nanos};

/// 2030-01-01, where the clock starts.
const START: i64 = 1_893_456_000_000_000_000;

/// A clock that runs with Tokio's (which a test may pause) and can be moved besides.
///
/// It starts at the beginning of 2030.
#[derive(Debug)]
pub struct FakeClock {
    since: Instant,
    wall: AtomicI64,
    mono: AtomicI64,
}

impl FakeClock {
    /// A clock, to be handed to a [`Context`](crate::Context) by [`Clock::fake`].
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            wall: AtomicI64::new(START),
            mono: AtomicI64::new(1_000_000_000),
        })
    }

    /// The clock as a context takes it.
    pub fn clock(self: &Arc<Self>) -> Clock {
        Clock::fake(Arc::clone(self))
    }

    /// So much time passes on both clocks.
    pub fn advance(&self, by: Duration) {
        self.suspend(by);
        shift(&self.mono, nanos(by));
    }

    /// The machine sleeps: only the wall clock goes on.
    pub fn suspend(&self, by: Duration) {
        shift(&self.wall, nanos(by));
    }

    /// Somebody sets the wall clock back.
    pub fn set_back(&self, by: Duration) {
        shift(&self.wall, -nanos(by));
    }

    /// Somebody sets the wall clock forward. To a program it looks like [`suspend`](Self::suspend).
    pub fn set_forward(&self, by: Duration) {
        self.suspend(by);
    }

    pub(crate) fn now(&self) -> Now {
        let passed = nanos(self.since.elapsed());
        let read = |clock: &AtomicI64| {
            u64::try_from(clock.load(Ordering::SeqCst).saturating_add(passed)).unwrap_or(0)
        };
        Now { wall: read(&self.wall), mono: read(&self.mono) }
    }
}

fn shift(clock: &AtomicI64, by: i64) {
    // Never fails: the change is always wanted.
    let _ = clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| Some(at.saturating_add(by)));
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(saturating_nanos(duration)).unwrap_or(i64::MAX)
}
