//! The vocabulary and the engine of keyfob.
//!
//! Depend on this crate to write a provider ([`CredentialProvider`]) or a store ([`TokenStore`]); to use keyfob in an
//! application, depend on the facade `keyfob`.
//!
//! # What can be seen of it
//! `tracing`: a span `keyfob` for each renewal, login, adoption and logout (`what`, `provider`, `issuer`, `label`), with events
//! in it for what was published, what failed and what was reported bad. No secret is in any of them.
//!
//! Counters, with the feature `metrics`:
//!
//! | Counter | Counts |
//! |---|---|
//! | `keyfob_exchanges_total` | requests for a token that a provider was asked to make |
//! | `keyfob_tokens_published_total` | tokens that are served from then on: exchanged, or found in the store |
//! | `keyfob_failures_total` | failed attempts, by `kind` of error |
//! | `keyfob_unsaved_total`, `keyfob_saved_total` | renewals that could not be saved, and were in the end |
//! | `keyfob_logins_total`, `keyfob_logouts_total` | logins (adopted ones too) and logouts |
//! | `keyfob_invalidations_total` | tokens that were reported bad and retired |

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
mod sync;
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
