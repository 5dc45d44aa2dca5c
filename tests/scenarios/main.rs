//! What keyfob promises, shown end to end: the facade, the embedded authorization server, real sockets, real files, real
//! processes, and every request counted.
//!
//! The module `slow` takes half a minute; `cargo test --test scenarios -- --skip slow` leaves it out.
#![cfg(all(feature = "middleware", feature = "oidc", feature = "store-file", feature = "testing", unix))]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

mod answer_lost;
mod child;
mod clock;
mod departure;
mod full_disk;
mod logout;
mod one_renewal;
mod outage;
mod overload;
mod rejected;
mod runtimes;
mod secrets;
mod slow;
mod world;
