//! What outlives the daemon: the rows of the database.
//!
//! Quiet: only their meaning is here; `store` turns them into SQL.

use std::time::Duration;

use crate::domain::{AppId, AppName, Exit, Pid, Usage, WorkerId};

/// What an app should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All its workers run.
    Run,
    /// None does.
    Rest,
    /// None does, and the app is forgotten once the last one is gone.
    Gone,
}

/// One change to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An app is new or has changed.
    App(SavedApp),
    /// An app and all that belongs to it is forgotten.
    AppGone(AppId),
    /// A place for a worker has changed.
    Instance(SavedInstance),
    /// A worker ended.
    Ended(Ended),
    /// A measurement worth keeping.
    Sample {
        /// Whose it is.
        worker: WorkerId,
        /// The worker's app.
        app: AppName,
        /// When it was taken, in milliseconds since the Unix epoch.
        unix_millis: u64,
        /// What was measured.
        usage: Usage,
        /// Share of one CPU since the measurement before, in thousandths of a percent.
        cpu_millipercent: u32,
        /// Heap in use as the worker itself reports it.
        heap_used_bytes: Option<u64>,
    },
}

/// An app as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedApp {
    /// Its number, never used again.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// Its whole configuration, as `config::raw` writes it in JSON.
    pub config: String,
    /// The configuration to go back to, while a reload is under way that has not succeeded yet.
    pub previous: Option<String>,
    /// What it should be doing.
    pub goal: Goal,
    /// It is to run, but the machine went down since: nothing starts until somebody says so.
    pub asleep: bool,
    /// The configuration file it came from, if any.
    pub config_path: Option<String>,
    /// When it was added, in milliseconds since the Unix epoch.
    pub created_unix_millis: u64,
}

/// A place for a worker as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedInstance {
    /// The newest worker of the place; its generation counts on.
    pub worker: WorkerId,
    /// The worker's app.
    pub app: AppName,
    /// [`Stage::word`](crate::domain::Stage::word), or `stopped`, `crashed`, `errored`.
    pub state: String,
    /// Its process, while it has one.
    pub pid: Option<Pid>,
    /// When it was spawned, in milliseconds since the Unix epoch.
    pub started_unix_millis: Option<u64>,
    /// Restarts after a crash since the app was added.
    pub restarts: u32,
    /// Crashes in a row.
    pub crashes_in_a_row: u32,
    /// The crashes within the window, in milliseconds since the Unix epoch, oldest first.
    pub crashes_unix_millis: Vec<u64>,
}

/// The end of a worker as it is written down. Writing the same worker's end twice keeps the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who ended.
    pub worker: WorkerId,
    /// The worker's app.
    pub app: AppName,
    /// Its process, if it ever had one.
    pub pid: Option<Pid>,
    /// How it ended; `None` if it never began.
    pub exit: Option<Exit>,
    /// How long it lived.
    pub uptime: Duration,
    /// Why, in one word: `exit`, `signal`, `spawn`, `ready`, `health`, `heartbeat`, `stop`,
    /// `restart`, `reload`, `scale`, `rollback`.
    pub reason: &'static str,
    /// When, in milliseconds since the Unix epoch.
    pub unix_millis: u64,
}

/// All that a new daemon reads back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Every app, in the order of their numbers.
    pub apps: Vec<SavedApp>,
    /// Every place.
    pub instances: Vec<SavedInstance>,
    /// The highest app number ever used.
    pub last_app: u32,
}
