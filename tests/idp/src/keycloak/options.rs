//! How a server is to be started.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable that names another version of Keycloak.
pub const VERSION_VARIABLE: &str = "KEYFOB_KEYCLOAK_VERSION";

const DEFAULT_VERSION: &str = "26.7.4";

/// How to start a [`Keycloak`](super::Keycloak).
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the distribution is unpacked and logs are written; `keycloak` in cargo's target directory by default.
    /// Test processes may share it. Its path must have no space or quote: Keycloak's script would stumble.
    pub folder: PathBuf,
    /// The version, by default the one in `KEYFOB_KEYCLOAK_VERSION`, else the one the tests were written with.
    pub version: String,
    /// The loopback port, or a free one.
    pub port: Option<u16>,
    /// How long an access token lives.
    pub access_token_lifetime: Duration,
    /// How long a session, and with it a refresh token, outlives its last use.
    pub refresh_idle: Duration,
    /// The polling interval the device endpoint announces.
    pub device_interval: Duration,
    /// Where the database is, as a path without an ending, so that it survives a restart and the end of the process; by
    /// default it is in memory. Its path must have no semicolon.
    pub database: Option<PathBuf>,
    /// Whether the server speaks TLS, by an authority of its own, and asks for client certificates: see
    /// [`Keycloak::authority`](super::Keycloak::authority).
    pub tls: bool,
    /// How long the server may take to answer after its start.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: target().join("keycloak"),
            version: std::env::var(VERSION_VARIABLE)
                .ok()
                .filter(|version| !version.is_empty())
                .unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
            port: None,
            access_token_lifetime: Duration::from_secs(60),
            refresh_idle: Duration::from_secs(30 * 60),
            device_interval: Duration::from_secs(1),
            database: None,
            tls: false,
            patience: Duration::from_secs(5 * 60),
        }
    }
}

/// Cargo's target directory.
fn target() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is in tests/idp");
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace.join(folder),
        None => workspace.join("target"),
    }
}
