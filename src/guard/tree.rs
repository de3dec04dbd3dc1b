//! Which processes belong to a worker, how signals reach all of them, and when none is left.
//!
//! Two rungs with one face: a cgroup per worker where there is a writable cgroup2, else
//! [`session`]. Never signals a process it is not sure about.

pub(super) mod cgroup;
pub(super) mod session;

use std::{collections::BTreeSet, fs::File};

use session::Census;

use super::{
    Grip, hash,
    procfs::{self, Process},
    wire::{Life, Rung},
};
use crate::domain::{Pid, Signal};

/// Environment variable every worker and its descendants carry.
pub(super) const MARK_VARIABLE: &str = "BUNPILOT_WORKER_MARK";
/// Environment variable of workers whose bind(2) somebody must answer, see
/// [`Trap`](super::wire::Trap).
pub(super) const TRAP_VARIABLE: &str = "BUNPILOT_WORKER_TRAP";

/// Whether a signal to a whole tree reached all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// It did, even those being born.
    Complete,
    /// Children may have been born meanwhile.
    Repeat,
}

/// Tells whose process is whose, for all workers of one home.
#[derive(Debug)]
pub(super) struct Forest {
    base: Option<cgroup::Base>,
    home: String,
}

/// How to find the processes of one worker.
#[derive(Debug)]
pub(super) enum Tree {
    /// In a cgroup.
    Cgroup(cgroup::Group),
    /// By session, descent and mark.
    Session(Orphans),
}

/// Whose children a worker's orphans become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orphans {
    /// The guard's, as it is the nearest subreaper.
    Ours,
    /// Anybody's.
    Anywhere,
}

/// Most passes of one signal over a tree that keeps forking.
const PASSES_MAX: usize = 8;

impl Forest {
    /// Looks for the best rung this machine offers.
    pub(super) fn new(home: &std::path::Path, grip: Grip) -> Self {
        let base = match grip {
            Grip::Best => cgroup::Base::open(home),
            Grip::Session => None,
        };
        Self { base, home: hash(std::os::unix::ffi::OsStrExt::as_bytes(home.as_os_str())) }
    }

    pub(super) fn rung(&self) -> Rung {
        if self.base.is_some() { Rung::Cgroup } else { Rung::Session }
    }

    /// The cgroup to start a worker in, if there are cgroups.
    pub(super) fn group(&self, label: &str) -> Option<cgroup::Group> {
        self.base.as_ref().map(|base| base.group(label))
    }

    /// The tree of a worker another guard started.
    pub(super) fn find(&self, label: &str) -> Tree {
        match self.group(label) {
            Some(group) if group.exists() => Tree::Cgroup(group),
            Some(_) | None => Tree::Session(Orphans::Anywhere),
        }
    }

    /// What the mark of a worker begins with; its pid follows.
    pub(super) fn mark(&self, label: &str) -> String {
        format!("{}:{label}:", self.home)
    }

    /// Sends `signal` to every process of a worker.
    pub(super) fn signal(
        &self,
        tree: &Tree,
        life: &Life,
        others: &BTreeSet<i32>,
        signal: Signal,
    ) -> Aftermath {
        let orphans = match tree {
            Tree::Cgroup(group) => return group.signal(signal),
            Tree::Session(orphans) => *orphans,
        };
        let mut signalled = BTreeSet::new();
        for _ in 0..PASSES_MAX {
            let census = Census::new(Process::all());
            let members = self.members(&census, orphans, life, others);
            let fresh: Vec<_> =
                members.iter().filter(|p| signalled.insert((p.pid, p.started_ticks))).collect();
            if fresh.is_empty() {
                break;
            }
            for process in fresh {
                process.signal(signal);
            }
        }
        Aftermath::Repeat
    }

    /// The living processes of a worker, on the session rung.
    pub(super) fn members(
        &self,
        census: &Census,
        orphans: Orphans,
        life: &Life,
        others: &BTreeSet<i32>,
    ) -> Vec<Process> {
        let guard = rustix::process::getpid().as_raw_nonzero().get();
        let mark = format!("{}{}", self.mark(&life.label), life.pid);
        census.members((life.pid.0, life.started_ticks), others, |process| {
            (orphans == Orphans::Anywhere || process.parent == guard)
                && procfs::environ(process.pid, MARK_VARIABLE).is_some_and(|m| m == mark.as_bytes())
        })
    }

    /// The leaders of this home's workers that live although their guard is dead, with the
    /// labels they were started under.
    pub(super) fn strays(home: &std::path::Path) -> Vec<(String, Process)> {
        let forest = Self::new(home, Grip::Session);
        let prefix = format!("{}:", forest.home);
        let stray = |process: Process| {
            let mark = procfs::environ(process.pid, MARK_VARIABLE)?;
            let mark = String::from_utf8(mark).ok()?;
            let (label, pid) = mark.strip_prefix(&prefix)?.rsplit_once(':')?;
            (pid.parse() == Ok(process.pid)).then(|| (label.to_owned(), process))
        };
        Process::all().into_iter().filter_map(stray).collect()
    }

    /// Leaves nothing behind.
    pub(super) fn remove(&self) {
        if let Some(base) = &self.base {
            base.remove();
        }
    }
}

impl Tree {
    /// Opens what tells when the worker's cgroup becomes empty; `None` on the session rung, and
    /// if the cgroup is not there any more.
    pub(super) fn events(&self) -> Option<File> {
        match self {
            Self::Cgroup(group) => group.events().ok(),
            Self::Session(_) => None,
        }
    }

    /// Leaves nothing behind.
    pub(super) fn remove(&self) {
        match self {
            Self::Cgroup(group) => group.remove(),
            Self::Session(_) => {}
        }
    }
}

/// Whether a process of this number and start is there.
pub(super) fn same_process(pid: Pid, started_ticks: u64) -> Option<Process> {
    Process::read(pid.0).filter(|process| process.started_ticks == started_ticks)
}
