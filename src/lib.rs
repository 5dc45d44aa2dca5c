//! keyfob: credentials for Rust services.
pub use keyfob_auth_core::*;
