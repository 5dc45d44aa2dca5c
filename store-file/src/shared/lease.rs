//! [`SharedLease`]: the right to renew what another tool's file holds.

use std::{
    any::Any,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use keyfob_auth_core::store::{Lease, StoreError, TryLease};

use super::{SharedFile, beside};
use crate::{
    atomic::{Steps, Temporary, folder_of},
    lease::set_aside,
    lock::{self, Lock, Whose},
    private,
};

/// Held over an exchange; dies with its holder.
pub struct SharedLease {
    // Removed before the lock is let go.
    room: Mutex<Option<Temporary>>,
    room_path: PathBuf,
    _locks: (Lock, Option<Lock>),
    target: PathBuf,
    largest: u64,
    steps: Steps,
}

impl SharedFile {
    /// Tries to get the right to renew what this file holds (of this name, where it holds several): a lock of ours beside
    /// it. Makes the folder if it is not there. Never waits.
    ///
    /// # Errors
    /// If the lock file cannot be made.
    pub fn try_lease(&self, name: &str) -> Result<TryLease, StoreError> {
        self.lease(name, None)
    }

    /// [`try_lease`](Self::try_lease), and with it the other tool's own: a `flock` on this file, which is made if it is not
    /// there, and never written. Ours makes up for what theirs covers too little.
    ///
    /// # Errors
    /// If a lock file cannot be opened or made.
    pub fn try_lease_with(&self, their_lock: &Path, name: &str) -> Result<TryLease, StoreError> {
        self.lease(name, Some(their_lock))
    }

    fn lease(&self, name: &str, their_lock: Option<&Path>) -> Result<TryLease, StoreError> {
        let target = self.target()?;
        for folder in [Some(&*target), their_lock].into_iter().flatten().map(folder_of) {
            if !folder.exists() {
                private::create_folder(folder)?;
            }
        }
        let path = beside(&target, &dotted(name, "lease"));
        let Some(ours) = Lock::try_take(&path)? else {
            return Ok(TryLease::Busy { holder: lock::holder(&path) });
        };
        let theirs = match their_lock {
            None => None,
            Some(path) => match Lock::try_take_of(path, Whose::Theirs)? {
                None => return Ok(TryLease::Busy { holder: lock::holder_of_theirs(path) }),
                held => held,
            },
        };
        Ok(TryLease::Held(Box::new(SharedLease {
            room: Mutex::new(None),
            room_path: beside(&target, &dotted(name, "room")),
            _locks: (ours, theirs),
            target,
            largest: self.largest as u64,
            steps: self.steps.clone(),
        })))
    }
}

/// An ending with a name in it that may be anything.
pub(super) fn dotted(name: &str, ending: &str) -> String {
    if name.is_empty() {
        return ending.to_owned();
    }
    let hash = hmac_sha256::Hash::hash(name.as_bytes());
    let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{short}.{ending}")
}

impl SharedLease {
    pub(super) fn is_of(&self, target: &Path) -> bool {
        self.target == target
    }

    /// The room that was set aside, if it is still there.
    pub(super) fn take_room(&self) -> Option<Temporary> {
        self.slot().take().filter(|room| private::is_at(&room.file, &room.path))
    }

    pub(super) fn give_room_back(&self, room: Temporary) {
        *self.slot() = Some(room);
    }

    fn slot(&self) -> MutexGuard<'_, Option<Temporary>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Lease for SharedLease {
    async fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let mut slot = self.slot();
        // Dropped first: it would remove the new one's name.
        *slot = None;
        let file = set_aside(&self.room_path, bytes.clamp(1, self.largest), &self.steps)?;
        *slot = Some(Temporary { file, path: self.room_path.clone(), armed: true });
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for SharedLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLease")
            .field("file", &self.target)
            .field("room", &self.slot().is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        *self.slot() = None;
        // What a killed holder left.
        let _ = fs::remove_file(&self.room_path);
    }
}
