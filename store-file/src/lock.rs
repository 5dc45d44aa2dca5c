//! [`Lock`]: an operating system's lock on a file of its own, which dies with its holder.

use std::{
    fs::{File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use keyfob_auth_core::store::{StoreError, StoreErrorKind};
use tokio::sync::oneshot;

use crate::private::{self, failed};

/// How long a compare-and-set waits for others, whose own take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the holder's name may be, with its line's end.
const NAME: usize = 128;

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// Whose protocol a lock's file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Ours: private, and its text names the holder.
    Ours,
    /// Another tool's: with whatever mode it has, and nothing is written into it.
    Theirs,
}

impl Lock {
    /// Takes it if nobody has it. Opens its own handle, so that it excludes threads too.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, StoreError> {
        Self::try_take_of(path, Whose::Ours)
    }

    /// [`try_take`](Self::try_take), for a lock that may be another tool's.
    pub(crate) fn try_take_of(path: &Path, whose: Whose) -> Result<Option<Self>, StoreError> {
        for _ in 0..8 {
            let file = match whose {
                Whose::Ours => private::open_or_create(path)?,
                Whose::Theirs => private::open_or_create_theirs(path)?,
            };
            match file.try_lock() {
                // Somebody removed the folder meanwhile: this lock would exclude nobody.
                Ok(()) if !private::is_at(&file, path) => {}
                Ok(()) => {
                    let lock = Self(file);
                    if whose == Whose::Ours {
                        lock.name_holder();
                    }
                    return Ok(Some(lock));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
            }
        }
        Ok(None)
    }

    /// Takes it, after those who have it, but waits no longer than [`PATIENCE`].
    ///
    /// Waiting is a thread's business: it works under any executor, and blocks none. It ends when nobody waits any more.
    pub(crate) async fn take(path: PathBuf) -> Result<Self, StoreError> {
        Self::take_of(path, Whose::Ours, PATIENCE).await
    }

    /// [`take`](Self::take), for a lock that may be another tool's, and with another patience.
    pub(crate) async fn take_of(path: PathBuf, whose: Whose, patience: Duration) -> Result<Self, StoreError> {
        if let Some(lock) = Self::try_take_of(&path, whose)? {
            return Ok(lock);
        }
        let (answer, asked) = oneshot::channel();
        let waiting = path.clone();
        thread::Builder::new()
            .name("keyfob-lock".into())
            .spawn(move || {
                let lock = Self::wait(&waiting, whose, patience, || answer.is_closed());
                // If nobody waits any more, the lock is dropped here.
                let _ = answer.send(lock);
            })
            .map_err(|error| failed("wait for", &path, error))?;
        asked.await.unwrap_or_else(|_| Err(busy(&path, patience)))
    }

    fn wait(
        path: &Path,
        whose: Whose,
        patience: Duration,
        given_up: impl Fn() -> bool,
    ) -> Result<Self, StoreError> {
        let begun = Instant::now();
        while begun.elapsed() < patience && !given_up() {
            thread::sleep(Duration::from_micros(fastrand::u64(1_000..5_000)));
            if let Some(lock) = Self::try_take_of(path, whose)? {
                return Ok(lock);
            }
        }
        Err(busy(path, patience))
    }

    /// Writes who we are: for messages only. It is no matter if it fails.
    fn name_holder(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("process {} on {:.64} since {since}", std::process::id(), host());
        let _ = (&self.0).write_all(format!("{name:<width$}\n", width = NAME - 1).as_bytes());
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does the same, but not while a child that is being forked has the handle too.
        let _ = self.0.unlock();
    }
}

fn busy(path: &Path, patience: Duration) -> StoreError {
    let holder = holder(path).or_else(|| holder_of_theirs(path)).unwrap_or_else(|| "another process".into());
    let message =
        format!("{} was not to be had within {patience:?}: {holder} holds it", private::quoted(path));
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// Who wrote their name into the lock's file last.
pub(crate) fn holder(path: &Path) -> Option<String> {
    let mut bytes = [0; NAME];
    let (mut file, _) = private::open(path).ok()??;
    let length = file.read(&mut bytes).ok()?;
    let text = str::from_utf8(bytes.get(..length)?).ok()?;
    let line = text.lines().next()?.trim();
    if line.is_empty() || line.contains(char::is_control) {
        return None;
    }
    let Some((name, since)) = line.rsplit_once(" since ") else {
        return Some(line.to_owned());
    };
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(since.parse().ok()?))?;
    Some(format!("{name}, for {} s", since.elapsed().unwrap_or_default().as_secs()))
}

/// Who has a lock that names nobody, as far as the system tells: Linux does, by process.
pub(crate) fn holder_of_theirs(path: &Path) -> Option<String> {
    let process = lock_table_entry(path)?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    let name = name.trim().replace(char::is_control, "?");
    Some(if name.is_empty() { format!("process {process}") } else { format!("process {process} ({name})") })
}

#[cfg(target_os = "linux")]
fn lock_table_entry(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    let meta = std::fs::metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    // 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let held = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    held.filter(|line| line.get(1) == Some(&"FLOCK") && line.get(5) == Some(&&*file))
        .find_map(|line| line.get(4)?.parse().ok().filter(|process| *process != 0))
}

#[cfg(not(target_os = "linux"))]
fn lock_table_entry(_path: &Path) -> Option<u32> {
    None
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this machine".into())
}
