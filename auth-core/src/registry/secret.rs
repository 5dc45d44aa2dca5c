//! [`SecretSource`]: where a configured secret comes from, read when it is needed.

use std::{
    env, fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::time::sleep;
use zeroize::{Zeroize, Zeroizing};

use crate::AuthError;

/// The longest that a command may take to print a secret.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// The largest secret that is read.
const LARGEST: usize = 1 << 20;

/// Where a secret comes from. It is read at each use, so that a replaced file or a new password is seen.
#[derive(Clone)]
#[non_exhaustive]
pub enum SecretSource {
    /// Written down in the configuration.
    Literal(SecretString),
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is not part of it.
    File(PathBuf),
    /// What a program prints; one trailing newline is not part of it. It gets 30 s and no input.
    Command(Vec<String>),
    /// One of the others, and which key of the configuration names it: errors tell.
    Configured(Box<Self>, String),
}

impl SecretSource {
    /// Reads it. A Tokio runtime is needed for a command.
    ///
    /// # Errors
    /// [`NotConfigured`](crate::ErrorKind::NotConfigured) if the variable is unset, the file absent or either is empty;
    /// [`Configuration`](crate::ErrorKind::Configuration) if a file cannot be read or a command fails. Both name the
    /// source.
    pub async fn read(&self) -> Result<SecretString, AuthError> {
        self.read_with(&[]).await
    }

    /// [`read`](Self::read), with these variables in the environment of a command.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_with(&self, variables: &[(&str, &str)]) -> Result<SecretString, AuthError> {
        let secret = match self {
            Self::Literal(secret) => return Ok(secret.clone()),
            Self::Env(name) => Zeroizing::new(match env::var(name) {
                Ok(value) => value,
                Err(env::VarError::NotPresent) => {
                    return Err(self.error(AuthError::not_configured("the environment variable is not set")));
                }
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(self.error(AuthError::configuration("the environment variable is not UTF-8")));
                }
            }),
            Self::File(path) => {
                let bytes = read_file(path).map_err(|error| {
                    self.error(match error.kind() {
                        io::ErrorKind::NotFound => AuthError::not_configured("the file does not exist"),
                        _ => AuthError::configuration("the file cannot be read").with_source(error),
                    })
                })?;
                self.text(bytes)?
            }
            Self::Command(argv) => self.text(self.run(argv, variables).await?)?,
            Self::Configured(source, _) => {
                return Box::pin(source.read_with(variables)).await.map_err(|error| self.error(error));
            }
        };
        if secret.is_empty() {
            return Err(self.error(AuthError::not_configured("it is empty")));
        }
        Ok(SecretString::from(secret.as_str()))
    }

    /// The file that it is read from, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Configured(source, _) => source.path(),
            Self::Literal(_) | Self::Env(_) | Self::Command(_) => None,
        }
    }

    /// A number that changes when what is behind it does, as far as that can be told quickly.
    pub fn revision(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Literal(secret) => secret.expose_secret().hash(&mut hasher),
            Self::Command(_) => return None,
            Self::Configured(source, _) => return source.revision(),
            Self::Env(name) => Zeroizing::new(env::var(name).unwrap_or_default()).hash(&mut hasher),
            Self::File(path) => {
                let metadata = fs::metadata(path).ok();
                metadata.as_ref().map(fs::Metadata::len).hash(&mut hasher);
                metadata.and_then(|m| m.modified().ok()).hash(&mut hasher);
            }
        }
        // It is kept beside a remembered refusal: enough to see a change, too little to find a secret by.
        Some(hasher.finish() & 0xffff_ffff)
    }

    async fn run(&self, argv: &[String], variables: &[(&str, &str)]) -> Result<Vec<u8>, AuthError> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(self.error(AuthError::configuration("the command is empty")));
        };
        let mut command = Command::new(program);
        // What it writes to stderr is not shown: asking for a token never prints.
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(Stdio::piped()).envs(variables.iter().copied());
        let (printed, status) = tokio::time::timeout(COMMAND_DEADLINE, output(command))
            .await
            .map_err(|_| self.error(AuthError::transient("the command did not end within 30 s")))?
            .map_err(|error| {
                self.error(AuthError::configuration("the command cannot be run").with_source(error))
            })?;
        match status {
            Some(status) if !status.success() => Err(self.error(AuthError::configuration(format!(
                "the command failed ({status}); run it by hand to see why"
            )))),
            _ => Ok(printed),
        }
    }

    fn text(&self, bytes: Vec<u8>) -> Result<Zeroizing<String>, AuthError> {
        if bytes.len() > LARGEST {
            return Err(self.error(AuthError::configuration("it is larger than any secret")));
        }
        let mut text = String::from_utf8(bytes).map_err(|error| {
            error.into_bytes().zeroize();
            self.error(AuthError::configuration("it is not UTF-8 text"))
        })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(Zeroizing::new(text))
    }

    fn error(&self, error: AuthError) -> AuthError {
        error.with_origin(self.to_string())
    }
}

/// Reads a file, but no more of it than any secret has: it may be a device that never ends.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a program prints, and how it ended; of one that prints more than any secret has, so much. It is killed when nobody
/// waits for it any more.
async fn output(mut command: Command) -> io::Result<(Vec<u8>, Option<ExitStatus>)> {
    /// How often is looked for the end of a program that prints no more.
    const STEP: Duration = Duration::from_millis(2);
    let mut running = Running(command.spawn()?);
    let printed = match running.0.stdout.take() {
        Some(stdout) => printed(stdout).await?,
        None => Vec::new(),
    };
    if printed.len() > LARGEST {
        return Ok((printed, None));
    }
    loop {
        if let Some(status) = running.0.try_wait()? {
            return Ok((printed, Some(status)));
        }
        sleep(STEP).await;
    }
}

/// Reads what is printed, but no more of it than any secret has.
#[cfg(unix)]
async fn printed(stdout: ChildStdout) -> io::Result<Vec<u8>> {
    use tokio::{io::AsyncReadExt as _, net::unix::pipe};

    let mut printed = Vec::new();
    // Closed when it is dropped: whoever else holds the other end keeps nobody here.
    let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    stdout.take(LARGEST as u64 + 1).read_to_end(&mut printed).await?;
    Ok(printed)
}

#[cfg(not(unix))]
async fn printed(stdout: ChildStdout) -> io::Result<Vec<u8>> {
    let read = move || {
        let mut printed = Vec::new();
        stdout.take(LARGEST as u64 + 1).read_to_end(&mut printed).map(|_| printed)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// A program that is killed when this is dropped, and leaves nothing behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Killed, it ends at once; nothing else would take its status from the system.
        if self.0.kill().is_ok() {
            let _ = self.0.wait();
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("a literal in the configuration"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            // Arguments may be secret.
            Self::Command(argv) => write!(f, "command {}", argv.first().map_or("", String::as_str)),
            Self::Configured(source, key) => write!(f, "{source}, for {key}"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({self})")
    }
}

impl From<SecretString> for SecretSource {
    fn from(secret: SecretString) -> Self {
        Self::Literal(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn sh(script: &str) -> SecretSource {
        SecretSource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[tokio::test]
    async fn one_trailing_newline_is_not_part_of_a_secret() {
        let file = env::temp_dir().join(format!("keyfob-secret-{}", std::process::id()));
        for (content, secret) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n")]
        {
            fs::write(&file, content).unwrap();
            assert_eq!(SecretSource::File(file.clone()).read().await.unwrap().expose_secret(), secret);
        }
        fs::remove_file(&file).unwrap();
        let error = SecretSource::File(file).read().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert_eq!(sh("echo abc").read().await.unwrap().expose_secret(), "abc");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_never_ends_is_no_secret() {
        for source in [SecretSource::File("/dev/zero".into()), sh("yes")] {
            let error = source.read().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains("larger than any secret"), "{error}");
        }
    }

    /// Also where another program holds its output open and lives on.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_command_that_nobody_waits_for_is_killed_and_leaves_nothing_behind() {
        for script in ["echo $$ >PID; exec sleep 60", "sleep 60 & echo $! >OTHER; echo $$ >PID; wait"] {
            let folder = env::temp_dir().join(format!("keyfob-kill-{:x}", fastrand::u64(..)));
            fs::create_dir(&folder).unwrap();
            let [own, other] = ["own", "other"].map(|name| folder.join(name));
            let script = script.replace("PID", &own.display().to_string());
            let source = sh(&script.replace("OTHER", &other.display().to_string()));
            let mut reading = Box::pin(source.read());
            let process = loop {
                tokio::select! {
                    read = &mut reading => panic!("it prints nothing and does not end: {read:?}"),
                    () = sleep(Duration::from_millis(5)) => {}
                }
                if let Some(pid) = fs::read_to_string(&own).ok().filter(|pid| pid.ends_with('\n')) {
                    break PathBuf::from("/proc").join(pid.trim());
                }
            };
            assert!(process.exists());
            drop(reading);
            assert!(!process.exists(), "it runs no more, and is no zombie");
            if let Ok(pid) = fs::read_to_string(&other) {
                Command::new("kill").arg(pid.trim()).status().unwrap();
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[tokio::test]
    async fn a_failing_or_silent_command_is_named_without_its_arguments() {
        let error = sh("echo marker; exit 3").read().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(
            error.to_string().contains("command sh") && !format!("{error:?}").contains("marker"),
            "{error}"
        );
        assert_eq!(sh("true").read().await.unwrap_err().kind(), ErrorKind::NotConfigured);
    }

    #[test]
    fn a_changed_file_has_another_revision() {
        let file = env::temp_dir().join(format!("keyfob-revision-{}", std::process::id()));
        fs::write(&file, "one").unwrap();
        let source = SecretSource::File(file.clone());
        let before = source.revision();
        assert_eq!(before, source.revision());
        fs::write(&file, "another").unwrap();
        assert_ne!(before, source.revision());
        fs::remove_file(&file).unwrap();
    }
}
