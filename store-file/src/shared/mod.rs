#![doc = include_str!("docs.md")]

mod lease;
mod read;
mod rest;
mod store;
mod write;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use keyfob_auth_core::store::{StoreError, StoreErrorKind, Version};
use zeroize::Zeroizing;

pub use self::{
    lease::SharedLease,
    store::{Held, SharedStore, TokenFormat},
};
use crate::{
    atomic::{Hook, Steps, folder_of},
    lock::{Lock, Whose},
    private::{self, failed, quoted},
};

/// How large a file may be unless it is said otherwise.
pub const LARGEST: usize = 1024 * 1024;
/// How long a lock is waited for unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a file that another tool may be writing is read again.
const REREAD: Duration = Duration::from_millis(500);

/// What is done about a file that others can read, and about a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Privacy {
    /// Both are refused, with the command that mends it.
    Private,
    /// What others can read is used with a warning, and keeps its mode; a link is followed, and stays.
    Warn,
    /// As with [`Warn`](Self::Warn), but the file has mode 0600 once it is written: for tools that see to that themselves.
    Tighten,
}

/// One file of another tool: read with limits, and changed under a lock, as a whole.
///
/// Clones are the same file, and so is every other with this path, in any process.
#[derive(Clone)]
pub struct SharedFile {
    what: Arc<str>,
    path: Arc<Path>,
    privacy: Privacy,
    largest: usize,
    patience: Duration,
    reread: Duration,
    settle: Duration,
    their_lock: Option<Arc<Path>>,
    /// The version that we wrote last: whole, however young.
    written: Arc<Mutex<Option<Version>>>,
    warned: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    steps: Steps,
}

/// What was found in a file.
pub struct Content<T> {
    /// What the format made of it.
    pub value: T,
    /// The content's SHA-256: equal contents have equal versions.
    pub version: Version,
    /// The file's permission bits, if others can read it or write it.
    pub open_to_others: Option<u32>,
    bytes: Zeroizing<Vec<u8>>,
    /// How long ago it was written; `None` if that is not in the past.
    age: Option<Duration>,
}

impl<T> Content<T> {
    /// The content itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T> fmt::Debug for Content<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What is to become of a file.
pub enum Change {
    /// It stays as it is.
    Keep,
    /// This takes its place.
    Write(Zeroizing<Vec<u8>>),
    /// It is removed.
    Remove,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Write(_) => "Write",
            Self::Remove => "Remove",
        })
    }
}

impl SharedFile {
    /// The file at this path, called so in messages (`usnan's token file`). No I/O.
    ///
    /// [`Privacy::Warn`], at most [`LARGEST`] bytes. A relative path counts from the current folder as it is now.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] for an empty path, one without a file's name, or a relative one where there is no
    /// current folder.
    pub fn at(what: impl Into<Arc<str>>, path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path).map_err(|error| failed("find", path, error))?;
        let path: PathBuf = absolute.components().collect();
        if path.file_name().is_none() {
            let message = format!("{} names no file", quoted(&path));
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        Ok(Self {
            what: what.into(),
            path: path.into(),
            privacy: Privacy::Warn,
            largest: LARGEST,
            patience: PATIENCE,
            reread: REREAD,
            settle: Duration::ZERO,
            their_lock: None,
            written: Arc::default(),
            warned: Arc::default(),
            writes: Arc::default(),
            steps: Steps::default(),
        })
    }

    /// What is done about permissions and links.
    #[must_use]
    pub fn privacy(mut self, privacy: Privacy) -> Self {
        self.privacy = privacy;
        self
    }

    /// The most bytes that are read or written.
    #[must_use]
    pub fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// How long a lock is waited for, and a change tried again because somebody wrote without one: 2 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a file is read again that was written just now and makes no sense: 500 ms. Other tools truncate a file and
    /// then write into it.
    #[must_use]
    pub fn reread(mut self, reread: Duration) -> Self {
        self.reread = reread;
        self
    }

    /// Content that is younger than this, and that we did not write, is read again after so long and must have stayed the
    /// same: for formats of which the beginning makes sense without the end. Zero unless it is said otherwise.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// The other tool's own lock, a `flock` on this file, taken around every change as well: for tools that hold theirs
    /// for a write, not for an exchange ([`try_lease_with`](Self::try_lease_with)).
    #[must_use]
    pub fn their_lock(mut self, path: impl AsRef<Path>) -> Self {
        self.their_lock = Some(path.as_ref().into());
        self
    }

    /// Calls this at every step of a write, which fails if it does: for tests that kill and break writes.
    #[doc(hidden)]
    #[must_use]
    pub fn at_each_step(
        mut self,
        hook: impl Fn(&'static str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let hook: Hook = Arc::new(hook);
        self.steps = Steps(Some(hook));
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there; `None` if there is no such file. Takes no lock.
    ///
    /// `parse` says why the content makes no sense, without quoting it; while another tool may be writing the file, it is
    /// read again. An empty file is `parse`'s business too, once it stays empty.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`] for what is too large or makes no sense, [`StoreErrorKind::Denied`] for what is not ours
    /// to read.
    pub async fn read<T>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<Content<T>>, StoreError> {
        self.read_settled(&self.target()?, &parse).await
    }

    /// Reads, changes and writes it, under our lock beside it.
    ///
    /// `change` is told what is there and says what is to become of it; what it returns beside is the result. If somebody
    /// writes the file without a lock before the change takes its place, `change` is asked again with what is there then.
    /// Nothing is written if it returns an error, or if what is there makes no sense.
    ///
    /// The lease is the caller's, if it holds one with room set aside.
    ///
    /// Dropping the future before it is ready leaves the old content or the new, whole.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`StoreErrorKind::Unavailable`], with the holder's name, if the lock is not to be had
    /// in time; [`StoreErrorKind::Full`] and [`StoreErrorKind::Denied`] for what cannot be written; and those of `change`.
    pub async fn update<T, R>(
        &self,
        lease: Option<&SharedLease>,
        parse: impl Fn(&[u8]) -> Result<T, String>,
        mut change: impl FnMut(Option<&Content<T>>) -> Result<(Change, R), StoreError>,
    ) -> Result<R, StoreError> {
        if !folder_of(&self.target()?).exists()
            && let (Change::Keep | Change::Remove, result) = change(None)?
        {
            return Ok(result);
        }
        let locked = self.lock().await?;
        let begun = Instant::now();
        while begun.elapsed() <= self.patience {
            let found = locked.read(&parse).await?;
            let (change, result) = change(found.as_ref())?;
            if locked.change(found.as_ref(), change, lease)? {
                return Ok(result);
            }
        }
        Err(self.restless())
    }

    /// Takes the locks of a change: for those who change more than the file under them. Makes the folder if it is not
    /// there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`], with the holder's name, if one is not to be had in time.
    pub async fn lock(&self) -> Result<Locked, StoreError> {
        let target = self.target()?;
        if !folder_of(&target).exists() {
            private::create_folder(folder_of(&target))?;
        }
        let theirs = match &self.their_lock {
            Some(theirs) => Some(Lock::take_of(theirs.to_path_buf(), Whose::Theirs, self.patience).await?),
            None => None,
        };
        let ours = Lock::take_of(beside(&target, "lock"), Whose::Ours, self.patience).await?;
        Ok(Locked { file: self.clone(), target, _ours: ours, _theirs: theirs })
    }

    fn written(&self) -> MutexGuard<'_, Option<Version>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restless(&self) -> StoreError {
        let message = format!("{} is being written all the time", quoted(&self.path));
        StoreError::new(StoreErrorKind::Unavailable, message)
    }
}

/// A file whose locks are held until this is dropped.
#[derive(Debug)]
pub struct Locked {
    file: SharedFile,
    target: PathBuf,
    _ours: Lock,
    _theirs: Option<Lock>,
}

impl Locked {
    /// As [`SharedFile::read`].
    ///
    /// # Errors
    /// Those of [`SharedFile::read`].
    pub async fn read<T>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<Content<T>>, StoreError> {
        self.file.read_settled(&self.target, &parse).await
    }

    /// Makes the change, if the file still is as it was found; `false` if somebody wrote it without a lock meanwhile.
    /// Nothing waits here.
    ///
    /// # Errors
    /// Those of [`SharedFile::update`].
    pub fn change<T>(
        &self,
        found: Option<&Content<T>>,
        change: Change,
        lease: Option<&SharedLease>,
    ) -> Result<bool, StoreError> {
        let lease = lease.filter(|lease| lease.is_of(&self.target));
        self.file.put(&self.target, found.map(|found| &found.version), change, lease)
    }
}

impl fmt::Debug for SharedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedFile").field(&self.path).finish()
    }
}

/// A file of ours beside another tool's.
fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".keyfob.{ending}"));
    target.with_file_name(name)
}
