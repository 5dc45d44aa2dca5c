//! Several processes on one folder, some of which are killed.
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
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use common::*;
use keyfob_auth_core::{
    TokenStore,
    store::{Saved, StoreErrorKind, TryLease},
};
use keyfob_store_file::FileStore;

const KILLS: usize = 200;

/// What a killed write may be in the middle of, its steps, and those of them after which the new state is there.
const WRITES: [(&str, &[&str], &[&str]); 5] = [
    ("create", &["locked", "made", "written", "synced"], &["renamed", "done"]),
    ("replace", &["locked", "made", "written", "synced"], &["renamed", "done"]),
    ("room", &["locked", "written", "cut", "synced"], &["renamed", "done"]),
    ("reserve", &["allocating", "reserved"], &[]),
    ("remove", &["locked"], &["removed", "done"]),
];

/// Not a test: what the children do.
#[test]
fn child() {
    let Some((role, store)) = role() else { return };
    let (role, argument) = role.split_once(' ').unwrap_or((&role, ""));
    match role {
        "save" => run(save_for_ever(&store)),
        "count" => run(count(&store, argument.parse().unwrap())),
        "lease" => {
            let _lease = run(lease(&store));
            say("held");
            park();
        }
        _ => {
            let armed = Arc::new(AtomicBool::new(false));
            let (hooked, step) = (Arc::clone(&armed), argument.to_owned());
            let store = store.at_each_step(move |at| {
                if hooked.load(Ordering::Relaxed) && at == step {
                    say(at);
                    park();
                }
                Ok(())
            });
            run(write(&store, role, || armed.store(true, Ordering::Relaxed)));
        }
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// As the engine does, again and again.
async fn save_for_ever(store: &FileStore) {
    let mut next = load(store).await.map_or(0, |(number, _)| number + 1);
    loop {
        let lease = lease(store).await;
        for reserved in [false, true] {
            if reserved {
                lease.reserve(32 * 1024).await.unwrap();
            }
            put(store, next, Some(&*lease)).await;
            say(next);
            next += 1;
        }
        lease.release().await;
    }
}

async fn count(store: &FileStore, times: usize) {
    for _ in 0..times {
        loop {
            let (number, version) = load(store).await.unwrap();
            let saved = store.save(&key(), Some(&numbered(number + 1)), Some(&version), None).await.unwrap();
            if matches!(saved, Saved::Written(_)) {
                break;
            }
        }
    }
}

/// One of [`WRITES`], where the record is number 1, or none for `create`.
async fn write(store: &FileStore, kind: &str, arm: impl Fn()) {
    let version = load(store).await.map(|(_, version)| version);
    match kind {
        "create" | "replace" => {
            arm();
            store.save(&key(), Some(&numbered(2)), version.as_ref(), None).await.unwrap();
        }
        "room" => {
            let lease = lease(store).await;
            lease.reserve(32 * 1024).await.unwrap();
            arm();
            store.save(&key(), Some(&numbered(2)), version.as_ref(), Some(&*lease)).await.unwrap();
        }
        "reserve" => {
            let lease = lease(store).await;
            arm();
            lease.reserve(32 * 1024).await.unwrap();
        }
        "remove" => {
            arm();
            store.save(&key(), None, version.as_ref(), None).await.unwrap();
        }
        other => panic!("{other} is no write"),
    }
}

/// A folder as it is before one of [`WRITES`].
fn before(write: &str) -> (tempfile::TempDir, FileStore) {
    let folder = tempfile::Builder::new().permissions(private(0o700)).tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    if write != "create" {
        run(put(&store, 1, None));
    }
    (folder, store)
}

fn private(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

fn states(write: &str) -> (Option<usize>, Option<usize>) {
    match write {
        "create" => (None, Some(2)),
        "remove" => (Some(1), None),
        _ => (Some(1), Some(2)),
    }
}

/// The record, the locks and the folder after a writer's end: everything works, at once, and nothing stays behind.
fn assert_sound(folder: &std::path::Path, context: &str) {
    let store = FileStore::open(folder).unwrap();
    let begun = Instant::now();
    run(async {
        let lease = lease(&store).await;
        lease.reserve(32 * 1024).await.unwrap();
        let number = load(&store).await.map_or(0, |(number, _)| number);
        put(&store, number, Some(&*lease)).await;
        put(&store, number, None).await;
        lease.release().await;
    });
    assert!(begun.elapsed() < Duration::from_secs(1), "{context}: something waited for the dead");
    assert_eq!(leftovers(folder), [""; 0], "{context}");
}

#[test]
fn a_writer_killed_at_any_step_leaves_the_old_record_or_the_new_one() {
    for (write, old_steps, new_steps) in WRITES {
        for step in old_steps.iter().chain(new_steps) {
            let context = format!("{write}, killed at {step}");
            let (folder, store) = before(write);
            let mut actor = Actor::start(&format!("{write} {step}"), folder.path());
            actor.expect(step);
            actor.kill();
            let (old, new) = states(write);
            let found = run(load(&store)).map(|(number, _)| number);
            assert_eq!(found, if old_steps.contains(step) { old } else { new }, "{context}");
            assert_sound(folder.path(), &context);
        }
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_record_and_nothing_else() {
    for (kind, steps, _) in WRITES {
        for step in steps {
            for (error, expected) in [
                (io::ErrorKind::StorageFull, StoreErrorKind::Full),
                (io::ErrorKind::QuotaExceeded, StoreErrorKind::Full),
                (io::ErrorKind::Other, StoreErrorKind::Unavailable),
            ] {
                let context = format!("{kind}, {error:?} at {step}");
                let (folder, store) = before(kind);
                let armed = Arc::new(AtomicBool::new(false));
                let (hooked, step) = (Arc::clone(&armed), *step);
                let broken = store.clone().at_each_step(move |at| {
                    if hooked.load(Ordering::Relaxed) && at == step { Err(error.into()) } else { Ok(()) }
                });
                let failed = run(async {
                    let version = load(&broken).await.map(|(_, version)| version);
                    let held = lease(&broken).await;
                    if kind == "room" {
                        held.reserve(1024).await.unwrap();
                    }
                    armed.store(true, Ordering::Relaxed);
                    if kind == "reserve" {
                        return held.reserve(1024).await.unwrap_err();
                    }
                    let record = numbered(2);
                    let record = (kind != "remove").then_some(&record);
                    broken.save(&key(), record, version.as_ref(), Some(&*held)).await.unwrap_err()
                });
                assert_eq!(failed.kind(), expected, "{context}");
                assert_eq!(run(load(&store)).map(|(number, _)| number), states(kind).0, "{context}");
                assert_eq!(leftovers(folder.path()), [""; 0], "{context}");
                assert_sound(folder.path(), &context);
            }
        }
    }
}

#[test]
fn writers_killed_at_random_lose_no_record_and_tear_none() {
    let (folder, store) = before("replace");
    let (mut kinds, mut acknowledged) = ([0, 0], 1);
    for kill in 0..KILLS {
        let mut actor = Actor::start("save", folder.path());
        // No clock: the kill comes after so many loads, each of which sees a whole record.
        acknowledged = actor.hear().unwrap().parse().unwrap();
        for _ in 0..fastrand::usize(0..60) {
            let (number, _) = run(load(&store)).expect("a record that is being replaced is not there");
            assert!(number >= acknowledged, "an older record came back");
        }
        actor.kill();
        while let Some(last) = actor.hear() {
            acknowledged = last.parse().unwrap();
        }
        let (number, _) = run(load(&store)).expect("the record is lost");
        assert!(
            [acknowledged, acknowledged + 1].contains(&number),
            "{number} after {acknowledged} was written"
        );
        kinds[number - acknowledged] += 1;
        assert_sound(folder.path(), &format!("kill {kill}"));
        acknowledged = number;
    }
    println!(
        "{KILLS} kills over {acknowledged} saves: {} left the old record, {} the new one",
        kinds[0], kinds[1]
    );
}

#[test]
fn changes_of_many_processes_are_all_kept() {
    const CHILDREN: usize = 5;
    const TIMES: usize = 20;
    let (folder, store) = before("replace");
    let actors: Vec<_> =
        (0..CHILDREN).map(|_| Actor::start(&format!("count {TIMES}"), folder.path())).collect();
    for actor in actors {
        actor.succeeds();
    }
    assert_eq!(run(load(&store)).unwrap().0, 1 + CHILDREN * TIMES);
}

#[test]
fn a_lease_excludes_other_processes_names_its_holder_and_dies_with_it() {
    let (folder, store) = before("replace");
    let mut actor = Actor::start("lease", folder.path());
    actor.expect("held");
    let TryLease::Busy { holder: Some(holder) } = run(store.try_lease(&key())).unwrap() else {
        panic!("two processes have one lease");
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(holder.starts_with(&format!("process {} on {host}, for ", actor.id())), "{holder}");
    // A lease is no lock on the record.
    run(put(&store, 2, None));
    actor.kill();
    drop(run(lease(&store)));
    assert_sound(folder.path(), "after the holder's end");
}

#[test]
fn a_save_waits_for_a_lock_but_not_for_ever_and_names_its_holder() {
    let (folder, store) = before("replace");
    let mut actor = Actor::start("replace locked", folder.path());
    actor.expect("locked");
    // Reading needs no lock.
    let (_, version) = run(load(&store)).unwrap();
    let key = key();
    let begun = Instant::now();
    let error = run(store.save(&key, Some(&numbered(3)), Some(&version), None)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("process {} on ", actor.id())), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    // Who gives up waiting takes nothing afterwards.
    let record = numbered(4);
    let mut given_up = Box::pin(store.save(&key, Some(&record), Some(&version), None));
    assert!(matches!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    drop(given_up);

    // Who waits gets it when its holder dies.
    let record = numbered(5);
    let mut waiting = Box::pin(store.save(&key, Some(&record), Some(&version), None));
    assert!(matches!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    actor.kill();
    assert!(matches!(run(waiting).unwrap(), Saved::Written(_)));
    assert_eq!(run(load(&store)).unwrap().0, 5);
    assert_sound(folder.path(), "after the holder's end");
}

#[test]
fn a_live_writers_temporary_file_is_not_swept() {
    let (folder, _) = before("replace");
    let mut actor = Actor::start("replace made", folder.path());
    actor.expect("made");
    let temporary = leftovers(folder.path());
    assert_eq!(temporary.len(), 1);
    // A first save, of another record: it sweeps.
    let other = keyfob_auth_core::Identity::new("other").into();
    run(FileStore::open(folder.path()).unwrap().save(&other, Some(&numbered(1)), None, None)).unwrap();
    assert_eq!(leftovers(folder.path()), temporary);
    actor.kill();
    let another = keyfob_auth_core::Identity::new("another").into();
    run(FileStore::open(folder.path()).unwrap().save(&another, Some(&numbered(1)), None, None)).unwrap();
    assert_eq!(leftovers(folder.path()), [""; 0]);
}
