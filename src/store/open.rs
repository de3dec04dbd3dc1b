//! Opening: from whatever lies at the path to a connection one may trust.

use std::path::Path;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Result as Sql, ffi};

use super::{
    disk::{self, Found, Trouble},
    notice::{OpenNote, StoreError},
    rows, salvage, schema,
};
use crate::world::Saved;

/// Page cache in KiB: the daemon reads once and then only writes.
const CACHE_KIB: i32 = 512;

/// Size the write-ahead log is cut back to after a burst, in bytes.
const LOG_KEPT_BYTES: i32 = 4 << 20;

/// Longest wait for somebody else who holds a lock, e.g. `sqlite3` writing by hand.
const BUSY_MAX: std::time::Duration = std::time::Duration::from_millis(250);

/// A database that was opened, perhaps only for reading.
pub(super) struct Opened {
    /// `None` while it cannot be written.
    pub(super) connection: Option<Connection>,
    /// What it holds.
    pub(super) saved: Saved,
    /// What a person should know.
    pub(super) notes: Vec<OpenNote>,
}

/// Opens `path`, whatever lies there.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let mut notes = Vec::new();
    match disk::prepare(path) {
        Ok(Found::Nothing | Found::Something) => (),
        Ok(Found::Empty) => notes.push(OpenNote::Empty { path: path.to_owned() }),
        Ok(Found::Headless) => {
            return salvage::rescue(path, "only its write-ahead log is left", notes);
        }
        Err(Trouble::Disk(error)) => return read_only(path, &error.to_string(), notes),
        Err(Trouble::Fatal(error)) => return Err(error),
    }
    match open_file(path, &mut notes) {
        Ok((connection, saved)) => Ok(Opened { connection: Some(connection), saved, notes }),
        Err(Refusal::Newer(found)) => Err(StoreError::Newer { path: path.to_owned(), found }),
        Err(Refusal::Damaged(reason)) => salvage::rescue(path, &reason, notes),
        Err(Refusal::ReadOnly(reason)) if disk::is_writable(path) => {
            salvage::rescue(path, &reason, notes)
        }
        Err(Refusal::Disk(reason) | Refusal::ReadOnly(reason)) => read_only(path, &reason, notes),
    }
}

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// A newer version.
    #[error("a newer bunpilot wrote it, version {0}")]
    Newer(u32),
    /// Its content is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The disk or its content says that it must not be written.
    #[error("{0}")]
    ReadOnly(String),
    /// Its content is not to blame.
    #[error("{0}")]
    Disk(String),
}

/// Opens a file that is there, checks it, migrates it and reads it.
pub(super) fn open_file(
    path: &Path,
    notes: &mut Vec<OpenNote>,
) -> Result<(Connection, Saved), Refusal> {
    let mut connection = in_place(path)?;
    connection.busy_timeout(BUSY_MAX)?;
    let from = schema::version(&connection)?;
    if from > schema::VERSION {
        return Err(Refusal::Newer(from));
    }
    check(&connection, "quick_check(1)")?;
    configure(&connection)?;
    let begun = from < schema::VERSION && has_apps(&connection)?;
    schema::migrate(&mut connection, from)?;
    // What must not be lost is small, and its indexes are compared with it, too.
    check(&connection, "integrity_check(apps)")?;
    check(&connection, "integrity_check(workers)")?;
    let saved = rows::load(&connection, notes)?;
    if begun {
        notes.push(OpenNote::Migrated { from, apps: saved.apps.len() });
    }
    Ok((connection, saved))
}

/// Asks `SQLite` whether the structure of the file is sound; the whole file is bounded.
fn check(connection: &Connection, pragma: &str) -> Result<(), Refusal> {
    let sql = format!("PRAGMA {pragma}");
    let found: String = connection.query_row(&sql, [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Refusal::Damaged(found.replace('\n', " "))) }
}

fn configure(connection: &Connection) -> Sql<()> {
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_KEPT_BYTES, |_| Ok(()))
}

fn has_apps(connection: &Connection) -> Sql<bool> {
    connection.table_exists(None, "apps")
}

/// Reads a file whose disk refuses to be written, and says so.
fn read_only(path: &Path, reason: &str, mut notes: Vec<OpenNote>) -> Result<Opened, StoreError> {
    let saved = if disk::identity(path).is_none() {
        Saved::default()
    } else {
        read_in_place(path, &mut notes)
            .or_else(|_busy| read_frozen(path, &mut notes))
            .map_err(|refusal| unreadable(path, reason, &refusal))?
    };
    notes.push(OpenNote::Unwritable { reason: unwritable(path, reason) });
    Ok(Opened { connection: None, saved, notes })
}

fn unreadable(path: &Path, reason: &str, refusal: &Refusal) -> StoreError {
    StoreError::Unreadable { path: path.to_owned(), reason: format!("{reason}; {refusal}") }
}

/// With locks and the write-ahead log, but without the shared memory file a full disk refuses.
fn read_in_place(path: &Path, notes: &mut Vec<OpenNote>) -> Result<Saved, Refusal> {
    let connection = in_place(path)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    load(&connection, notes)
}

/// The file alone, as on a read-only disk.
fn read_frozen(path: &Path, notes: &mut Vec<OpenNote>) -> Result<Saved, Refusal> {
    load(&frozen(path)?, notes)
}

/// A file that must be there, to read and to write.
pub(super) fn in_place(path: &Path) -> Sql<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// A file nothing is written to, nor beside: its write-ahead log is not read either.
pub(super) fn frozen(path: &Path) -> Sql<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(frozen_uri(path), flags)
}

/// Reads what cannot be mended now.
fn load(connection: &Connection, notes: &mut Vec<OpenNote>) -> Result<Saved, Refusal> {
    match load_sound(connection, notes) {
        Err(Refusal::Damaged(reason)) => {
            notes.push(OpenNote::Damaged { what: format!("the database is damaged: {reason}") });
            Ok(salvage::read_damaged(connection, notes)?)
        }
        sound => sound,
    }
}

/// A file that could not even be begun holds nothing.
fn load_sound(connection: &Connection, notes: &mut Vec<OpenNote>) -> Result<Saved, Refusal> {
    if schema::version(connection)? == 0 && !has_apps(connection)? {
        return Ok(Saved::default());
    }
    check(connection, "quick_check(1)")?;
    Ok(rows::load(connection, notes)?)
}

/// See <https://sqlite.org/uri.html>; only the three characters it gives a meaning are escaped.
fn frozen_uri(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1")
}

/// What to tell while the database cannot be written.
pub(super) fn unwritable(path: &Path, reason: &str) -> String {
    format!(
        "cannot write the database `{}`: {reason}; changes are kept in memory until it can be \
         written, so make room on its disk or mount it writable",
        path.display()
    )
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) if is(&error, ffi::SQLITE_READONLY) => Self::ReadOnly(reason),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked,
            ) => Self::Disk(reason),
            Some(ErrorCode::SystemIoFailure) if !is(&error, ffi::SQLITE_IOERR_SHORT_READ) => {
                Self::Disk(reason)
            }
            // Everything else means that the content is not what we wrote.
            _ => Self::Damaged(reason),
        }
    }
}

fn is(error: &Error, extended_code: i32) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == extended_code)
}
