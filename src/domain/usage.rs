//! What a worker uses, and what it writes.

use std::time::Duration;

/// One measurement of a worker's whole process tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time spent in user mode since the worker began, `None` where only the sum is known.
    pub user: Option<Duration>,
    /// Time spent in kernel mode since the worker began, `None` where only the sum is known.
    pub system: Option<Duration>,
    /// Time spent on a CPU since the worker began.
    pub cpu: Duration,
    /// Resident set size.
    pub rss_bytes: u64,
    /// Open file descriptors; 0 where the kernel would not tell.
    pub fds: u32,
    /// Threads.
    pub threads: u32,
    /// Processes.
    pub processes: u32,
    /// Its connections, `None` where nobody counts them.
    pub connections: Option<Connections>,
    /// What the scheduler did to them, `None` where nobody counts.
    pub scheduling: Option<Scheduling>,
}

/// The connections of one worker to its app's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Those that are open.
    pub live: u64,
    /// Those established since it began.
    pub accepted: u64,
    /// Those given to it that had waited at a socket that closed.
    pub moved: u64,
    /// Those cut off, by either side.
    pub reset: u64,
}

/// What became of connections when a worker left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parting {
    /// Those that waited for it and were given to others.
    pub moved: u64,
    /// Those it cut off on its way out.
    pub cut: u64,
}

/// What the scheduler did to a worker's whole process tree since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Time in which threads could have run but had no CPU, each thread's for itself; `None` where
    /// the kernel does not measure it.
    pub run_delay: Option<Duration>,
    /// Times a thread left its CPU because it had to wait for something.
    pub voluntary_switches: u64,
    /// Times a thread left its CPU though it could have gone on.
    pub involuntary_switches: u64,
    /// Processes started.
    pub forks: u64,
}

/// What went into one log of a place since the daemon began, through all the lives of its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Bytes written.
    pub bytes: u64,
    /// Ends of lines written, as far as they are counted; `None` if they cannot be.
    pub lines: Option<u64>,
    /// Times the file was full, or its time was over.
    pub rotations: u64,
    /// Bytes thrown away.
    pub dropped_bytes: u64,
    /// How long output had to wait because the file could not be written.
    pub blocked: Duration,
    /// When something was last written, since the Unix epoch.
    pub last_write_unix: Option<Duration>,
}

/// The logs of one place; `None` where nothing was read since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Of standard output.
    pub out: Option<Logged>,
    /// Of standard error.
    pub err: Option<Logged>,
}
