//! keyfob against a real Keycloak, as a library and as a command; runs when `KEYFOB_E2E=keycloak` is set.
//!
//! One server does for all scenarios. They take turns at it, each in a realm set back to how it was at first; how long
//! each took is told past the test runner, which would keep it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod app;
mod browser;
mod chromium;
mod clients;
mod codes;
mod command;
mod durable;
mod endings;
mod events;
mod keycloak;
mod limits;
mod logins;
mod machine;
mod outage;
mod race;
mod renewal;
#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{self, Write as _},
    ops::{Deref, DerefMut},
    thread,
    time::{Duration, Instant},
};

use keyfob_idp::keycloak::{Keycloak, Options};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// How long an access token lives where a scenario does not say otherwise, in seconds.
const LIFETIME: u64 = 60;

/// Whose turn it is at the server. It ends with the process.
static SERVER: OnceCell<Option<Mutex<Keycloak>>> = OnceCell::const_new();

/// A scenario's turn at the server.
struct Turn {
    keycloak: MutexGuard<'static, Keycloak>,
    scenario: &'static str,
    began: Instant,
}

impl Turn {
    /// Waits for it; `None` where the scenarios are to be skipped.
    async fn wait(scenario: &'static str) -> Option<Self> {
        let server = SERVER.get_or_init(start).await.as_ref()?;
        let mut keycloak = server.lock().await;
        let began = Instant::now();
        if keycloak.pid().is_none() {
            keycloak.restart().await.unwrap();
        }
        for user in ["alice", "bob"] {
            keycloak.log_out_user(user).await.unwrap();
        }
        let first = json!({
            "accessTokenLifespan": LIFETIME, "ssoSessionIdleTimeout": 1800, "ssoSessionMaxLifespan": 36000,
            "notBefore": 0,
        });
        keycloak.set_realm(&first).await.unwrap();
        events::begin(&keycloak).await;
        Some(Self { keycloak, scenario, began })
    }
}

impl Deref for Turn {
    type Target = Keycloak;

    fn deref(&self) -> &Keycloak {
        &self.keycloak
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Keycloak {
        &mut self.keycloak
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let word = if thread::panicking() { "FAILED" } else { "ok" };
        say(&format!("{word}, {:.1} s: {}", self.began.elapsed().as_secs_f64(), self.scenario));
    }
}

async fn start() -> Option<Mutex<Keycloak>> {
    let began = Instant::now();
    let options = Options { device_interval: Duration::from_secs(1), ..Options::default() };
    let keycloak = Keycloak::for_tests(options).await?;
    say(&format!("started, {:.1} s", began.elapsed().as_secs_f64()));
    Some(Mutex::new(keycloak))
}

async fn set_lifetime(keycloak: &Keycloak, seconds: u64) {
    keycloak.set_realm(&json!({ "accessTokenLifespan": seconds })).await.unwrap();
}

/// Tells something past the test runner.
fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "keycloak: {line}");
}
