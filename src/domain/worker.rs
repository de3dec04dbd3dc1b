//! One life of one process.

use std::fmt;

/// A process id, as `getpid(2)` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ended while nobody who could learn its status was alive.
    Unknown,
}

/// What a stage of a worker's life looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Asked for, no pid yet.
    Spawning,
    /// Running, has not said it is ready.
    Starting,
    /// Ready; traffic may reach it.
    Online,
    /// Gets no new connections, finishes the old ones.
    Draining,
    /// Told to exit.
    Stopping,
}

impl Stage {
    /// The word the original's protocol, tables and database use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Spawning => "spawning",
            Self::Starting => "starting",
            Self::Online => "online",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}
