//! The files of one stream, from the one being written to the oldest.
//!
//! Names change while somebody looks at them: a file is known by its inode, and a packed one also
//! by the inode of what it was made from.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::UNIX_EPOCH,
};

use crate::{
    domain::Compression,
    logs::{
        packed,
        rotation::{FileId, Slot},
    },
};

/// Free slots in a row of files after which there are no more: a rotation in progress leaves one.
pub(super) const GAP_MAX: u16 = 2;

/// Who a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Itself.
    pub(super) id: FileId,
    /// What it was packed from.
    pub(super) origin: Option<FileId>,
    /// When it was created, in microseconds since the Unix epoch; 0 where nobody knows.
    pub(super) born: u64,
}

impl Identity {
    /// Whether `self` holds what `plain` holds, packed. Inode numbers are used again, but what
    /// something was made from is older.
    fn was_packed_from(&self, plain: &Self) -> bool {
        self.origin == Some(plain.id) && plain.born <= self.born
    }

    /// Whether the two hold the same, one of them perhaps packed.
    pub(super) fn is_or_was(&self, other: &Self) -> bool {
        self.id == other.id || self.was_packed_from(other) || other.was_packed_from(self)
    }
}

/// A file of a row as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    /// Bytes on disk.
    pub(super) bytes: u64,
}

/// Lists the files of a row, the youngest first. A file that moves up meanwhile is seen, once; so
/// is one that is being packed.
pub(super) fn row(path: &Path) -> io::Result<Vec<Found>> {
    let mut row: Vec<Found> = Vec::new();
    let mut missing = 0;
    for slots in places() {
        let mut any = false;
        for slot in slots {
            let Some(found) = look(slot, path)? else { continue };
            any = true;
            row.retain(|known| known.identity.id != found.identity.id);
            row.push(found);
        }
        missing = if any { 0 } else { missing + 1 };
        if missing > GAP_MAX {
            break;
        }
    }
    let whole = row.clone();
    row.retain(|one| !whole.iter().any(|it| one.identity.was_packed_from(&it.identity)));
    Ok(row)
}

/// Finds a file in a row, under whatever name and whether or not it was packed meanwhile. The
/// caller holds it open, so that no other can have its inode.
pub(super) fn position(row: &[Found], held: &Identity) -> Option<usize> {
    let itself = row.iter().position(|it| it.identity.id == held.id);
    itself.or_else(|| row.iter().position(|it| it.identity.was_packed_from(held)))
}

/// Who is being written now.
pub(super) fn current(path: &Path) -> io::Result<Option<FileId>> {
    Ok(existing(fs::metadata(path))?.map(|facts| plain(&facts).id))
}

/// The slots of a row in the order in which files move through them: those at one place, a file
/// before its packed form, then those at the next.
pub(super) fn places() -> impl Iterator<Item = Vec<Slot>> {
    let full = (1..=u16::MAX).map(|number| Slot::full(number).to_vec());
    std::iter::once(vec![Slot::Current]).chain(full)
}

fn look(slot: Slot, path: &Path) -> io::Result<Option<Found>> {
    let path = slot.path(path);
    if let Some(how) = packing(slot) {
        let Some(file) = existing(File::open(&path))? else { return Ok(None) };
        let facts = file.metadata()?;
        let identity = identify(&file, &facts, Some(how))?;
        return Ok(Some(Found { slot, identity, bytes: facts.len() }));
    }
    let Some(facts) = existing(fs::metadata(&path))? else { return Ok(None) };
    Ok(Some(Found { slot, identity: plain(&facts), bytes: facts.len() }))
}

/// How the file in a slot is packed.
pub(super) fn packing(slot: Slot) -> Option<Compression> {
    match slot {
        Slot::Packed(_, how) | Slot::Packing(how) => Some(how),
        Slot::Current | Slot::Fresh | Slot::Rotated(_) => None,
    }
}

/// Finds out who an open file is.
pub(super) fn identify(
    file: &File,
    facts: &Metadata,
    how: Option<Compression>,
) -> io::Result<Identity> {
    let Some(how) = how else { return Ok(plain(facts)) };
    let mut head = Vec::with_capacity(packed::HEAD_BYTES);
    let limit = u64::try_from(packed::HEAD_BYTES).unwrap_or(0);
    let mut file = file;
    file.take(limit).read_to_end(&mut head)?;
    io::Seek::rewind(&mut file)?;
    Ok(Identity { origin: packed::origin(&head, how), ..plain(facts) })
}

fn plain(facts: &Metadata) -> Identity {
    let id = FileId { device: facts.dev(), inode: facts.ino() };
    let born = facts.created().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(0));
    Identity { id, origin: None, born }
}

/// When a file was last written, in microseconds since the Unix epoch.
pub(super) fn written(facts: &Metadata) -> u64 {
    let micros = facts.mtime().saturating_mul(1_000_000).saturating_add(facts.mtime_nsec() / 1_000);
    u64::try_from(micros).unwrap_or(0)
}

/// Takes a file that is not there for none.
pub(super) fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    match found {
        Err(error) if absent.contains(&error.kind()) => Ok(None),
        found => found.map(Some),
    }
}
