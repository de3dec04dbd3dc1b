//! Workers whose app nobody remembers, on their way out.
//!
//! Decides when they are killed again; never lets the daemon end before they are gone.

use std::{collections::BTreeMap, time::Duration};

use super::Core;
use crate::{
    domain::{Moment, Signal, WorkerId},
    world::{Action, Reach, Survivor},
};

/// Time between two kills: a process that forks may slip through one.
const KILL_EVERY: Duration = Duration::from_secs(1);

/// Each stranger that is left, and when it is killed again.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<WorkerId, Moment>);

impl Strangers {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next one is killed again.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.0.values().min().copied()
    }
}

impl Core {
    /// Ends a worker whose app nobody remembers.
    pub(super) fn disown(&mut self, now: Moment, survivor: &Survivor) {
        tracing::warn!(worker = %survivor.worker, pid = %survivor.pid, "a worker of no app");
        self.act(Action::Unlisten(survivor.worker.instance.app));
        if survivor.gone {
            self.act(Action::Forget(survivor.worker));
        } else {
            self.strangers.0.insert(survivor.worker, now);
            self.kill_strangers(now);
        }
    }

    /// Kills those whose time has come.
    pub(super) fn kill_strangers(&mut self, now: Moment) {
        let mut due = Vec::new();
        for (worker, again) in self.strangers.0.iter_mut().filter(|(_, again)| **again <= now) {
            *again = now.after(KILL_EVERY);
            due.push(*worker);
        }
        for worker in due {
            self.act(Action::Signal(worker, Signal::KILL, Reach::Tree));
        }
    }

    /// Nothing is left of a worker; if it was a stranger, it is forgotten.
    pub(super) fn bury_stranger(&mut self, worker: WorkerId) {
        if self.strangers.0.remove(&worker).is_some() {
            self.act(Action::Forget(worker));
        }
    }
}
