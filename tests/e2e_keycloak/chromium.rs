//! Somebody at a real browser: headless Chromium, driven by `tests/browser/person.mjs`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use keyfob::{Interaction, Prompt};
use keyfob_idp::keycloak::password;
use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use crate::say;

/// More than a sign-in takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// A person with a browser whose cookies last as long as this.
#[derive(Debug)]
pub(crate) struct Person {
    chromium: PathBuf,
    name: &'static str,
    folder: TempDir,
    denies: bool,
    visits: Mutex<usize>,
}

impl Person {
    /// Somebody at a browser; `None` where there is none, which is told.
    ///
    /// # Panics
    /// If there is none and `CI` is set.
    pub(crate) fn new(name: &'static str) -> Option<Self> {
        let chromium = env::var_os("CHROMIUM").map(PathBuf::from).or_else(|| {
            ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
                .iter()
                .find_map(|name| on_path(name))
        });
        let missing = match (&chromium, on_path("node")) {
            (Some(_), Some(_)) => None,
            (None, _) => Some("Chromium (install it, or set CHROMIUM to its program)"),
            (_, None) => Some("Node"),
        };
        if let Some(what) = missing {
            let on_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!on_ci, "there is no {what}");
            say(&format!("skipped: there is no {what}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Some(Self { chromium: chromium?, name, folder, denies: false, visits: Mutex::default() })
    }

    /// The person, who refuses consent from now on, or gives it again.
    pub(crate) fn who_denies(self, denies: bool) -> Self {
        Self { denies, ..self }
    }

    /// The program that signs in at the URL that it is given.
    pub(crate) fn program() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/person.mjs")
    }

    /// What the program has to be told by its environment for the next visit.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let mut visits = self.visits.lock().unwrap();
        *visits += 1;
        let mut environment = vec![
            ("PERSON_CHROMIUM", self.chromium.clone()),
            ("PERSON_NAME", self.name.into()),
            ("PERSON_PASSWORD", password(self.name).unwrap().into()),
            ("PERSON_PROFILE", self.folder.path().to_owned()),
            ("PERSON_REPORT", self.report(*visits)),
        ];
        if self.denies {
            environment.push(("PERSON_DENIES", "1".into()));
        }
        environment
    }

    fn report(&self, visit: usize) -> PathBuf {
        self.folder.path().join(format!("report-{visit}.json"))
    }

    /// What the last visit came to; waits for its end.
    pub(crate) fn saw(&self) -> Value {
        let path = self.report(*self.visits.lock().unwrap());
        let began = Instant::now();
        while !path.exists() {
            assert!(began.elapsed() < PATIENCE, "the browser does not end");
            thread::sleep(Duration::from_millis(50));
        }
        let report: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(report["error"], Value::Null, "{report}");
        report
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Gives the person the URL that a login of the library shows.
#[derive(Debug)]
pub(crate) struct Opens {
    environment: Vec<(&'static str, PathBuf)>,
    shown: Mutex<Option<Url>>,
}

impl Opens {
    /// For one login.
    pub(crate) fn by(person: &Person) -> Arc<Self> {
        Arc::new(Self { environment: person.environment(), shown: Mutex::default() })
    }

    /// The URL that was shown.
    pub(crate) fn url(&self) -> Url {
        self.shown.lock().unwrap().clone().expect("a URL was shown")
    }
}

impl Interaction for Opens {
    fn show(&self, prompt: &Prompt) {
        let Prompt::OpenUrl { url } = prompt else { panic!("{prompt:?}") };
        *self.shown.lock().unwrap() = Some(Url::parse(url).unwrap());
        let mut browser = Command::new(Person::program());
        browser.arg(url).envs(self.environment.clone()).stdin(Stdio::null());
        let mut browser = browser.spawn().unwrap();
        thread::spawn(move || browser.wait());
    }
}
