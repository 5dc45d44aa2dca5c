//! `keyfob token` with a valid stored token: a look at a file, and no more. What the file cannot answer goes the ordinary
//! way.
#![cfg(all(feature = "cli", feature = "oidc", feature = "static", feature = "store-file", unix))]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use keyfob::{
    Binding, Identity, RequestKey, TokenStore as _,
    store::{LoginKey, Record, Saved, StoredToken},
    store_file::FileStore,
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use support::{Home, assert_fails};

/// Nobody answers there.
const NOWHERE: &str = "http://127.0.0.1:9";
const LIFE: u64 = 600;

/// A service's profile, and one whose tokens are in no store.
fn home(issuer: &str, literal: &str) -> Home {
    Home::new(&format!(
        "default_profile = \"service\"\n\
         [profile.service]\nprovider = \"oidc\"\nissuer = \"{issuer}\"\nclient_id = \"service\"\n\
         client_secret = \"service-secret\"\nstore = {{ kind = \"file\", path = \"tokens\" }}\n\
         [profile.literal]\nprovider = \"static\"\ntoken = \"{literal}\"\nstore = \"memory\"\n"
    ))
}

fn folder(home: &Home) -> PathBuf {
    home.file().with_file_name("tokens")
}

fn key(issuer: &str) -> LoginKey {
    let identity = Identity::new("oidc").grant("client_credentials").issuer(issuer);
    identity.client("service").label("service").into()
}

/// Stores a token that lives ten minutes, from then on.
fn store(home: &Home, issuer: &str, secret: &str, obtained_at: SystemTime) -> PathBuf {
    let (store, key) = (FileStore::open(folder(home)).unwrap(), key(issuer));
    let mut record = Record::default();
    record.put_token(StoredToken {
        request: RequestKey::default(),
        secret: secret.into(),
        obtained_at,
        expires_at: Some(obtained_at + Duration::from_secs(LIFE)),
        refresh_in: None,
        scopes: None,
        binding: Binding::None,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let saved = runtime.block_on(store.save(&key, Some(&record), None, None)).unwrap();
    assert!(matches!(saved, Saved::Written(_)));
    folder(home).join(format!("{}.json", key.fingerprint()))
}

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

#[test]
fn what_the_file_cannot_answer_goes_the_ordinary_way() {
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    for (obtained_at, command, is_stored, requests) in [
        (ago(10), "token", true, 0),
        (ago(10), "token --refresh", false, 1),
        // Inside the early window: it serves, and its renewal is not cut off.
        (ago(LIFE - 20), "token", true, 1),
        (ago(LIFE + 10), "token", false, 1),
        // Obtained in the future is stale.
        (ahead, "token", true, 1),
    ] {
        let server = AuthorizationServer::start_on_own_thread(Settings::default());
        let home = home(server.issuer(), "abc");
        store(&home, server.issuer(), "stored", obtained_at);
        let first = home.run(command);
        assert_eq!((first.code, first.err.as_str()), (0, ""), "{command}");
        assert_eq!(first.out == "stored\n", is_stored, "{command}: {}", first.out);
        assert_eq!(server.counters().token, requests, "{command}");
        let next = home.run("token").out;
        assert_eq!(next == "stored\n", requests == 0, "{command}: what was renewed is kept");
        assert_eq!(server.counters().token, requests, "{command}: and serves");
    }
}

#[test]
fn a_failed_early_renewal_is_not_heard_of() {
    let server = AuthorizationServer::start_on_own_thread(Settings::default());
    server.faults().set_always(Endpoint::Token, Some(Fault::unavailable(Some(60))));
    let home = home(server.issuer(), "abc");
    store(&home, server.issuer(), "stored", ago(LIFE - 20));
    for _ in 0..2 {
        let ran = home.run("token");
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "stored\n", ""));
    }
    assert_eq!(server.counters().token, 1, "the second finds the failure on record");
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let home = home(NOWHERE, "abc");
    let file = store(&home, NOWHERE, "marker-secret", ago(10));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_fails(&home.run("token"), 1, &["is open to others (mode 0644)", "chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run("token").out, "marker-secret\n");
    fs::write(&file, "damage").unwrap();
    let ran = home.run("token");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("error: no token record in") && ran.err.contains("moved to"), "{}", ran.err);
    assert!(!file.exists());
}

#[cfg(target_os = "linux")]
mod process {
    use std::{
        collections::BTreeSet,
        io::Read as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A JWT that no pipe holds as a whole, so that whoever prints it stands still meanwhile. Its claims are
    /// `{"sub":"xx…"}`.
    fn long_jwt() -> String {
        format!("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4{}eCJ9.sig", "eHh4".repeat(50_000))
    }

    const FORMS: [&str; 4] = ["token", "token --header", "token --decode", "token --verbose"];

    /// How many threads it has, and whether it has what a runtime waits for events with.
    fn look(child: &Child) -> (usize, bool) {
        let place = PathBuf::from(format!("/proc/{}", child.id()));
        let files = fs::read_dir(place.join("fd")).unwrap().map(|file| fs::read_link(file.unwrap().path()));
        let waits = files.flatten().any(|file| file.to_string_lossy().contains("eventpoll"));
        (fs::read_dir(place.join("task")).unwrap().count(), waits)
    }

    /// Looks at the command while it prints.
    fn while_printing(home: &Home, arguments: &str) -> (usize, bool) {
        let mut child = home.command(arguments).stderr(Stdio::null()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0];
        out.read_exact(&mut first).unwrap();
        let seen = look(&child);
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > 100_000 && rest.ends_with(b"\n"), "{arguments}");
        assert!(child.wait().unwrap().success(), "{arguments}");
        seen
    }

    #[test]
    fn a_stored_token_takes_one_thread_and_no_runtime() {
        let home = home(NOWHERE, &long_jwt());
        store(&home, NOWHERE, &long_jwt(), ago(10));
        for form in FORMS {
            assert_eq!(while_printing(&home, form), (1, false), "{form}");
        }
        let (threads, waits) = while_printing(&home, "token --profile literal");
        assert!(threads > 1 && waits, "what is made otherwise is seen: {threads} threads");
    }

    /// The names of the system calls that the command makes, and the files that it opens; `None` where it cannot be
    /// traced.
    fn trace(home: &Home, arguments: &str) -> Option<(BTreeSet<String>, Vec<String>)> {
        let plain = home.command(arguments);
        let log = home.file().with_file_name("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(&log).arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
        assert!(!output.stdout.is_empty());
        let log = fs::read_to_string(log).unwrap();
        // A line is `4711 openat(AT_FDCWD, "/etc/hosts", …) = 3`.
        let calls = log.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
        let (mut names, mut opened) = (BTreeSet::new(), Vec::new());
        for (name, rest) in calls {
            names.insert(name.to_owned());
            opened.extend(rest.split('"').nth(1).filter(|_| name.starts_with("open")).map(str::to_owned));
        }
        Some((names, opened))
    }

    #[test]
    fn a_stored_token_asks_the_system_for_little() {
        let home = home(NOWHERE, "abc");
        let file = store(&home, NOWHERE, "stored", ago(10));
        let Some((otherwise, opened)) = trace(&home, "token --profile literal") else {
            eprintln!("skipped: no strace here, or it may not trace");
            return;
        };
        // Threads, runtimes, connections, walks through folders, other programs' answers.
        let costly = [
            "clone",
            "clone3",
            "epoll_create1",
            "eventfd2",
            "fork",
            "getdents64",
            "pipe2",
            "socket",
            "vfork",
        ];
        assert!(otherwise.contains("epoll_create1"), "what is made otherwise is seen: {otherwise:?}");
        for form in ["token", "token --header"] {
            let (calls, files) = trace(&home, form).unwrap();
            let made: Vec<_> = costly.iter().filter(|name| calls.contains(**name)).collect();
            assert!(made.is_empty(), "{form}: {made:?}");
            // Beside what every program opens: the configuration and the record.
            let ours: Vec<_> = files.iter().filter(|file| !opened.contains(file)).collect();
            assert_eq!(ours, [file.to_str().unwrap()], "{form}");
        }
    }
}
