//! [`SharedStore`]: another tool's file as a [`TokenStore`].

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use keyfob_auth_core::{
    ExposeSecret, SecretString,
    store::{
        Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TokenStore, TryLease, Version,
    },
};

use super::{
    Change, Content, Locked, Privacy, SharedFile, SharedLease, beside,
    lease::dotted,
    rest::{self, Rest},
};
use crate::private::quoted;

/// What another tool's file holds of a record.
#[derive(Clone, Default)]
pub struct Held {
    /// The refresh token.
    pub refresh_token: Option<SecretString>,
    /// The access token.
    pub access_token: Option<SecretString>,
}

impl Held {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.refresh_token.is_none() && self.access_token.is_none()
    }

    /// A hash, to tell by whether our file belongs to this.
    fn hash(&self) -> String {
        let mut hash = hmac_sha256::Hash::new();
        for part in [&self.refresh_token, &self.access_token] {
            let text = part.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("refresh_token", &self.refresh_token.is_some())
            .field("access_token", &self.access_token.is_some())
            .finish()
    }
}

/// How another tool writes tokens into its file. No I/O: [`SharedStore`] reads and writes.
pub trait TokenFormat: fmt::Debug + Send + Sync {
    /// The store's kind: `usnan`.
    fn kind(&self) -> &str;

    /// Which of the file's logins this is, where it holds several; also a part of names of our files beside it.
    fn name(&self) -> &str {
        ""
    }

    /// Whether the file's login is this key's.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unsupported`] if it is another's: its tokens would go where nobody meant them to go.
    fn check(&self, key: &LoginKey) -> Result<(), StoreError>;

    /// What the content holds.
    ///
    /// # Errors
    /// Why it makes no sense, without a word of it.
    fn read(&self, content: &[u8]) -> Result<Held, String>;

    /// What of a record the file is to hold, over what it holds.
    fn held(&self, record: &Record, found: &Held) -> Held;

    /// The record without what the file holds: what is kept beside it.
    fn rest(&self, record: &Record) -> Record;

    /// The record that the two make. Without a rest, all that is known is what the file holds.
    fn join(&self, held: &Held, rest: Option<&Record>) -> Record;

    /// The content with this in it, and all else as it was. Called only if it is to hold something else than it does.
    ///
    /// # Errors
    /// Why that cannot be written into it, without a word of it. It is left alone then.
    fn write(&self, content: Option<&[u8]>, held: &Held) -> Result<Change, String>;

    /// The exclusive right to renew.
    ///
    /// # Errors
    /// If it cannot be asked for.
    fn try_lease(&self, file: &SharedFile) -> Result<TryLease, StoreError> {
        file.try_lease(self.name())
    }
}

/// Another tool's file as a [`TokenStore`], for one login.
///
/// What their format holds is written there, and only that; the rest of a record (its account, other access tokens, the
/// last attempt) goes into `FILE.keyfob.json` beside it, which says to which tokens it belongs. If the other tool has
/// written others since, what is beside does not count any more.
///
/// Theirs is written first, into the room that the lease has set aside: `kill -9` between the two, or a disk that is full by
/// then, leaves the new login without what is beside it.
#[derive(Clone)]
pub struct SharedStore {
    format: Arc<dyn TokenFormat>,
    file: SharedFile,
}

type Found = Option<(Box<Record>, Version)>;

impl SharedStore {
    /// The login that this format finds in this file.
    pub fn new(format: impl TokenFormat + 'static, file: SharedFile) -> Self {
        Self { format: Arc::new(format), file }
    }

    /// The file.
    pub fn file(&self) -> &SharedFile {
        &self.file
    }

    /// Ours, beside it. Its lock is theirs' file's.
    fn beside(&self) -> Result<SharedFile, StoreError> {
        let path = beside(&self.file.target()?, &dotted(self.format.name(), "json"));
        let mut file = SharedFile::at("a token record beside another tool's file", path)?;
        file.steps = self.file.steps.clone();
        Ok(file.privacy(Privacy::Private).reread(Duration::ZERO))
    }

    /// Ours. What cannot be read does not count, and is written anew by the next save.
    async fn read_rest(&self) -> Result<Option<Content<Option<Rest>>>, StoreError> {
        let beside = self.beside()?;
        let parse = |bytes: &[u8]| match Rest::decode(bytes) {
            Ok(rest) => Ok(Some(rest)),
            Err(why) => {
                tracing::warn!(file = %beside.path().display(), why, "a record that cannot be read does not count");
                Ok(None)
            }
        };
        beside.read(parse).await
    }

    fn parse(&self) -> impl Fn(&[u8]) -> Result<Held, String> {
        |bytes: &[u8]| self.format.read(bytes)
    }

    fn record(&self, held: &Held, rest: Option<&Content<Option<Rest>>>) -> Found {
        let of = held.hash();
        match rest::belonging(rest, &of) {
            Some(rest) => {
                let record = self.format.join(held, Some(&rest.record));
                Some((Box::new(record), Version::new(format!("{of}:{}", rest.write))))
            }
            None if held.is_empty() => None,
            None => Some((Box::new(self.format.join(held, None)), Version::new(of))),
        }
    }

    async fn look(&self) -> Result<(Found, bool), StoreError> {
        let held = self.file.read(self.parse()).await?.map(|found| found.value).unwrap_or_default();
        let rest = self.read_rest().await?;
        let apart = rest.is_some() && rest::belonging(rest.as_ref(), &held.hash()).is_none();
        Ok((self.record(&held, rest.as_ref()), apart))
    }

    /// Whether it was done; not if somebody wrote the file without a lock meanwhile.
    async fn try_save(
        &self,
        locked: &Locked,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&SharedLease>,
    ) -> Result<Option<Saved>, StoreError> {
        let found = locked.read(self.parse()).await?;
        let held = found.as_ref().map(|found| found.value.clone()).unwrap_or_default();
        let rest = self.read_rest().await?;
        let there = self.record(&held, rest.as_ref());
        if there.as_ref().map(|(_, version)| version) != expected {
            return Ok(Some(Saved::Conflict(there)));
        }
        let new = record.map_or_else(Held::default, |record| self.format.held(record, &held));
        let of = new.hash();
        let changes = of != held.hash();
        let change = match &found {
            _ if !changes => Change::Keep,
            found => self
                .format
                .write(found.as_ref().map(Content::bytes), &new)
                .map_err(|why| unchanged(self.file.path(), &why))?,
        };
        let new_rest = record.map(|record| Rest::of(of.clone(), self.format.rest(record)));
        let (rest_change, mut version) = match &new_rest {
            Some(rest) => (rest.encode()?, format!("{of}:{}", rest.write)),
            None => (Change::Remove, "none".to_owned()),
        };
        // Nothing waits from here on: whoever drops the call drops it before this or after.
        if !locked.change(found.as_ref(), change, lease)? {
            return Ok(None);
        }
        let beside = self.beside()?;
        match beside.put(beside.path(), rest.map(|found| found.version).as_ref(), rest_change, None) {
            Ok(_) => {}
            // The login itself is safe.
            Err(error) if changes => {
                tracing::warn!(%error, "what belongs to a renewed login could not be kept beside it");
                version = of;
            }
            Err(error) => return Err(error),
        }
        Ok(Some(Saved::Written(Version::new(version))))
    }
}

#[async_trait]
impl TokenStore for SharedStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.format.check(key)?;
        let (mut found, apart) = self.look().await?;
        // In the middle of a save, or the other tool has written since. Only now a lock.
        if apart && let Ok(_locked) = self.file.lock().await {
            let (again, apart) = self.look().await?;
            if apart && let Ok(beside) = self.beside() {
                // It will never count again, and whoever looks next needs no lock.
                let _ = std::fs::remove_file(beside.path());
            }
            found = again;
        }
        Ok(found.map(|(record, version)| (*record, version)))
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.format.check(key)?;
        let login = record.and_then(|record| record.login.as_ref());
        if login.is_some_and(|login| login.binding_key.is_some()) {
            let message =
                format!("a login that is bound to a key has no place in {}", quoted(self.file.path()));
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        if record.is_none() && !self.file.path().exists() && !self.beside()?.path().exists() {
            return Ok(match expected {
                None => Saved::Written(Version::new("none")),
                Some(_) => Saved::Conflict(None),
            });
        }
        let lease = lease.and_then(|lease| lease.as_any().downcast_ref::<SharedLease>());
        let locked = self.file.lock().await?;
        let begun = Instant::now();
        while begun.elapsed() <= self.file.patience {
            if let Some(saved) = self.try_save(&locked, record, expected, lease).await? {
                return Ok(saved);
            }
        }
        Err(self.file.restless())
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.format.check(key)?;
        self.format.try_lease(&self.file)
    }

    fn describe(&self) -> StoreInfo {
        let mut info = StoreInfo::new(self.format.kind());
        info.location = Some(self.file.path().display().to_string());
        info.keeps.binding_key = false;
        info
    }
}

fn unchanged(path: &Path, why: &str) -> StoreError {
    let message = format!("{} cannot be changed and is left alone: {why}", quoted(path));
    StoreError::new(StoreErrorKind::Unsupported, message)
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").field("format", &self.format).field("file", &self.file).finish()
    }
}
