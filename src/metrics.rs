//! What is known about the daemon, its apps and their workers, as a scrape sees it.
//!
//! Decides names, units and rates; measures nothing itself. The daemon fills a [`View`],
//! [`exposition::write`] turns it into text, and [`rates::Rate`] turns two readings of a clock into
//! a percentage. What nobody knows is `None` and leaves no trace in the text: an absent series is
//! honest, a 0 is not.

pub mod exposition;
mod histogram;
pub mod rates;

pub use histogram::Histogram;

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{AppName, Logs, Pid, Stage, Strategy, Usage};

/// Values a worker reports under names of its own that one scrape carries; the rest is left out.
pub const CUSTOM_MAX: usize = 64;

/// Everything one scrape shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The daemon itself.
    pub daemon: Daemon,
    /// The apps to be shown, each name once.
    pub apps: Vec<App>,
}

/// The daemon itself.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Of this program.
    pub version: &'static str,
    /// What each part of it runs on here, as
    /// [`Facts::rungs`](crate::world::Facts::rungs).
    pub rungs: BTreeMap<String, String>,
    /// When it started, since the Unix epoch.
    pub started_unix: Duration,
    /// How long it runs.
    pub uptime: Duration,
    /// What it uses.
    pub usage: Option<Usage>,
    /// Most descriptors it may open.
    pub fds_max: Option<u64>,
    /// Measurements of workers that failed or came too late.
    pub collector_errors: u64,
}

/// One app.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Whether its series have the original's names, too.
    pub compat_names: CompatNames,
    /// How many workers should run.
    pub desired: u16,
    /// Who decides which worker gets the next connection; `None` if they share no port.
    pub strategy: Option<Strategy>,
    /// Its workers; during a reload two may fill one place.
    pub workers: Vec<Worker>,
    /// Time from a worker's spawn until it was ready.
    pub ready: Histogram,
    /// Time a reload took, whether it succeeded or not.
    pub reload: Histogram,
    /// Reloads that were rolled back.
    pub reloads_failed: u64,
}

/// Whether the original's names stand beside the convention-true ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompatNames {
    /// They do, as `metrics.compatNames` has it if not set.
    #[default]
    On,
    /// They do not.
    Off,
}

/// How a place for a worker looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A worker fills it.
    Live(Stage),
    /// Nobody should.
    Stopped,
    /// Its worker ended and will be replaced.
    Crashed,
    /// Its workers ended too often; nobody comes any more.
    Errored,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Live(Stage::Spawning),
        Self::Live(Stage::Starting),
        Self::Live(Stage::Online),
        Self::Live(Stage::Draining),
        Self::Live(Stage::Stopping),
        Self::Stopped,
        Self::Crashed,
        Self::Errored,
    ];

    /// The word the original's protocol, tables and database use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live(stage) => stage.word(),
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Errored => "errored",
        }
    }

    /// Of two workers in one place, the one of higher rank stands for it.
    const fn rank(self) -> u8 {
        match self {
            Self::Live(Stage::Online) => 6,
            Self::Live(Stage::Draining) => 5,
            Self::Live(Stage::Starting) => 4,
            Self::Live(Stage::Spawning) => 3,
            Self::Live(Stage::Stopping) => 2,
            Self::Crashed => 1,
            Self::Stopped | Self::Errored => 0,
        }
    }
}

/// One worker, or a place without one.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its place.
    pub index: u16,
    /// Which life of that place.
    pub generation: u32,
    /// Its process.
    pub pid: Option<Pid>,
    /// How it is.
    pub state: State,
    /// When it was spawned, since the Unix epoch.
    pub started_unix: Option<Duration>,
    /// How long it runs.
    pub uptime: Option<Duration>,
    /// Restarts of this place after a crash.
    pub restarts: u64,
    /// Ends of workers of this place by their reason, in the words of
    /// [`Ended::reason`](crate::world::Ended::reason).
    pub exits: BTreeMap<&'static str, u64>,
    /// What it uses, by the newest measurement.
    pub usage: Option<Usage>,
    /// Share of one CPU, in thousandths of a percent.
    pub cpu_millipercent: Option<u32>,
    /// What it says of its own memory.
    pub heap: Option<Heap>,
    /// How late its event loop runs, as it says itself.
    pub event_loop_lag: Option<Duration>,
    /// What else it says, by name. Only [`CUSTOM_MAX`] are shown.
    pub custom: BTreeMap<String, f64>,
    /// What the workers of this place wrote.
    pub logs: Logs,
    /// Probes of this place that failed; `None` if there are no probes.
    pub health_failures: Option<u64>,
}

impl Worker {
    /// A place about which nothing else is known yet.
    #[must_use]
    pub const fn new(index: u16, generation: u32, state: State) -> Self {
        Self {
            index,
            generation,
            pid: None,
            state,
            started_unix: None,
            uptime: None,
            restarts: 0,
            exits: BTreeMap::new(),
            usage: None,
            cpu_millipercent: None,
            heap: None,
            event_loop_lag: None,
            custom: BTreeMap::new(),
            logs: Logs { out: None, err: None },
            health_failures: None,
        }
    }
}

/// A worker's memory in its own words, as node's `process.memoryUsage()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Resident set size.
    pub rss_bytes: u64,
    /// Heap reserved.
    pub total_bytes: u64,
    /// Heap in use.
    pub used_bytes: u64,
    /// Memory of objects bound to the heap but outside it.
    pub external_bytes: u64,
}
