//! Where tokens may go, and what an answer says about them.
//!
//! [`Origins`] lists the origins that get a session's token. [`Authorizer`] puts the token on one request and judges its
//! answer; it knows no HTTP client, only the `http` crate's types, so that every adapter (the reqwest
//! `middleware`, one for another client) decides alike. [`challenges`] reads `WWW-Authenticate`.

mod answer;
mod authorizer;
mod challenge;
mod origins;
mod outgoing;

#[cfg(feature = "middleware")]
pub(crate) use self::{authorizer::same_origin, outgoing::Outgoing};
pub use self::{
    authorizer::{Attempt, Authorizer, Verdict},
    challenge::{HttpChallenge, challenges},
    origins::{Origins, Policy, Target},
};
