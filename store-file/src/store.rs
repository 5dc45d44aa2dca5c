//! [`FileStore`].

use std::{
    env, fmt,
    fs::{self, DirEntry},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use keyfob_auth_core::store::{
    Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TokenStore, TryLease, Version,
};
use zeroize::Zeroizing;

use crate::{
    atomic::{self, Hook, Steps, TEMPORARY},
    format::{self, Encoded, LARGEST, Unreadable},
    lease::FileLease,
    lock::{self, Lock},
    private::{self, failed, quoted},
};

/// How many saves there are to one sweep.
const SWEEP_EVERY: u64 = 64;

/// Keeps records in the files of a folder. Clones share it, and so do all stores of one folder, in any process.
#[derive(Clone)]
pub struct FileStore {
    folder: Arc<Path>,
    saves: Arc<AtomicU64>,
    steps: Steps,
}

impl FileStore {
    /// A store in this folder. No I/O: the folder is made at the first write.
    ///
    /// A relative path counts from the current folder as it is now.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] for an empty path, or a relative one where there is no current folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        let folder = folder.as_ref();
        let absolute =
            std::path::absolute(folder).map_err(|error| failed("find the folder", folder, error))?;
        // Without a separator at its end, which would lead through a symbolic link.
        let folder: PathBuf = absolute.components().collect();
        Ok(Self { folder: folder.into(), saves: Arc::default(), steps: Steps::default() })
    }

    /// Where a user's records are unless somebody says otherwise: `$XDG_STATE_HOME/keyfob/tokens`, else
    /// `~/.local/state/keyfob/tokens`; on macOS `~/Library/Application Support/keyfob/tokens`; on Windows
    /// `%LOCALAPPDATA%\keyfob\tokens`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the user has no home folder.
    pub fn default_folder() -> Result<PathBuf, StoreError> {
        let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home =
            |below: &str| env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(below));
        let state = if cfg!(windows) {
            named("LOCALAPPDATA")
        } else if cfg!(target_vendor = "apple") {
            home("Library/Application Support")
        } else {
            named("XDG_STATE_HOME").or_else(|| home(".local/state"))
        };
        state.map(|state| state.join("keyfob").join("tokens")).ok_or_else(|| {
            let message = "there is no home folder to keep tokens in: set HOME, or name a folder";
            StoreError::new(StoreErrorKind::Unavailable, message)
        })
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

    fn place(&self, key: &LoginKey) -> Place {
        Place { folder: Arc::clone(&self.folder), fingerprint: key.fingerprint().into() }
    }

    /// The record, moved aside if it is none. Under the record's lock.
    fn settle(&self, place: &Place, key: &LoginKey) -> Result<Option<(Box<Record>, Version)>, StoreError> {
        match read(&place.record())? {
            Found::Nothing => Ok(None),
            Found::Record(found, record, version) if found == *key => Ok(Some((record, version))),
            Found::Record(..) => Err(set_aside(place, "it is the record of another login")),
            Found::Corrupt(why) => Err(set_aside(place, &why)),
        }
    }

    /// The compare-and-set. Under the record's lock; nothing waits here, so that whoever drops the call drops it before
    /// this or after.
    fn compare_and_set(
        &self,
        place: &Place,
        key: &LoginKey,
        new: Option<&Encoded>,
        expected: Option<&Version>,
        lease: Option<&FileLease>,
    ) -> Result<Saved, StoreError> {
        let found = self.settle(place, key)?;
        if found.as_ref().map(|(_, version)| version) != expected {
            return Ok(Saved::Conflict(found));
        }
        let path = place.record();
        let Some(new) = new else {
            if found.is_some() {
                self.remove(place).map_err(|error| failed("remove", &path, error))?;
            }
            return Ok(Saved::Written(Version::new("none")));
        };
        let parts = new.parts();
        self.steps
            .at("locked")
            .and_then(|()| lease.map_or(Ok(false), |lease| lease.replace(&parts)))
            .and_then(|done| if done { Ok(()) } else { atomic::replace_with(&path, &parts, &self.steps) })
            .and_then(|()| self.steps.at("done"))
            .map_err(|error| failed("write", &path, error))?;
        Ok(Saved::Written(new.version.clone()))
    }

    fn remove(&self, place: &Place) -> io::Result<()> {
        self.steps.at("locked")?;
        fs::remove_file(place.record())?;
        self.steps.at("removed")?;
        private::sync_folder(&self.folder)?;
        self.steps.at("done")
    }

    /// Removes what killed writers left: with the first save, then now and then.
    fn sweep(&self) {
        if !self.saves.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            return;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Some((fingerprint, ending)) = parse(&entry) else { continue };
            let place = Place { folder: Arc::clone(&self.folder), fingerprint: fingerprint.into() };
            let guard = match ending.as_str() {
                "room" => place.lease(),
                _ if ending.starts_with("json.") && ending.ends_with(TEMPORARY) => place.lock(),
                _ => continue,
            };
            if let Ok(Some(_guard)) = Lock::try_take(&guard)
                && fs::remove_file(entry.path()).is_ok()
            {
                tracing::debug!(file = %entry.path().display(), "removed what a killed writer left");
            }
        }
    }
}

#[async_trait]
impl TokenStore for FileStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        if !private::folder_exists(&self.folder)? {
            return Ok(None);
        }
        let place = self.place(key);
        match read(&place.record())? {
            Found::Nothing => return Ok(None),
            Found::Record(found, record, version) if found == *key => return Ok(Some((*record, version))),
            Found::Record(..) | Found::Corrupt(_) => {}
        }
        // Only now a lock: another process may have mended it meanwhile.
        let _lock = Lock::take(place.lock()).await?;
        Ok(self.settle(&place, key)?.map(|(record, version)| (*record, version)))
    }

    fn load_at_once(&self, key: &LoginKey) -> Option<(Record, Version)> {
        if !private::folder_exists(&self.folder).ok()? {
            return None;
        }
        match read(&self.place(key).record()).ok()? {
            Found::Record(found, record, version) if found == *key => Some((*record, version)),
            _ => None,
        }
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let new = record.map(|record| format::encode(key, record)).transpose()?;
        if new.is_some() {
            private::make_folder(&self.folder)?;
        } else if !private::folder_exists(&self.folder)? {
            return Ok(match expected {
                None => Saved::Written(Version::new("none")),
                Some(_) => Saved::Conflict(None),
            });
        }
        self.sweep();
        let place = self.place(key);
        let lease = lease.and_then(|lease| lease.as_any().downcast_ref::<FileLease>());
        let lease = lease.filter(|lease| lease.is_of(&place));
        let _lock = Lock::take(place.lock()).await?;
        self.compare_and_set(&place, key, new.as_ref(), expected, lease)
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        private::make_folder(&self.folder)?;
        let place = self.place(key);
        Ok(match Lock::try_take(&place.lease())? {
            Some(lock) => TryLease::Held(Box::new(FileLease::new(lock, place, self.steps.clone()))),
            None => TryLease::Busy { holder: lock::holder(&place.lease()) },
        })
    }

    async fn list(&self) -> Result<Vec<LoginKey>, StoreError> {
        if !private::folder_exists(&self.folder)? {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&*self.folder).map_err(|error| failed("list", &self.folder, error))?;
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &self.folder, error))?;
            let Some((fingerprint, _)) = parse(&entry).filter(|(_, ending)| ending == "json") else {
                continue;
            };
            match read(&entry.path()) {
                Ok(Found::Record(key, ..)) if key.fingerprint() == fingerprint => keys.push(key),
                Ok(Found::Nothing) => {}
                Ok(Found::Record(..) | Found::Corrupt(_)) => {
                    tracing::warn!(file = %entry.path().display(), "not listed: it is no record of its key");
                }
                Err(error) => tracing::warn!(%error, "not listed"),
            }
        }
        Ok(keys)
    }

    fn describe(&self) -> StoreInfo {
        let mut info = StoreInfo::new("file");
        info.location = Some(self.folder.display().to_string());
        info
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileStore").field(&self.folder).finish()
    }
}

/// Where a record and what belongs to it are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place {
    folder: Arc<Path>,
    fingerprint: Arc<str>,
}

impl Place {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.file("json")
    }

    pub(crate) fn room(&self) -> PathBuf {
        self.file("room")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.file("lock")
    }

    fn lease(&self) -> PathBuf {
        self.file("lease")
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.fingerprint))
    }
}

/// The fingerprint and the ending of a file's name, if it is one of ours.
fn parse(entry: &DirEntry) -> Option<(String, String)> {
    let name = entry.file_name().into_string().ok()?;
    let (fingerprint, ending) = name.split_once('.')?;
    let ours = fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    ours.then(|| (fingerprint.to_owned(), ending.to_owned()))
}

enum Found {
    Nothing,
    Record(LoginKey, Box<Record>, Version),
    Corrupt(String),
}

fn read(path: &Path) -> Result<Found, StoreError> {
    let Some((mut file, length)) = private::open(path)? else { return Ok(Found::Nothing) };
    let length = usize::try_from(length).unwrap_or(LARGEST).min(LARGEST);
    // One byte more than there should be, and all at once: memory that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; length + 1]);
    let mut filled = 0;
    // Not asked again when there is as much as there should be: no record grows.
    while let Some(rest) = bytes.get_mut(filled..).filter(|_| filled < length) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path, error)),
        }
    }
    match format::decode(bytes.get(..filled).unwrap_or_default()) {
        Ok((key, record, version)) => Ok(Found::Record(key, Box::new(record), version)),
        Err(Unreadable::Corrupt(why)) => Ok(Found::Corrupt(why)),
        Err(Unreadable::Newer(format)) => {
            let path = quoted(path);
            let message = format!(
                "{path} was written by a newer keyfob (format {format}) and is left alone: update this one"
            );
            Err(StoreError::new(StoreErrorKind::Unsupported, message))
        }
    }
}

/// Moves aside what is in the record's place, and says so.
fn set_aside(place: &Place, why: &str) -> StoreError {
    let path = place.record();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = (0..1000)
        .map(|n| place.file(&if n == 0 { format!("corrupt-{now}") } else { format!("corrupt-{now}-{n}") }))
        .find(|aside| fs::symlink_metadata(aside).is_err());
    let moved = aside
        .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
        .and_then(|aside| atomic::rename(&path, &aside).map(|()| aside))
        .and_then(|aside| private::sync_folder(place.folder()).map(|()| aside));
    match moved {
        Ok(aside) => {
            let aside = quoted(&aside);
            let message = format!(
                "no token record in {} ({why}): it was moved to {aside}. Log in again; then rm {aside}, which may hold \
                 tokens",
                quoted(&path)
            );
            tracing::warn!(record = %path.display(), why, "a token record cannot be read; it was moved aside");
            StoreError::new(StoreErrorKind::Corrupt, message)
        }
        Err(error) => {
            let message = format!(
                "no token record in {} ({why}), and it cannot be moved aside: move it away, then log in again",
                quoted(&path)
            );
            StoreError::new(StoreErrorKind::Corrupt, message).with_source(error)
        }
    }
}
