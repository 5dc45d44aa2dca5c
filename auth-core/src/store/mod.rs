//! [`TokenStore`]: keeps a record under a key, with a version, and hands out the exclusive right to renew it.

mod memory;
mod record;

use std::{any::Any, error::Error as StdError, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::{
    memory::MemoryStore,
    record::{Attempt, MAX_TOKENS, Outcome, Record, StoredToken},
};
use crate::{AuthError, provider::Identity};

/// Keeps records.
///
/// `docs/writing-a-store.md` builds one from nothing; [`testing::store`](crate::testing::store) proves it right.
///
/// # What an implementation must guarantee
/// - **Whole records**: a load sees a save whole or not at all, also after `kill -9` and power loss in the middle.
/// - **Compare and set**: a save writes only over the version that it was told to expect, and says what is there instead.
///   Versions are compared for equality only; a record that was removed and written again has another version.
/// - **A lease dies with its holder.** It never needs a person, a clock or a clean-up to come free.
/// - **It answers.** The engine gives every call a deadline and drops it then; what was dropped may have happened or not.
/// - **No secrets** in `Debug`, in errors or in their sources.
///
/// # What it may assume
/// Calls come from several tasks at once, on the [context](crate::Context)'s executor. A short blocking call (a local file)
/// is fine; what can hang belongs on a thread of the store's own.
#[async_trait]
pub trait TokenStore: fmt::Debug + Send + Sync {
    /// The record under this key, and its version.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`] for what cannot be read as a record, with what to do about it.
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError>;

    /// What [`load`](Self::load) would give, if that can be told at once on the caller's thread, whatever it is: without a
    /// runtime, a thread, or a wait for anybody.
    ///
    /// For programs that start, want a token and end. `None` for all else, which is the default: nothing there, an error,
    /// a store that cannot. Then `load` tells; this changes and reports nothing.
    fn load_at_once(&self, _key: &LoginKey) -> Option<(Record, Version)> {
        None
    }

    /// Writes the record (`None` removes it), but only over the version it was told to expect (`None`: nothing there).
    ///
    /// The lease is the one the caller holds, if it does: a store with fencing refuses a write behind a newer holder's.
    ///
    /// # Errors
    /// If it was not written. After an error other than a conflict the old record is still there.
    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError>;

    /// Tries to get the exclusive right to renew this key. Never waits: the engine does, with jitter, re-reading the
    /// record meanwhile.
    ///
    /// # Errors
    /// If the store cannot tell.
    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError>;

    /// The keys of all records.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unsupported`] where it cannot tell, which is the default.
    async fn list(&self) -> Result<Vec<LoginKey>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unsupported, "this store cannot list its records"))
    }

    /// Where it is, whether it is encrypted, what it can keep, how far its promises reach. No I/O.
    fn describe(&self) -> StoreInfo;
}

/// Under what a record is kept: an [`Identity`] in its stored form.
///
/// Structured, because the files of other tools map its parts: issuer and client name the login, and kind, grant, tenant
/// and label part it from others of the same client.
/// Clones share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Identity", from = "Identity")]
pub struct LoginKey(Arc<Identity>);

impl LoginKey {
    /// The identity that it stands for.
    pub fn identity(&self) -> &Identity {
        &self.0
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The client id.
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// One text for all its parts, the same on every machine and for ever: for stores whose keys are text.
    pub fn canonical(&self) -> String {
        let Identity { kind, grant, issuer, client, tenant, label } = self.identity();
        let part = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n");
        [issuer, client, kind, grant, tenant, label].map(|text| part(text)).join("\n")
    }

    /// SHA-256 of the [canonical](Self::canonical) text in hexadecimal: a name that shows nobody's issuer.
    pub fn fingerprint(&self) -> String {
        crate::login::fingerprint(&self.canonical())
    }
}

impl From<Identity> for LoginKey {
    fn from(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl From<LoginKey> for Identity {
    fn from(key: LoginKey) -> Self {
        Arc::unwrap_or_clone(key.0)
    }
}

/// The version of a record: opaque, compared for equality only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// A version that the store writes so.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// What the store wrote.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.0)
    }
}

/// How a save ended.
#[derive(Debug)]
pub enum Saved {
    /// It is written, and has this version. A removal's version is not used.
    Written(Version),
    /// Something else was there than expected: this (`None`: nothing).
    Conflict(Option<(Box<Record>, Version)>),
}

/// The exclusive right to renew a key, until it is released or dropped.
///
/// A file lock needs none of the methods but [`as_any`](Self::as_any); a lease that runs out by time needs all of them.
#[async_trait]
pub trait Lease: fmt::Debug + Send + Sync {
    /// A number that grows with every lease of this key, for stores that refuse late writes.
    fn fence(&self) -> Option<u64> {
        None
    }

    /// How long it lasts unless [extended](Self::extend); `None` for as long as its holder lives. The engine extends it
    /// after a third of that time.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// Makes it last its time from now.
    ///
    /// # Errors
    /// If it is lost.
    async fn extend(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sets room aside for a record of so many bytes, so that what an exchange brings can be saved: called before a
    /// refresh token is spent. A store that cannot run full does nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Full`] if there is no room: the exchange is not begun.
    async fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let _ = bytes;
        Ok(())
    }

    /// Gives it back. Dropping it does the same, as far as a drop can.
    async fn release(self: Box<Self>) {}

    /// The store's own type, for its own [`save`](TokenStore::save).
    fn as_any(&self) -> &dyn Any;
}

/// Whether the lease was to be had.
#[derive(Debug)]
pub enum TryLease {
    /// It is yours.
    Held(Box<dyn Lease>),
    /// Somebody else has it.
    Busy {
        /// Who, for messages only: `process 4711 on host`.
        holder: Option<String>,
    },
}

/// What a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Its kind: `memory`, `file`, `keyring`.
    pub kind: String,
    /// Where it keeps things, if that is a place. Two stores of one kind and place are the same store.
    pub location: Option<String>,
    /// Whether what it keeps is encrypted.
    pub encrypted: bool,
    /// How long it keeps things.
    pub persistence: Persistence,
    /// What it can keep of a record.
    pub keeps: Capacity,
    /// Between whom its compare-and-set decides.
    pub compare_and_set: Reach,
    /// Between whom its lease decides.
    pub lease: Reach,
}

impl StoreInfo {
    /// A store that keeps everything until it is removed, unencrypted, with all its promises holding on this host.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            location: None,
            encrypted: false,
            persistence: Persistence::UntilRemoved,
            keeps: Capacity::default(),
            compare_and_set: Reach::Host,
            lease: Reach::Host,
        }
    }
}

impl fmt::Display for StoreInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(location) = &self.location {
            write!(f, " {location}")?;
        }
        Ok(())
    }
}

/// How long a store keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// As long as the process.
    Process,
    /// Until the machine or the session ends.
    UntilReboot,
    /// Until somebody removes it.
    UntilRemoved,
}

/// What a store can keep of a record. Another tool's file may have no place for some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// Access tokens.
    pub access_tokens: bool,
    /// A login's binding key. A login that has one is refused by a store that drops it.
    pub binding_key: bool,
    /// The last attempt: without it, other processes do not see a failure, nor a lost answer.
    pub attempts: bool,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { access_tokens: true, binding_key: true, attempts: true }
    }
}

/// Between whom something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reach {
    /// Nobody for certain: as well as it can.
    BestEffort,
    /// The tasks and threads of one process.
    Process,
    /// The processes of one machine.
    Host,
    /// Machines that share the store.
    Machines,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time.
    Unavailable,
    /// There is no room.
    Full,
    /// It is not ours to use, and somebody has to mend that: wrong owner, looser permissions, no right to write, a read-only
    /// disk, a refused prompt.
    Denied,
    /// What is there cannot be read as a record.
    Corrupt,
    /// It cannot do that.
    Unsupported,
    /// The lease it was told of is no longer held.
    LeaseLost,
}

/// Why a store did not do what it was asked, where, and what to do next.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of this kind. The message names the place.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Why.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for AuthError {
    fn from(error: StoreError) -> Self {
        let StoreError { message, source, .. } = error;
        let error = Self::store(message);
        match source {
            Some(source) => error.with_shared_source(source.into()),
            None => error,
        }
    }
}
