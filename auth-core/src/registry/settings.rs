//! [`Settings`]: what a configuration file says, for factories to read.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zeroize::Zeroize;

use super::SecretSource;
use crate::AuthError;

/// One table of a configuration file, read key by key.
///
/// What is read is noted, so that [`finish`](Self::finish) can tell which keys nobody knows. Every error names the key, its
/// line and what was meant.
///
/// # Examples
/// ```
/// use keyfob_auth_core::registry::{Settings, Value};
///
/// let settings = Settings::new("profile.work").with("issuer", Value::String("https://idp.example".into()), Some(3));
/// assert_eq!(settings.require_string("issuer")?, "https://idp.example");
/// assert!(settings.string("client_id")?.is_none());
/// settings.finish()?;
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
pub struct Settings {
    name: String,
    label: Option<String>,
    file: Option<PathBuf>,
    line: Option<usize>,
    entries: BTreeMap<String, Entry>,
    asked: Mutex<BTreeSet<String>>,
    /// The full names of the secrets that were read and are literals; shared with the tables below.
    literals: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Clone)]
struct Entry {
    value: Value,
    line: Option<usize>,
}

/// A value of a configuration file. A text may be a secret, so it is wiped when it is dropped.
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// A text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date, a time or both: nothing here is one, but somebody may have written one.
    Date,
    /// A list.
    List(Vec<Self>),
    /// A table, with the line of each key.
    Table(BTreeMap<String, (Self, Option<usize>)>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if let Self::String(text) = self {
            text.zeroize();
        }
    }
}

impl Settings {
    /// An empty table of this name (`profile.work`).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            label: None,
            file: None,
            line: None,
            entries: BTreeMap::new(),
            asked: Mutex::default(),
            literals: Arc::default(),
        }
    }

    /// Says which [label](Self::label) its session has, if it is not the last part of its name.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says which file it is from: errors name it, and relative paths start in its folder.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Says on which line it starts.
    #[must_use]
    pub fn at_line(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    /// Adds a key and its line.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: Value, line: Option<usize>) -> Self {
        self.entries.insert(key.into(), Entry { value, line });
        self
    }

    /// The table's full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The profile's name: what was [given](Self::labelled), else the last part of the table's name.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or_else(|| self.name.rsplit('.').next().unwrap_or_default())
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.ask(key).is_some()
    }

    /// A text.
    ///
    /// # Errors
    /// If it is something else.
    pub fn string(&self, key: &str) -> Result<Option<String>, AuthError> {
        match self.ask(key) {
            None => Ok(None),
            Some(Entry { value: Value::String(text), .. }) => Ok(Some(text.clone())),
            Some(entry) => Err(self.wrong(key, entry, "a text")),
        }
    }

    /// A text that must be there and not empty.
    ///
    /// # Errors
    /// If it is absent, empty or something else.
    pub fn require_string(&self, key: &str) -> Result<String, AuthError> {
        match self.string(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.bad(key, "must not be empty")),
            None => Err(self.bad_at(key, &format!("the key `{key}` is missing"))),
        }
    }

    /// One of these texts.
    ///
    /// # Errors
    /// If it is anything else; the error lists them.
    pub fn one_of(&self, key: &str, choices: &[&'static str]) -> Result<Option<&'static str>, AuthError> {
        let Some(text) = self.string(key)? else { return Ok(None) };
        let found = choices.iter().copied().find(|choice| *choice == text);
        let meant = || {
            format!(
                "is {text:?}, but must be one of {}{}",
                list(choices),
                closest(&text, choices.iter().copied())
            )
        };
        found.map(Some).ok_or_else(|| self.bad(key, &meant()))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// If it is something else.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, AuthError> {
        self.texts(key, "a list of texts")
    }

    fn texts(&self, key: &str, meant: &str) -> Result<Option<Vec<String>>, AuthError> {
        let Some(entry) = self.ask(key) else { return Ok(None) };
        let Value::List(values) = &entry.value else { return Err(self.wrong(key, entry, meant)) };
        let text = |(n, value): (usize, &Value)| match value {
            Value::String(text) => Ok(text.clone()),
            other => {
                Err(self.bad(key, &format!("must be {meant}, but its item {} is {}", n + 1, other.kind())))
            }
        };
        values.iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, AuthError> {
        match self.ask(key) {
            None => Ok(None),
            Some(Entry { value: Value::Bool(value), .. }) => Ok(Some(*value)),
            Some(entry) => Err(self.wrong(key, entry, "true or false")),
        }
    }

    /// A whole number, not negative.
    ///
    /// # Errors
    /// If it is something else.
    pub fn integer(&self, key: &str) -> Result<Option<u64>, AuthError> {
        let Some(entry) = self.ask(key) else { return Ok(None) };
        let number = if let Value::Integer(number) = entry.value { u64::try_from(number).ok() } else { None };
        number.map(Some).ok_or_else(|| self.wrong(key, entry, "a whole number, 0 or more"))
    }

    /// A time in seconds.
    ///
    /// # Errors
    /// If it is no whole number.
    pub fn seconds(&self, key: &str) -> Result<Option<Duration>, AuthError> {
        Ok(self.integer(key)?.map(Duration::from_secs))
    }

    /// A path: `~/` is the home folder, and a relative one starts in the configuration file's folder.
    ///
    /// # Errors
    /// If it is no text, or empty.
    pub fn path(&self, key: &str) -> Result<Option<PathBuf>, AuthError> {
        match self.string(key)? {
            Some(text) if text.is_empty() => Err(self.bad(key, "must not be empty")),
            text => Ok(text.map(|text| self.resolve(&text))),
        }
    }

    /// A secret: a text, or a table with one of `env`, `file` and `command`.
    ///
    /// # Errors
    /// If it has none of these forms, or is an empty text.
    pub fn secret(&self, key: &str) -> Result<Option<SecretSource>, AuthError> {
        const FORMS: &str =
            "a text, { env = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", …] }";
        let Some(entry) = self.ask(key) else { return Ok(None) };
        let source = match &entry.value {
            Value::String(text) if text.is_empty() => return Err(self.bad(key, "must not be empty")),
            Value::String(text) => {
                lock(&self.literals).insert(format!("{}.{key}", self.name));
                SecretSource::Literal(text.clone().into())
            }
            Value::Table(table) if table.is_empty() => {
                return Err(self.bad(key, &format!("must be {FORMS}, not an empty table")));
            }
            Value::Table(_) => match self.table(key)? {
                Some(table) => table.secret_form()?,
                None => return Ok(None),
            },
            _ => return Err(self.wrong(key, entry, FORMS)),
        };
        Ok(Some(SecretSource::Configured(Box::new(source), format!("`{key}` of {}", self.name))))
    }

    /// Where this table, that of a secret, says the secret is.
    fn secret_form(&self) -> Result<SecretSource, AuthError> {
        const FORMS: [&str; 3] = ["env", "file", "command"];
        for form in FORMS {
            self.has(form);
        }
        self.finish()?;
        if self.entries.len() > 1 {
            return Err(self.error(format!("{}: only one of {}", self.name, FORMS.join(", ")), self.line));
        }
        if let Some(path) = self.path("file")? {
            return Ok(SecretSource::File(path));
        }
        match self.texts("command", "a list: [\"PROGRAM\", …]")? {
            None => self.require_string("env").map(SecretSource::Env),
            Some(argv) if argv.first().is_none_or(String::is_empty) => {
                Err(self.bad("command", "must name a program: [\"PROGRAM\", …]"))
            }
            Some(argv) => Ok(SecretSource::Command(argv)),
        }
    }

    /// A table below this one.
    ///
    /// # Errors
    /// If it is something else.
    pub fn table(&self, key: &str) -> Result<Option<Self>, AuthError> {
        match self.ask(key) {
            None => Ok(None),
            Some(Entry { value: Value::Table(entries), line }) => Ok(Some(Self {
                name: format!("{}.{key}", self.name),
                label: Some(self.label().to_owned()),
                file: self.file.clone(),
                line: *line,
                entries: entries
                    .iter()
                    .map(|(key, (value, line))| (key.clone(), Entry { value: value.clone(), line: *line }))
                    .collect(),
                asked: Mutex::default(),
                literals: Arc::clone(&self.literals),
            })),
            Some(entry) => Err(self.wrong(key, entry, "a table")),
        }
    }

    /// Whether the value is a table.
    pub fn is_table(&self, key: &str) -> bool {
        matches!(self.ask(key), Some(Entry { value: Value::Table(_), .. }))
    }

    /// Whether the value is a list.
    pub fn is_list(&self, key: &str) -> bool {
        matches!(self.ask(key), Some(Entry { value: Value::List(_), .. }))
    }

    /// The keys that are there, for tables whose keys the user names.
    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The full names of the secrets that were [read](Self::secret) so far and are written down as literals, in this table
    /// and those below it.
    pub fn literal_secrets(&self) -> Vec<String> {
        lock(&self.literals).iter().cloned().collect()
    }

    /// Checks that every key was one that somebody asked for.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for the first that was not, with what was probably meant.
    pub fn finish(&self) -> Result<(), AuthError> {
        let asked = lock(&self.asked);
        let Some((key, entry)) = self.entries.iter().find(|(key, _)| !asked.contains(*key)) else {
            return Ok(());
        };
        let known: Vec<&str> = asked.iter().map(String::as_str).collect();
        let meant = closest(key, known.iter().copied());
        let known =
            if meant.is_empty() { format!("; known here: {}", known.join(", ")) } else { String::new() };
        Err(self.error(format!("{}: unknown key `{key}`{meant}{known}", self.name), entry.line))
    }

    /// An error about this key, for what only its reader can judge.
    pub fn bad(&self, key: &str, what: &str) -> AuthError {
        self.bad_at(key, &format!("`{key}` {what}"))
    }

    /// An error on this key's line, in words that need not begin with it. Where the key is not there but a misspelt one is,
    /// the error is on that line, and says so.
    pub(super) fn bad_at(&self, key: &str, message: &str) -> AuthError {
        let name = &self.name;
        match (self.entries.get(key), self.misspelt(key)) {
            (Some(entry), _) => self.error(format!("{name}: {message}"), entry.line),
            (None, Some((found, entry))) => {
                self.error(format!("{name}: {message}; did you mean it by `{found}`?"), entry.line)
            }
            (None, None) => self.error(format!("{name}: {message}"), self.line),
        }
    }

    /// A key that nobody has asked for and that is this one, but for a slip. Its factory may know it and not have come to it
    /// yet: so no more than a slip counts.
    fn misspelt(&self, key: &str) -> Option<(&String, &Entry)> {
        let asked = lock(&self.asked);
        self.entries.iter().find(|(found, _)| !asked.contains(*found) && is_slip(found, key))
    }

    fn wrong(&self, key: &str, entry: &Entry, meant: &str) -> AuthError {
        self.bad(key, &format!("must be {meant}, not {}", entry.value.kind()))
    }

    fn ask(&self, key: &str) -> Option<&Entry> {
        lock(&self.asked).insert(key.to_owned());
        self.entries.get(key)
    }

    fn error(&self, message: String, line: Option<usize>) -> AuthError {
        let error = AuthError::configuration(message);
        match (&self.file, line) {
            (Some(file), Some(line)) => error.with_origin(format!("{}, line {line}", file.display())),
            (Some(file), None) => error.with_origin(file.display().to_string()),
            (None, Some(line)) => error.with_origin(format!("line {line}")),
            (None, None) => error,
        }
    }

    fn resolve(&self, path: &str) -> PathBuf {
        if let (Some(rest), Some(home)) = (path.strip_prefix("~/"), env::home_dir()) {
            return home.join(rest);
        }
        self.file.as_deref().and_then(Path::parent).map_or_else(|| path.into(), |folder| folder.join(path))
    }
}

/// A panic elsewhere leaves these sets whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `"a", "b" or "c"`.
fn list(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// `; did you mean "…"?` if one of them is near.
pub fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |candidate: &str| {
        let likeness = strsim::jaro_winkler(word, candidate);
        // One slip in a short word (`evn`) is more than that measure forgives.
        let slip = candidate.chars().count() > 2 && strsim::osa_distance(word, candidate) == 1;
        if slip { likeness.max(0.9) } else { likeness }
    };
    known
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean `{candidate}`?"))
        .unwrap_or_default()
}

/// Whether a word differs from another by a letter (two in a long one), however its parts are joined: `clientId`.
fn is_slip(word: &str, meant: &str) -> bool {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let most = if meant.chars().count() < 6 { 1 } else { 2 };
    strsim::osa_distance(&plain(word), &plain(meant)) <= most
}

impl fmt::Debug for Settings {
    /// The keys only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("keys", &self.entries.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.kind())
    }
}
