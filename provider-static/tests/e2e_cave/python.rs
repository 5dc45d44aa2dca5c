//! CAVE's own client, in a Python environment of its own.

use std::{ffi::OsStr, path::Path, sync::OnceLock};

use keyfob_idp::python::Environment;
use serde_json::Value;

/// The client, as the Python package index has it.
const PACKAGE: &str = "caveclient==8.2.1";

/// The usual umask, whatever this machine's is.
const PRELUDE: &str = "\
import json, os, sys
os.umask(0o022)
from caveclient.auth import AuthClient
from caveclient.base import AuthException
say = lambda value: print(json.dumps(value))
";

/// The interpreter that has the client.
#[derive(Clone, Debug)]
pub struct Python(Environment);

impl Python {
    /// The interpreter, or `None` where the test is to be skipped.
    pub fn for_tests() -> Option<Self> {
        static PYTHON: OnceLock<Option<Python>> = OnceLock::new();
        let make = || Environment::for_tests("cave", PACKAGE, env!("CARGO_TARGET_TMPDIR")).map(Self);
        PYTHON.get_or_init(make).clone()
    }

    /// Runs a script with these arguments in this home folder. It says what came of it by `say(value)`, as JSON.
    pub fn run<S: AsRef<OsStr>>(&self, home: &Path, script: &str, arguments: &[S]) -> Value {
        let script = format!("{PRELUDE}\n{script}");
        let output = self
            .0
            .python()
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
