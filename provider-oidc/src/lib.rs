#![doc = include_str!("docs.md")]

mod assertion;
mod binding;
pub mod browser;
mod callback;
mod client_auth;
mod config;
mod document;
#[cfg(feature = "jose")]
mod dpop;
mod explain;
mod grant;
mod http;
mod id_token;
mod introspection;
#[cfg(feature = "jose")]
pub mod jose;
mod json;
mod logout;
mod metadata;
mod oauth_error;
mod provider;
mod recent;
mod revoke;
mod signer;
mod token_endpoint;
mod user_info;
mod warnings;

pub use self::{
    assertion::AssertionAudience,
    client_auth::ClientAuth,
    config::{Flow, OidcBuilder, ResponseMode},
    explain::{Exchange, Observer, explain},
    id_token::{IdTokenClaims, claims_of},
    introspection::Introspection,
    provider::Oidc,
    signer::Signer,
    warnings::asked_scopes,
};

/// The name under which this provider is registered and which its errors bear.
pub const PROVIDER: &str = "oidc";

#[cfg(test)]
mod fuzz;
