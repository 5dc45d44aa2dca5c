//! Two processes of their SDK, their `auth refresh` again and again, and four processes of keyfob's share one file, and a
//! server whose tokens live for three seconds and whose refresh tokens are good once.
//!
//! Their SDK renews before every call then, under the lock; its calls come in bursts. Their command takes no lock and does not read the file again, so
//! it and the SDK fail each other; how often is counted without keyfob and with it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use keyfob_auth_core::{Context, Session};
use keyfob_idp::server::{Counters, Settings};
use keyfob_provider_nemo::{Nemo, config_file::NemoStore};
use serde_json::{Value, json};

use crate::{
    TURN, World,
    common::{oidc, platform},
    python::{Python, Ran, say},
};

const LIFETIME: Duration = Duration::from_secs(3);
const SDKS: usize = 2;
const KEYFOBS: usize = 4;
/// How many seconds each run takes; `KEYFOB_E2E_SECONDS` says another number.
const SECONDS: u64 = 20;

/// Set for a process that races: the configuration, how long, and where the report goes.
const ROLE: [&str; 3] = ["KEYFOB_E2E_RACE_FILE", "KEYFOB_E2E_RACE_SECONDS", "KEYFOB_E2E_RACE_REPORT"];

const SDK: &str = "
import json, random, sys, time
import httpx._client
httpx._client.USER_AGENT = 'sdk'
from nemo_platform import NeMoPlatform
calls, failures, client = 0, {}, None
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    try:
        client = client or NeMoPlatform()
        client.workspaces.list()
    except Exception as error:
        name = f'{type(error).__name__}: {str(error)[:60]}'
        failures[name] = failures.get(name, 0) + 1
    calls += 1
    # It renews before each call; in the pauses the others have to.
    time.sleep(0.05 if calls % 5 else random.uniform(1, 6))
print(json.dumps({'calls': calls, 'failures': failures}))
";

/// What one kind of process came to, all together.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    failures: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, report: &Value) {
        self.calls += report["calls"].as_u64().unwrap();
        for (what, times) in report["failures"].as_object().unwrap() {
            *self.failures.entry(what.clone()).or_default() += times.as_u64().unwrap();
        }
    }

    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

#[derive(Debug)]
struct Outcome {
    sdk: Tally,
    command: Tally,
    keyfob: Tally,
    server: Counters,
    /// Who asked for a refresh with which token, in order.
    spent: BTreeMap<String, Vec<Who>>,
}

/// Who asks the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Sdk,
    Command,
    Keyfob,
}

impl Who {
    fn of(user_agent: &str) -> Self {
        match user_agent {
            "sdk" => Self::Sdk,
            agent if agent.starts_with("python-httpx/") => Self::Command,
            _ => Self::Keyfob,
        }
    }
}

impl Outcome {
    fn by_keyfob(&self) -> usize {
        self.spent.values().flatten().filter(|who| **who == Who::Keyfob).count()
    }

    /// The tokens that were spent again, and not because of the command, which locks nothing: by whom.
    fn against_the_lock(&self) -> Vec<&Vec<Who>> {
        self.spent.values().filter(|spent| spent.len() > 1 && !spent.contains(&Who::Command)).collect()
    }

    fn assert_all_took_part(&self) {
        let least = seconds() / 4;
        assert!(self.sdk.calls > least && self.keyfob.calls > 10 * least && self.by_keyfob() > 0, "{self:?}");
    }

    fn tell(&self, what: &str) {
        let counters = &self.server;
        say(&format!(
            "{what}: {} refreshes asked for ({} by keyfob), {} granted, {} with a spent token",
            counters.requests_of("refresh_token"),
            self.by_keyfob(),
            counters.successes_of("refresh_token"),
            counters.reuse,
        ));
        for (who, tally) in
            [("SDK", &self.sdk), ("nemo auth refresh", &self.command), ("keyfob", &self.keyfob)]
        {
            if tally.calls > 0 {
                say(&format!(
                    "    {who}: {} calls, {} failed {:?}",
                    tally.calls,
                    tally.failed(),
                    tally.failures
                ));
            }
        }
    }
}

fn seconds() -> u64 {
    env::var("KEYFOB_E2E_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// A platform with alice logged in by their command.
fn world(python: &Python, reuse_detection: bool) -> World {
    let settings =
        Settings { access_token_lifetime: LIFETIME, reuse_detection, ..platform(&oidc(json!({}))) };
    let world = World::new(python.clone(), settings);
    world.log_them_in();
    world.server.reset_counters();
    world
}

fn run(world: &World, with_command: bool, keyfobs: usize) -> Outcome {
    let (seconds, folder) = (seconds(), world.folder.path());
    let until = Instant::now() + Duration::from_secs(seconds);
    let sdks: Vec<Child> =
        (0..SDKS).map(|_| start(world.python.script(folder, SDK, &seconds.to_string()))).collect();
    let keyfobs: Vec<(Child, PathBuf)> = (0..keyfobs)
        .map(|n| {
            let report = folder.join(format!("report-{n}"));
            (start(racer(&world.file(), seconds, &report)), report)
        })
        .collect();
    let mut command = Tally::default();
    while with_command && Instant::now() < until {
        let ran = Ran::of(world.python.nemo(folder, "auth refresh"));
        command.calls += 1;
        if ran.code != Some(0) {
            let line = [&ran.err, &ran.out]
                .into_iter()
                .flat_map(|text| text.lines())
                .rfind(|line| line.contains("rror"));
            let line = line.unwrap_or("no message").chars().take(100).collect();
            *command.failures.entry(line).or_default() += 1;
        }
    }
    let (mut sdk, mut keyfob) = (Tally::default(), Tally::default());
    for child in sdks {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        sdk.add(&serde_json::from_slice(&output.stdout).unwrap());
    }
    for (mut child, report) in keyfobs {
        assert!(child.wait().unwrap().success());
        keyfob.add(&serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap());
    }
    let mut spent = BTreeMap::<String, Vec<Who>>::new();
    for request in world.server.requests() {
        if let Some(token) = request.parameter("refresh_token") {
            spent
                .entry(token.to_owned())
                .or_default()
                .push(Who::of(request.header("user-agent").unwrap_or_default()));
        }
    }
    Outcome { sdk, command, keyfob, server: world.server.counters(), spent }
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// This program again, in a process that finds its role in its environment.
fn racer(file: &Path, seconds: u64, report: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "race::races", "--nocapture"]);
    command.env(ROLE[0], file).env(ROLE[1], seconds.to_string()).env(ROLE[2], report);
    command
}

/// A part for the other processes, and no test.
#[tokio::test]
async fn races() {
    let [Some(file), Some(seconds), Some(report)] = ROLE.map(|name| env::var(name).ok()) else { return };
    let context = Context::new();
    let store = NemoStore::open(file).unwrap();
    let nemo = Nemo::from_config(store.clone()).build(&context).unwrap();
    let session = Session::new(Arc::new(nemo), Arc::new(store), &context).unwrap();
    let until = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let (mut calls, mut failures) = (0, BTreeMap::<String, u64>::new());
    while Instant::now() < until {
        let asked = SystemTime::now();
        calls += 1;
        // More than by itself, and mostly shared with what others renewed.
        let token = if calls % 40 == 0 { session.refresh().await } else { session.token().await };
        let failure = match token {
            Ok(token) if token.expires_at().is_some_and(|at| at <= asked) => {
                "got an expired token".to_owned()
            }
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        if !failure.is_empty() {
            *failures.entry(failure).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(session.drain(Duration::from_secs(20)).await);
    fs::write(report, json!({"calls": calls, "failures": failures}).to_string()).unwrap();
}

/// What is left works for everybody.
async fn assert_everybody_is_logged_in(world: &World) {
    world.sdk_call();
    world.nemo("auth refresh");
    world.session().refresh().await.unwrap();
    world.sdk_call();
}

/// With the SDK alone keyfob shares without a single refresh token spent twice: one would end the login.
#[tokio::test(flavor = "multi_thread")]
async fn keyfob_and_the_sdk_spend_every_refresh_token_once() {
    let Some(python) = Python::for_tests() else { return };
    let _turn = TURN.lock().await;
    let world = world(&python, true);
    let outcome = tokio::task::block_in_place(|| run(&world, false, KEYFOBS));
    outcome.tell("2 SDKs and 4 keyfobs, a spent token ends the login");
    let Outcome { sdk, keyfob, server, .. } = &outcome;
    assert_eq!((server.reuse, server.families_killed, server.invalid_grant), (0, 0, 0));
    assert_eq!((sdk.failed(), keyfob.failed()), (0, 0));
    outcome.assert_all_took_part();
    assert_everybody_is_logged_in(&world).await;
}

/// With their command in it, which locks nothing, its calls fail and sometimes the SDK's: as without keyfob, only by what the
/// command does. Keyfob's do not, and in the end all are logged in.
#[tokio::test(flavor = "multi_thread")]
async fn keyfob_makes_nothing_worse_among_clients_that_do_not_lock() {
    let Some(python) = Python::for_tests() else { return };
    let _turn = TURN.lock().await;
    let alone = tokio::task::block_in_place(|| run(&world(&python, false), true, 0));
    alone.tell("2 SDKs and the command, without keyfob");
    let world = world(&python, false);
    let together = tokio::task::block_in_place(|| run(&world, true, KEYFOBS));
    together.tell("2 SDKs, the command and 4 keyfobs");
    assert_eq!(together.keyfob.failures, BTreeMap::new());
    assert_eq!(
        together.against_the_lock(),
        [] as [&Vec<Who>; 0],
        "whoever locks spends no token that was spent"
    );
    assert!(together.command.calls > 0);
    together.assert_all_took_part();
    assert_everybody_is_logged_in(&world).await;
}
