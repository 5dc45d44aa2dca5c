//! This test binary, run again as another process.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{answer_lost, logout, secrets, slow};

const ROLE: &str = "KEYFOB_SCENARIO_ROLE";
const ISSUER: &str = "KEYFOB_SCENARIO_ISSUER";
const FOLDER: &str = "KEYFOB_SCENARIO_FOLDER";
const ARGUMENT: &str = "KEYFOB_SCENARIO_ARGUMENT";

/// What a child was told.
pub(crate) struct Told {
    pub(crate) issuer: String,
    pub(crate) folder: PathBuf,
    pub(crate) argument: String,
}

/// Not a test: what the children do.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    println!(); // The test runner has begun a line.
    let told = Told {
        issuer: env::var(ISSUER).unwrap(),
        folder: env::var_os(FOLDER).unwrap().into(),
        argument: env::var(ARGUMENT).unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match role.as_str() {
        "log out" => runtime.block_on(logout::log_out(&told)),
        "spend" => runtime.block_on(answer_lost::spend(&told)),
        "tell everything" => runtime.block_on(secrets::tell_everything(&told)),
        "work" => runtime.block_on(slow::work(&told)),
        _ => panic!("no role: {role}"),
    }
}

/// Says a line to the parent.
pub(crate) fn report(text: impl std::fmt::Display) {
    println!("@{text}");
}

/// The binary, to be run in this role.
pub(crate) fn command(role: &str, issuer: &str, folder: &Path, argument: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["child::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ISSUER, issuer)
        .env(FOLDER, folder)
        .env(ARGUMENT, argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A child that runs, until this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(role: &str, issuer: &str, folder: &Path, argument: &str) -> Self {
        let mut child = command(role, issuer, folder, argument).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it says.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        let mut said = self.lines.by_ref().map_while(Result::ok);
        said.find_map(|line| Some(line.strip_prefix('@')?.to_owned())).expect("the child says something")
    }

    /// Ends it as nothing can resist.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    pub(crate) fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
