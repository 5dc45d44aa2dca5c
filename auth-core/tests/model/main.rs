//! The model and the traits, tried on four things that are awkward in four ways: what the architecture asks to be done
//! before anything is built on it. Fakes, small on purpose; the real ones are their own crates' business.
//! What they showed is written down in `docs/decisions/0001-model.md`.
#![cfg(feature = "testing")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod dpop;
mod msal;
mod redis;
mod usnan;

use std::time::Duration;

use keyfob_auth_core::{Context, testing::FakeClock};
use tokio::runtime::Handle;

/// A context on the test's own paused time.
fn process() -> Context {
    Context::builder().executor(Handle::current()).clock(FakeClock::new().clock()).build()
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
