//! What a daemon is told before its first turn: about itself, and about the one before it.
//!
//! Quiet: only words. The platform finds them out, the core draws the conclusions.

use std::collections::BTreeMap;

use super::{Saved, Survivor};
use crate::domain::{Clock, Moment, Pid};

/// All that a daemon begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// When the outside was ready.
    pub now: Moment,
    /// About the daemon itself.
    pub facts: Facts,
    /// Whether another daemon was here before.
    pub life: Life,
    /// What the database remembers.
    pub saved: Saved,
    /// Which workers live, or ended since somebody looked.
    pub survivors: Vec<Survivor>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// What the daemon knows about itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The daemon's version.
    pub version: &'static str,
    /// The daemon's process.
    pub pid: Pid,
    /// When it started.
    pub started: Moment,
    /// Translates moments for people.
    pub clock: Clock,
    /// What the outside runs on and why not on better, for `daemon status`.
    pub engines: BTreeMap<String, String>,
    /// The same in one word of few for each part of which there are several, for the exposition.
    pub rungs: BTreeMap<String, String>,
}

/// Whether the guard outlived the daemon before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// We are the first daemon of this guard: a start, or a reboot.
    First,
    /// The guard started us again.
    Next,
}

/// What is to become of a worker whose guard and daemon both died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Kept,
    /// Its app cannot look after it any more: it is ended, and the app started anew.
    Ended,
}
