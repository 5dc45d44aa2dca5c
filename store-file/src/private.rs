//! Private files: opened without following links, refused if they are not ours alone.

use std::{
    fmt,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use keyfob_auth_core::store::{StoreError, StoreErrorKind};

/// Opens a file to read, and tells its length; `None` if there is none.
pub(crate) fn open(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    match open_with(path, OpenOptions::new().read(true)) {
        Ok(file) => checked(path, file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused(path, "open", error)),
    }
}

/// Opens a file to read and write, and makes it if there is none.
pub(crate) fn open_or_create(path: &Path) -> Result<File, StoreError> {
    let file = open_with(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .map_err(|error| refused(path, "open", error))?;
    checked(path, file).map(|(file, _)| file)
}

/// Opens another tool's lock file, or makes it: private if it is we who make it, with the mode it has if not.
pub(crate) fn open_or_create_theirs(path: &Path) -> Result<File, StoreError> {
    let unopened = |error| failed("open", path, error);
    let file = open_with(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .map_err(unopened)?;
    match file.metadata().map_err(unopened)? {
        meta if meta.is_file() => Ok(file),
        _ => Err(not_a_file(path)),
    }
}

/// Opens a file of another tool to read, whatever its mode; `None` if there is none.
pub(crate) fn open_theirs(path: &Path) -> Result<Option<(File, Metadata)>, StoreError> {
    let unopened = |error| failed("open", path, error);
    let file = match open_with(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unopened(error)),
    };
    let meta = file.metadata().map_err(unopened)?;
    if !meta.is_file() {
        return Err(not_a_file(path));
    }
    owned(path, &meta).map_or(Ok(Some((file, meta))), Err)
}

/// Makes a file that must not be there yet.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().write(true).create_new(true))
}

#[cfg(unix)]
fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    // NONBLOCK: a FIFO in the place of a file must not hang the call. It changes nothing for files.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    options.mode(0o600).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
        return Err(io::Error::other("a symbolic link"));
    }
    options.open(path)
}

fn checked(path: &Path, file: File) -> Result<(File, u64), StoreError> {
    let meta = file.metadata().map_err(|error| failed("examine", path, error))?;
    match flaw(path, &meta, Kind::File) {
        Some(flaw) => Err(flaw),
        None => Ok((file, meta.len())),
    }
}

/// Says what is wrong with the file, if that is why it could not be opened.
fn refused(path: &Path, what: &str, error: io::Error) -> StoreError {
    let flaw = fs::symlink_metadata(path).ok().and_then(|meta| flaw(path, &meta, Kind::File));
    flaw.unwrap_or_else(|| failed(what, path, error))
}

/// Whether the folder is there. An error if it is not ours alone.
pub(crate) fn folder_exists(folder: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(folder) {
        Ok(meta) => match flaw(folder, &meta, Kind::Folder) {
            Some(flaw) => Err(flaw),
            None => Ok(true),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look into", folder, error)),
    }
}

/// Makes the folder, and those above it, if it is not there.
pub(crate) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder_exists(folder)? {
        return Ok(());
    }
    create_folder(folder)?;
    folder_exists(folder).map(drop)
}

/// Makes the folder, and those above it, with mode 0700.
pub(crate) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    let missing: Vec<PathBuf> =
        folder.ancestors().take_while(|above| !above.exists()).map(Path::to_path_buf).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::AlreadyExists => unmakeable(folder, error),
        _ => failed("make", folder, error),
    })?;
    for above in missing.iter().filter_map(|made| made.parent()) {
        sync_folder(above).map_err(|error| failed("sync", above, error))?;
    }
    Ok(())
}

/// A folder that no second try makes, either.
fn unmakeable(folder: &Path, error: io::Error) -> StoreError {
    let message = format!(
        "cannot make {}: what is above it is no folder, or takes none; make it by hand, or name another place (`store`)",
        quoted(folder)
    );
    StoreError::new(StoreErrorKind::Denied, message).with_source(error)
}

/// Makes names in the folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(()); // Folders cannot be opened as files there; NTFS journals names.
    }
    match File::open(folder)?.sync_all() {
        // Some file systems in user space cannot sync a folder.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// Whether the path still leads to this open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether the path still leads to this open file: names of open files stay on Windows.
#[cfg(not(unix))]
pub(crate) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// An error that names the place. The cause stays its source.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> StoreError {
    let path = quoted(path);
    let (kind, message) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            (StoreErrorKind::Full, format!("no room to {what} {path}: free some space there, then try again"))
        }
        ErrorKind::PermissionDenied => (
            StoreErrorKind::Denied,
            format!(
                "not allowed to {what} {path}: give this user the right to, or name another place (`store`)"
            ),
        ),
        ErrorKind::NotADirectory => (
            StoreErrorKind::Denied,
            format!(
                "cannot {what} {path}: something above it is no folder; move that away, or name another place (`store`)"
            ),
        ),
        ErrorKind::ReadOnlyFilesystem => (
            StoreErrorKind::Denied,
            format!(
                "cannot {what} {path} on a read-only file system: mount it for writing, or name another place (`store`)"
            ),
        ),
        _ => (StoreErrorKind::Unavailable, format!("cannot {what} {path}")),
    };
    StoreError::new(kind, message).with_source(error)
}

/// The path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> Quoted<'_> {
    Quoted(path)
}

/// Made into text only when it is shown: nearly every look at a file finds nothing to say.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.display().to_string().replace('\'', r"'\''"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

fn flaw(path: &Path, meta: &Metadata, kind: Kind) -> Option<StoreError> {
    let quoted = quoted(path);
    let denied = |message: String| Some(StoreError::new(StoreErrorKind::Denied, message));
    if meta.is_symlink() {
        return denied(match kind {
            Kind::File => format!("{quoted} is a symbolic link, which is not followed: rm {quoted}"),
            Kind::Folder => {
                format!(
                    "{quoted} is a symbolic link, which is not followed: name the folder that it leads to"
                )
            }
        });
    }
    if kind == Kind::File && !meta.is_file() {
        return Some(not_a_file(path));
    }
    if kind == Kind::Folder && !meta.is_dir() {
        return denied(format!("{quoted} is not a folder: move it away, or name another"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        if let Some(flaw) = owned(path, meta) {
            return Some(flaw);
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let wanted = if kind == Kind::Folder { 700 } else { 600 };
            return denied(format!("{quoted} is open to others (mode {mode:04o}): chmod {wanted} {quoted}"));
        }
    }
    None
}

/// What is wrong with the owner.
#[cfg(unix)]
fn owned(path: &Path, meta: &Metadata) -> Option<StoreError> {
    use std::os::unix::fs::MetadataExt;

    let (owner, us) = (meta.uid(), rustix::process::geteuid().as_raw());
    (owner != us).then(|| {
        let quoted = quoted(path);
        let message = format!("{quoted} belongs to user {owner}, not to user {us}: chown {us} {quoted}");
        StoreError::new(StoreErrorKind::Denied, message)
    })
}

#[cfg(not(unix))]
fn owned(_path: &Path, _meta: &Metadata) -> Option<StoreError> {
    None
}

fn not_a_file(path: &Path) -> StoreError {
    StoreError::new(StoreErrorKind::Denied, format!("{} is not a file: move it away", quoted(path)))
}
