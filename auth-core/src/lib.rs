//! The vocabulary and the engine of keyfob.
//!
//! Depend on this crate to write a provider ([`CredentialProvider`]) or a store ([`TokenStore`]); to use keyfob in an
//! application, depend on the facade `keyfob`.

pub mod authorize;
mod clock;
mod context;
mod error;
mod interaction;
mod login;
#[cfg(feature = "middleware")]
pub mod middleware;
mod provider;
pub mod registry;
mod session;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod wire;

pub use async_trait::async_trait;
pub use secrecy::{ExposeSecret, SecretString};

pub use self::{
    clock::Clock,
    context::{Context, ContextBuilder, Limits},
    error::{AuthError, ErrorKind},
    interaction::{DeviceCode, Interaction, NoInteraction, Prompt, Question},
    login::{Account, Acquired, Login},
    provider::{
        Challenge, CredentialProvider, Identity, Keep, LoginRequest, RequestKey, Subject, TokenRequest,
    },
    session::{Event, Events, Freshness, LastError, LogoutReport, Session, SessionBuilder, Status, Token},
    store::TokenStore,
    token::{AccessToken, Binding, Lifetime, Presentation, RequestSigner, Scopes, jwt_expiry},
};
