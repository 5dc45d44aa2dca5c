//! The reqwest middleware against servers on loopback, with exact counts of what they and the provider were asked.
#![cfg(feature = "middleware")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests call, which the lints' exception for tests does not see"
)]

mod attaching;
mod foreign;
mod login_pages;
mod proofs;
mod redirects;
mod replays;
mod support;
