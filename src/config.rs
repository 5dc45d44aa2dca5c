//! [`Config`]: from a TOML file to sessions.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use keyfob_auth_core::{
    AuthError, Context,
    registry::{Profile, Registry, Settings, Value, closest},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

/// The largest configuration file that is read.
const LARGEST: u64 = 1 << 20;

/// What a configuration file says: profiles by name, and which of them is meant if none is named.
///
/// Only the profile in use is checked in full, so a bad one never stops the others.
///
/// # Examples
/// ```
/// use keyfob::{Config, Context};
///
/// let config = Config::parse(
///     r#"
///     default_profile = "work"
///
///     [profile.work]
///     provider = "static"
///     token = { env = "WORK_TOKEN" }
///     store = "memory"
///     origins = ["https://api.example"]
///     "#,
///     "keyfob.toml",
/// )?;
/// assert_eq!(config.profiles().collect::<Vec<_>>(), ["work"]);
/// # #[cfg(feature = "static")]
/// let session = config.profile(None, &keyfob::registry(), &Context::new())?.session;
/// # Ok::<_, keyfob::AuthError>(())
/// ```
pub struct Config {
    path: PathBuf,
    default_profile: Option<DefaultProfile>,
    profiles: BTreeMap<String, Stored>,
}

/// The `default_profile` as the file has it.
struct DefaultProfile {
    name: String,
    line: usize,
}

/// A profile as the file has it.
struct Stored {
    line: usize,
    entries: Result<Entries, AuthError>,
}

type Entries = BTreeMap<String, (Value, Option<usize>)>;

impl Config {
    /// Reads this file.
    ///
    /// # Errors
    /// [`NotConfigured`](keyfob_auth_core::ErrorKind::NotConfigured) if it does not exist;
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if it cannot be read, is no TOML, or has a key at its
    /// top that nobody knows. They name file and line, and never show what is written there: it may be a secret.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, AuthError> {
        // Relative paths in it are read later, and the current folder may be another one by then.
        let path = path.into();
        let path = std::path::absolute(&path).unwrap_or(path);
        let text = read(&path).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => AuthError::not_configured("there is no configuration file"),
                _ => AuthError::configuration("the configuration file cannot be read").with_source(error),
            };
            what.with_origin(path.display().to_string())
        })?;
        Self::parse(&text, path)
    }

    /// Reads the file that [`default_path`](Self::default_path) names.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`NotConfigured`](keyfob_auth_core::ErrorKind::NotConfigured) too if this user has no
    /// home folder.
    pub fn from_default_place() -> Result<Self, AuthError> {
        let path = Self::default_path().ok_or_else(|| {
            AuthError::not_configured(
                "this user has no home folder: name the configuration file in KEYFOB_CONFIG",
            )
        })?;
        Self::load(path)
    }

    /// The file that the environment variable `KEYFOB_CONFIG` names, else `keyfob/config.toml` in the platform's folder:
    /// `$XDG_CONFIG_HOME` or `~/.config`, on macOS `~/Library/Application Support`, on Windows `%APPDATA%`.
    pub fn default_path() -> Option<PathBuf> {
        path_from(|name| env::var_os(name).filter(|value| !value.is_empty()), env::home_dir())
    }

    /// Reads this text, as that of a file at this path: errors name it, and relative paths start in its folder.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) as [`load`](Self::load) has it.
    pub fn parse(text: &str, path: impl Into<PathBuf>) -> Result<Self, AuthError> {
        let path = path.into();
        let source = Source { text, path: &path };
        // The error's own Display quotes the line, and a line may hold a secret.
        let document = DeTable::parse(text).map_err(|error| source.syntax(error.message(), error.span()))?;
        let (mut default_profile, mut profiles) = (None, BTreeMap::new());
        for (key, value) in document.into_inner() {
            let line = source.line(key.span().start);
            match (key.get_ref().as_ref(), value.into_inner()) {
                ("default_profile", DeValue::String(name)) => {
                    default_profile = Some(DefaultProfile { name: name.into_owned(), line });
                }
                ("default_profile", other) => {
                    return Err(source.wrong("default_profile", "a text", &other, line));
                }
                ("profile", DeValue::Table(tables)) => profiles = source.profiles(tables)?,
                ("profile", other) => {
                    return Err(source.wrong("profile", "tables: [profile.NAME]", &other, line));
                }
                (unknown, _) => {
                    let known = "; known here: `default_profile` and the tables [profile.NAME]";
                    let mut meant = closest(unknown, ["default_profile", "profile"].into_iter());
                    if meant.is_empty() {
                        meant.push_str(known);
                    }
                    return Err(source.error(format!("unknown key `{unknown}`{meant}"), line));
                }
            }
        }
        Ok(Self { path, default_profile, profiles })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The profile that is meant if none is named: the file's `default_profile`, or its only one.
    pub fn default_profile(&self) -> Option<&str> {
        let only = || self.profiles.keys().next().filter(|_| self.profiles.len() == 1);
        self.default_profile.as_ref().map(|default| &default.name).or_else(only).map(String::as_str)
    }

    /// The settings of the profile of this name, or of the [default one](Self::default_profile).
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if there is no such profile, naming those there are.
    pub fn settings(&self, name: Option<&str>) -> Result<Settings, AuthError> {
        let given = name.is_some();
        let name = name.or_else(|| self.default_profile()).ok_or_else(|| self.unnamed())?;
        let stored = self.profiles.get(name).ok_or_else(|| self.unknown(name, given))?;
        let entries = stored.entries.as_ref().map_err(Clone::clone)?;
        let settings = Settings::new(format!("profile.{name}"))
            .labelled(name)
            .in_file(&self.path)
            .at_line(Some(stored.line));
        let settings = entries.iter().fold(settings, |settings, (key, (value, line))| {
            settings.with(key.as_str(), value.clone(), *line)
        });
        Ok(settings)
    }

    /// The session of the profile of this name, or of the [default one](Self::default_profile), and what belongs to it.
    ///
    /// Secrets that are written down in a file that others can read are warned of, in the log.
    ///
    /// # Errors
    /// Those of [`settings`](Self::settings) and [`Registry::profile`].
    pub fn profile(
        &self,
        name: Option<&str>,
        registry: &Registry,
        context: &Context,
    ) -> Result<Profile, AuthError> {
        let profile = registry.profile(&self.settings(name)?, context)?;
        if !profile.literal_secrets.is_empty() && is_readable_by_others(&self.path) {
            tracing::warn!(
                "others can read {}, and it holds a secret as it is ({}): make it private (chmod 600), or name where \
                 the secret is: {{ env = \"…\" }}, {{ file = \"…\" }} or {{ command = [\"…\"] }}",
                self.path.display(),
                profile.literal_secrets.join(", ")
            );
        }
        Ok(profile)
    }

    fn unnamed(&self) -> AuthError {
        let Some(first) = self.profiles().next() else {
            return AuthError::configuration("the file has no profile: one is a table [profile.NAME]")
                .with_origin(self.path.display().to_string());
        };
        AuthError::configuration(format!(
            "no profile was named, and the file has no `default_profile`: name one (`--profile NAME`), or write \
             `default_profile = {first:?}` at the top of the file (there are: {})",
            self.names()
        ))
        .with_origin(self.path.display().to_string())
    }

    fn unknown(&self, name: &str, given: bool) -> AuthError {
        let meant = closest(name, self.profiles());
        let names = self.names();
        let path = self.path.display();
        match self.default_profile.as_ref().filter(|_| !given) {
            Some(default) => AuthError::configuration(format!(
                "`default_profile` is {name:?}, but there is no profile of that name{meant} (there are: {names})"
            ))
            .with_origin(format!("{path}, line {}", default.line)),
            None => AuthError::configuration(format!("there is no profile {name:?}{meant} (there are: {names})"))
                .with_origin(path.to_string()),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.profiles().collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

impl fmt::Debug for Config {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("default_profile", &self.default_profile.as_ref().map(|default| &default.name))
            .field("profiles", &self.profiles.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The text of a file, for errors that name the line.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn profiles(&self, tables: DeTable<'_>) -> Result<BTreeMap<String, Stored>, AuthError> {
        let mut profiles = BTreeMap::new();
        for (key, value) in tables {
            let line = self.line(key.span().start);
            let name = key.into_inner().into_owned();
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(self.error("a profile's name must be text, and not empty".into(), line));
            }
            let entries = match value.into_inner() {
                DeValue::Table(table) => self.entries(table, &format!("profile.{name}")),
                other => Err(self.wrong(&format!("profile.{name}"), "a table", &other, line)),
            };
            profiles.insert(name, Stored { line, entries });
        }
        Ok(profiles)
    }

    fn entries(&self, table: DeTable<'_>, name: &str) -> Result<Entries, AuthError> {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
            let line = self.line(key.span().start);
            let key: String = std::borrow::Cow::into_owned(key.into_inner());
            let value = self.value(value, &format!("{name}.{key}"))?;
            Ok((key, (value, Some(line))))
        };
        table.into_iter().map(entry).collect()
    }

    fn value(&self, value: Spanned<DeValue<'_>>, name: &str) -> Result<Value, AuthError> {
        let line = self.line(value.span().start);
        let no_number = || self.error(format!("`{name}` is a number that is too large"), line);
        Ok(match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(integer) => Value::Integer(
                i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| no_number())?,
            ),
            DeValue::Float(float) => Value::Float(float.as_str().parse().map_err(|_| no_number())?),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(values) => Value::List(
                values.into_iter().map(|value| self.value(value, name)).collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Value::Table(self.entries(table, name)?),
        })
    }

    /// The line, from 1, of what begins at this byte.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn syntax(&self, message: &str, span: Option<Range<usize>>) -> AuthError {
        let at = span.map_or(self.text.len(), |span| span.start);
        let line_start =
            self.text.as_bytes().iter().take(at).rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
        let column = 1 + self.text.get(line_start..at).map_or(0, |before| before.chars().count());
        AuthError::configuration(format!("this is not valid TOML: {message}")).with_origin(format!(
            "{}, line {}, column {column}",
            self.path.display(),
            self.line(at)
        ))
    }

    fn wrong(&self, key: &str, meant: &str, found: &DeValue<'_>, line: usize) -> AuthError {
        self.error(format!("`{key}` must be {meant}, not of type {}", found.type_str()), line)
    }

    fn error(&self, message: String, line: usize) -> AuthError {
        AuthError::configuration(message).with_origin(format!("{}, line {line}", self.path.display()))
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let mut file = File::open(path)?.take(LARGEST + 1);
    // Room for all of it at once: a text that grows leaves copies behind.
    text.reserve(usize::try_from(file.get_ref().metadata()?.len().min(LARGEST)).unwrap_or_default() + 1);
    let size = file.read_to_string(&mut text)?;
    if u64::try_from(size).is_ok_and(|size| size <= LARGEST) {
        return Ok(text);
    }
    Err(io::Error::other("it is larger than 1 MiB"))
}

fn path_from(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(file) = variable("KEYFOB_CONFIG") {
        return Some(file.into());
    }
    let folder = if cfg!(windows) {
        variable("APPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home.map(|home| home.join("Library/Application Support"))
    } else {
        // A relative path there is to be ignored, says the XDG base directory specification.
        let given = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        given.or_else(|| home.map(|home| home.join(".config")))
    };
    folder.map(|folder| folder.join("keyfob").join("config.toml"))
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

/// Elsewhere, access lists decide, and a user's own folder is private unless somebody opened it.
#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
