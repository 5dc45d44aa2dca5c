//! Python environments with the real clients that keyfob's tests meet, each made once.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::keycloak::E2E_VARIABLE;

/// A Python environment with one package in it.
#[derive(Clone, Debug)]
pub struct Environment(PathBuf);

impl Environment {
    /// The environment with this package (`NAME==VERSION`) below a folder, made at the first use; or `None` where the test is
    /// to be skipped. That is told past the test runner, which would keep it.
    ///
    /// Tests run when `KEYFOB_E2E` is their group. An environment that cannot be made then skips the test too, unless `CI` is
    /// set.
    ///
    /// # Panics
    /// If `CI` is set and the environment cannot be made.
    pub fn for_tests(group: &str, package: &str, folder: impl AsRef<Path>) -> Option<Self> {
        if env::var(E2E_VARIABLE).as_deref() != Ok(group) {
            say(group, &format!("skipped: set {E2E_VARIABLE}={group}"));
            return None;
        }
        match Self::make(package, folder.as_ref()) {
            Ok(made) => Some(made),
            Err(reason) => {
                let on_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
                assert!(!on_ci, "no {package}: {reason}");
                say(group, &format!("skipped: no {package}: {reason}"));
                None
            }
        }
    }

    /// Its interpreter.
    pub fn python(&self) -> Command {
        Command::new(self.0.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" }))
    }

    fn make(package: &str, folder: &Path) -> Result<Self, String> {
        let home = folder.join(package.replace("==", "-"));
        let told = |error: io::Error| format!("{}: {error}", home.display());
        fs::create_dir_all(folder).map_err(told)?;
        // One process makes it; the lock ends with the process.
        let turn = File::create(folder.join(format!("{package}.lock"))).map_err(told)?;
        turn.lock().map_err(told)?;
        let made = Self(home.clone());
        let whole = home.join("whole");
        if whole.exists() {
            return Ok(made);
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(told)?;
        }
        succeeded("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&home).output())?;
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", package];
        succeeded("pip install", made.python().args(install).output())?;
        File::create(whole).map_err(told)?;
        Ok(made)
    }
}

/// Tells something past the test runner.
pub fn say(group: &str, line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "{group}: {line}");
}

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
