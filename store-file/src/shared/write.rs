//! Replacing a file that another tool may write meanwhile.

use std::{
    fs::{self, File, Metadata},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::Ordering,
};

use keyfob_auth_core::store::{StoreError, StoreErrorKind, Version};

use super::{Change, Privacy, SharedFile, SharedLease, read::version_of};
use crate::{
    atomic::{self, TEMPORARY, Temporary, folder_of},
    private::{self, failed, quoted},
};

/// How many writes there are to one sweep.
const SWEEP_EVERY: u64 = 64;

impl SharedFile {
    /// Makes the change, unless the content is not the one that was seen. Under the lock; nothing waits here.
    pub(super) fn put(
        &self,
        target: &Path,
        seen: Option<&Version>,
        change: Change,
        lease: Option<&SharedLease>,
    ) -> Result<bool, StoreError> {
        match change {
            Change::Keep => Ok(true),
            Change::Remove => {
                self.steps.at("locked").map_err(|error| failed("remove", target, error))?;
                if !self.is_still(target, seen)? {
                    return Ok(false);
                }
                if seen.is_some() {
                    fs::remove_file(target)
                        .and_then(|()| self.steps.at("removed"))
                        .and_then(|()| private::sync_folder(folder_of(target)))
                        .map_err(|error| failed("remove", target, error))?;
                }
                Ok(true)
            }
            Change::Write(bytes) => {
                if bytes.len() > self.largest {
                    let (length, largest) = (bytes.len(), self.largest);
                    let path = quoted(target);
                    let message = format!("{length} bytes are too many for {path} (at most {largest})");
                    return Err(StoreError::new(StoreErrorKind::Unsupported, message));
                }
                self.sweep(target);
                self.replace(target, seen, &bytes, lease)
            }
        }
    }

    fn replace(
        &self,
        target: &Path,
        seen: Option<&Version>,
        bytes: &[u8],
        lease: Option<&SharedLease>,
    ) -> Result<bool, StoreError> {
        let unwritten = |error| failed("write", target, error);
        let was = fs::symlink_metadata(target).ok();
        self.steps.at("locked").map_err(unwritten)?;
        let room = lease.and_then(SharedLease::take_room);
        let of_lease = lease.filter(|_| room.is_some());
        let mut staged = room.map_or_else(|| Temporary::beside(target), Ok).map_err(unwritten)?;
        let done = self.stage(&mut staged, bytes, was.as_ref()).map_err(unwritten).and_then(|()| {
            if !self.is_still(target, seen)? {
                return Ok(false);
            }
            atomic::rename(&staged.path, target).map_err(unwritten)?;
            staged.armed = false;
            *self.written() = Some(version_of(bytes));
            self.steps.at("renamed").map_err(unwritten)?;
            private::sync_folder(folder_of(target)).map_err(unwritten)?;
            self.steps.at("done").map_err(unwritten)?;
            Ok(true)
        });
        if let Some(lease) = of_lease.filter(|_| staged.armed) {
            lease.give_room_back(staged);
        }
        done
    }

    fn stage(&self, staged: &mut Temporary, bytes: &[u8], was: Option<&Metadata>) -> io::Result<()> {
        let file = &mut staged.file;
        self.steps.at("made")?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(bytes)?;
        self.steps.at("written")?;
        file.set_len(bytes.len() as u64)?;
        if let Some(was) = was {
            keep_access(file, was, self.privacy)?;
        }
        file.sync_all()?;
        self.steps.at("synced")
    }

    fn is_still(&self, target: &Path, seen: Option<&Version>) -> Result<bool, StoreError> {
        Ok(self.read_raw(target)?.map(|raw| raw.version()).as_ref() == seen)
    }

    /// Removes what killed writers left, with the first write, then now and then. Under the lock, which everybody has who
    /// writes such files.
    fn sweep(&self, target: &Path) {
        if !self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            return;
        }
        let Some(name) = target.file_name().and_then(|name| name.to_str()) else { return };
        for entry in fs::read_dir(folder_of(target)).into_iter().flatten().flatten() {
            let entry_name = entry.file_name();
            let temporary = entry_name.to_str().and_then(|entry| temporary_of(entry, name));
            if temporary.is_some() && fs::remove_file(entry.path()).is_ok() {
                tracing::debug!(file = %entry.path().display(), "removed what a killed writer left");
            }
        }
    }
}

/// Whether it is called as [`Temporary`] calls what is to become this file.
fn temporary_of(entry: &str, name: &str) -> Option<()> {
    let tag = entry.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(TEMPORARY)?;
    let (process, random) = tag.split_once('-')?;
    let digits = process.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!process.is_empty() && digits && hexadecimal).then_some(())
}

/// The group and the mode of what was there: the owner is ours. A group that we cannot give gets nothing.
#[cfg(unix)]
fn keep_access(file: &File, was: &Metadata, privacy: Privacy) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let mut mode = if privacy == Privacy::Warn { was.mode() & 0o777 } else { 0o600 };
    if file.metadata()?.gid() != was.gid() {
        let group = rustix::process::Gid::from_raw(was.gid());
        if rustix::fs::fchown(file, None, Some(group)).is_err() {
            mode &= !0o070;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn keep_access(_file: &File, _was: &Metadata, _privacy: Privacy) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_temporary_files_are_swept() {
        for (entry, ours) in [
            ("a.json.12-0123456789abcdef.tmp", true),
            ("a.json.12-0123456789abcdeg.tmp", false),
            ("a.json.-0123456789abcdef.tmp", false),
            ("a.json.12-0123.tmp", false),
            ("b.json.12-0123456789abcdef.tmp", false),
            ("a.json", false),
            ("a.json.tmp", false),
            ("a.json.keyfob.lock", false),
        ] {
            assert_eq!(temporary_of(entry, "a.json").is_some(), ours, "{entry}");
        }
    }
}
