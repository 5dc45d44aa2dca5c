//! One login with the platform's own command and SDK, nemo-platform 0.6.0; runs when `KEYFOB_E2E=nemo` is set.
//!
//! No platform is needed: the embedded server plays it and its identity provider.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod python;
mod race;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use keyfob_auth_core::{AuthError, Context, ErrorKind, NoInteraction, Session, Token};
use keyfob_idp::server::{AuthorizationServer, Settings};
use keyfob_provider_nemo::{Nemo, config_file::NemoStore};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Mutex;

use self::{
    common::{DISCOVERY, literal, oidc, platform},
    python::{Python, Ran},
};

/// Whose turn it is: what races is to have the machine for itself.
static TURN: Mutex<()> = Mutex::const_new(());

/// What the SDK asks for.
const API: &str = "/apis/entities/v2/workspaces";
const SDK_CALL: &str = "from nemo_platform import NeMoPlatform; NeMoPlatform().workspaces.list()";

/// A platform, and a folder with the configuration of its clients.
struct World {
    python: Python,
    server: AuthorizationServer,
    folder: TempDir,
}

impl World {
    fn new(python: Python, settings: Settings) -> Self {
        let mut settings = Settings { ..settings };
        settings.documents.insert(API.into(), json!({"data": [], "pagination": null, "object": "list"}));
        let server = AuthorizationServer::start_on_own_thread(settings);
        Self { python, server, folder: tempfile::tempdir().unwrap() }
    }

    /// A platform whose tokens live for ten minutes.
    fn calm(python: Python) -> Self {
        let life = Duration::from_secs(600);
        Self::new(python, Settings { access_token_lifetime: life, ..platform(&oidc(json!({}))) })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// A session of another process, as far as it can tell: it shares the file and nothing else.
    fn session(&self) -> Session {
        let context = Context::new();
        let store = NemoStore::open(self.file()).unwrap().base_url(self.server.issuer()).unwrap();
        let nemo = Nemo::from_config(store.clone()).build(&context).unwrap();
        Session::new(Arc::new(nemo), Arc::new(store), &context).unwrap()
    }

    /// Logs in as keyfob does, by alice's password.
    async fn log_in(&self) -> Token {
        let context = Context::new();
        let store = NemoStore::open(self.file()).unwrap().base_url(self.server.issuer()).unwrap();
        let nemo = Nemo::builder(self.server.issuer()).username("alice").password(literal("alice-password"));
        let session =
            Session::new(Arc::new(nemo.build(&context).unwrap()), Arc::new(store), &context).unwrap();
        session.login(Arc::new(NoInteraction)).await.unwrap()
    }

    /// Logs in as their command does.
    fn log_them_in(&self) {
        let url = self.server.issuer();
        self.nemo(&format!("auth login --base-url {url} --username alice --password alice-password"));
    }

    #[track_caller]
    fn nemo(&self, arguments: &str) -> Ran {
        Ran::succeeds(self.python.nemo(self.folder.path(), arguments))
    }

    #[track_caller]
    fn sdk_call(&self) {
        Ran::succeeds(self.python.script(self.folder.path(), SDK_CALL, ""));
    }

    /// What the last request to the platform's API was sent with.
    fn presented(&self) -> Option<String> {
        let requests = self.server.requests();
        let last = requests.iter().rfind(|request| request.path == API)?;
        last.header("authorization")?.strip_prefix("Bearer ").map(str::to_owned)
    }

    /// How often which grant succeeded, and that none failed.
    #[track_caller]
    fn assert_grants(&self, passwords: u64, refreshes: u64) {
        let counters = self.server.counters();
        let successes = |grant| counters.successes_of(grant);
        assert_eq!((successes("password"), successes("refresh_token")), (passwords, refreshes));
        assert_eq!(counters.token, passwords + refreshes);
    }
}

fn kind(outcome: Result<Token, AuthError>) -> ErrorKind {
    outcome.expect_err("nobody is logged in").kind()
}

#[tokio::test]
async fn keyfob_uses_the_login_of_their_command() {
    let Some(python) = Python::for_tests() else { return };
    let _turn = TURN.lock().await;
    let world = World::calm(python);
    world.log_them_in();
    let session = world.session();
    let token = session.token().await.unwrap();
    world.sdk_call();
    assert_eq!(world.presented().as_deref(), Some(token.secret()), "one token for both");
    world.assert_grants(1, 0);

    // What keyfob renews, they use; and the other way round.
    let renewed = session.refresh().await.unwrap();
    assert_ne!(renewed.secret(), token.secret());
    world.nemo("workspaces list");
    assert_eq!(world.presented().as_deref(), Some(renewed.secret()));
    world.nemo("auth refresh");
    let theirs = world.session().token().await.unwrap();
    assert_ne!(theirs.secret(), renewed.secret());
    world.assert_grants(1, 2);
    // The session that was there before finds the newer refresh token, not the spent one.
    session.refresh().await.unwrap();
    world.assert_grants(1, 3);
    let account = world.session().status().await.unwrap().account;
    assert_eq!(account.map(|account| account.subject).as_deref(), Some("subject-alice"));
}

#[tokio::test]
async fn their_command_and_sdk_use_the_login_of_keyfob() {
    let Some(python) = Python::for_tests() else { return };
    let _turn = TURN.lock().await;
    let world = World::calm(python);
    let token = world.log_in().await;
    world.sdk_call();
    assert_eq!(world.presented().as_deref(), Some(token.secret()));
    world.nemo("workspaces list");
    assert_eq!(world.presented().as_deref(), Some(token.secret()));
    let status = world.nemo("auth status").out;
    assert!(status.contains("subject-alice") && status.contains("available"), "{status}");
    assert_eq!(world.nemo("auth token").out.trim(), token.secret());
    world.assert_grants(1, 0);
    world.nemo("auth refresh");
    let theirs = world.session().token().await.unwrap();
    assert_ne!(theirs.secret(), token.secret());
    world.assert_grants(1, 1);
}

#[tokio::test]
async fn a_logout_on_either_side_is_one_on_both() {
    let Some(python) = Python::for_tests() else { return };
    let _turn = TURN.lock().await;
    let world = World::calm(python);
    world.log_them_in();
    let session = world.session();
    session.token().await.unwrap();
    world.nemo("auth logout");
    assert_eq!(kind(session.refresh().await), ErrorKind::LoginRequired);
    assert_eq!(kind(world.session().token().await), ErrorKind::LoginRequired);
    world.assert_grants(1, 0);

    world.log_in().await;
    world.nemo("auth token");
    world.session().logout().await.unwrap();
    let counters = world.server.counters();
    let revoked = (counters.revocation, counters.families_revoked);
    assert_eq!(revoked, (2, 1), "theirs revokes nothing, keyfob the refresh token and the access token");
    let gone = Ran::of(world.python.nemo(world.folder.path(), "auth token"));
    assert_ne!(gone.code, Some(0), "{gone:?}");
    world.sdk_call();
    assert_eq!(world.presented(), None, "the SDK sends nothing");
    assert!(fs::read_to_string(world.file()).unwrap().contains("type: no-auth"));
    world.assert_grants(2, 0);
    let discoveries = world.server.requests().iter().filter(|request| request.path == DISCOVERY).count();
    assert!(discoveries > 0);
}
