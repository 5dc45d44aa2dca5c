#![doc = include_str!("docs.md")]

mod callback;
mod cave;
mod content;
mod header;
mod json;
mod provider;

use std::sync::atomic::{AtomicU64, Ordering};

use keyfob_auth_core::Identity;

pub use self::{
    cave::{Cave, NewToken},
    provider::StaticToken,
};

/// An identity that no other provider has: neither a secret nor a closure may be part of it, yet two of them in one context
/// must not be taken for the same.
fn unique(kind: &str, grant: &str) -> Identity {
    static MADE: AtomicU64 = AtomicU64::new(1);
    Identity::new(kind).grant(grant).client(format!("#{}", MADE.fetch_add(1, Ordering::Relaxed)))
}
