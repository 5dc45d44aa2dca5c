//! The peers of keyfob's tests: an embedded authorization server, and a harness for a real Keycloak.
// A test tool: it may panic where a test would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod keycloak;
pub mod server;
