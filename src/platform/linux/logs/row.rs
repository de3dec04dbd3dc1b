//! The names of the files that keep one stream: carries out what [`rotation`] plans and
//! [`retention`] decides.
//!
//! Only the pump's thread changes names. Decides nothing, and reads no more of a file than its end
//! or its head.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    packer::{Job, Parcel},
    reaper::Reaper,
    tidy::Rotated,
};
use crate::{
    domain::{Keep, Syncing},
    logs::{
        cut::whole_lines,
        packed::{self, HEAD_BYTES},
        retention::{self, Kept},
        rotation::{self, FileId, Found, Slot, Step},
    },
};

/// Access rights of files this makes, before the umask, as the original's.
pub(super) const FILE_MODE: u32 = 0o644;

/// Bytes looked at in a step on the way back to the last end of a line.
const LOOK_BACK: u64 = 1 << 16;

/// The files of one stream, whichever of them exist.
#[derive(Clone, Debug)]
pub(super) struct Row {
    path: PathBuf,
    pub(super) keep: Keep,
}

/// What becomes of a half line at the end of a file that is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HalfLine {
    /// It stays: somebody is writing the rest.
    Stays,
    /// It goes: nobody is.
    Goes,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Row {
    pub(super) const fn new(path: PathBuf, keep: Keep) -> Self {
        Self { path, keep }
    }

    /// The current file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the current file aside and an empty one in its place.
    pub(super) fn rotate(&self, reaper: &mut Reaper) -> io::Result<()> {
        let syncs = self.keep.syncing == Syncing::Rotated;
        let full = if syncs { open(&self.path).ok() } else { None };
        for step in rotation::plan(self.keep.max_files, &self.files()) {
            self.carry_out(step, reaper)?;
        }
        if let Some(full) = full {
            reaper.sync_later(full);
        }
        Ok(())
    }

    /// Finishes a rotation somebody began and did not live to finish.
    pub(super) fn mend(&self) -> io::Result<()> {
        let found = Found {
            current: identity(&self.path),
            first: identity(&Slot::Rotated(1).path(&self.path)),
            fresh: identity(&Slot::Fresh.path(&self.path)),
        };
        let mut steps = rotation::recover(found).into_iter();
        steps.try_for_each(|step| self.carry_out(step, &mut Reaper::default()))
    }

    /// Brings the full files to what they should be: clears away what a death left, has the next
    /// one packed, and removes those that are no longer kept.
    pub(super) fn tend(&self, reaper: &mut Reaper, now_unix_micros: u64) {
        if let Err(error) = self.try_to_tend(reaper, now_unix_micros) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "full log files cannot be packed or removed");
        }
    }

    fn try_to_tend(&self, reaper: &mut Reaper, now_unix_micros: u64) -> io::Result<()> {
        let files = self.files();
        if reaper.packs(self).is_none() {
            let steps = rotation::leavings(
                &files,
                |slot| identity(&slot.path(&self.path)).is_some(),
                |plain, packed| self.is_same(plain, packed),
            );
            for step in steps {
                self.carry_out(step, reaper)?;
            }
            if let Some(how) = self.keep.compression
                && let Some(number) = rotation::unpacked(&files)
            {
                reaper.pack(self, number, how);
            }
        }
        if self.keep.max_age.is_none() && self.keep.max_total_bytes.is_none() {
            return Ok(());
        }
        let packing = reaper.packs(self);
        let kept: Vec<Kept> = files.iter().filter_map(|slot| self.kept(*slot, packing)).collect();
        // The oldest first: whoever dies here leaves no gap, at which a row would end.
        for slot in retention::surplus(&self.keep, &kept, now_unix_micros).into_iter().rev() {
            self.carry_out(Step::Remove(slot), reaper)?;
        }
        Ok(())
    }

    /// Puts a packed file in the place of the plain one, wherever that is by now. If it is nowhere
    /// any more, so is its copy.
    pub(super) fn adopt(&self, parcel: Parcel, reaper: &mut Reaper) -> io::Result<()> {
        let Parcel { job: Job { plain, how, .. }, outcome } = parcel;
        let origin = plain.metadata()?;
        let made = match outcome {
            // Removed while it was packed: nobody wants that any more.
            Err(_) if origin.nlink() == 0 => return Ok(()),
            made => made?,
        };
        let packing = Slot::Packing(how);
        if identity(&packing.path(&self.path)) != Some(made) {
            // Somebody took it away.
            reaper.forget_index(made);
            return Ok(());
        }
        let origin = id(&origin);
        let files = self.files();
        let plain = files.iter().find_map(|slot| match slot {
            Slot::Rotated(number) if identity(&slot.path(&self.path)) == Some(origin) => {
                Some(*number)
            }
            Slot::Rotated(_)
            | Slot::Packed(..)
            | Slot::Packing(_)
            | Slot::Current
            | Slot::Fresh => None,
        });
        let Some(number) = plain.filter(|it| !files.contains(&Slot::Packed(*it, how))) else {
            return self.carry_out(Step::Remove(packing), reaper);
        };
        let mut steps = rotation::adopt(number, how).into_iter();
        steps.try_for_each(|step| self.carry_out(step, reaper))
    }

    /// Empties the current file and removes all others. What is written later is kept, and so is
    /// the beginning of a line that goes on.
    pub(super) fn flush(&self, half: HalfLine, reaper: &mut Reaper) -> io::Result<Removed> {
        self.mend()?;
        let mut removed = Removed::default();
        for slot in self.on_disk()? {
            let path = slot.path(&self.path);
            // What is being packed is let go of once that is over: its origin is gone.
            if slot.number().is_some() {
                removed.count(fs::metadata(&path)?.len());
                self.carry_out(Step::Remove(slot), reaper)?;
            }
        }
        removed.add(self.empty(half, reaper)?);
        Ok(removed)
    }

    /// Rotates a file nobody writes to.
    pub(super) fn rotate_if_filled(
        &self,
        reaper: &mut Reaper,
        now_unix_micros: u64,
    ) -> io::Result<Rotated> {
        self.mend()?;
        match self.open_file(Slot::Current)? {
            Some(file) if file.metadata()?.len() > 0 => self.rotate(reaper)?,
            Some(_) | None => return Ok(Rotated::NotAtAll),
        }
        self.tend(reaper, now_unix_micros);
        Ok(Rotated::Now)
    }

    /// Puts an empty file in the place of the current one; of that, a half line may be left.
    fn empty(&self, half: HalfLine, reaper: &mut Reaper) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let Some(mut old) = self.open_file(Slot::Current)? else { return Ok(removed) };
        let size = old.metadata()?.len();
        let from = match half {
            HalfLine::Stays => last_line(&old, size)?,
            HalfLine::Goes => size,
        };
        if from == 0 {
            return Ok(removed);
        }
        removed.count(from);
        let fresh = Slot::Fresh.path(&self.path);
        let moved = self.carry_out(Step::Create, reaper).and_then(|()| {
            old.seek(SeekFrom::Start(from))?;
            let mut new = OpenOptions::new().append(true).open(&fresh)?;
            io::copy(&mut old.take(size - from), &mut new)?;
            self.replace(Slot::Fresh, reaper)
        });
        if moved.is_err() && from == size {
            // Without space for a file, there is one already.
            drop(fs::remove_file(&fresh));
            OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
            return Ok(removed);
        }
        moved.map(|()| removed)
    }

    /// Gives the file in `slot` the current name, and lets go of the one that has it.
    fn replace(&self, slot: Slot, reaper: &mut Reaper) -> io::Result<()> {
        let old = open(&self.path);
        self.carry_out(Step::Rename(slot, Slot::Current), reaper)?;
        if let Ok(file) = old {
            release(file, reaper);
        }
        Ok(())
    }

    /// The full files, up to the first free number.
    fn files(&self) -> Vec<Slot> {
        rotation::row(|slot| identity(&slot.path(&self.path)).is_some())
    }

    /// All files of this row, also those beyond a free number.
    fn on_disk(&self) -> io::Result<Vec<Slot>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut slots = Vec::new();
        for entry in entries {
            slots.extend(Slot::identify(name, &entry?.file_name()));
        }
        Ok(slots)
    }

    /// The regular file in `slot`, if there is one.
    fn open_file(&self, slot: Slot) -> io::Result<Option<File>> {
        match open(&slot.path(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        }
    }

    fn kept(&self, slot: Slot, packing: Option<FileId>) -> Option<Kept> {
        let facts = fs::metadata(slot.path(&self.path)).ok()?;
        let is_packing = packing == Some(id(&facts));
        let bytes = if is_packing { 0 } else { facts.len() };
        Some(Kept { slot, bytes, written_unix_micros: unix_micros(facts.modified()) })
    }

    /// Whether the file in `packed` was made from the one in `plain`.
    fn is_same(&self, plain: Slot, packed: Slot) -> bool {
        let Slot::Packed(_, how) = packed else { return false };
        let same = || -> io::Result<bool> {
            let facts = fs::metadata(plain.path(&self.path))?;
            let file = open(&packed.path(&self.path))?;
            // Numbers of files are used again; who packs a file gives it the same time.
            let as_old = file.metadata()?.modified()? == facts.modified()?;
            let mut head = [0; HEAD_BYTES];
            let len = file.read_at(&mut head, 0)?;
            Ok(as_old && packed::origin(&head[..len], how) == Some(id(&facts)))
        };
        same().unwrap_or(false)
    }

    fn carry_out(&self, step: Step, reaper: &mut Reaper) -> io::Result<()> {
        let at = |slot: Slot| slot.path(&self.path);
        match step {
            Step::Create => create_like(&self.path, &at(Slot::Fresh)),
            Step::Remove(slot) => remove(&at(slot), reaper),
            Step::Rename(from, to) => fs::rename(at(from), at(to)),
            Step::Link(from, to) => link(&at(from), &at(to)),
        }
    }
}

impl Removed {
    const fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    pub(super) const fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

/// Opens a file to look at it. Never waits: it may be a pipe or a terminal.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Which file has this name, if any.
pub(super) fn identity(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|facts| id(&facts))
}

/// Which file these facts are about.
pub(super) fn id(facts: &fs::Metadata) -> FileId {
    FileId { device: facts.dev(), inode: facts.ino() }
}

/// When a file was created, in microseconds since the Unix epoch; 0 if nobody knows.
pub(super) fn born_unix_micros(facts: &fs::Metadata) -> u64 {
    unix_micros(facts.created())
}

/// When a file got its first byte, as far as that can be told: when it was created, else when it
/// was last written.
pub(super) fn begun_unix_micros(facts: &fs::Metadata) -> u64 {
    unix_micros(facts.created().or_else(|_unknown| facts.modified()))
}

fn unix_micros(time: io::Result<SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_micros()).ok()).unwrap_or(0)
}

/// Where the line begins that the first `size` bytes of `file` end within; `size` if they end with
/// a whole one.
fn last_line(file: &File, size: u64) -> io::Result<u64> {
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(LOOK_BACK);
        let mut block = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut block, start)?;
        let whole = whole_lines(&block);
        if whole > 0 {
            return Ok(start + u64::try_from(whole).map_err(io::Error::other)?);
        }
        end = start;
    }
    Ok(0)
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
/// milliseconds. It may be gone already.
fn remove(path: &Path, reaper: &mut Reaper) -> io::Result<()> {
    let held = open(path);
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    if let Ok(file) = held {
        release(file, reaper);
    }
    Ok(())
}

/// Lets go of a file that has lost its name.
fn release(file: File, reaper: &mut Reaper) {
    if let Ok(facts) = file.metadata() {
        reaper.forget_index(id(&facts));
    }
    reaper.drop_later(file);
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
