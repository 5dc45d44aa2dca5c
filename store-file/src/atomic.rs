//! Replaces a file as a whole: for records, and for the files of other tools.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use crate::private;

/// Puts these contents in the place of the file, or makes it, with mode 0600.
///
/// They are written to a temporary file beside it and synced; that is renamed over it, and the folder synced. Whoever
/// reads, also after `kill -9` or a power cut at any step, sees the old contents or the new ones. The caller sees to it that
/// two of these do not overwrite each other.
///
/// # Errors
/// What kept it from being replaced. Only if the last step fails, the syncing of the folder, are the new contents there.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace_with(path, &[contents], &Steps::default())
}

/// [`replace`], for contents that are not in one piece: secrets are not copied.
pub(crate) fn replace_with(path: &Path, parts: &[&[u8]], steps: &Steps) -> io::Result<()> {
    let mut temporary = Temporary::beside(path)?;
    steps.at("made")?;
    for part in parts {
        temporary.file.write_all(part)?;
    }
    steps.at("written")?;
    temporary.file.sync_all()?;
    steps.at("synced")?;
    rename(&temporary.path, path)?;
    temporary.armed = false;
    steps.at("renamed")?;
    private::sync_folder(folder_of(path))
}

/// Renames a file over another.
///
/// On Windows a scanner or a reader may be in the way for a moment.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut tries = if cfg!(windows) { 50 } else { 0 };
    loop {
        match fs::rename(from, to) {
            // ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
            Err(error) if tries > 0 && matches!(error.raw_os_error(), Some(5 | 32 | 33)) => {
                tries -= 1;
                std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(5..15)));
            }
            done => return done,
        }
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How names of temporary files end.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A file that is removed unless it has become another.
pub(crate) struct Temporary {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) armed: bool,
}

impl Temporary {
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temporary = name.to_os_string();
        temporary.push(format!(".{}-{:016x}{TEMPORARY}", process::id(), fastrand::u64(..)));
        let path = path.with_file_name(temporary);
        Ok(Self { file: private::create_new(&path)?, path, armed: true })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.armed {
            // A later save sweeps what stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What tests hear of each step, and where they make one fail.
pub(crate) type Hook = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// Tells tests where a write is.
#[derive(Clone, Default)]
pub(crate) struct Steps(pub(crate) Option<Hook>);

impl Steps {
    pub(crate) fn at(&self, step: &'static str) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hook| hook(step))
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for contents in ["one", "", "three"] {
            replace(&path, contents.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(Path::new("/"), b"").is_err());
    }
}
