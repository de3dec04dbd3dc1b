//! The names of the files that keep one stream: carries out what [`rotation`] plans.
//!
//! Decides nothing, and never touches what is in a file.
//!
//! [`rotation`]: crate::logs::rotation

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::{
    domain::Keep,
    logs::rotation::{self, FileId, Found, Slot, Step, plan, recover},
};

use super::reaper::Reaper;

/// Access rights of files this makes, before the umask, as the original's.
pub(super) const FILE_MODE: u32 = 0o644;

/// Puts the current file aside and an empty one in its place.
pub(super) fn rotate(path: &Path, keep: &Keep, reaper: &mut Reaper) -> io::Result<()> {
    let files = rotation::row(|slot| identity(&slot.path(path)).is_some());
    plan(keep.max_files, &files).into_iter().try_for_each(|step| carry_out(path, step, reaper))
}

/// Finishes a rotation somebody began and did not live to finish.
pub(super) fn mend(path: &Path) -> io::Result<()> {
    recover(found(path))
        .into_iter()
        .try_for_each(|step| carry_out(path, step, &mut Reaper::default()))
}

/// Which file has this name, if any.
pub(super) fn identity(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|facts| id(&facts))
}

/// Which file these facts are about.
pub(super) fn id(facts: &fs::Metadata) -> FileId {
    FileId { device: facts.dev(), inode: facts.ino() }
}

fn carry_out(path: &Path, step: Step, reaper: &mut Reaper) -> io::Result<()> {
    match step {
        Step::Create => create_like(path, &Slot::Fresh.path(path)),
        Step::Remove(slot) => remove(&slot.path(path), reaper),
        Step::Rename(from, to) => fs::rename(from.path(path), to.path(path)),
        Step::Link(from, to) => link(&from.path(path), &to.path(path)),
    }
}

/// Creates an empty file with the rights the old one has.
fn create_like(old: &Path, new: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(new)?;
    match fs::metadata(old) {
        Ok(facts) => file.set_permissions(facts.permissions()),
        Err(_) => Ok(()),
    }
}

/// Removes the name at once and lets `reaper` free the space: for a large file that takes
/// milliseconds.
fn remove(path: &Path, reaper: &mut Reaper) -> io::Result<()> {
    let held = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    fs::remove_file(path)?;
    if let Ok(file) = held {
        reaper.drop_later(file);
    }
    Ok(())
}

/// Links, or renames where the file system has no hard links.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to).map_err(|error| (error.raw_os_error(), error)) {
        Ok(()) => Ok(()),
        Err((Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK), _)) => {
            fs::rename(from, to)
        }
        Err((_, error)) => Err(error),
    }
}

fn found(path: &Path) -> Found {
    Found {
        current: identity(path),
        first: identity(&Slot::Rotated(1).path(path)),
        fresh: identity(&Slot::Fresh.path(path)),
    }
}
