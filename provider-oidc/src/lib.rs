#![doc = include_str!("docs.md")]

mod client_auth;
mod config;
mod grant;
mod http;
mod id_token;
mod json;
mod metadata;
mod oauth_error;
mod provider;
mod revoke;
mod token_endpoint;

pub use self::{
    client_auth::ClientAuth,
    config::{Flow, OidcBuilder},
    provider::Oidc,
};

/// The name under which this provider is registered and which its errors bear.
pub const PROVIDER: &str = "oidc";

#[cfg(test)]
mod fuzz;
