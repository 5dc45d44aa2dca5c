//! Tokens that are given: a literal, or what a callback of the application returns.
//!
//! Use it through the facade `keyfob` (feature `static`, module `static_token`).

mod provider;

pub use self::provider::StaticToken;
