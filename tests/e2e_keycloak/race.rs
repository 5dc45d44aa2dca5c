//! Eight processes share one login whose tokens live for two seconds; with `KEYFOB_E2E_LONG` set, for five seconds, during a
//! minute.

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use keyfob::{Context, Session, keycloak::Keycloak, oidc::Flow, store_file::FileStore};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Turn,
    app::{is_active, sign_in},
    events::refreshes,
    say, set_lifetime,
};

const PROCESSES: usize = 8;
const TASKS: usize = 25;

/// How long a token lives, and how long they race, in seconds.
fn times() -> (u64, u64) {
    if env::var_os("KEYFOB_E2E_LONG").is_some() { (5, 60) } else { (2, 16) }
}

/// Set for a process that races: the server, the store, and where the report goes.
const ROLE: [&str; 3] = ["KEYFOB_E2E_RACE_SERVER", "KEYFOB_E2E_RACE_STORE", "KEYFOB_E2E_RACE_REPORT"];

#[tokio::test]
async fn eight_processes_share_one_login() {
    if let [Some(server), Some(store), Some(report)] = ROLE.map(|name| env::var(name).ok()) {
        let done = race(&server, Path::new(&store)).await;
        return fs::write(report, done.to_string()).unwrap();
    }
    let Some(keycloak) = Turn::wait("eight processes share one login").await else { return };
    let (lifetime, seconds) = times();
    set_lifetime(&keycloak, lifetime).await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("logins");
    let session = session(keycloak.base(), &store);
    sign_in(&session, &keycloak, "alice", false).await.unwrap();
    let first = session.token().await.unwrap().secret().to_owned();
    drop(session);
    let sessions = keycloak.session_count("alice").await.unwrap();

    let reports = tempfile::tempdir().unwrap();
    let racers: Vec<_> = (0..PROCESSES)
        .map(|n| {
            let report = reports.path().join(n.to_string());
            (start(keycloak.base(), &store, &report), report)
        })
        .collect();
    let reports: Vec<Value> = racers.into_iter().map(|(racer, report)| finish(racer, &report)).collect();

    let mut tokens = BTreeSet::new();
    let mut calls = 0;
    for report in &reports {
        assert_eq!(report["failures"], json!([]), "nobody sees a failure");
        let seen: Vec<_> = report["tokens"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert!(seen.len() as u64 >= seconds / lifetime / 2, "every process takes part: {report}");
        tokens.extend(seen);
        calls += report["calls"].as_u64().unwrap();
    }
    tokens.remove(&json!(first).to_string());
    let exchanges = refreshes(&keycloak).await.each_once();
    say(&format!("  {calls} calls, {} generations of tokens, {exchanges} exchanges", tokens.len()));
    assert_eq!(exchanges, tokens.len(), "one exchange for each generation");

    // Nobody was logged out, and what is in the store works.
    assert_eq!(keycloak.session_count("alice").await.unwrap(), sessions);
    let token = crate::race::session(keycloak.base(), &store).refresh().await.unwrap();
    assert!(is_active(&keycloak, token.secret()).await);
    assert_eq!(refreshes(&keycloak).await.each_once(), exchanges + 1);
}

/// A session with Keycloak's own provider on a store in this folder.
fn session(server: &str, store: &Path) -> Session {
    let context = Context::new();
    let provider = Keycloak::builder(server, "test", "native").flow(Flow::Device).build(&context).unwrap();
    let store = FileStore::open(store).unwrap();
    Session::new(Arc::new(provider), Arc::new(store), &context).unwrap()
}

/// This test again, in a process of its own that finds a role in its environment.
fn start(server: &str, store: &Path, report: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "race::eight_processes_share_one_login", "--nocapture"]);
    command.env(ROLE[0], server).env(ROLE[1], store).env(ROLE[2], report);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn finish(mut racer: Child, report: &Path) -> Value {
    assert!(racer.wait().unwrap().success());
    serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap()
}

/// Many tasks use tokens for a while.
async fn race(server: &str, store: &Path) -> Value {
    let session = session(server, store);
    let until = Instant::now() + Duration::from_secs(times().1);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(work(session.clone(), until));
    }
    let done = tasks.join_all().await;
    // A renewal that nobody has seen yet counts too.
    assert!(session.drain(Duration::from_secs(20)).await);
    let last = session.cached().map(|token| token.secret().to_owned());
    let tokens: BTreeSet<_> = done.iter().flat_map(|work| work.tokens.clone()).chain(last).collect();
    let failures: BTreeSet<_> = done.iter().flat_map(|work| &work.failures).collect();
    let calls: u64 = done.iter().map(|work| work.calls).sum();
    json!({ "calls": calls, "tokens": tokens, "failures": failures })
}

#[derive(Default)]
struct Work {
    calls: u64,
    tokens: BTreeSet<String>,
    failures: BTreeSet<String>,
}

async fn work(session: Session, until: Instant) -> Work {
    let mut work = Work::default();
    while Instant::now() < until {
        let asked = SystemTime::now();
        match session.token().await {
            Ok(token) if token.expires_at().is_some_and(|at| at <= asked) => {
                work.failures.insert(format!("got an expired token: {token:?}"));
            }
            Ok(token) => {
                work.tokens.insert(token.secret().to_owned());
            }
            Err(error) => {
                work.failures.insert(error.to_string());
            }
        }
        work.calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    work
}
