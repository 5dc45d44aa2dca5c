#![doc = include_str!("docs.md")]

mod builder;
mod direct;
mod endings;
mod provider;
mod roles;
pub mod usnan;

pub use self::{builder::KeycloakBuilder, provider::Keycloak, roles::Roles};

/// The name under which this provider is registered and which its errors bear.
pub const PROVIDER: &str = "keycloak";
