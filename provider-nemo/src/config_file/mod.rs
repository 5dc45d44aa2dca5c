#![doc = include_str!("docs.md")]

mod config;
mod edit;
mod format;
mod store;
mod yaml;

pub use self::store::{Connection, NemoStore};

/// The name under which the store is registered.
pub const KIND: &str = "nemo";
