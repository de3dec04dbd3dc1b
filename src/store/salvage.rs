//! A damaged database: what can be read goes into a new file, the old one is kept.
//!
//! At every moment one of the two lies at the path or is known to belong there, so a rescue may
//! itself be interrupted. See `disk::prepare`.

use std::{fs, io, path::Path};

use rusqlite::{Connection, Result as Sql};

use super::{
    disk::{self, NEW},
    notice::{OpenNote, StoreError},
    open::{self, Opened, Refusal},
    rows, schema,
};
use crate::world::{Record, Saved};

/// The copy a rescue reads, because reading a damaged file may change it.
const COPY: &str = ".salvage";

/// Replaces the damaged file at `path` by a new one with all that could be read.
///
/// While there is no room for a new file, the old one stays and nothing can be written.
pub(super) fn rescue(
    path: &Path,
    reason: &str,
    mut notes: Vec<OpenNote>,
) -> Result<Opened, StoreError> {
    let saved = read(path, &mut notes);
    match build(&disk::beside(path, NEW), &saved) {
        Ok(()) => (),
        Err(error) => {
            let reason = open::unwritable(path, &format!("{reason}; and no new one: {error}"));
            notes.push(OpenNote::Unwritable { reason });
            return Ok(Opened { connection: None, saved, notes });
        }
    }
    let aside = |source| StoreError::Aside { path: path.to_owned(), source };
    let to = disk::move_aside(path).map_err(aside)?;
    fs::rename(disk::beside(path, NEW), path).map_err(aside)?;
    notes.push(OpenNote::MovedAside {
        to,
        reason: reason.to_owned(),
        apps: saved.apps.len(),
        instances: saved.instances.len(),
    });
    match open::open_file(path, &mut notes) {
        Ok((connection, saved)) => Ok(Opened { connection: Some(connection), saved, notes }),
        Err(Refusal::Disk(reason) | Refusal::ReadOnly(reason) | Refusal::Damaged(reason)) => {
            notes.push(OpenNote::Unwritable { reason: open::unwritable(path, &reason) });
            Ok(Opened { connection: None, saved, notes })
        }
        Err(Refusal::Newer(found)) => Err(StoreError::Newer { path: path.to_owned(), found }),
    }
}

fn read(path: &Path, notes: &mut Vec<OpenNote>) -> Saved {
    let copy = disk::beside(path, COPY);
    let connection = match disk::copy(path, &copy) {
        Ok(()) => open::in_place(&copy),
        // No room for a copy: at least the file itself, which this does not change.
        Err(_) => open::frozen(path),
    };
    let saved = connection.and_then(|connection| read_damaged(&connection, notes));
    if let Err(error) = disk::remove(&copy) {
        tracing::debug!(%error, "the copy of the damaged database stays behind");
    }
    saved.unwrap_or_default()
}

/// Reads what a damaged file still gives away.
pub(super) fn read_damaged(connection: &Connection, notes: &mut Vec<OpenNote>) -> Sql<Saved> {
    // Makes SQLite read a file that is shorter than it says of itself.
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(rows::salvage(connection, notes))
}

/// Writes a whole new database: no log beside it, on disk when this returns.
fn build(new: &Path, saved: &Saved) -> Result<(), BuildError> {
    disk::remove(new)?;
    disk::create_private(new)?;
    let mut connection = Connection::open(new)?;
    schema::migrate(&mut connection, 0)?;
    let transaction = connection.transaction()?;
    for record in records(saved) {
        rows::write(&transaction, &record)?;
    }
    rows::set_last_app(&transaction, saved.last_app)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// What brings an empty database to the state `saved`.
pub(super) fn records(saved: &Saved) -> impl Iterator<Item = Record> {
    let apps = saved.apps.iter().cloned().map(Record::App);
    apps.chain(saved.instances.iter().cloned().map(Record::Instance))
}

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum BuildError {
    Sql(#[from] rusqlite::Error),
    Io(#[from] io::Error),
}
