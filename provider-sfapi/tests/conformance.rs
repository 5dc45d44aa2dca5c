//! `Sfapi` passes the provider suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::Nersc;
use keyfob_auth_core::testing::provider::{Capabilities, all};

#[tokio::test]
async fn a_client_with_a_key_conforms() {
    let nersc = Nersc::start().await;
    let pem = nersc.pem();
    let line = pem.lines().nth(2).unwrap();
    all(&nersc.provider(), &Capabilities::unattended().secrets([line])).await;
}
