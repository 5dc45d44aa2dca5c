//! CAVE's own client, in a Python environment of its own that is made once.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

/// The client, as the Python package index has it.
const PACKAGE: &str = "caveclient==8.2.1";

/// The interpreter that has the client.
#[derive(Clone, Debug)]
pub struct Python(PathBuf);

impl Python {
    /// The environment, or `None` where the test is to be skipped: that is told past the test runner, which would keep it.
    ///
    /// Tests run when `KEYFOB_E2E` is `cave`. An environment that cannot be made then skips the test too, unless `CI` is set.
    pub fn for_tests() -> Option<Self> {
        static PYTHON: OnceLock<Option<Python>> = OnceLock::new();
        PYTHON.get_or_init(Self::asked_for).clone()
    }

    fn asked_for() -> Option<Self> {
        if std::env::var("KEYFOB_E2E").as_deref() != Ok("cave") {
            say("skipped: set KEYFOB_E2E=cave");
            return None;
        }
        match Self::prepare() {
            Ok(python) => Some(python),
            Err(reason) => {
                let on_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
                assert!(!on_ci, "no caveclient: {reason}");
                say(&format!("skipped: no caveclient: {reason}"));
                None
            }
        }
    }

    fn prepare() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = folder.join(PACKAGE.replace("==", "-"));
        let told = |error: io::Error| format!("{}: {error}", home.display());
        fs::create_dir_all(folder).map_err(told)?;
        // One process makes it; the lock ends with the process.
        let turn = File::create(home.with_extension("lock")).map_err(told)?;
        turn.lock().map_err(told)?;
        let python = Self(home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" }));
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

    /// Runs a script with these arguments in this home folder. It says what came of it by `say(value)`, as JSON.
    pub fn run<S: AsRef<OsStr>>(&self, home: &Path, script: &str, arguments: &[S]) -> Value {
        let script = format!("{PRELUDE}\n{script}");
        let output = Command::new(&self.0)
            .args(["-c", &script])
            .args(arguments)
            .env("HOME", home)
            .env_remove("CLOUD_VOLUME_DIR")
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out:?}\n{err}"))
    }
}

/// The usual umask, whatever this machine's is.
const PRELUDE: &str = "\
import json, os, sys
os.umask(0o022)
from caveclient.auth import AuthClient
from caveclient.base import AuthException
say = lambda value: print(json.dumps(value))
";

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

fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "cave: {line}");
}
