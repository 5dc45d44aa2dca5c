//! Reading a file that another tool writes as it likes.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant, SystemTime},
};

use keyfob_auth_core::store::{StoreError, StoreErrorKind, Version};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Content, Privacy, SharedFile};
use crate::{
    atomic::folder_of,
    private::{self, failed, quoted},
};

/// How many links may follow one another.
const LINKS: usize = 16;

/// A file's bytes, and what the system knows of it.
pub(super) struct Raw {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) meta: Metadata,
}

impl Raw {
    pub(super) fn version(&self) -> Version {
        version_of(&self.bytes)
    }

    /// How long ago it was written; `None` if that is not in the past.
    fn age(&self) -> Option<Duration> {
        self.meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok())
    }
}

pub(super) fn version_of(bytes: &[u8]) -> Version {
    let hash = hmac_sha256::Hash::hash(bytes);
    Version::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl SharedFile {
    /// The file itself, behind any links.
    pub(super) fn target(&self) -> Result<PathBuf, StoreError> {
        let mut path = self.path.to_path_buf();
        if self.privacy == Privacy::Private {
            return Ok(path);
        }
        for _ in 0..LINKS {
            match fs::read_link(&path) {
                Ok(next) => path = folder_of(&path).join(next),
                // No link. What else is wrong shows when it is opened.
                Err(_) => return Ok(path),
            }
        }
        let message = format!("{} is a symbolic link that leads nowhere", quoted(&self.path));
        Err(StoreError::new(StoreErrorKind::Denied, message))
    }

    pub(super) fn read_raw(&self, target: &Path) -> Result<Option<Raw>, StoreError> {
        let unread = |error| failed("read", target, error);
        let (mut file, meta) = if self.privacy == Privacy::Private {
            let Some((file, _)) = private::open(target)? else { return Ok(None) };
            let meta = file.metadata().map_err(unread)?;
            (file, meta)
        } else {
            match private::open_theirs(target)? {
                Some(opened) => opened,
                None => return Ok(None),
            }
        };
        // One byte more than there should be, and all at once: memory that grows leaves copies behind.
        let room = usize::try_from(meta.len()).unwrap_or(usize::MAX).min(self.largest) + 1;
        let mut bytes = Zeroizing::new(vec![0; room]);
        let filled = fill(&mut file, &mut bytes).map_err(unread)?;
        bytes.truncate(filled);
        if filled > self.largest {
            let (path, largest) = (quoted(target), self.largest);
            let message = format!(
                "{path} is too large for {} (more than {largest} bytes) and is left alone: look what it is, and move it \
                 away",
                self.what
            );
            return Err(StoreError::new(StoreErrorKind::Corrupt, message));
        }
        self.warn_of(target, &meta);
        Ok(Some(Raw { bytes, meta }))
    }

    /// The content once it makes sense.
    pub(super) async fn read_whole<T>(
        &self,
        target: &Path,
        parse: &impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<Content<T>>, StoreError> {
        let begun = Instant::now();
        loop {
            let Some(raw) = self.read_raw(target)? else { return Ok(None) };
            // Whoever truncates and writes is done within moments.
            let young = raw.age().is_none_or(|age| age < self.reread) && begun.elapsed() < self.reread;
            match parse(&raw.bytes) {
                Ok(value) if !(young && raw.bytes.is_empty()) => {
                    return Ok(Some(Content {
                        value,
                        version: raw.version(),
                        age: raw.age(),
                        open_to_others: open_to_others(&raw.meta),
                        bytes: raw.bytes,
                    }));
                }
                Err(why) if !young => {
                    let path = quoted(target);
                    let message = format!(
                        "{path} cannot be read as {} ({why}) and is left alone: mend it, or move it away and log in again",
                        self.what
                    );
                    return Err(StoreError::new(StoreErrorKind::Corrupt, message));
                }
                _ => nap(Duration::from_millis(fastrand::u64(5..15))).await,
            }
        }
    }

    /// [`read_whole`](Self::read_whole), and again if it is too young to be known as whole.
    pub(super) async fn read_settled<T>(
        &self,
        target: &Path,
        parse: &impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<Content<T>>, StoreError> {
        let begun = Instant::now();
        loop {
            let found = self.read_whole(target, parse).await?;
            let Some(seen) = &found else { return Ok(None) };
            if self.settle.is_zero()
                || seen.age.is_some_and(|age| age >= self.settle)
                || self.written().as_ref() == Some(&seen.version)
            {
                return Ok(found);
            }
            nap(self.settle).await;
            let same = self.read_raw(target)?.is_some_and(|raw| raw.version() == seen.version);
            if same || begun.elapsed() >= self.reread {
                return Ok(found);
            }
        }
    }

    fn warn_of(&self, target: &Path, meta: &Metadata) {
        if let Some(mode) = open_to_others(meta)
            && self.privacy == Privacy::Warn
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let file = quoted(target);
            tracing::warn!("{file} holds secrets and is open to others (mode {mode:04o}): chmod 600 {file}");
        }
    }
}

fn fill(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(unix)]
fn open_to_others(meta: &Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::MetadataExt::mode(meta) & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_to_others(_meta: &Metadata) -> Option<u32> {
    None
}

/// Waits under any executor, and blocks none: on a thread of its own.
async fn nap(time: Duration) {
    let (done, over) = oneshot::channel::<()>();
    let sleeper = move || {
        thread::sleep(time);
        drop(done);
    };
    if thread::Builder::new().name("keyfob-wait".into()).spawn(sleeper).is_ok() {
        let _ = over.await;
    } else {
        thread::sleep(time);
    }
}
