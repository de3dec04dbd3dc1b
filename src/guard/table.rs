//! Every worker the guard knows.
//!
//! Decides whose an ended process was, and remembers it until the daemon says to forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    harmless,
    tree::Tree,
    ward::Ward,
    wire::{Life, Role},
};
use crate::{
    domain::{Exit, Pid, Signal},
    platform::sys,
};

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) life: Life,
    pub(super) fds: BTreeMap<Role, OwnedFd>,
    pub(super) tree: Tree,
    pub(super) leader: Leader,
    /// Tells when its cgroup becomes empty; open between the leader's end and the tree's.
    pub(super) events: Option<File>,
    pub(super) sentence: Sentence,
}

/// Our hold on the process that was spawned.
#[derive(Debug)]
pub(super) enum Leader {
    /// Our child, not reaped.
    Child,
    /// Another guard's child.
    Ward(Ward),
    /// It ended.
    Ended,
}

/// Whether a tree was ordered to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// It was not.
    None,
    /// It was, and whoever is born late is killed, too.
    Death,
}

impl Worker {
    /// Whether its leader ended and others may live on.
    pub(super) fn lingers(&self) -> bool {
        self.life.exit.is_some() && !self.life.gone
    }

    pub(super) fn signal_leader(&self, signal: Signal) {
        // it may just have ended, which we are about to hear
        harmless(match &self.leader {
            Leader::Child => sys::kill(self.life.pid, signal),
            Leader::Ward(ward) => sys::pidfd_signal(ward.pidfd.as_fd(), signal),
            Leader::Ended => Ok(()),
        });
    }
}

/// Every worker, by label.
#[derive(Debug, Default)]
pub(super) struct Table {
    workers: BTreeMap<String, Worker>,
    /// Labels of our children that are not reaped.
    children: BTreeMap<Pid, String>,
}

impl Table {
    pub(super) fn insert(&mut self, worker: Worker) {
        let label = worker.life.label.clone();
        if matches!(worker.leader, Leader::Child) {
            self.children.insert(worker.life.pid, label.clone());
        }
        self.workers.insert(label, worker);
    }

    pub(super) fn find(&self, label: &str) -> Option<&Worker> {
        self.workers.get(label)
    }

    pub(super) fn find_mut(&mut self, label: &str) -> Option<&mut Worker> {
        self.workers.get_mut(label)
    }

    /// Drops a worker that is gone; one that is not stays.
    pub(super) fn forget(&mut self, label: &str) -> Option<Worker> {
        if self.find(label)?.life.gone { self.workers.remove(label) } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = String> + '_ {
        self.workers.keys().cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.workers.values_mut()
    }

    /// Books the end of one of our children; `None` if it was no worker's leader.
    pub(super) fn reaped(&mut self, pid: Pid, exit: Exit) -> Option<String> {
        let label = self.children.remove(&pid)?;
        let worker = self.workers.get_mut(&label)?;
        worker.ended(exit);
        Some(label)
    }

    /// The leaders that live, but for that of `label`.
    pub(super) fn other_leaders(&self, label: &str) -> BTreeSet<i32> {
        let other = |worker: &&Worker| worker.life.exit.is_none() && worker.life.label != label;
        self.iter().filter(other).map(|worker| worker.life.pid.0).collect()
    }
}

impl Worker {
    /// Books the end of its leader.
    pub(super) fn ended(&mut self, exit: Exit) {
        self.leader = Leader::Ended;
        self.life.exit = Some(exit);
        self.events = self.tree.events();
    }
}
