//! [`FileLease`]: the right to renew a record, and the room for what the renewal brings.

use std::{
    any::Any,
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use keyfob_auth_core::store::{Lease, StoreError};

use crate::{
    atomic::{self, Steps},
    format::LARGEST,
    lock::Lock,
    private::{self, failed},
    store::Place,
};

/// Held over an exchange.
pub(crate) struct FileLease {
    _lock: Lock,
    place: Place,
    steps: Steps,
    room: Mutex<Option<File>>,
}

impl FileLease {
    pub(crate) fn new(lock: Lock, place: Place, steps: Steps) -> Self {
        Self { _lock: lock, place, steps, room: Mutex::new(None) }
    }

    /// Whether it is a lease of this record.
    pub(crate) fn is_of(&self, place: &Place) -> bool {
        self.place == *place
    }

    /// Puts these contents in the place of the record by way of the room, which is used up. `false` if there is none.
    pub(crate) fn replace(&self, parts: &[&[u8]]) -> io::Result<bool> {
        let mut slot = self.slot();
        let path = self.place.room();
        let Some(room) = slot.as_mut().filter(|room| private::is_at(room, &path)) else {
            *slot = None;
            return Ok(false);
        };
        room.seek(SeekFrom::Start(0))?;
        let mut length = 0;
        for part in parts {
            room.write_all(part)?;
            length += part.len() as u64;
        }
        self.steps.at("written")?;
        room.set_len(length)?;
        self.steps.at("cut")?;
        room.sync_all()?;
        self.steps.at("synced")?;
        atomic::rename(&path, &self.place.record())?;
        *slot = None;
        self.steps.at("renamed")?;
        private::sync_folder(self.place.folder())?;
        Ok(true)
    }

    fn slot(&self) -> MutexGuard<'_, Option<File>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Lease for FileLease {
    async fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        // No record is larger than the largest.
        let bytes = bytes.clamp(1, LARGEST as u64);
        let mut slot = self.slot();
        *slot = None;
        // Without its lock nothing is saved, however much room there is.
        drop(private::open_or_create(&self.place.lock())?);
        *slot = Some(set_aside(&self.place.room(), bytes, &self.steps)?);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for FileLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLease")
            .field("record", &self.place.record())
            .field("room", &self.slot().is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        // Ours, or what a killed holder left. The lock is let go after this.
        let _ = fs::remove_file(self.place.room());
    }
}

/// A file that takes so much room.
pub(crate) fn set_aside(path: &Path, bytes: u64, steps: &Steps) -> Result<File, StoreError> {
    // What a killed holder left is used again.
    let mut room = private::open_or_create(path)?;
    let done = steps
        .at("allocating")
        .and_then(|()| allocate(&room, bytes))
        .or_else(|error| match error.kind() {
            ErrorKind::Unsupported => fill(&mut room, bytes),
            _ => Err(error),
        })
        .and_then(|()| room.sync_all())
        .and_then(|()| steps.at("reserved"));
    match done {
        Ok(()) => Ok(room),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(failed("set room aside for a record in", path, error))
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_vendor = "apple"))]
fn allocate(room: &File, bytes: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };

    loop {
        match fallocate(room, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Err(ErrorKind::Unsupported.into()),
            done => return Ok(done?),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_vendor = "apple")))]
fn allocate(_room: &File, _bytes: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Takes the blocks by writing them: noise, since a file system that compresses would keep zeros in no room at all.
fn fill(room: &mut File, bytes: u64) -> io::Result<()> {
    room.seek(SeekFrom::Start(0))?;
    let mut left = usize::try_from(bytes).unwrap_or(LARGEST);
    let mut noise = [0; 4096];
    while left > 0 {
        fastrand::fill(&mut noise);
        let piece = left.min(noise.len());
        room.write_all(noise.get(..piece).unwrap_or_default())?;
        left -= piece;
    }
    Ok(())
}
