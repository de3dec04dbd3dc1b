//! The database as files: made private, told apart, moved aside.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    time::{ClockId, clock_gettime},
};

use super::notice::StoreError;

/// What `SQLite` keeps beside the file itself.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// What a rescue writes until it is complete; then it takes the place of the damaged file.
pub(super) const NEW: &str = ".new";

/// What was found at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing; an empty file is there now.
    Nothing,
    /// A file without a byte in it.
    Empty,
    /// No byte but in the write-ahead log, which `SQLite` would throw away.
    Headless,
    /// A file.
    Something,
}

/// Why a file is not ready.
pub(super) enum Trouble {
    /// The disk is full or may not be written: the next try may succeed.
    Disk(io::Error),
    /// Nothing a retry would mend.
    Fatal(StoreError),
}

/// Makes the folder (0700) and the file (0600) if they are missing; takes other people's rights
/// to the file away if they are not. A folder that exists is the user's to protect: it may be
/// shared.
pub(super) fn prepare(path: &Path) -> Result<Found, Trouble> {
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| {
            trouble(source, |source| StoreError::Folder { path: folder.to_owned(), source })
        })?;
    }
    let found = match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(Trouble::Fatal(StoreError::NotAFile { path: path.to_owned() }));
        }
        Ok(there) if there.len() > 0 => {
            remove(&beside(path, NEW)).map_err(|source| trouble(source, open))?;
            Found::Something
        }
        Ok(_) if has_log(path) => Found::Headless,
        Ok(_) => Found::Empty,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(path).map_err(|source| trouble(source, open))?
        }
        Err(source) => return Err(Trouble::Fatal(open(source))),
    };
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        protect(&file).map_err(|source| trouble(source, open))?;
    }
    Ok(found)
}

/// Puts an empty file where there is none, or the one a rescue had finished when it was
/// interrupted.
fn create(path: &Path) -> io::Result<Found> {
    let rescued = beside(path, NEW);
    if rescued.exists() {
        move_aside(path)?;
        fs::rename(&rescued, path)?;
        return Ok(Found::Something);
    }
    create_private(path)?;
    Ok(if has_log(path) { Found::Headless } else { Found::Nothing })
}

/// Makes an empty file only its owner may open.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn has_log(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

fn protect(file: &Path) -> io::Result<()> {
    match fs::metadata(file) {
        Ok(there) if there.mode() & 0o7777 == 0o600 => Ok(()),
        Ok(_) => fs::set_permissions(file, Permissions::from_mode(0o600)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn trouble(source: io::Error, fatal: impl FnOnce(io::Error) -> StoreError) -> Trouble {
    if is_full(&source) { Trouble::Disk(source) } else { Trouble::Fatal(fatal(source)) }
}

/// Whether the disk is full, over quota, read-only or failing: nothing about the path itself.
fn is_full(error: &io::Error) -> bool {
    [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO]
        .contains(&Errno::from_io_error(error).unwrap_or(Errno::INVAL))
}

/// A file of its own beside `path`, told by what is added to the name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Which file lies at `path`: its device and number.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|there| (there.dev(), there.ino()))
}

/// Whether the file system lets us write to the file.
pub(super) fn is_writable(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok()
}

/// Copies the database without touching it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    fs::copy(from, to)?;
    let (wal, copied) = (beside(from, "-wal"), beside(to, "-wal"));
    if wal.exists() { fs::copy(wal, copied).map(drop) } else { Ok(()) }
}

/// Removes the database and what lies beside it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in BESIDE.into_iter().chain([""]) {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => (),
        }
    }
    Ok(())
}

/// Renames the database to a free name ending in `.corrupt-<unix time>`, so that `SQLite` still
/// finds what lies beside it.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let to = free_name(path);
    // The file goes first: without it what lies beside it is known to be a leftover.
    for suffix in [""].into_iter().chain(BESIDE) {
        match fs::rename(beside(path, suffix), beside(&to, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => (),
        }
    }
    Ok(to)
}

fn free_name(path: &Path) -> PathBuf {
    let unix = clock_gettime(ClockId::Realtime).tv_sec;
    let first = beside(path, &format!(".corrupt-{unix}"));
    let others = (2_u32..).map(|n| beside(&first, &format!("-{n}")));
    let taken = |name: &Path| ["", "-wal"].into_iter().any(|end| beside(name, end).exists());
    std::iter::once(first.clone()).chain(others).find(|name| !taken(name)).unwrap_or(first)
}
