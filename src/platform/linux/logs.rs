//! The log pump: moves workers' output from their pipes to their files on a thread of its own.
//!
//! The bytes go by `splice(2)`: no byte is ever held here, so whoever dies, each is either in the
//! pipe or in the file, exactly once, and the file's size is all the state there is. A worker
//! whose file cannot be written waits; nothing is thrown away while it lives.
//!
//! Names, cuts and rotation order are decided in [`crate::logs`]; which worker's output goes
//! where, by the caller.

mod budget;
mod calendar;
mod census;
mod compose;
mod engine;
mod full;
mod mover;
mod outlet;
mod pace;
mod packer;
mod peek;
mod reaper;
mod row;
mod selector;
mod sink;
mod stage;
mod tally;
#[cfg(test)]
mod tests;
mod tidy;
mod times;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

use tokio::sync::oneshot;

use crate::{
    domain::{AppId, AppName, InstanceId, Keep, LogFiles, LogMode, LogSpec, OnFull, WorkerId},
    logs::{
        Stream,
        record::{Form, Label},
    },
    world::{Tidied, Tidying},
};

use census::Census;
use engine::Choice;
use mover::{Capture, Command, Mover};
use tally::Tally;
use tidy::TidyOrder;

pub use stage::{JOURNAL_KEY, STAGE_KEY, Stage};
pub use tally::Counters;

/// Commands that may wait for the pump: a thousand workers can start or end at once.
const COMMANDS_MAX: usize = 4096;

/// Pipes of ended workers that may wait for one file that cannot be written. The next one drops
/// the oldest, so a worker that crashes again and again beside a full disk costs bounded memory.
pub const STRANDED_MAX: usize = 8;

/// The size of a worker's pipe that bunpilot aims at: larger ones were measured not to help.
pub const PIPE_BYTES: usize = 256 << 10;

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The current file, absolute. Its folder is made if it is missing.
    pub path: PathBuf,
    /// The app whose output it is, for records that name it.
    pub app: AppName,
    /// What is written of each line.
    pub mode: LogMode,
    /// Whether other instances write to the file, if not now then later.
    pub files: LogFiles,
    /// When the file is rotated, and which rotated ones are kept.
    pub keep: Keep,
    /// What to do when there is no space left.
    pub on_full: OnFull,
    /// Size the pipe is widened to, as far as the machine allows; see [`PIPE_BYTES`].
    pub pipe_bytes: usize,
}

impl Target {
    /// Sends a stream of `app` to `path`, as the app's configuration has it.
    #[must_use]
    pub fn new(path: PathBuf, app: &AppName, logs: &LogSpec) -> Self {
        let LogSpec { mode, files, keep, on_full, .. } = *logs;
        Self { path, app: app.clone(), mode, files, keep, on_full, pipe_bytes: PIPE_BYTES }
    }
}

impl Target {
    /// What the lines of `stream` of `worker` are written as.
    fn form(&self, worker: WorkerId, stream: Stream) -> Option<Form> {
        match self.mode {
            // Of a worker whose output is off nothing comes here.
            LogMode::Raw | LogMode::Off => None,
            LogMode::Timestamps => Some(Form::Timestamps),
            LogMode::Json => Some(Form::Json(Label { app: self.app.clone(), worker, stream })),
        }
    }
}

/// What a pump needs from the start.
#[derive(Debug)]
pub struct Setup {
    /// Writes records exactly once; must be with the guard before the first stream is captured.
    pub stage: Stage,
    /// Folder of the indexes; made when it is needed.
    pub indexes: PathBuf,
}

/// What the pump reports, on its own thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PumpNotice {
    /// All this worker wrote to this stream is in its file.
    Closed(WorkerId, Stream),
    /// This file cannot be written, and here is why; those who write to it wait. Said once, until
    /// [`PumpNotice::Resumed`].
    Blocked {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// This file cannot be written, and here is why; output for it is thrown away, until
    /// [`PumpNotice::Resumed`]; see [`OnFull::Drop`].
    Dropping {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// This rotated file was removed to make room; see [`OnFull::Evict`].
    Evicted {
        /// The file.
        path: PathBuf,
    },
    /// The file is being written again, or nobody wants to write it any more.
    Resumed {
        /// The file.
        path: PathBuf,
        /// How long it could not be.
        after: Duration,
        /// How much was thrown away meanwhile.
        dropped_bytes: u64,
    },
    /// This file is full but cannot be rotated, and here is why; it grows on meanwhile. Said once,
    /// until a rotation works again.
    RotationFailed {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A full file of this row cannot be packed, and here is why; it stays as it is, and is tried
    /// again.
    PackingFailed {
        /// The current file of the row.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The last words of an ended worker were thrown away; see [`STRANDED_MAX`].
    Dropped {
        /// Whose.
        worker: WorkerId,
        /// Of which stream.
        stream: Stream,
        /// How many.
        bytes: u64,
    },
    /// The engine itself failed and the pump ended, and here is why. The bytes wait in their
    /// pipes for the next one.
    Broken(String),
}

/// How the pump's thread waits for output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A glommio executor on `io_uring(7)`.
    IoUring,
    /// `epoll(7)`, where `io_uring` is refused, as in Docker's default seccomp profile.
    Epoll,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Why the pump does not take a command.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The descriptor is not a pipe.
    #[error("cannot capture {stream} of worker {worker}: its descriptor is not a pipe")]
    NotAPipe {
        /// Whose.
        worker: WorkerId,
        /// Of which stream.
        stream: Stream,
    },
    /// Too many commands wait; try again once a [`PumpNotice`] came.
    #[error("the log pump is behind by {COMMANDS_MAX} commands; try again shortly")]
    Busy,
    /// The pump's thread ended; a [`PumpNotice::Broken`] said why.
    #[error("the log pump has ended")]
    Ended,
}

/// A handle on the pump's thread. Dropping it ends the thread as [`Pump::shutdown`] does, but
/// does not wait for that.
#[derive(Debug)]
pub struct Pump {
    commands: Option<SyncSender<Command>>,
    /// Wakes the thread. A pipe: an eventfd must not be watched by a ring that itself signals an
    /// eventfd, as the kernel refuses to nest those and (seen on Linux 6.18) loses the second one.
    bell: OwnedFd,
    /// By place: whoever fills it next counts on.
    tallies: BTreeMap<(InstanceId, Stream), Arc<Tally>>,
    census: Census,
    engine: Engine,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts the pump on the best engine this machine allows. `notices` runs on the pump's
    /// thread and must not block.
    ///
    /// # Errors
    ///
    /// When neither a thread nor descriptors can be had.
    pub fn start(setup: Setup, notices: impl Fn(PumpNotice) + Send + 'static) -> io::Result<Self> {
        Self::launch(Choice::Best, setup, Box::new(notices))
    }

    /// Starts the pump on `engine` or not at all.
    ///
    /// # Errors
    ///
    /// As for [`Pump::start`], and when `engine` is refused.
    pub fn start_on(
        engine: Engine,
        setup: Setup,
        notices: impl Fn(PumpNotice) + Send + 'static,
    ) -> io::Result<Self> {
        Self::launch(Choice::Only(engine), setup, Box::new(notices))
    }

    fn launch(
        choice: Choice,
        setup: Setup,
        tell: Box<dyn Fn(PumpNotice) + Send>,
    ) -> io::Result<Self> {
        let (commands, received) = sync_channel(COMMANDS_MAX);
        let (heard, bell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let census = Census::default();
        let bells = (heard, bell.try_clone()?);
        let mover = Mover::new(received, bells, setup, census.clone(), tell)?;
        let (started, outcome) = sync_channel(1);
        let thread = Builder::new()
            .name("logs".into())
            .spawn(move || engine::run(mover, choice, &started))?;
        let engine = outcome.recv().map_err(io::Error::other)??;
        let (commands, thread) = (Some(commands), Some(thread));
        Ok(Self { commands, bell, tallies: BTreeMap::new(), census, engine, thread })
    }

    /// Tells which engine runs.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Moves what `worker` writes to the pipe `reader` to `target` until the pipe ends or the
    /// worker is retired; then [`PumpNotice::Closed`] follows.
    ///
    /// The pipe's write end must be open already: a pipe without writers has ended. Several
    /// workers may share a file, which then holds whole lines of each; the limits of the latest
    /// count. Capturing the same stream of the same worker again replaces the pipe.
    ///
    /// # Errors
    ///
    /// See [`PumpError`]; `reader` is closed then.
    pub fn capture(
        &mut self,
        worker: WorkerId,
        stream: Stream,
        reader: OwnedFd,
        target: Target,
    ) -> Result<(), PumpError> {
        if !is_pipe(&reader) {
            return Err(PumpError::NotAPipe { worker, stream });
        }
        let tally = Arc::clone(self.tallies.entry((worker.instance, stream)).or_default());
        let capture = Capture { worker, stream, pipe: reader, target, tally };
        self.send(Command::Capture(Box::new(capture)))
    }

    /// Tells that `worker` is gone: what is left in its pipes is moved, then they are closed, even
    /// if somebody else still holds their write ends.
    ///
    /// # Errors
    ///
    /// See [`PumpError`].
    pub fn retire(&self, worker: WorkerId) -> Result<(), PumpError> {
        self.send(Command::Retire(worker))
    }

    /// Opens every file again by its name, as after an external `logrotate`. Without this call a
    /// renamed or removed file is noticed within a second of the next output.
    ///
    /// # Errors
    ///
    /// See [`PumpError`].
    pub fn reopen(&self) -> Result<(), PumpError> {
        self.send(Command::Reopen)
    }

    /// Empties or rotates files, whether or not somebody writes to them, and calls `done` on the
    /// pump's thread. Each is kept as stated, or as whoever writes to it has it.
    ///
    /// A file being written is emptied except for the beginning of a line that goes on, and
    /// rotated at the end of one: what comes later is kept, in whole lines.
    ///
    /// # Errors
    ///
    /// See [`PumpError`].
    pub fn tidy(
        &self,
        what: Tidying,
        rows: Vec<(PathBuf, Keep)>,
        done: impl FnOnce(Tidied) + Send + 'static,
    ) -> Result<(), PumpError> {
        let order = TidyOrder { what, rows, done: Box::new(done) };
        self.send(Command::Tidy(Box::new(order)))
    }

    /// Reads the counters of one stream of a place; `None` if it was never captured.
    #[must_use]
    pub fn counters(&self, instance: InstanceId, stream: Stream) -> Option<Counters> {
        self.tallies.get(&(instance, stream)).map(|tally| tally.read())
    }

    /// Has the lines counted that were written and not counted yet, on a thread of its own; says
    /// when it is done. `None` if there are none.
    #[must_use]
    pub fn recount(&self) -> Option<oneshot::Receiver<()>> {
        let asked = self.tallies.values().filter(|tally| self.census.ask(tally)).count();
        (asked > 0).then(|| self.census.done())
    }

    /// Reads the counters of every place of which a stream was ever captured.
    pub fn places(&self) -> Vec<(InstanceId, [Option<Counters>; 2])> {
        let mut places: Vec<InstanceId> = self.tallies.keys().map(|(place, _)| *place).collect();
        places.dedup();
        let of = |place| Stream::BOTH.map(|stream| self.counters(place, stream));
        places.into_iter().map(|place| (place, of(place))).collect()
    }

    /// Forgets the counters of an app that is no more.
    pub fn forget(&mut self, app: AppId) {
        self.tallies.retain(|(place, _), _| place.app != app);
    }

    /// Moves what waits in the pipes now, then ends the thread and waits for that. Pipes that are
    /// still written to keep what comes later for whoever reads them next.
    pub fn shutdown(mut self) {
        self.hang_up();
        if let Some(thread) = self.thread.take() {
            // A panic of the pump has already been reported by the panic hook.
            drop(thread.join());
        }
    }

    fn send(&self, command: Command) -> Result<(), PumpError> {
        let commands = self.commands.as_ref().ok_or(PumpError::Ended)?;
        commands.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(_) => PumpError::Busy,
            TrySendError::Disconnected(_) => PumpError::Ended,
        })?;
        self.ring();
        Ok(())
    }

    fn hang_up(&mut self) {
        self.commands = None;
        self.ring();
    }

    /// Wakes the pump. A bell too full to be rung again has been rung.
    fn ring(&self) {
        let rung = rustix::io::write(&self.bell, b"!");
        debug_assert!(matches!(rung, Ok(_) | Err(Errno::AGAIN | Errno::PIPE)), "{rung:?}");
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn is_pipe(fd: &OwnedFd) -> bool {
    let facts = fd.try_clone().map(fs::File::from).and_then(|file| file.metadata());
    facts.is_ok_and(|facts| facts.file_type().is_fifo())
}
