//! Another tool's file as a store, with a format made up for it: the refresh token on one line, the access token on the next.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

mod common;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{Actor, key, numbered, role, run, say};
use keyfob_auth_core::{
    ExposeSecret, Login, RequestKey, SecretString, TokenStore,
    store::{
        Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, StoredToken, TryLease, Version,
    },
    testing,
};
use keyfob_store_file::shared::{Change, Held, SharedFile, SharedStore, TokenFormat};

const NAME: &str = "their.file";

#[derive(Debug)]
struct Lines;

impl TokenFormat for Lines {
    fn kind(&self) -> &str {
        "lines"
    }

    fn check(&self, key: &LoginKey) -> Result<(), StoreError> {
        match key.client() {
            "stranger" => Err(StoreError::new(StoreErrorKind::Unsupported, "a stranger's key")),
            _ => Ok(()),
        }
    }

    fn read(&self, content: &[u8]) -> Result<Held, String> {
        let text = str::from_utf8(content).map_err(|_| "not UTF-8")?;
        let text = text.strip_suffix(".\n").ok_or("without its end")?;
        let (refresh, access) = text.split_once('\n').ok_or("without its second line")?;
        let token = |text: &str| (!text.is_empty()).then(|| SecretString::from(text.trim_end().to_owned()));
        Ok(Held { refresh_token: token(refresh), access_token: token(access) })
    }

    fn held(&self, record: &Record, _: &Held) -> Held {
        Held {
            refresh_token: record.login.as_ref().and_then(|login| login.refresh_token.clone()),
            access_token: record.token(&RequestKey::default()).map(|token| token.secret.clone()),
        }
    }

    fn rest(&self, record: &Record) -> Record {
        let mut rest = record.clone();
        if let Some(login) = &mut rest.login {
            login.refresh_token = None;
        }
        rest
    }

    fn join(&self, held: &Held, rest: Option<&Record>) -> Record {
        let mut record = rest.cloned().unwrap_or_default();
        if held.refresh_token.is_some() {
            record.login.get_or_insert_with(Login::default).refresh_token.clone_from(&held.refresh_token);
        }
        record
    }

    fn write(&self, _: Option<&[u8]>, held: &Held) -> Result<Change, String> {
        if held.is_empty() {
            return Ok(Change::Remove);
        }
        let text = |token: &Option<SecretString>| {
            token.as_ref().map_or(String::new(), |token| token.expose_secret().to_owned())
        };
        let (refresh, access) = (text(&held.refresh_token), text(&held.access_token));
        Ok(Change::Write(format!("{refresh}\n{access}\n.\n").into_bytes().into()))
    }
}

fn store(folder: &Path) -> SharedStore {
    SharedStore::new(Lines, SharedFile::at("a file of lines", folder.join(NAME)).unwrap())
}

/// A file of its own for every key, so that the suite's free keys have a place.
#[derive(Debug)]
struct PerKey(PathBuf);

impl PerKey {
    fn of(&self, key: &LoginKey) -> SharedStore {
        store(&self.0.join(key.fingerprint()))
    }
}

#[async_trait]
impl TokenStore for PerKey {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.of(key).load(key).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.of(key).save(key, record, expected, lease).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.of(key).try_lease(key).await
    }

    fn describe(&self) -> StoreInfo {
        store(&self.0).describe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_tools_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    testing::store::all(Arc::new(PerKey(folder.path().to_path_buf()))).await;
    // What stays are locks, which are never deleted, and nothing else.
    for place in fs::read_dir(folder.path()).unwrap() {
        for entry in fs::read_dir(place.unwrap().path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.ends_with(".lock") || name.ends_with(".lease"), "{name} was left behind");
        }
    }
}

async fn load(store: &SharedStore) -> Option<(Record, Version)> {
    store.load(&key()).await.unwrap()
}

async fn put(store: &SharedStore, record: Option<&Record>) -> Version {
    let expected = load(store).await.map(|(_, version)| version);
    match store.save(&key(), record, expected.as_ref(), None).await.unwrap() {
        Saved::Written(version) => version,
        Saved::Conflict(_) => panic!("somebody else saved"),
    }
}

/// The record's number, and whether its access token came with it.
fn told(record: &Record) -> (usize, bool) {
    let login = record.login.as_ref().unwrap();
    let number = login.refresh_token.as_ref().unwrap().expose_secret().parse().unwrap();
    let whole = record.tokens().first().map(|token: &StoredToken| {
        assert!(token.secret.expose_secret().ends_with(&format!("-{number}")), "another record's token");
    });
    (number, whole.is_some())
}

/// Not a test: what the children do.
#[test]
fn child() {
    let Some((role, _)) = role() else { return };
    let folder = PathBuf::from(env::var_os("KEYFOB_TEST_FOLDER").unwrap());
    let (role, argument) = role.split_once(' ').unwrap_or((&role, ""));
    if role == "count" {
        run(count(&store(&folder), argument.parse().unwrap()));
        return;
    }
    // Parks at the step of this number.
    let (left, step) = (AtomicUsize::new(0), argument.parse::<usize>().unwrap());
    let file = SharedFile::at("a file of lines", folder.join(NAME)).unwrap().at_each_step(move |at| {
        if left.fetch_add(1, Ordering::Relaxed) == step {
            say(at);
            loop {
                thread::park();
            }
        }
        Ok(())
    });
    let store = SharedStore::new(Lines, file);
    let record = numbered(2);
    run(put(&store, (role == "save").then_some(&record)));
    say("over");
}

async fn count(store: &SharedStore, times: usize) {
    for _ in 0..times {
        loop {
            let (record, version) = load(store).await.unwrap();
            let next = numbered(told(&record).0 + 1);
            let saved = store.save(&key(), Some(&next), Some(&version), None).await.unwrap();
            if matches!(saved, Saved::Written(_)) {
                break;
            }
        }
    }
}

#[test]
fn a_writer_killed_at_any_step_leaves_the_old_login_or_the_new_one() {
    for role in ["save", "remove"] {
        let mut seen = Vec::new();
        for step in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let store = store(folder.path());
            run(put(&store, Some(&numbered(1))));
            let mut actor = Actor::start(&format!("{role} {step}"), folder.path());
            let at = actor.hear().unwrap();
            if at == "over" {
                break;
            }
            actor.kill();
            let found = run(load(&store)).map(|(record, _)| told(&record));
            let before = !seen.iter().any(|at| at == "renamed" || at == "removed")
                && at != "renamed"
                && at != "removed";
            seen.push(at);
            match found {
                Some((1, true)) => assert!(before, "{role}, {seen:?}: the old login came back"),
                // Theirs is written first; what is beside it may be missing.
                Some((2, _)) => assert!(!before && role == "save", "{role}, {seen:?}"),
                None => assert!(!before && role == "remove", "{role}, {seen:?}"),
                other => panic!("{role}, {seen:?}: {other:?}"),
            }
            let begun = Instant::now();
            run(put(&store, Some(&numbered(3))));
            assert_eq!(
                run(load(&store)).map(|(record, _)| told(&record)),
                Some((3, true)),
                "{role}, {seen:?}"
            );
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "{role}, {seen:?}: something waited for the dead"
            );
        }
        let both = if role == "save" { "renamed" } else { "removed" };
        assert_eq!(seen.iter().filter(|at| *at == both).count(), 2, "{seen:?}");
    }
}

#[test]
fn changes_of_several_processes_are_all_kept() {
    const PROCESSES: usize = 4;
    const CHANGES: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    run(put(&store, Some(&numbered(0))));
    let actors: Vec<_> =
        (0..PROCESSES).map(|_| Actor::start(&format!("count {CHANGES}"), folder.path())).collect();
    actors.into_iter().for_each(Actor::succeeds);
    let (record, _) = run(load(&store)).unwrap();
    assert_eq!(told(&record), (PROCESSES * CHANGES, true));
    assert_eq!(record.to_bytes().unwrap(), numbered(PROCESSES * CHANGES).to_bytes().unwrap());
}

#[tokio::test]
async fn what_the_other_tool_wrote_counts_and_what_was_beside_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = (store(folder.path()), folder.path().join(NAME));
    let beside = folder.path().join(format!("{NAME}.keyfob.json"));
    let ours = put(&store, Some(&numbered(1))).await;
    let text = fs::read_to_string(&beside).unwrap();
    assert!(!text.contains("\"refresh_token\":\"1\""), "the refresh token is in two places");
    fs::write(&path, "8\n\n.\n").unwrap();
    let (record, version) = load(&store).await.unwrap();
    assert_eq!((told(&record), version == ours), ((8, false), false));
    assert!(!beside.exists(), "what will never count again stays");
    let saved = store.save(&key(), Some(&numbered(2)), Some(&ours), None).await.unwrap();
    let Saved::Conflict(Some((record, again))) = saved else { panic!("{saved:?}") };
    assert_eq!((told(&record), again), ((8, false), version));
    assert_eq!(fs::read_to_string(&path).unwrap(), "8\n\n.\n");
    // Whoever logs out there is logged out here, and what is beside does not bring it back.
    put(&store, Some(&numbered(3))).await;
    fs::remove_file(&path).unwrap();
    assert!(load(&store).await.is_none());
}

#[tokio::test]
async fn a_stranger_that_writes_just_before_ours_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let version = put(&store(folder.path()), Some(&numbered(1))).await;
    let theirs = path.clone();
    let file = SharedFile::at("a file of lines", &path)
        .unwrap()
        .at_each_step(move |at| if at == "synced" { fs::write(&theirs, "8\n\n.\n") } else { Ok(()) });
    let saved = SharedStore::new(Lines, file).save(&key(), Some(&numbered(2)), Some(&version), None).await;
    let Saved::Conflict(Some((record, _))) = saved.unwrap() else { panic!("a stranger's token was lost") };
    assert_eq!(told(&record), (8, false));
    assert_eq!(fs::read_to_string(&path).unwrap(), "8\n\n.\n");
}

#[tokio::test]
async fn a_failure_beside_a_renewed_login_does_not_lose_it() {
    let folder = tempfile::tempdir().unwrap();
    let beside = folder.path().join(format!("{NAME}.keyfob.json"));
    fs::create_dir(&beside).unwrap();
    let store = store(folder.path());
    // Nothing can be loaded as it should, but what cannot be asked for again is kept.
    assert_eq!(store.load(&key()).await.unwrap_err().kind(), StoreErrorKind::Denied);
    fs::remove_dir(&beside).unwrap();
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let file = SharedFile::at("a file of lines", folder.path().join(NAME)).unwrap();
    let broken = SharedStore::new(
        Lines,
        file.at_each_step(move |at| {
            let locked = if at == "locked" { counted.fetch_add(1, Ordering::Relaxed) } else { 0 };
            if locked == 1 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }),
    );
    let saved = broken.save(&key(), Some(&numbered(1)), None, None).await.unwrap();
    let Saved::Written(version) = saved else { panic!("{saved:?}") };
    let (record, found) = load(&broken).await.unwrap();
    assert_eq!((told(&record), found), ((1, false), version.clone()));
    // What changes nothing of theirs is not done by halves.
    steps.store(1, Ordering::Relaxed);
    let mut noted = numbered(1);
    noted.retain_tokens(|_| false);
    let error = broken.save(&key(), Some(&noted), Some(&version), None).await.unwrap_err();
    assert_eq!((error.kind(), load(&broken).await.unwrap().1), (StoreErrorKind::Full, version));
}

#[tokio::test]
async fn what_is_beside_and_makes_no_sense_does_not_count_and_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let beside = folder.path().join(format!("{NAME}.keyfob.json"));
    put(&store, Some(&numbered(1))).await;
    for damaged in ["", "{}", "{\"keyfob_beside\":1,"] {
        fs::write(&beside, damaged).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        let (record, version) = load(&store).await.unwrap();
        assert_eq!(told(&record), (1, false), "{damaged}");
        fs::write(&beside, damaged).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        let saved = store.save(&key(), Some(&numbered(1)), Some(&version), None).await.unwrap();
        assert!(matches!(saved, Saved::Written(_)), "{saved:?}");
        assert_eq!(told(&load(&store).await.unwrap().0), (1, true), "{damaged}");
    }
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
    let error = store.load(&key()).await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn keys_that_are_not_the_files_are_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, Some(&numbered(1))).await;
    let stranger = LoginKey::from(key().identity().clone().client("stranger"));
    let errors = [
        store.load(&stranger).await.unwrap_err(),
        store.save(&stranger, None, None, None).await.unwrap_err(),
        store.try_lease(&stranger).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == StoreErrorKind::Unsupported), "{errors:?}");
}
