//! The platform's own command and SDK, in a Python environment of their own that is made once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// The clients, as the Python package index has them.
const PACKAGE: &str = "nemo-platform==0.6.0";

/// The environment that has the clients.
#[derive(Clone, Debug)]
pub(crate) struct Python(PathBuf);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Python {
    /// The environment, or `None` where the test is to be skipped: that is told past the test runner, which would keep it.
    ///
    /// Tests run when `KEYFOB_E2E` is `nemo`. An environment that cannot be made then skips the test too, unless `CI` is set.
    pub(crate) fn for_tests() -> Option<Self> {
        static PYTHON: OnceLock<Option<Python>> = OnceLock::new();
        PYTHON.get_or_init(Self::asked_for).clone()
    }

    fn asked_for() -> Option<Self> {
        if std::env::var("KEYFOB_E2E").as_deref() != Ok("nemo") {
            say("skipped: set KEYFOB_E2E=nemo");
            return None;
        }
        match Self::prepare() {
            Ok(python) => Some(python),
            Err(reason) => {
                let on_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
                assert!(!on_ci, "no nemo-platform: {reason}");
                say(&format!("skipped: no nemo-platform: {reason}"));
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
        let whole = home.join("whole");
        if whole.exists() {
            return Ok(Self(home));
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(told)?;
        }
        let python = interpreter().ok_or("there is no Python 3.12 or newer, which it needs")?;
        say(&format!("installing {PACKAGE} with {}", python.display()));
        succeeded("python -m venv", Command::new(python).args(["-m", "venv"]).arg(&home).output())?;
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", PACKAGE];
        succeeded("pip install", Command::new(home.join("bin/python")).args(install).output())?;
        File::create(whole).map_err(told)?;
        Ok(Self(home))
    }

    /// The platform's command, for the configuration in this folder.
    pub(crate) fn nemo(&self, folder: &Path, arguments: &str) -> Command {
        let mut command = self.command(folder, "nemo");
        command.args(arguments.split_whitespace());
        command
    }

    /// A script that uses the SDK, for the configuration in this folder.
    pub(crate) fn script(&self, folder: &Path, script: &str, argument: &str) -> Command {
        let mut command = self.command(folder, "python");
        command.args(["-c", script, argument]);
        command
    }

    fn command(&self, folder: &Path, program: &str) -> Command {
        let mut command = Command::new(self.0.join("bin").join(program));
        // Nothing of whoever runs the tests: variables would go before the file.
        for (name, _) in std::env::vars_os() {
            if ["NMP_", "NEMO_", "XDG_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", folder)
            .env("NMP_CONFIG_FILE", folder.join("config.yaml"))
            .env("NO_PROXY", "127.0.0.1")
            .env("NEMO_TELEMETRY_ENABLED", "false");
        command
    }
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    #[track_caller]
    pub(crate) fn succeeds(command: Command) -> Self {
        let ran = Self::of(command);
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
        ran
    }
}

/// A Python that is new enough: on the path, or among those of pyenv.
fn interpreter() -> Option<PathBuf> {
    let on_path = ["python3", "python3.14", "python3.13", "python3.12"].map(PathBuf::from);
    let root = Command::new("pyenv").arg("root").output().ok().filter(|output| output.status.success());
    let versions =
        root.map(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("versions"));
    let versions = versions.and_then(|versions| fs::read_dir(versions).ok()).into_iter().flatten().flatten();
    let of_pyenv = versions.map(|version| version.path().join("bin/python"));
    on_path.into_iter().chain(of_pyenv).find(|python| is_new_enough(python))
}

fn is_new_enough(python: &Path) -> bool {
    let script = "import sys, venv; sys.exit(sys.version_info < (3, 12))";
    Command::new(python).args(["-c", script]).output().is_ok_and(|output| output.status.success())
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

pub(crate) fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "nemo: {line}");
}
