//! The store's files are its user's alone.
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
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use common::*;
use keyfob_auth_core::{
    TokenStore,
    store::{StoreError, StoreErrorKind},
};
use keyfob_store_file::FileStore;

fn folder() -> (tempfile::TempDir, PathBuf, FileStore) {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("above/tokens");
    let store = FileStore::open(&tokens).unwrap();
    (folder, tokens, store)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn assert_denied<T: std::fmt::Debug>(done: Result<T, StoreError>, path: &Path, advice: &str) {
    let error = done.expect_err(advice);
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    let message = error.to_string();
    assert!(message.contains(&format!("'{}'", path.display())) && message.contains(advice), "{message}");
}

/// Everything that a store does with a record.
fn assert_all_denied(store: &FileStore, path: &Path, advice: &str) {
    assert_denied(run(store.load(&key())), path, advice);
    assert_denied(run(store.save(&key(), Some(&numbered(2)), None, None)), path, advice);
    assert_denied(run(store.save(&key(), None, None, None)), path, advice);
}

#[test]
fn a_folder_that_cannot_be_made_is_denied_with_what_to_do() {
    let (folder, ..) = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let tokens = file.join("tokens");
    let store = FileStore::open(&tokens).unwrap();
    assert_all_denied(&store, &tokens, "something above it is no folder");
    assert_denied(run(store.try_lease(&key())), &tokens, "or name another place");
    if cfg!(target_os = "linux") {
        let tokens = Path::new("/proc/keyfob-test/tokens");
        let store = FileStore::open(tokens).unwrap();
        for advice in ["make it by hand", "or name another place"] {
            assert_denied(run(store.save(&key(), Some(&numbered(1)), None, None)), tokens, advice);
            assert_denied(run(store.try_lease(&key())), tokens, advice);
        }
    }
}

#[test]
fn a_record_whose_lock_is_not_ours_has_no_room_set_aside() {
    let (folder, tokens, store) = folder();
    let lease = run(lease(&store));
    let lock = tokens.join(format!("{}.lock", key().fingerprint()));
    symlink(folder.path().join("elsewhere"), &lock).unwrap();
    assert_denied(run(lease.reserve(1000)), &lock, "is a symbolic link");
    fs::remove_file(&lock).unwrap();
    run(lease.reserve(1000)).unwrap();
}

/// Not a test: what the children do.
#[test]
fn child() {
    let Some((_, store)) = role() else { return };
    rustix::process::umask(rustix::fs::Mode::empty());
    run(write_everything(&store));
}

async fn write_everything(store: &FileStore) {
    let lease = lease(store).await;
    put(store, 1, Some(&*lease)).await;
    lease.reserve(1000).await.unwrap();
    put(store, 2, Some(&*lease)).await;
    lease.reserve(1000).await.unwrap();
    put(store, 3, None).await;
    // The room stays for the parent to see.
    std::process::exit(0);
}

#[test]
fn every_file_is_private_whatever_the_umask() {
    let (_folder, tokens, _) = folder();
    Actor::start("umask 0", &tokens).succeeds();
    assert_eq!(mode(&tokens), 0o700);
    assert_eq!(mode(tokens.parent().unwrap()), 0o700);
    let mut endings: Vec<_> = fs::read_dir(&tokens)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            path.extension().unwrap().to_string_lossy().into_owned()
        })
        .collect();
    endings.sort();
    assert_eq!(endings, ["json", "lease", "lock", "room"]);
}

#[test]
fn a_temporary_file_is_private_from_its_creation() {
    let (_folder, tokens, store) = folder();
    let seen = tokens;
    let store = store.at_each_step(move |step| {
        if step == "made" {
            let temporary = leftovers(&seen);
            assert_eq!(temporary.len(), 1);
            assert_eq!(mode(&seen.join(&temporary[0])), 0o600);
        }
        Ok(())
    });
    run(put(&store, 1, None));
}

#[test]
fn looser_files_are_refused_with_the_command_that_mends_it() {
    let (_folder, tokens, store) = folder();
    run(put(&store, 1, None));
    let path = file(&tokens, "json");
    for loose in [0o640, 0o604, 0o620, 0o601, 0o777] {
        chmod(&path, loose);
        assert_all_denied(&store, &path, &format!("chmod 600 '{}'", path.display()));
        assert_eq!(mode(&path), loose, "the mode was mended silently");
    }
    chmod(&path, 0o600);
    assert_eq!(run(load(&store)).unwrap().0, 1);

    let lock = file(&tokens, "lock");
    chmod(&lock, 0o666);
    assert_denied(run(store.save(&key(), Some(&numbered(2)), None, None)), &lock, "chmod 600");
    chmod(&lock, 0o600);
    let room = file(&tokens, "room");
    fs::write(&room, "").unwrap();
    chmod(&room, 0o644);
    let held = run(lease(&store));
    assert_denied(run(held.reserve(1000)), &room, "chmod 600");
    let path = file(&tokens, "lease");
    drop(held);
    chmod(&path, 0o644);
    assert_denied(run(store.try_lease(&key())), &path, "chmod 600");
}

#[test]
fn looser_folders_are_refused_with_the_command_that_mends_it() {
    let (_folder, tokens, store) = folder();
    run(put(&store, 1, None));
    for loose in [0o750, 0o705, 0o701, 0o777] {
        chmod(&tokens, loose);
        let advice = format!("chmod 700 '{}'", tokens.display());
        assert_all_denied(&store, &tokens, &advice);
        assert_denied(run(store.try_lease(&key())), &tokens, &advice);
        assert_denied(run(store.list()), &tokens, &advice);
    }
    chmod(&tokens, 0o700);
    assert_eq!(run(load(&store)).unwrap().0, 1);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (folder, tokens, store) = folder();
    run(put(&store, 1, None));
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(file(&tokens, "json"), &elsewhere).unwrap();
    let contents = fs::read(&elsewhere).unwrap();
    for target in [elsewhere.as_path(), Path::new("/nowhere/at/all")] {
        let path = file(&tokens, "json");
        symlink(target, &path).unwrap();
        assert_all_denied(&store, &path, "symbolic link");
        fs::remove_file(&path).unwrap();
    }
    for ending in ["lock", "lease", "room"] {
        let path = file(&tokens, ending);
        let _ = fs::remove_file(&path);
        let held = (ending == "room").then(|| run(lease(&store)));
        symlink(&elsewhere, &path).unwrap();
        match held {
            _ if ending == "lock" => {
                assert_denied(
                    run(store.save(&key(), Some(&numbered(2)), None, None)),
                    &path,
                    "symbolic link",
                );
            }
            Some(held) => assert_denied(run(held.reserve(1000)), &path, "symbolic link"),
            None => assert_denied(run(store.try_lease(&key())), &path, "symbolic link"),
        }
        let _ = fs::remove_file(&path);
    }
    assert!(fs::read(&elsewhere).unwrap() == contents, "a link was followed");

    let link = folder.path().join("link");
    symlink(&tokens, &link).unwrap();
    for named in [link.clone(), link.join(""), link.join(".")] {
        let store = FileStore::open(&named).unwrap();
        assert_all_denied(&store, &link, "symbolic link");
        assert_denied(run(store.try_lease(&key())), &link, "symbolic link");
    }
}

#[test]
fn other_users_files_are_refused() {
    let (_folder, tokens, store) = folder();
    run(put(&store, 1, None));
    let path = file(&tokens, "json");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: other_users_files_are_refused: only root can give a file away");
        return;
    }
    chown(&path, Some(65534), None).unwrap();
    assert_all_denied(&store, &path, &format!("chown 0 '{}'", path.display()));
    chown(&path, Some(0), None).unwrap();
    chown(&tokens, Some(65534), None).unwrap();
    assert_all_denied(&store, &tokens, &format!("chown 0 '{}'", tokens.display()));
    chown(&tokens, Some(0), None).unwrap();
    assert_eq!(run(load(&store)).unwrap().0, 1);
}

#[test]
fn what_is_no_file_is_refused_and_hangs_nobody() {
    let (folder, tokens, store) = folder();
    run(put(&store, 1, None));
    let path = file(&tokens, "json");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    chmod(&path, 0o700);
    assert_all_denied(&store, &path, "not a file");
    fs::remove_dir(&path).unwrap();

    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    fs::rename(folder.path().join("socket"), &path).unwrap();
    assert_all_denied(&store, &path, "not a file");
    drop(socket);
    fs::remove_file(&path).unwrap();

    let fifo = |path: &Path| {
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap();
        assert!(made.success());
    };
    fifo(&path);
    assert_all_denied(&store, &path, "not a file");
    fs::remove_file(&path).unwrap();
    let lock = file(&tokens, "lock");
    fs::remove_file(&lock).unwrap();
    fifo(&lock);
    assert_denied(run(store.save(&key(), Some(&numbered(2)), None, None)), &lock, "not a file");

    let store = FileStore::open(folder.path().join("file")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert_all_denied(&store, &folder.path().join("file"), "not a folder");
}

#[test]
fn odd_folders_are_quoted_for_a_shell() {
    let (folder, ..) = folder();
    let odd = folder.path().join("it's; $(odd)");
    let store = FileStore::open(&odd).unwrap();
    run(put(&store, 1, None));
    chmod(&odd, 0o755);
    let message = run(store.load(&key())).unwrap_err().to_string();
    assert!(message.ends_with(r"/it'\''s; $(odd)'"), "{message}");
}

#[test]
fn opening_does_nothing() {
    let (_folder, tokens, store) = folder();
    assert!(run(store.load(&key())).unwrap().is_none());
    assert!(run(store.list()).unwrap().is_empty());
    assert!(!tokens.exists());
    assert_eq!(format!("{store:?}"), format!("FileStore({tokens:?})"));
    assert_eq!(store.describe().to_string(), format!("file {}", tokens.display()));
    assert!(FileStore::open("").is_err());
    assert!(Path::new(&FileStore::open("x").unwrap().describe().location.unwrap()).is_absolute());
}
