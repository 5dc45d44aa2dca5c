//! The embedded authorization server judges what clients send as the RFCs say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod assertions;
mod authorization;
mod certificates;
mod dpop;
mod exchange;
mod id_token;
mod logout;
mod peer;
