//! Writes what is made of a worker's bytes, rather than the bytes, exactly once whoever dies.
//!
//! Between writing a batch to the file and taking it out of the worker's pipe the daemon may die.
//! So the bytes leave the worker's pipe for a pipe of ours, by `splice(2)`, after their records are
//! written; only then are they thrown away. A journal of one word and one position, in memory that
//! like the pipe is kept by the guard, tells the next daemon where a batch began:
//!
//! 1. *writing*: the file is cut back to where it was. What is in our pipe was taken already and
//!    is written first, what is in the worker's pipe is still there.
//! 2. *written*: what is in our pipe is thrown away.
//!
//! One batch is under way at a time, so one pipe and one journal serve all streams.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    num::{NonZeroU16, NonZeroU64},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, OpenOptionsExt as _},
        },
    },
    path::PathBuf,
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
};

use super::{
    super::clock::unix_micros,
    peek::{Peek, Seen},
    sink::Sink,
};
use crate::{
    domain::{Keep, Moment, WorkerId},
    logs::{
        Stream,
        record::{Form, Label, Tail, time},
        rotation::FileId,
    },
};

/// Name of the pipe among the things the guard keeps.
pub const STAGE_KEY: &str = "log-stage";

/// Name of the journal among the things the guard keeps.
pub const JOURNAL_KEY: &str = "log-journal";

/// Bytes of the journal before the description of the batch.
const HEADER_BYTES: usize = 48;

/// Longest description of a batch: a path (`PATH_MAX`) and some names.
const DESCRIPTION_BYTES_MAX: usize = 8192;

/// The pipe and the journal. What the guard has of it outlives the daemon.
#[derive(Debug)]
pub struct Stage {
    pipe: OwnedFd,
    journal: File,
    null: File,
    capacity: usize,
    /// The batch the journal describes, whatever its state.
    described: Vec<u8>,
    /// A batch of an earlier daemon whose file cannot be written.
    left_over: Option<Batch>,
}

/// Where a batch belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    path: PathBuf,
    form: Form,
    tail: Tail,
    file: FileId,
    offset: u64,
}

/// What is to be written, and instead of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    /// How many bytes of the worker it was made of.
    pub(super) taken: usize,
    pub(super) bytes: &'a [u8],
    pub(super) form: &'a Form,
    pub(super) tail: Tail,
}

/// What the journal calls [`Form::Timestamps`].
const TIMESTAMPS: &str = "timestamps";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Writing,
    Written,
}

impl Stage {
    /// Makes a pipe and a journal.
    ///
    /// # Errors
    ///
    /// When descriptors or memory cannot be had.
    pub fn new() -> io::Result<Self> {
        let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Opened for both directions, one descriptor is all of the pipe.
        let both = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", reader.as_raw_fd()))?;
        let journal = memfd_create("bunpilot-log-journal", MemfdFlags::CLOEXEC)?;
        Self::kept(both.into(), journal)
    }

    /// Takes over what an earlier daemon left with the guard.
    ///
    /// # Errors
    ///
    /// When the descriptors are not what they should be.
    pub fn kept(pipe: OwnedFd, journal: OwnedFd) -> io::Result<Self> {
        let capacity = fcntl_getpipe_size(&pipe)?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        let (described, left_over) = (Vec::new(), None);
        Ok(Self { pipe, journal: journal.into(), null, capacity, described, left_over })
    }

    /// What the guard is to keep, under which names.
    #[must_use]
    pub fn keepsakes(&self) -> [(&'static str, BorrowedFd<'_>); 2] {
        [(STAGE_KEY, self.pipe.as_fd()), (JOURNAL_KEY, self.journal.as_fd())]
    }

    /// Grows the pipe so that a batch of `capacity` bytes fits, as far as that is allowed; returns
    /// what fits.
    pub(super) fn fit(&mut self, capacity: usize) -> usize {
        if capacity > self.capacity
            && let Ok(granted) = fcntl_setpipe_size(&self.pipe, capacity)
        {
            self.capacity = granted;
        }
        self.capacity
    }

    /// Whether a batch of an earlier daemon still waits for its file.
    pub(super) fn is_taken(&self) -> bool {
        self.left_over.is_some()
    }

    /// Writes `records` to the end of `sink`'s file and takes the bytes they were made of out of
    /// `source`. On failure neither happened.
    ///
    /// Those bytes must be within the last look at `source`, through a pipe no larger than ours.
    pub(super) fn commit(
        &mut self,
        source: BorrowedFd<'_>,
        records: &Records<'_>,
        sink: &mut Sink,
    ) -> io::Result<()> {
        let Records { taken, bytes, form, tail } = *records;
        if let Some((file, offset)) = sink.position() {
            let (path, form) = (sink.path().to_owned(), form.clone());
            self.describe(&Batch { path, form, tail, file, offset })?;
        } // Else a terminal or the like: nothing there could be cut back.
        if let Err(error) = sink.append(bytes) {
            self.mark(Phase::Idle)?;
            return Err(error);
        }
        let mut left = taken;
        while left > 0 {
            left -= splice_some(source, self.pipe.as_fd(), left)?;
        }
        self.mark(Phase::Written)?;
        self.drain()
    }

    /// Throws away what waits in `pipe`, up to `len` bytes, and counts it.
    pub(super) fn discard(&self, pipe: BorrowedFd<'_>, len: usize) -> io::Result<u64> {
        let dropped = splice_some(pipe, self.null.as_fd(), len)?;
        Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
    }

    fn drain(&self) -> io::Result<()> {
        loop {
            match self.discard(self.pipe.as_fd(), self.capacity.max(1)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn describe(&mut self, batch: &Batch) -> io::Result<()> {
        let description = description(batch);
        if description != self.described {
            self.mark(Phase::Idle)?;
            let at = u64::try_from(HEADER_BYTES).unwrap_or(0);
            self.journal.write_all_at(&description, at)?;
            self.described = description;
        }
        let words = [
            word(Phase::Writing),
            batch.offset,
            batch.file.device,
            batch.file.inode,
            u64::from(batch.tail == Tail::Last),
            u64::try_from(self.described.len()).unwrap_or(0),
        ];
        self.journal.write_all_at(&words.map(u64::to_le_bytes).concat(), 0)
    }

    fn mark(&self, phase: Phase) -> io::Result<()> {
        self.journal.write_all_at(&word(phase).to_le_bytes(), 0)
    }

    /// Finishes what an earlier daemon began. Until it can, [`Stage::is_taken`].
    ///
    /// # Errors
    ///
    /// When the batch's file cannot be written; call again.
    pub(super) fn recover(&mut self, peek: &mut Peek, now: Moment) -> io::Result<()> {
        if self.left_over.is_none() {
            self.left_over = self.read()?;
        }
        let Some(batch) = &self.left_over else { return self.drain() };
        let mut sink = Sink::new(batch.path.clone(), Keep::new(NonZeroU64::MAX, NonZeroU16::MAX));
        sink.prepare(now)?;
        sink.cut_back(batch.file, batch.offset)?;
        peek.fit(self.capacity);
        if let Seen::Bytes(seen) = peek.look(self.pipe.as_fd(), self.capacity)? {
            let mut records = Vec::new();
            let (before, time) = (sink.before()?, time(unix_micros()));
            batch.form.transcribe(seen, before, u64::MAX, batch.tail, &time, &mut records);
            sink.append(&records)?;
        }
        self.mark(Phase::Written)?;
        self.left_over = None;
        self.drain()
    }

    /// The batch under way when the journal was last written.
    fn read(&self) -> io::Result<Option<Batch>> {
        let mut bytes = vec![0; HEADER_BYTES + DESCRIPTION_BYTES_MAX];
        let len = self.journal.read_at(&mut bytes, 0)?;
        bytes.truncate(len);
        Ok(read(&bytes))
    }
}

fn splice_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    loop {
        match splice(from, None, to, None, len, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => return Ok(moved),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

const fn word(phase: Phase) -> u64 {
    match phase {
        Phase::Idle => 0,
        Phase::Writing => 1,
        Phase::Written => 2,
    }
}

/// The parts of a batch that rarely change, each after the other, ended by NUL.
fn description(batch: &Batch) -> Vec<u8> {
    let label = match &batch.form {
        Form::Plain => vec![],
        Form::Timestamps => vec![TIMESTAMPS.to_owned()],
        Form::Json(Label { app, worker, stream }) => {
            vec![app.to_string(), worker.to_string(), stream.to_string()]
        }
    };
    let mut bytes = batch.path.as_os_str().as_bytes().to_vec();
    for part in label {
        bytes.push(0);
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn read(journal: &[u8]) -> Option<Batch> {
    let (words, rest) = journal.split_at_checked(HEADER_BYTES)?;
    let (words, _) = words.as_chunks();
    let &[phase, offset, device, inode, last, len] = words else { return None };
    if u64::from_le_bytes(phase) != word(Phase::Writing) {
        return None;
    }
    let description = rest.get(..usize::try_from(u64::from_le_bytes(len)).ok()?)?;
    let parts: Vec<&[u8]> = description.split(|byte| *byte == 0).collect();
    let (path, form) = match parts[..] {
        [path] => (path, Form::Plain),
        [path, form] if form == TIMESTAMPS.as_bytes() => (path, Form::Timestamps),
        [path, app, worker, stream] => {
            let app = str::from_utf8(app).ok()?.parse().ok()?;
            let worker: WorkerId = str::from_utf8(worker).ok()?.parse().ok()?;
            let stream = Stream::BOTH.into_iter().find(|it| it.name().as_bytes() == stream)?;
            (path, Form::Json(Label { app, worker, stream }))
        }
        _ => return None,
    };
    let path = PathBuf::from(OsStr::from_bytes(path));
    let tail = if u64::from_le_bytes(last) == 1 { Tail::Last } else { Tail::More };
    let file = FileId { device: u64::from_le_bytes(device), inode: u64::from_le_bytes(inode) };
    Some(Batch { path, form, tail, file, offset: u64::from_le_bytes(offset) })
}

#[cfg(test)]
mod tests;
