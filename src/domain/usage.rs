//! What a worker uses.

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
}
