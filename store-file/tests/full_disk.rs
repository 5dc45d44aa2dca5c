//! A disk without room. Each test has a small file system of its own, which takes root to mount.
#![cfg(target_os = "linux")]
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
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use common::*;
use keyfob_auth_core::{
    TokenStore,
    store::{StoreErrorKind, Version},
};
use keyfob_store_file::FileStore;

const ROOM: u64 = 64 * 1024;

/// A small file system, until it is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(kind: &str) -> Result<Self, String> {
        let disk = tempfile::tempdir().map_err(|error| error.to_string())?;
        let at = disk.path().join("mounted");
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        if kind == "tmpfs" {
            command("mount", &["-t", "tmpfs", "-o", "size=512k,nr_inodes=64", "tmpfs"], &at)?;
        } else {
            let image = disk.path().join("image");
            File::create(&image)
                .and_then(|image| image.set_len(4 << 20))
                .map_err(|error| error.to_string())?;
            command(&format!("mkfs.{kind}"), &["-q"], &image)?;
            command("mount", &["-o", "loop", &image.display().to_string()], &at)?;
        }
        Ok(Self { folder: disk })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn tokens(&self) -> PathBuf {
        self.path().join("tokens")
    }

    /// Takes every block, then every name.
    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for size in [64 * 1024, 1024, 1] {
            let full = loop {
                if let Err(error) = ballast.write_all(&vec![b'x'; size]).and_then(|()| ballast.sync_data()) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
        let names = (0..5000).map(|n| File::create(self.path().join(format!("ballast-{n}"))));
        let full = names.filter_map(Result::err).next().expect("room for 5000 names");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn empty(&self) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command("umount", &["--lazy"], &self.path());
    }
}

fn command(name: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let done =
        Command::new(name).args(arguments).arg(path).output().map_err(|error| format!("{name}: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// Runs a test on every file system that is to be had.
fn on_each_disk(name: &str, test: impl Fn(&Disk, &FileStore, Version)) {
    for kind in ["tmpfs", "ext4", "xfs", "btrfs"] {
        match Disk::mount(kind) {
            Ok(disk) => {
                println!("{name} on {kind}");
                let store = FileStore::open(disk.tokens()).unwrap();
                let version = run(put(&store, 1, None));
                test(&disk, &store, version);
            }
            Err(why) => eprintln!("skipped: {name} on {kind}: {}", why.trim()),
        }
    }
}

/// The longest of the small numbers' records.
fn long() -> usize {
    (2..100).max_by_key(|number| number * 997 % 9000).unwrap()
}

#[test]
fn a_save_on_a_full_disk_keeps_the_old_record_and_says_so() {
    on_each_disk("a_save_on_a_full_disk_keeps_the_old_record_and_says_so", |disk, store, version| {
        drop(run(lease(store)));
        disk.fill();
        let error = run(store.save(&key(), Some(&numbered(long())), Some(&version), None)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        assert_eq!(run(load(store)), Some((1, version.clone())));
        let held = run(lease(store));
        let error = run(held.reserve(ROOM)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
        assert_eq!(leftovers(&disk.tokens()), [""; 0]);
        // A removal needs no room.
        run(store.save(&key(), None, Some(&version), None)).unwrap();
        assert_eq!(run(load(store)), None);
        disk.empty();
        run(held.reserve(ROOM)).unwrap();
        run(put(store, 2, Some(&*held)));
    });
}

#[test]
fn after_a_reservation_a_full_disk_does_not_keep_the_answer_from_being_saved() {
    on_each_disk("after_a_reservation", |disk, store, _| {
        // As the engine: the pending attempt, the room, the exchange, the answer.
        let held = run(lease(store));
        run(put(store, 2, Some(&*held)));
        run(held.reserve(ROOM)).unwrap();
        disk.fill();
        let version = run(put(store, long(), Some(&*held)));
        assert_eq!(run(load(store)), Some((long(), version)));
        assert_eq!(leftovers(&disk.tokens()), [""; 0]);
        assert!(fs::metadata(file(&disk.tokens(), "json")).unwrap().permissions().mode() & 0o7777 == 0o600);
    });
}

#[test]
fn a_reservation_that_was_not_used_is_given_back() {
    on_each_disk("a_reservation_that_was_not_used_is_given_back", |disk, store, version| {
        let held = run(lease(store));
        run(held.reserve(ROOM)).unwrap();
        disk.fill();
        drop(held);
        // What it held is free again.
        run(store.save(&key(), Some(&numbered(2)), Some(&version), None)).unwrap();
    });
}

#[test]
fn where_blocks_cannot_be_allocated_they_are_written() {
    on_each_disk("where_blocks_cannot_be_allocated_they_are_written", |disk, store, _| {
        let unsupported = AtomicBool::new(false);
        let store = store.clone().at_each_step(move |step| {
            if step == "allocating" && !unsupported.swap(true, Ordering::Relaxed) {
                return Err(ErrorKind::Unsupported.into());
            }
            Ok(())
        });
        let held = run(lease(&store));
        run(held.reserve(ROOM)).unwrap();
        assert!(fs::metadata(file(&disk.tokens(), "room")).unwrap().len() >= ROOM);
        disk.fill();
        run(put(&store, long(), Some(&*held)));
        assert_eq!(run(load(&store)).unwrap().0, long());
    });
}
