//! Files that others can read are used with a warning that says how to mend them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use keyfob_auth_core::{CredentialProvider as _, TokenRequest};
use keyfob_provider_static::Cave;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// The only test here: the subscriber is the process's.
#[tokio::test]
async fn each_file_is_warned_of_once_with_what_mends_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
    subscriber.without_time().init();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, mode| {
        fs::write(file(name), r#"{"token": "marker"}"#).unwrap();
        fs::set_permissions(file(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let cave = Cave::new("https://global.daf-apis.com").unwrap().secrets_folder(folder.path());
    let read = async || cave.acquire(&TokenRequest::default(), None).await.unwrap();

    write("chunkedgraph-secret.json", 0o600);
    read().await;
    read().await;
    let old = file("chunkedgraph-secret.json").display().to_string();
    let expected = format!(
        " WARN keyfob_provider_static::cave::files: the CAVE token comes from '{old}', a name of old: rename \
                 the file to cave-secret.json"
    );
    assert_eq!(log.lines(), [expected]);

    // As CAVE's own client makes it under a usual umask.
    write("cave-secret.json", 0o644);
    read().await;
    read().await;
    let general = file("cave-secret.json").display().to_string();
    let expected = format!(
        " WARN keyfob_provider_static::cave::files: others can read the CAVE tokens in '{general}' (mode 0644): chmod 600 \
         '{general}'"
    );
    assert_eq!(log.lines(), [expected]);

    fs::set_permissions(file("cave-secret.json"), fs::Permissions::from_mode(0o600)).unwrap();
    cave.clone().token_file(file("cave-secret.json")).acquire(&TokenRequest::default(), None).await.unwrap();
    assert!(log.lines().is_empty(), "mended");

    cave.save_token("too-short", "short", false).await.unwrap();
    cave.save_token("0123456789abcdef0123456789abcdef", "long", false).await.unwrap();
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].contains("not of 32 hexadecimal digits"), "{lines:?}");
}
