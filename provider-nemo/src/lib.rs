#![doc = include_str!("docs.md")]

mod builder;
mod claims;
pub mod config_file;
mod discovery;
mod flow;
mod given;
mod platform;
mod profiles;
mod provider;
mod scopes;
mod unsigned;
mod workload;

pub use self::{
    builder::NemoBuilder,
    flow::{NemoFlow, RefreshScopes},
    provider::Nemo,
    unsigned::Unsigned,
};

/// The name under which this provider is registered and which its errors bear.
pub const PROVIDER: &str = "nemo";
