//! What a user may ask of an app, and how it ends.

use std::{num::NonZeroU16, sync::Arc};

use crate::domain::AppSpec;

/// Names one accepted request; chosen by the caller, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a user may ask of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Bring every worker up, with this spec if one is given. Done when all are online; fails as
    /// soon as one ends before it was ready, though the app goes on trying.
    Start(Option<Arc<AppSpec>>),
    /// Take every worker down.
    Stop(Manner),
    /// Take all down in this manner, then bring all up, with this spec if one is given.
    Restart(Option<Arc<AppSpec>>, Manner),
    /// Replace workers batch by batch, with this spec if one is given, never serving with fewer
    /// than before. Rolls back if a new worker fails.
    Reload(Option<Arc<AppSpec>>),
    /// Run this many workers; those with the highest indexes go.
    Scale(NonZeroU16),
    /// Take all down and forget the app.
    Delete(Manner),
}

/// How workers are sent away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Drained, asked, and killed only after `kill_timeout`.
    #[default]
    Gently,
    /// SIGKILL at once.
    Forcibly,
}

/// Why a request was turned away. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such app.
    #[error("there is no such app")]
    NoSuchApp,
    /// Another request must end first; holds its name.
    #[error("a {0} is under way; wait for it, or `stop` the app")]
    Busy(&'static str),
    /// Start of an app that runs.
    #[error("it is already running")]
    AlreadyRunning,
    /// Reload of an app at rest.
    #[error("it is not running; `start` it")]
    NotRunning,
    /// The daemon is about to end.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// How an accepted request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// It did not come about, and here is why.
    Failed(String),
    /// A reload did not come about, here is why, and the workers from before go on (those of
    /// earlier batches are on their way back, if the reload brought a new spec).
    RolledBack(String),
    /// A later stop, delete or shutdown took its place.
    Superseded,
}
