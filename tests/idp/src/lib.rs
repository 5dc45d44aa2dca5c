//! The peers of keyfob's tests: an embedded authorization server, a person who signs in there, and a harness for a real
//! Keycloak.
// A test tool: it may panic where a test would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod html;
pub mod keycloak;
pub mod person;
pub mod python;
pub mod server;
