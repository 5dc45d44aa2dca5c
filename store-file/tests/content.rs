//! What is found in a record's place and is none.
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
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
};

use common::*;
use keyfob_auth_core::{
    Identity, TokenStore,
    store::{LoginKey, Record, Saved, StoreError, StoreErrorKind, TryLease},
};
use keyfob_store_file::FileStore;

/// A store with record 1, and its contents.
fn store() -> (tempfile::TempDir, PathBuf, FileStore, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let store = FileStore::open(&tokens).unwrap();
    run(put(&store, 1, None));
    let contents = fs::read(file(&tokens, "json")).unwrap();
    (folder, tokens, store, contents)
}

fn plant(tokens: &Path, contents: &[u8]) {
    // In place, so that the mode stays.
    fs::write(file(tokens, "json"), contents).unwrap();
}

fn aside(tokens: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(tokens).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end.to_string_lossy().starts_with("corrupt-")))
        .collect()
}

fn assert_reported(error: &StoreError, tokens: &Path, contents: &[u8]) {
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    let aside = aside(tokens);
    let [path] = &aside[..] else { panic!("not moved aside once: {aside:?}") };
    assert!(fs::read(path).unwrap() == contents, "what was moved aside is not what was there");
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
    let message = error.to_string();
    for part in [&*file(tokens, "json").to_string_lossy(), &*path.to_string_lossy(), "Log in again"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert!(!format!("{error:?}").contains("marker"), "{error:?}");
    fs::remove_file(path).unwrap();
}

#[test]
fn what_is_no_record_is_moved_aside_and_reported_once() {
    let (_folder, tokens, store, record) = store();
    let mut damaged = record.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases: [&[u8]; 9] = [
        b"",
        b"marker",
        b"{\"refresh_token\":\"marker\"}",
        b"{\"keyfob\":",
        &record[..1],
        &record[..record.len() / 2],
        &record[..record.len() - 1],
        &damaged,
        &vec![0; 3 << 20],
    ];
    for contents in cases {
        plant(&tokens, contents);
        assert_reported(&run(store.load(&key())).unwrap_err(), &tokens, contents);
        assert!(run(store.load(&key())).unwrap().is_none());
        run(put(&store, 1, None));

        // A save that meets it says so as well, and writes nothing; the next one does.
        plant(&tokens, contents);
        let save = || run(store.save(&key(), Some(&numbered(2)), None, None));
        assert_reported(&save().unwrap_err(), &tokens, contents);
        assert!(matches!(save().unwrap(), Saved::Written(_)));
        assert_eq!(run(load(&store)).unwrap().0, 2);
    }
}

#[test]
fn two_that_are_moved_aside_at_once_are_both_kept() {
    let (_folder, tokens, store, _) = store();
    for contents in ["one", "two", "three"] {
        plant(&tokens, contents.as_bytes());
        run(store.load(&key())).unwrap_err();
        run(put(&store, 1, None));
    }
    let mut kept: Vec<_> = aside(&tokens).into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["one", "three", "two"]);
}

#[test]
fn of_many_who_find_damage_one_reports_it() {
    const THREADS: usize = 8;
    let (_folder, tokens, store, _) = store();
    for _ in 0..10 {
        plant(&tokens, b"damage");
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (store, start) = (store.clone(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    run(store.load(&key()))
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let reports: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        assert!(matches!(&reports[..], [one] if one.kind() == StoreErrorKind::Corrupt), "{reports:?}");
        assert!(ends.iter().flatten().all(Option::is_none));
        run(put(&store, 1, None));
    }
}

#[test]
fn a_record_under_another_keys_name_is_not_taken_for_its_own() {
    let (_folder, tokens, store, contents) = store();
    let other = LoginKey::from(Identity::new("mallory"));
    let path = tokens.join(format!("{}.json", other.fingerprint()));
    fs::copy(file(&tokens, "json"), &path).unwrap();
    assert_eq!(run(store.list()).unwrap(), [key()]);
    assert_eq!(run(store.load(&other)).unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert!(run(store.load(&other)).unwrap().is_none());
    assert!(fs::read(file(&tokens, "json")).unwrap() == contents);
}

#[test]
fn a_newer_format_is_never_overwritten() {
    let (_folder, tokens, store, record) = store();
    let version = run(load(&store)).unwrap().1;
    let tail = record.strip_prefix(b"{\"keyfob\":1").unwrap();
    let large = [&b"{\"keyfob\":7,"[..], &vec![b' '; 3 << 20]].concat();
    for newer in [[b"{\"keyfob\":2", tail].concat(), b"{\"keyfob\":300,\n".to_vec(), large] {
        plant(&tokens, &newer);
        let lease = run(lease(&store));
        run(lease.reserve(1000)).unwrap();
        let errors = [
            run(store.load(&key())).unwrap_err(),
            run(store.save(&key(), Some(&numbered(2)), None, None)).unwrap_err(),
            run(store.save(&key(), Some(&numbered(2)), Some(&version), Some(&*lease))).unwrap_err(),
            run(store.save(&key(), None, Some(&version), None)).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("newer keyfob"), "{error}");
        }
        assert!(run(store.list()).unwrap().is_empty());
        drop(lease);
        assert!(fs::read(file(&tokens, "json")).unwrap() == newer, "a newer format was touched");
        assert!(leftovers(&tokens).is_empty());
    }
}

#[test]
fn a_record_that_could_not_be_read_again_is_not_written() {
    let (_folder, tokens, store, contents) = store();
    let version = run(load(&store)).unwrap().1;
    let large = Record::with_login(keyfob_auth_core::Login::with_refresh_token("x".repeat(1 << 20)));
    let error = run(store.save(&key(), Some(&large), Some(&version), None)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
    assert!(fs::read(file(&tokens, "json")).unwrap() == contents);
}

#[test]
fn a_folder_that_is_removed_is_made_again() {
    let (_folder, tokens, store, _) = store();
    fs::remove_dir_all(&tokens).unwrap();
    assert!(run(store.load(&key())).unwrap().is_none());
    assert!(run(store.list()).unwrap().is_empty());
    assert!(matches!(run(store.save(&key(), None, None, None)).unwrap(), Saved::Written(_)));
    assert!(!tokens.exists(), "a removal of nothing makes a folder");
    run(put(&store, 2, None));
    assert_eq!(fs::metadata(&tokens).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_lease_whose_folder_was_removed_harms_nobody() {
    let (_folder, tokens, store, _) = store();
    let old = run(lease(&store));
    run(old.reserve(1000)).unwrap();
    fs::remove_dir_all(&tokens).unwrap();
    let new = run(lease(&store));
    run(new.reserve(1000)).unwrap();
    // The old holder's room is gone: it saves without.
    run(put(&store, 2, Some(&*old)));
    run(put(&store, 3, Some(&*new)));
    drop((old, new));
    assert_eq!(run(load(&store)).unwrap().0, 3);
    assert!(leftovers(&tokens).is_empty());
}

#[test]
fn a_lease_of_something_else_lends_no_room() {
    let (_folder, tokens, store, _) = store();
    let other = LoginKey::from(Identity::new("other"));
    let (_elsewhere, _, another, _) = self::store();
    let memory = keyfob_auth_core::store::MemoryStore::new();
    let stores: [(&dyn TokenStore, &LoginKey); 3] = [(&store, &other), (&another, &key()), (&memory, &key())];
    for (number, (lender, key)) in stores.into_iter().enumerate() {
        let TryLease::Held(lease) = run(lender.try_lease(key)).unwrap() else { panic!("no lease") };
        run(lease.reserve(1000)).unwrap();
        run(put(&store, number + 2, Some(&*lease)));
        assert_eq!(run(load(&store)).unwrap().0, number + 2);
    }
    assert!(run(store.load(&other)).unwrap().is_none());
    assert_eq!(run(load(&another)).unwrap().0, 1);
    assert!(leftovers(&tokens).is_empty());
}
