//! One file that output goes to: opens it, notices what others do to it, and has it rotated.
//!
//! Never decides which pipe may write next, and never changes a name: that is [`row`]'s.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::BorrowedFd,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use rustix::{
    io::Errno,
    pipe::{SpliceFlags, splice},
};

use crate::{
    domain::{Keep, Moment},
    logs::{cut::Before, rotation::FileId},
};

use super::{
    reaper::Reaper,
    row::{self, FILE_MODE, id, identity},
};

/// Longest time until a file that somebody renamed or removed is noticed.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Rest after a rotation that failed; until then the file grows past its limit.
const ROTATE_AGAIN: Duration = Duration::from_secs(1);

/// What came of one splice.
#[derive(Debug)]
pub(super) enum Moved {
    /// So many bytes are in the file now, at least one.
    Bytes(usize),
    /// The pipe is empty.
    Empty,
    /// The pipe is empty and nobody is left to fill it.
    Ended,
    /// The file cannot be written; the bytes are still in the pipe.
    Stuck(io::Error),
}

/// A file being written, with the full ones beside it.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    keep: Keep,
    open: Option<Open>,
    look_around_at: Moment,
    rotate_not_before: Moment,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    id: FileId,
    /// Where the next byte goes; `None` for what has no size: a terminal, `/dev/null`. Such a
    /// thing is never rotated.
    size_bytes: Option<u64>,
}

impl Sink {
    pub(super) fn new(path: PathBuf, keep: Keep) -> Self {
        let start = Moment::START;
        Self { path, keep, open: None, look_around_at: start, rotate_not_before: start }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Opens the file again before the next byte, whatever it is called by then.
    pub(super) fn reopen(&mut self) {
        self.open = None;
    }

    /// Makes sure the file under our name is open and the next byte goes to its end.
    ///
    /// Costs one `fstat(2)`, and a second look at the name once per [`LOOK_AROUND`].
    pub(super) fn prepare(&mut self, now: Moment) -> io::Result<()> {
        if self.is_lost(now)? {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(open(&self.path)?);
            self.look_around_at = now.after(LOOK_AROUND);
        }
        Ok(())
    }

    /// Whether the open file is no longer the one under our name. Follows its size on the way:
    /// others may truncate it or append to it.
    fn is_lost(&mut self, now: Moment) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let Some(size_bytes) = &mut open.size_bytes else { return Ok(false) };
        let facts = open.file.metadata()?;
        *size_bytes = facts.len();
        if facts.nlink() == 0 {
            return Ok(true);
        }
        if now < self.look_around_at {
            return Ok(false);
        }
        self.look_around_at = now.after(LOOK_AROUND);
        Ok(identity(&self.path) != Some(open.id))
    }

    /// Whether this is a terminal or the like, which may take nothing for a while.
    pub(super) fn is_device(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.size_bytes.is_none())
    }

    /// Bytes the file may still take.
    pub(super) fn room_bytes(&self, now: Moment) -> u64 {
        match self.open.as_ref().and_then(|open| open.size_bytes) {
            Some(size) if now >= self.rotate_not_before => {
                self.keep.max_size_bytes.get().saturating_sub(size)
            }
            Some(_) | None => u64::MAX,
        }
    }

    /// How the file ends.
    pub(super) fn before(&self) -> io::Result<Before> {
        let Some(Open { file, size_bytes: Some(size), .. }) = &self.open else {
            return Ok(Before::Nothing);
        };
        let Some(last) = size.checked_sub(1) else { return Ok(Before::Nothing) };
        let mut byte = [0];
        file.read_exact_at(&mut byte, last)?;
        Ok(if byte == *b"\n" { Before::WholeLine } else { Before::HalfLine })
    }

    /// Which file is open and where its next byte goes; `None` for what has no size.
    pub(super) fn position(&self) -> Option<(FileId, u64)> {
        let open = self.open.as_ref()?;
        Some((open.id, open.size_bytes?))
    }

    /// The open file and where its next byte goes; `None` for what has no size.
    pub(super) fn end(&self) -> Option<(&Arc<File>, u64)> {
        let open = self.open.as_ref()?;
        Some((&open.file, open.size_bytes?))
    }

    /// When the open file was created, in microseconds since the Unix epoch; 0 if nobody knows.
    pub(super) fn born_unix_micros(&self) -> u64 {
        let facts = self.open.as_ref().and_then(|open| open.file.metadata().ok());
        let born = facts.and_then(|facts| facts.created().ok());
        let since = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        since.and_then(|since| u64::try_from(since.as_micros()).ok()).unwrap_or(0)
    }

    /// Writes `bytes` to the end of the file: all of them, or none and an error.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(Open { file, size_bytes, .. }) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Some(size) = size_bytes else { return file.write_all(bytes) };
        if let Err(error) = file.write_all_at(bytes, *size) {
            file.set_len(*size)?;
            return Err(error);
        }
        *size += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(())
    }

    /// Takes back what was written to `file`, if that is still the open one, after `offset`.
    pub(super) fn cut_back(&mut self, file: FileId, offset: u64) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && open.id == file
            && let Some(size) = &mut open.size_bytes
            && *size > offset
        {
            open.file.set_len(offset)?;
            *size = offset;
        }
        Ok(())
    }

    /// Moves up to `len_max` bytes from `pipe` to the end of the file, without copying them and
    /// without ever holding them: whoever dies here, each byte is in the pipe or in the file.
    pub(super) fn splice(&mut self, pipe: BorrowedFd<'_>, len_max: usize) -> Moved {
        let Some(Open { file, size_bytes, .. }) = &mut self.open else {
            return Moved::Stuck(io::ErrorKind::NotFound.into());
        };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            return match splice(pipe, None, &*file, size_bytes.as_mut(), len_max, flags) {
                Ok(0) => Moved::Ended,
                Ok(moved) => Moved::Bytes(moved),
                Err(Errno::AGAIN) => Moved::Empty,
                Err(Errno::INTR) => continue,
                Err(error) => Moved::Stuck(error.into()),
            };
        }
    }

    /// Puts the full file aside and opens a new one. On failure nothing is lost and the old file
    /// goes on; [`Sink::room_bytes`] is unlimited until it is time to try again.
    pub(super) fn rotate(&mut self, now: Moment, reaper: &mut Reaper) -> io::Result<()> {
        if self.open.as_ref().map(|open| open.id) != identity(&self.path) {
            self.open = None;
            return self.prepare(now);
        }
        let rotated = row::rotate(&self.path, &self.keep, reaper);
        match rotated.and_then(|()| open(&self.path)) {
            Ok(fresh) => self.open = Some(fresh),
            Err(error) => {
                self.open = None;
                self.rotate_not_before = now.after(ROTATE_AGAIN);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Opens the file to append to, with its folder, after a rotation cut short was finished.
fn open(path: &Path) -> io::Result<Open> {
    row::mend(path)?;
    let file = match open_or_create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open_or_create(path)?
        }
        opened => opened?,
    };
    let facts = file.metadata()?;
    let size_bytes = facts.is_file().then_some(facts.len());
    Ok(Open { file: Arc::new(file), id: id(&facts), size_bytes })
}

fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
}
