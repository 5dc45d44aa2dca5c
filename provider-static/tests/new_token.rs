//! The page that makes a CAVE token is opened when asked. A process of its own, for the variable `BROWSER` is the process's.
#![cfg(all(feature = "browser", unix))]

use std::{env, fs, os::unix::fs::PermissionsExt as _, process::Command, sync::mpsc, thread, time::Duration};

use keyfob_provider_static::Cave;

const ROLE: &str = "KEYFOB_TEST_OPEN_PAGE";

/// Not a test: what the child does.
#[test]
fn child() {
    if env::var_os(ROLE).is_some() {
        Cave::new("https://cave.example").unwrap().get_new_token(None).open().unwrap();
    }
}

#[test]
fn the_page_is_opened_in_the_browser_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (program, opened) = (folder.path().join("browser"), folder.path().join("opened"));
    fs::write(&program, format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", opened.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    // A pipe with a name: who opens a browser does not wait for it, so the reader does.
    assert!(Command::new("mkfifo").arg(&opened).status().unwrap().success());
    let (shown, page) = mpsc::channel();
    thread::spawn(move || shown.send(fs::read_to_string(opened).unwrap()));
    let mut command = Command::new(env::current_exe().unwrap());
    let child = command.args(["child", "--exact"]).env(ROLE, "1").env("BROWSER", &program).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let url = Cave::new("https://cave.example").unwrap().get_new_token(None).url;
    assert_eq!(page.recv_timeout(Duration::from_secs(30)).unwrap(), url);
}
