//! The verbs: all the daemon may do to the outside ([`Action`]) and learn from it ([`Event`]).
//!
//! Quiet: no I/O, no clock, no threads. [`World`] is the one door; Linux, macOS and the simulator
//! each hang their own behind it. Connection bytes and log bytes never pass it, only facts about
//! them; the bytes of control clients and worker channels do, so that hostile ones can be
//! simulated too.

mod record;
mod start;

pub use self::{
    record::{Ended, Goal, Record, Saved, SavedApp, SavedInstance},
    start::{Facts, Fate, Life, Start},
};

use std::{fmt, io, path::PathBuf, sync::Arc};

use crate::domain::{
    AppId, AppSpec, ClientId, Exit, InstanceId, Lane, Logs, Moment, Parting, Pid, Signal, Usage,
    WorkerId,
};

/// Something to do outside. Never fails: what came of it returns as an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process. Answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn(Launch),
    /// Take over a process that an earlier daemon started: follow its output, channel and end.
    Adopt(Launch),
    /// Send a signal. Unknown or ended workers are ignored.
    Signal(WorkerId, Signal, Reach),
    /// Nothing more will be asked about this worker, which is [`Event::Gone`]: the guard forgets
    /// it and what it held for it.
    Forget(WorkerId),
    /// Write down, where the death of the daemon cannot reach it, what the next daemon must know
    /// about this worker. It returns in [`Survivor::note`]. Replaces the note before.
    Note(WorkerId, String),
    /// Let new connections reach this worker.
    Admit(WorkerId),
    /// Send it no new connections. Answered by [`Event::Drained`] once those waiting for it are
    /// accepted and those open are closed, as far as the strategy can see them.
    Retire(WorkerId),
    /// Watch for this worker to serve its app's port. Answered by [`Event::Listening`]; ends by
    /// itself with the worker.
    AwaitListen(WorkerId),
    /// Send one HTTP request to this worker. Answered by [`Event::Probed`].
    Probe(WorkerId),
    /// Write to the worker's channel: one whole line of JSON, newline included.
    Channel(WorkerId, Vec<u8>),
    /// Measure these workers. Answered by one [`Event::Sampled`].
    Sample(Vec<WorkerId>, Depth),
    /// Read the last lines of an app's log files for a client, for its request of this id.
    /// Answered by [`Event::Tailed`].
    Tail(ClientId, String, Arc<AppSpec>, u32),
    /// Empty or rotate log files for a client, for its request of this id. Answered by
    /// [`Event::Tidied`].
    Tidy(ClientId, String, Tidying, Vec<LogsOf>),
    /// Write to a control client.
    Reply(ClientId, Vec<u8>),
    /// Close a control client once everything is written.
    Hangup(ClientId),
    /// Answer an HTTP request.
    Answer(ClientId, Answer),
    /// Write to the database. A [`Record::App`] or [`Record::AppGone`] is on disk before any later
    /// action is felt by a worker, told to a client or noted for the next daemon; a
    /// [`Record::Ended`] before any later [`Action::Forget`].
    Persist(Record),
    /// Open (or keep) the listening sockets this app's instances inherit. Answered by
    /// [`Event::ListenFailed`] if that fails, by nothing if it works; it takes effect before any
    /// later [`Action::Spawn`].
    Listen(AppId, Arc<AppSpec>),
    /// Close this app's listening sockets.
    Unlisten(AppId),
    /// End the daemon, and the guard with it. Every worker is gone.
    Exit,
}

/// What the world needs to start or take over a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who it will be.
    pub worker: WorkerId,
    /// What to run.
    pub spec: Arc<AppSpec>,
    /// Which listening socket it inherits, if its app's strategy is `inherit`.
    pub lane: Lane,
    /// First content of [`Action::Note`].
    pub note: String,
}

/// How much of a worker is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// CPU time of the processes already known: a microsecond for each. The rest of the
    /// [`Usage`] repeats what was last seen, and of logs nothing is said.
    Cpu,
    /// Everything, and which processes there are.
    Full,
}

/// How far a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The process that was spawned.
    Leader,
    /// Every process descended from it, itself included.
    Tree,
}

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process exists.
    Spawned(WorkerId, Pid),
    /// It never came to be, and here is why. No [`Event::Exited`] follows.
    SpawnFailed(WorkerId, String),
    /// The process that was spawned ended. Its descendants may live on until [`Event::Gone`].
    Exited(WorkerId, Exit),
    /// What became of the connections of a worker that leaves. Comes before [`Event::Gone`], where
    /// connections are counted.
    Parted(WorkerId, Parting),
    /// No process of this worker is left. Comes once, after [`Event::Exited`].
    Gone(WorkerId),
    /// Its port is served by this very worker.
    Listening(WorkerId),
    /// The listening sockets could not be opened, and here is why.
    ListenFailed(AppId, String),
    /// No connection waits for it, none is open.
    Drained(WorkerId),
    /// A probe came back.
    Probed(WorkerId, Probe),
    /// Bytes from the worker's channel, as they came.
    Channel(WorkerId, Vec<u8>),
    /// The worker closed its channel.
    ChannelClosed(WorkerId),
    /// One datagram from the worker's `NOTIFY_SOCKET`. The bytes follow `sd_notify(3)`.
    Notify(WorkerId, Vec<u8>),
    /// The measurements asked for.
    Sampled(Sample),
    /// The lines asked for, oldest first.
    Tailed(ClientId, String, Vec<String>),
    /// The log files are as they should be, as far as that was possible.
    Tidied(ClientId, String, Tidied),
    /// Bytes from a control client, as they came. The first ones introduce the client.
    Client(ClientId, Vec<u8>),
    /// The control client closed its writing side or is broken.
    ClientClosed(ClientId),
    /// Someone asks over HTTP.
    Asked(ClientId, Question),
    /// The database cannot be written, and here is why. Said once per outage.
    StoreFailed(String),
    /// The database is written again.
    StoreRecovered,
    /// A log file cannot be written. Said once, until [`Event::LogResumed`].
    LogBlocked(Blockage),
    /// The log file is written again, or nobody wants to any more.
    LogResumed(PathBuf),
    /// Somebody sent the daemon this signal: SIGTERM and SIGINT end it, SIGHUP reloads all.
    Signalled(Signal),
}

/// What was measured at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// What the workers use that were asked about; those that ended meanwhile are missing.
    pub workers: Vec<(WorkerId, Usage)>,
    /// What went into the logs of each place, whether or not a worker fills it now.
    pub logs: Vec<(InstanceId, Logs)>,
    /// What the daemon itself uses.
    pub daemon: Usage,
}

/// A log file that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockage {
    /// The file.
    pub path: PathBuf,
    /// Whose output is meant for it.
    pub apps: Vec<AppId>,
    /// Why, in the system's words.
    pub reason: String,
    /// What becomes of the output.
    pub output: Meanwhile,
}

/// What becomes of output that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// It stays in its pipe, and once that is full the worker waits.
    Waits,
    /// It is thrown away.
    Dropped,
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A status from 200 to 299.
    Healthy,
    /// Anything else, in words: another status, a refused connection, no answer in time.
    Sick(String),
    /// This worker cannot be addressed alone under its strategy.
    Unreachable,
}

/// What HTTP clients may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/metrics`; which of the two dialects.
    Exposition(Dialect),
    /// `/api/metrics`, or `/api/metrics/<app>`.
    Metrics(Option<String>),
    /// `/api/status`.
    Status,
}

/// The dialects of the Prometheus exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `text/plain; version=0.0.4`.
    Text,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Dialect {
    /// The media type it is sent as.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Media type of `body`.
    pub content_type: &'static str,
    /// The answer itself.
    pub body: Vec<u8>,
}

/// What to do to log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidying {
    /// Empty the current ones and remove the full ones.
    Flush,
    /// Put the current ones aside.
    Rotate,
}

impl fmt::Display for Tidying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flush => "flush",
            Self::Rotate => "rotate",
        })
    }
}

/// Whose log files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsOf {
    /// The app.
    pub spec: Arc<AppSpec>,
    /// Only those of this place.
    pub index: Option<u16>,
}

/// What came of a [`Tidying`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Files emptied, removed or put aside.
    pub files: u64,
    /// What they took, if it was freed.
    pub bytes: u64,
    /// Files that are put aside once the line that is being written ends.
    pub waiting: u64,
    /// What could not be done, and why.
    pub faults: Vec<String>,
}

/// A worker that outlived the daemon that started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Who it is.
    pub worker: WorkerId,
    /// Its process.
    pub pid: Pid,
    /// When it was spawned.
    pub spawned: Moment,
    /// The last [`Action::Note`].
    pub note: String,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    /// Whether no process of it is left.
    pub gone: bool,
}

/// The outside: submit actions, wait for events. Shaped after a completion ring.
pub trait World {
    /// Queues `action`; returns at once.
    fn submit(&mut self, action: Action);

    /// Sleeps until something happened or `deadline` came, appends what happened to `events`
    /// and returns the time it is now.
    ///
    /// # Errors
    ///
    /// Only when the ring or queue itself is broken. A failed spawn is an [`Event`].
    fn wait(&mut self, deadline: Option<Moment>, events: &mut Vec<Event>) -> io::Result<Moment>;
}
