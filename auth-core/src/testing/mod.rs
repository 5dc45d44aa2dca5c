//! What tests need, keyfob's own and those of applications: no server, no network, no waiting.
//!
//! - [`ScriptedProvider`] answers what a test says, and counts.
//! - [`FakeClock`] is moved, [`FaultyStore`] fails, when a test says so.
//! - [`store`] and [`provider`] are the conformance suites that every store and every provider has to pass.

mod clock;
mod faults;
pub mod provider;
mod scripted;
pub mod store;

pub use self::{
    clock::FakeClock,
    faults::{FaultyStore, StoreCall, StoreFault},
    scripted::{ScriptedProvider, Step},
};
