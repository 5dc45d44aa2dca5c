//! What the tests share: records that carry a number, and this test binary run again as a child.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    env, fs,
    future::Future,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::SystemTime,
};

use keyfob_auth_core::{
    Binding, ExposeSecret, Identity, Login, RequestKey, TokenStore,
    store::{Lease, LoginKey, Record, Saved, StoredToken, TryLease, Version},
};
use keyfob_store_file::FileStore;

const ROLE: &str = "KEYFOB_TEST_ROLE";
const FOLDER: &str = "KEYFOB_TEST_FOLDER";

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn key() -> LoginKey {
    Identity::new("test").issuer("https://issuer.example").client("client").into()
}

/// A record that carries a number at its beginning and at its end, and has a length of its own.
pub(crate) fn numbered(number: usize) -> Record {
    let mut record = Record::with_login(Login::with_refresh_token(number.to_string()));
    record.put_token(StoredToken {
        request: RequestKey::default(),
        secret: format!("{}-{number}", "x".repeat(number * 997 % 9000)).into(),
        obtained_at: SystemTime::UNIX_EPOCH,
        expires_at: None,
        refresh_in: None,
        scopes: None,
        binding: Binding::None,
    });
    record
}

pub(crate) fn number(record: &Record) -> usize {
    let refresh = record.login.as_ref().and_then(|login| login.refresh_token.as_ref()).unwrap();
    let number = refresh.expose_secret().parse().unwrap();
    assert_eq!(record.to_bytes().unwrap(), numbered(number).to_bytes().unwrap());
    number
}

pub(crate) async fn load(store: &FileStore) -> Option<(usize, Version)> {
    store.load(&key()).await.unwrap().map(|(record, version)| (number(&record), version))
}

/// Saves over whatever there is.
pub(crate) async fn put(store: &FileStore, number: usize, lease: Option<&dyn Lease>) -> Version {
    let expected = store.load(&key()).await.unwrap().map(|(_, version)| version);
    match store.save(&key(), Some(&numbered(number)), expected.as_ref(), lease).await.unwrap() {
        Saved::Written(version) => version,
        Saved::Conflict(_) => panic!("somebody else saved"),
    }
}

pub(crate) async fn lease(store: &FileStore) -> Box<dyn Lease> {
    match store.try_lease(&key()).await.unwrap() {
        TryLease::Held(lease) => lease,
        TryLease::Busy { holder } => panic!("{holder:?} has the lease"),
    }
}

pub(crate) fn file(folder: &Path, ending: &str) -> PathBuf {
    folder.join(format!("{}.{ending}", key().fingerprint()))
}

/// Names in the folder that are neither the record nor a lock.
pub(crate) fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !["json", "lock", "lease"].contains(&name.split_once('.').unwrap().1)).collect()
}

/// The role this process was started for, and its folder.
pub(crate) fn role() -> Option<(String, FileStore)> {
    let role = env::var(ROLE).ok()?;
    // The test harness has begun a line.
    println!();
    Some((role, FileStore::open(env::var_os(FOLDER)?).unwrap()))
}

/// Says something to the parent.
pub(crate) fn say(text: impl std::fmt::Display) {
    println!("@{text}");
}

/// A child in one of the roles that the test `child` of the same binary plays.
pub(crate) struct Actor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    pub(crate) fn start(role: &str, folder: &Path) -> Self {
        Self::spawn(&mut Self::command(role, folder)).unwrap()
    }

    /// As another user, which only root can. An error where that user may not run this binary.
    #[cfg(unix)]
    pub(crate) fn start_as(user: u32, role: &str, folder: &Path) -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt;

        Self::spawn(Self::command(role, folder).current_dir("/").uid(user).gid(user))
    }

    fn command(role: &str, folder: &Path) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Ok(Self { child, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that it says; `None` when it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix('@')?.to_owned()))
    }

    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(self.hear().as_deref(), Some(text));
    }

    /// Ends it as nothing can resist.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
