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
    time::Duration,
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
    super::clock::unix_micros,
    calendar,
    reaper::Reaper,
    row::{self, FILE_MODE, Row, id, identity},
};

/// Longest time until a file that somebody renamed or removed is noticed.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Longest time between two looks at files that are kept by time, or are to be packed: the clock on
/// the wall may be set, a packer that was too busy may be free.
const CHORES_AGAIN: Duration = Duration::from_mins(1);

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
    row: Row,
    open: Option<Open>,
    look_around_at: Moment,
    rotate_not_before: Moment,
    /// When the period of the open file ends, as far as the clocks are to be believed.
    period_ends: Option<Moment>,
    /// Somebody wants the file rotated now.
    asked: Asked,
    /// When [`Sink::keep_house`] is due.
    chores_due: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    ToRotate,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    id: FileId,
    /// Where the next byte goes; `None` for what has no size: a terminal, `/dev/null`. Such a
    /// thing is never rotated.
    size_bytes: Option<u64>,
    /// When its first byte came, in microseconds since the Unix epoch.
    begun_unix_micros: u64,
}

impl Sink {
    pub(super) fn new(path: PathBuf, keep: Keep) -> Self {
        Self {
            row: Row::new(path, keep),
            open: None,
            look_around_at: Moment::START,
            rotate_not_before: Moment::START,
            period_ends: None,
            asked: Asked::No,
            chores_due: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.row.path()
    }

    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    pub(super) fn keep(&mut self, keep: Keep) {
        self.row.keep = keep;
        self.period_ends = None;
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
            self.open = Some(open(&self.row)?);
            self.look_around_at = now.after(LOOK_AROUND);
            self.period_ends = None;
        }
        self.reckon(now);
        Ok(())
    }

    /// Finds out when the period of the open file ends. While it is empty, that may begin any
    /// moment.
    fn reckon(&mut self, now: Moment) {
        let Some(every) = self.row.keep.every else { return };
        let Some(Open { size_bytes: Some(size), begun_unix_micros, .. }) = &mut self.open else {
            return;
        };
        if *size == 0 {
            *begun_unix_micros = unix_micros();
        } else if self.period_ends.is_some() {
            return;
        }
        let ends = calendar::end(every, *begun_unix_micros, now);
        self.period_ends = Some(ends);
        self.chores_due = self.chores_due.map(|due| due.min(ends));
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
        Ok(identity(self.row.path()) != Some(open.id))
    }

    /// Whether this is a terminal or the like, which may take nothing for a while.
    pub(super) fn is_device(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.size_bytes.is_none())
    }

    /// Bytes the file may still take.
    pub(super) fn room_bytes(&self, now: Moment) -> u64 {
        match self.open.as_ref().and_then(|open| open.size_bytes) {
            Some(1..) if self.is_due(now) => 0,
            Some(size) if now >= self.rotate_not_before => {
                self.row.keep.max_size_bytes.get().saturating_sub(size)
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
        Ok(Before::after(Some(byte[0])))
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
        facts.as_ref().map_or(0, row::born_unix_micros)
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
        if self.open.as_ref().map(|open| open.id) != identity(self.row.path()) {
            self.open = None;
            return self.prepare(now);
        }
        let rotated = self.row.rotate(reaper);
        match rotated.and_then(|()| open(&self.row)) {
            Ok(fresh) => self.open = Some(fresh),
            Err(error) => {
                self.open = None;
                self.rotate_not_before = now.after(ROTATE_AGAIN);
                return Err(error);
            }
        }
        self.asked = Asked::No;
        self.reckon(now);
        self.row.tend(reaper, unix_micros());
        Ok(())
    }

    /// Wants the file rotated now, or at the end of the line that is being written.
    pub(super) fn ask_to_rotate(&mut self) {
        self.asked = Asked::ToRotate;
    }

    /// Whether the file is to be rotated whatever its size. An empty one never is.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let over = self.period_ends.is_some_and(|ends| ends <= now);
        (over || self.asked == Asked::ToRotate) && now >= self.rotate_not_before
    }

    /// Asks to be called at [`Sink::keep_house`].
    pub(super) fn soon_keep_house(&mut self, now: Moment) {
        self.chores_due = Some(now);
    }

    /// When [`Sink::keep_house`] is to be called next, if ever.
    pub(super) fn chores_due(&self) -> Option<Moment> {
        self.chores_due
    }

    /// Does what is to be done though nobody writes: rotates a file whose period is over, unless a
    /// line is being written, and looks after the full files.
    pub(super) fn keep_house(&mut self, now: Moment, reaper: &mut Reaper) -> io::Result<()> {
        let keep = self.row.keep;
        let recurs = keep.every.is_some() || keep.max_age.is_some() || keep.compression.is_some();
        let again = recurs.then(|| now.after(CHORES_AGAIN));
        self.chores_due = again;
        if keep.every.is_some() && identity(self.row.path()).is_some() {
            // The clock on the wall may have been set meanwhile.
            self.period_ends = None;
            let prepared = self.prepare(now);
            // A period that is over ends with the line that is being written.
            let ends = self.period_ends.filter(|ends| *ends > now);
            self.chores_due = again.into_iter().chain(ends).min();
            prepared?;
        }
        if self.is_due(now) && self.before()? == Before::WholeLine {
            return self.rotate(now, reaper);
        }
        self.row.tend(reaper, unix_micros());
        Ok(())
    }
}

/// Opens the file to append to, with its folder, after a rotation cut short was finished.
fn open(row: &Row) -> io::Result<Open> {
    row.mend()?;
    let path = row.path();
    let file = match open_or_create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open_or_create(path)?
        }
        opened => opened?,
    };
    let facts = file.metadata()?;
    let size_bytes = facts.is_file().then_some(facts.len());
    let begun_unix_micros = row::begun_unix_micros(&facts);
    Ok(Open { file: Arc::new(file), id: id(&facts), size_bytes, begun_unix_micros })
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
