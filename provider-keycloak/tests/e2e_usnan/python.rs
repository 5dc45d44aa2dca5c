//! The USNAN SDK, in a Python environment of its own that is made once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The SDK, as the Python package index has it.
const PACKAGE: &str = "usnan==0.3";

/// The interpreter that has the SDK.
#[derive(Clone, Debug)]
pub(crate) struct Python(PathBuf);

impl Python {
    /// The environment, or `None` where the test is to be skipped: that is told past the test runner, which would keep it.
    ///
    /// # Panics
    /// If it cannot be made and `CI` is set.
    pub(crate) fn for_tests() -> Option<Self> {
        match Self::prepare() {
            Ok(python) => Some(python),
            Err(reason) => {
                let on_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
                assert!(!on_ci, "no usnan: {reason}");
                say(&format!("skipped: no usnan: {reason}"));
                None
            }
        }
    }

    fn prepare() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = folder.join(PACKAGE.replace("==", "-"));
        let told = |error: io::Error| format!("{}: {error}", home.display());
        fs::create_dir_all(folder).map_err(told)?;
        // One process makes it; the lock ends with the process. The name has a dot of its own.
        let turn = File::create(folder.join("usnan.lock")).map_err(told)?;
        turn.lock().map_err(told)?;
        let python = Self(home.join("bin/python"));
        let whole = home.join("whole");
        if whole.exists() {
            return Ok(python);
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(told)?;
        }
        let make = Command::new("python3").args(["-m", "venv"]).arg(&home).output();
        succeeded("python3 -m venv", make)?;
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", PACKAGE];
        succeeded("pip install", Command::new(&python.0).args(install).output())?;
        File::create(whole).map_err(told)?;
        Ok(python)
    }

    /// A script with the SDK in this home folder, its endpoints below `base`. It says what came of it by `say(value)`, as lines
    /// of JSON.
    pub(crate) fn command(&self, home: &Path, base: &str, script: &str) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(["-u", "-c", &format!("{PRELUDE}\n{script}")])
            .env("HOME", home)
            .env("USNAN_TEST_BASE", base)
            .env_remove("XDG_DATA_HOME")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs such a script and gives what it says last.
    pub(crate) fn run(&self, home: &Path, base: &str, script: &str) -> Value {
        let lines = said(&self.command(home, base, script).output().unwrap());
        lines.last().cloned().unwrap_or_default()
    }
}

/// What a script said, line by line.
#[track_caller]
pub(crate) fn said(output: &Output) -> Vec<Value> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    // The SDK prints words of its own as well.
    out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The SDK's endpoints are constants: they are set in its memory before it is used, and nothing on disk changes.
const PRELUDE: &str = r#"
import json, os, sys, time
import usnan.auth as auth
base = os.environ["USNAN_TEST_BASE"]
auth.TOKEN_URL = f"{base}/token"
auth.AUTHORIZATION_URL = f"{base}/auth"
auth.DEVICE_AUTH_URL = f"{base}/auth/device"
auth.REVOCATION_URL = f"{base}/revoke"
from usnan import USNANClient
say = lambda value: print(json.dumps(value), flush=True)
token = lambda client: client._auth.get_token() if client._auth else None
"#;

fn succeeded(what: &str, output: io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(format!("{what}: {}: {last}", output.status))
}

/// Tells something past the test runner.
pub(crate) fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "usnan: {line}");
}
