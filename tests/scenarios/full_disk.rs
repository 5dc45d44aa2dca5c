//! Promise 5: a full disk stops the renewal, not the login. On a small file system of its own, which takes root to mount.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use keyfob::{Context, ErrorKind, Session};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault};

use super::world::*;

/// A small file system, until it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// A disk; `None`, and a word about it, where none can be mounted.
    fn mount(test: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let why = if cfg!(target_os = "linux") {
            command("mount", &["-t", "tmpfs", "-o", "size=512k,nr_inodes=64", "tmpfs"], disk.path()).err()
        } else {
            Some("tmpfs is Linux's".to_owned())
        };
        let Some(why) = why else { return Some(disk) };
        say(&format!("skipped: {test}: no file system can be mounted here: {}", why.trim()));
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn session(&self, server: &AuthorizationServer) -> Session {
        person(server.issuer(), open(self.tokens()), &Context::new())
    }

    fn tokens(&self) -> PathBuf {
        self.path().join("tokens")
    }

    /// Takes every block and every name.
    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for size in [4096, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
        (0..100).map_while(|n| File::create(self.path().join(format!("ballast-{n}"))).ok()).for_each(drop);
        assert!(File::create(self.path().join("one more")).is_err(), "it is full");
    }

    fn free(&self) {
        for entry in fs::read_dir(self.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command("umount", &["--lazy"], self.path());
    }
}

fn command(name: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let done = Command::new(name).args(arguments).arg(path).output().map_err(|error| error.to_string())?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_before_a_renewal_stops_it_and_the_login_lives() {
    let Some(disk) = Disk::mount("a disk that is full before a renewal") else { return };
    let server = start(strict());
    let session = disk.session(&server);
    expire(&server, &session).await;
    disk.fill();
    for session in [&session, &disk.session(&server)] {
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
    }
    assert_refreshes(&server, 0);

    disk.free();
    let begun = Instant::now();
    while session.token().await.is_err() {
        assert!(begun.elapsed() < s(10), "there is room again");
        tokio::time::sleep(ms(10)).await;
    }
    println!("a freed disk was seen after {:?}", begun.elapsed());
    assert_refreshes(&server, 1);
    disk.session(&server).token().await.unwrap();
    assert_refreshes(&server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_during_a_renewal_has_room_for_its_answer() {
    let Some(disk) = Disk::mount("a disk that is full during a renewal") else { return };
    let server = start(strict());
    let session = disk.session(&server);
    expire(&server, &session).await;
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(s(1)));
    let asking = ask(&session);
    until_refreshes(&server, 1).await;
    disk.fill();
    assert!(!asking.is_finished(), "the disk was full before the answer");
    let token = asking.await.unwrap().unwrap();
    assert!(!session.status().await.unwrap().unsaved);
    // The disk is still full, and whoever comes next finds the rotated login.
    assert_eq!(disk.session(&server).token().await.unwrap().secret(), token.secret());
    assert_refreshes(&server, 1);

    // Once there is room again, the saved refresh token is the one that the server expects.
    disk.free();
    disk.session(&server).refresh().await.unwrap();
    assert_refreshes(&server, 2);
}
