//! How apps and workers look in replies: the original's `AppStatus`, with more in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One app, as `list --json` and `status --json` print it.
///
/// Times are milliseconds since the Unix epoch. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// `running`, `stopped` or `errored`.
    pub status: String,
    /// Its places, by index; while one is being replaced the newest worker of it.
    pub workers: Vec<WorkerStatus>,
    /// Its configuration with every default filled in; the environment is redacted by the CLI.
    pub config: Value,
    /// When the app was started.
    pub started_at: Option<u64>,
    /// How connections reach the workers, and why not a better way.
    #[serde(default)]
    pub balancing: String,
    /// The command under way, if any: `start`, `stop`, `restart`, `reload`, `scale`, `delete`.
    #[serde(default)]
    pub busy: Option<String>,
    /// The file the configuration came from.
    #[serde(default)]
    pub config_path: Option<String>,
    /// What an operator should see: a log file that cannot be written.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One worker, or one place without a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Index of its place.
    pub id: u16,
    /// Its process; the last one where none runs.
    pub pid: Option<i32>,
    /// `spawning`, `starting`, `online`, `draining`, `stopping`, `stopped`, `crashed`, `errored`.
    pub state: String,
    /// When its process was spawned.
    pub started_at: Option<u64>,
    /// When it became ready.
    pub ready_at: Option<u64>,
    /// Restarts after crashes since the app was added.
    pub restart_count: u32,
    /// Crashes in a row.
    pub consecutive_crashes: u32,
    /// When it last crashed.
    pub last_crash_at: Option<u64>,
    /// Exit status of the last process of this place that ended by itself.
    pub exit_code: Option<i32>,
    /// Signal that ended the last process, e.g. `SIGKILL`.
    pub signal_code: Option<String>,
    /// Memory; `null` before the first measurement.
    pub memory: Option<Memory>,
    /// CPU; `null` before the first measurement.
    pub cpu: Option<Cpu>,
    /// Which life of this place it is.
    #[serde(default)]
    pub generation: u32,
    /// Why it is not online, in words; empty if it is.
    #[serde(default)]
    pub reason: String,
    /// When it will be tried again.
    #[serde(default)]
    pub next_retry_at: Option<u64>,
    /// Open file descriptors.
    #[serde(default)]
    pub fds: Option<u32>,
    /// Threads.
    #[serde(default)]
    pub threads: Option<u32>,
    /// Processes.
    #[serde(default)]
    pub processes: Option<u32>,
    /// Its connections to the app's port; `null` where nobody counts them.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// What the scheduler did to it; `null` where nobody counts.
    #[serde(default)]
    pub scheduling: Option<Scheduling>,
    /// What the worker last said of itself with `STATUS=`.
    #[serde(default)]
    pub status_text: Option<String>,
    /// What went into the log of standard output; `null` if nobody reads it.
    #[serde(default)]
    pub out: Option<Logged>,
    /// What went into the log of standard error; `null` if nobody reads it.
    #[serde(default)]
    pub err: Option<Logged>,
}

/// A worker's connections to its app's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// Those that are open.
    pub open: u64,
    /// Those it got.
    pub accepted: u64,
    /// Those among them that had waited at a socket that closed.
    pub moved: u64,
    /// Those that were cut off, by either side.
    pub reset: u64,
}

/// What went into one log of a place since the daemon began, through all the lives of its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// Bytes written.
    pub bytes: u64,
    /// Ends of lines written, as far as they are counted.
    pub lines: Option<u64>,
    /// Files rotated away.
    pub rotations: u64,
    /// Bytes thrown away.
    pub dropped_bytes: u64,
    /// Milliseconds that output waited for a file that could not be written.
    pub blocked_millis: u64,
    /// When something was last written.
    pub last_write_at: Option<u64>,
}

/// Memory of a worker, in bytes. The heap figures come from the worker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Resident set size of the whole tree.
    pub rss: u64,
    /// Heap reserved; 0 if the worker does not tell.
    pub heap_total: u64,
    /// Heap in use; 0 if the worker does not tell.
    pub heap_used: u64,
    /// Memory outside the heap that the heap holds on to; 0 if the worker does not tell.
    pub external: u64,
    /// When it was measured.
    pub timestamp: u64,
}

/// CPU of a worker's whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Microseconds in user mode since it began; the whole sum where the two cannot be told apart.
    pub user: u64,
    /// Microseconds in kernel mode since it began.
    pub system: u64,
    /// Share of one CPU since the measurement before, in percent.
    pub percentage: f64,
    /// When it was measured.
    pub timestamp: u64,
}

/// What the scheduler did to a worker's whole tree since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Microseconds threads could have run but had no CPU, each thread's for itself; `null` where
    /// the kernel does not measure it.
    pub run_delay: Option<u64>,
    /// Times a thread left its CPU because it had to wait for something.
    pub voluntary_switches: u64,
    /// Times a thread left its CPU though it could have gone on.
    pub involuntary_switches: u64,
    /// Processes started.
    pub forks: u64,
}

/// The daemon about itself: the reply to `dump`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonStatus {
    /// Every app.
    pub apps: Vec<AppStatus>,
    /// Seconds since the daemon started.
    pub uptime: u64,
    /// Its process.
    pub pid: i32,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// What it runs on: `control` (`io_uring` or `epoll`), `logs`, `trees` (`cgroup2` or
    /// `process group`), `cpu` (how CPU time is measured, and why not better), `http` (address or
    /// why not).
    #[serde(default)]
    pub engines: std::collections::BTreeMap<String, String>,
    /// Warnings an operator should see: a database that cannot be written, a port in use.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One step of a long command, in [`Reply::Chunk`](super::wire::Reply::Chunk).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The app.
    pub app: String,
    /// The place.
    pub worker: u16,
    /// The life.
    pub generation: u32,
    /// What it came to: a stage, or `stopped`, `crashed`, `errored`, `failed`.
    pub step: String,
    /// Its process.
    pub pid: Option<i32>,
    /// More, in words.
    pub detail: Option<String>,
}
