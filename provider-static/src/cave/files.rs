//! [`Files`]: where CAVE's tokens are kept, and reading them there.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use keyfob_auth_core::AuthError;
use zeroize::Zeroizing;

use crate::json::Members;

/// The general file, and the one of old.
pub(super) const GENERAL: &str = "cave-secret.json";
pub(super) const DEPRECATED: &str = "chunkedgraph-secret.json";

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;
/// How long a file that was written just now and makes no sense is read again: CAVE's client truncates it first.
const TORN: Duration = Duration::from_millis(500);

/// The folders that have the files, in the order in which they are looked through: that of `CLOUD_VOLUME_DIR`, which
/// cloud-volume and cloud-files read, then the one in the home folder, which CAVE's client reads.
pub(super) fn folders() -> Vec<PathBuf> {
    folders_from(env::var_os("CLOUD_VOLUME_DIR"), env::home_dir())
}

fn folders_from(cloud_volume_dir: Option<OsString>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let named = cloud_volume_dir.filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = home.filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".cloudvolume"));
    let mut folders: Vec<PathBuf> =
        named.into_iter().chain(home).map(|folder| folder.join("secrets")).collect();
    folders.dedup();
    folders
}

/// Reads the files, and warns of each once.
#[derive(Debug, Default)]
pub(super) struct Files {
    warned: Mutex<BTreeSet<PathBuf>>,
}

impl Files {
    /// What the file has; `None` if there is none.
    ///
    /// It may be a link, and anybody's: in a container it is often projected from elsewhere.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Members>, AuthError> {
        let begun = Instant::now();
        loop {
            let (bytes, meta) = match open(path) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    return Err(AuthError::configuration("the CAVE secret file cannot be read")
                        .with_origin(path.display().to_string())
                        .with_source(error));
                }
            };
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            match Members::parse(&bytes) {
                Ok(members) => {
                    self.warn_if_open(path, &meta);
                    return Ok(Some(members));
                }
                Err(_) if age < TORN && begun.elapsed() < TORN => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(why) => {
                    return Err(AuthError::configuration(format!(
                        "this is no CAVE secret file: {why}; mend it (a JSON object, {{\"token\": \"…\"}}), or move it away \
                         and save the token again"
                    ))
                    .with_origin(path.display().to_string()));
                }
            }
        }
    }

    #[cfg(unix)]
    fn warn_if_open(&self, path: &Path, meta: &Metadata) {
        let mode = std::os::unix::fs::MetadataExt::mode(meta) & 0o7777;
        if mode & 0o077 != 0 && self.first(path) {
            let path = quoted(path);
            tracing::warn!("others can read the CAVE tokens in {path} (mode {mode:04o}): chmod 600 {path}");
        }
    }

    #[cfg(not(unix))]
    fn warn_if_open(&self, _: &Path, _: &Metadata) {}

    /// Warns that the token is in the file of old.
    pub(super) fn warn_of_deprecated(&self, path: &Path) {
        if self.first(&path.join("deprecated")) {
            let path = quoted(path);
            tracing::warn!("the CAVE token comes from {path}, a name of old: rename the file to {GENERAL}");
        }
    }

    fn first(&self, what: &Path) -> bool {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_path_buf())
    }
}

fn open(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    // Before it is opened: a FIFO would hang the call.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    // Room for all of it at once: memory that grows leaves copies behind.
    let room = usize::try_from(meta.len().min(LARGEST)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok((bytes, meta))
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;

    #[test]
    fn the_neighbours_folder_comes_first() {
        let of = |named: Option<&str>, home: Option<&str>| {
            folders_from(named.map(Into::into), home.map(Into::into))
        };
        let at_home = PathBuf::from("/home/me/.cloudvolume/secrets");
        assert_eq!(of(None, Some("/home/me")), std::slice::from_ref(&at_home));
        assert_eq!(of(Some(""), Some("/home/me")), std::slice::from_ref(&at_home));
        assert_eq!(of(Some("/cv"), Some("/home/me")), [PathBuf::from("/cv/secrets"), at_home.clone()]);
        assert_eq!(of(Some("/home/me/.cloudvolume"), Some("/home/me")), [at_home]);
        assert_eq!(of(Some("/cv"), None), [PathBuf::from("/cv/secrets")]);
        assert!(of(None, None).is_empty() && of(None, Some("")).is_empty());
    }

    #[tokio::test]
    async fn every_bad_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENERAL);
        let large = format!("{{\"token\": \"{}\"}}", "x".repeat(1 << 20));
        for (content, said) in [
            ("", "this is no CAVE secret file: it is empty; mend it"),
            ("marker", "this is no CAVE secret file: it is no JSON object; mend it"),
            ("[\"marker\"]", "it is no JSON object"),
            ("{\"token\": \"marker", "no JSON from line 1, column 17; mend it"),
            (&large, "the CAVE secret file cannot be read"),
        ] {
            fs::write(&path, content).unwrap();
            let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
            File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
            let error = Files::default().read(&path).await.err().unwrap();
            let text = format!("{error} {:?}", std::error::Error::source(&error));
            assert!(text.contains(said) && !text.contains("marker"), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
        assert!(Files::default().read(&folder.path().join("none")).await.unwrap().is_none());
        let error = Files::default().read(folder.path()).await.err().unwrap();
        assert!(
            std::error::Error::source(&error).unwrap().to_string().contains("it is not a file"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENERAL);
        fs::write(&path, "{\"token\": ").unwrap();
        let files = Files::default();
        let mut reading = pin!(files.read(&path));
        // Once the first reading has found half of it.
        assert!(poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await.is_pending());
        fs::write(&path, "{\"token\": \"abc\"}").unwrap();
        assert_eq!(reading.await.unwrap().unwrap().names(), "it has `token`");
    }
}
