//! What threads share and where tasks run: std's, arc-swap's and tokio's.
//!
//! In the unit tests of `cargo xtask model` (`cfg(keyfob_shuttle)`) shuttle's take their place, which decides at each of
//! their operations who goes on. tokio's locks and channels stay as they are: they wait by wakers alone, and are checked by
//! their own authors.

#[cfg(all(test, keyfob_shuttle))]
mod shuttled;

#[cfg(not(all(test, keyfob_shuttle)))]
pub(crate) use {
    arc_swap::ArcSwapOption,
    std::sync::{Mutex, MutexGuard, atomic},
    tokio::{
        runtime::{Builder, Handle, Runtime},
        task::JoinHandle,
        time::{sleep, timeout},
    },
};

#[cfg(all(test, keyfob_shuttle))]
pub(crate) use self::shuttled::*;
