//! What a worker's process tree uses: CPU, memory, descriptors, threads, processes.
//!
//! A [`Meter`] follows one worker at two speeds. [`Depth::Cpu`] reads one CPU clock for each
//! process it knows and opens no file. [`Depth::Full`] looks for new processes and reads memory,
//! descriptors and threads as well.
//!
//! CPU never runs backwards. With a cgroup it is the group's own `cpu.stat`, which counts every
//! process that ever was in it. Without one it is kept in a ledger of two accounts:
//!
//! - the clocks of the processes alive, plus the last reading of each one that is gone;
//! - at each full sample, the clocks of those alive plus what they inherited from children they
//!   waited for (`cutime` and `cstime` of `proc_pid_stat(5)`, in steps of 10 ms).
//!
//! Both are at most the truth, so the higher one counts. What can be lost is the time of
//! processes that nobody waited for and that we never read again.
//!
//! Descendants are found by the cgroup, or by walking `/proc/<pid>/task/<tid>/children`; a
//! process that cut itself off its parent (a double fork) is seen by the cgroup alone.

mod ledger;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use procfs::{
    WithCurrentSystemInfo as _,
    process::{Process, Stat},
};

use self::ledger::{Ledger, Share};
use crate::{
    domain::{Pid, Usage},
    platform::sys::process_cpu,
    world::Depth,
};

/// Processes of one worker we follow; a fork bomb must not take the daemon with it.
const PROCESSES_MAX: usize = 4096;

/// Measures one worker from its first breath to its last.
#[derive(Debug)]
pub struct Meter {
    leader: Pid,
    cgroup: Option<PathBuf>,
    ledger: Ledger,
    last: Usage,
}

impl Meter {
    /// Follows `leader` and its descendants.
    #[must_use]
    pub fn tree(leader: Pid) -> Self {
        Self { leader, cgroup: None, ledger: Ledger::default(), last: Usage::default() }
    }

    /// Follows everything in the cgroup2 directory `cgroup`, which `leader` was started in.
    #[must_use]
    pub fn cgroup(leader: Pid, cgroup: &Path) -> Self {
        Self { cgroup: Some(cgroup.to_owned()), ..Self::tree(leader) }
    }

    /// Measures now; `None` once no process is left.
    ///
    /// The first call is always full.
    pub fn measure(&mut self, depth: Depth) -> Option<Usage> {
        match depth {
            Depth::Cpu if self.last.processes > 0 => self.cpu(),
            Depth::Cpu | Depth::Full => self.full(),
        }
    }

    fn cpu(&mut self) -> Option<Usage> {
        if let Some(stat) = self.cgroup.as_deref().and_then(cpu_stat) {
            self.note(stat);
            return Some(self.last);
        }
        self.ledger.tick(process_cpu);
        if self.ledger.is_empty() {
            // Perhaps only the processes we knew are gone.
            return self.full();
        }
        self.last.cpu = self.last.cpu.max(self.ledger.total());
        Some(self.last)
    }

    fn full(&mut self) -> Option<Usage> {
        let mut alive = BTreeMap::new();
        let mut usage = Usage { processes: 0, ..self.last };
        (usage.rss_bytes, usage.fds, usage.threads) = (0, 0, 0);
        for pid in self.members() {
            let Some((process, stat)) = read(pid) else { continue };
            let Some(cpu) = process_cpu(pid) else { continue };
            usage.processes += 1;
            usage.rss_bytes += stat.rss_bytes().get();
            usage.threads += u32::try_from(stat.num_threads).unwrap_or_default();
            usage.fds += process.fd_count().map_or(0, |fds| u32::try_from(fds).unwrap_or(u32::MAX));
            alive.insert(pid, Share::of(&stat, cpu));
        }
        if alive.is_empty() {
            return None;
        }
        self.last = usage;
        self.ledger.settle(alive);
        let stat = self.cgroup.as_deref().and_then(cpu_stat);
        self.note(stat.unwrap_or_else(|| self.ledger.account()));
        Some(self.last)
    }

    fn note(&mut self, account: Account) {
        self.last.cpu = self.last.cpu.max(account.cpu);
        self.last.user = self.last.user.max(account.user);
        self.last.system = self.last.system.max(account.system);
    }

    fn members(&self) -> BTreeSet<Pid> {
        let listed = self.cgroup.as_deref().map(cgroup_members).unwrap_or_default();
        if listed.is_empty() { tree(self.leader) } else { listed }
    }
}

/// CPU time of a worker from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    cpu: Duration,
    user: Option<Duration>,
    system: Option<Duration>,
}

/// `pid` and all its descendants that are alive; empty if `pid` is not.
#[must_use]
pub fn tree(pid: Pid) -> BTreeSet<Pid> {
    let mut all = BTreeSet::new();
    any_in_tree(pid, |member| {
        all.insert(member);
        false
    });
    all
}

/// Whether `found` holds for `pid` or a descendant, asked from the top down until one does.
pub(super) fn any_in_tree(pid: Pid, mut found: impl FnMut(Pid) -> bool) -> bool {
    let mut seen = BTreeSet::new();
    let mut level = vec![pid];
    while !level.is_empty() && seen.len() < PROCESSES_MAX {
        level.retain(|&member| seen.insert(member) && is_there(member));
        if level.iter().any(|&member| found(member)) {
            return true;
        }
        level = level.into_iter().flat_map(children).collect();
    }
    false
}

fn is_there(pid: Pid) -> bool {
    fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
}

/// Children of every thread: a child belongs to the thread that forked it.
fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| pids(&list))
        .collect()
}

fn cgroup_members(cgroup: &Path) -> BTreeSet<Pid> {
    let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids(&list).into_iter().take(PROCESSES_MAX).collect()
}

/// Pids apart from 0, which stands for a process of another pid namespace.
fn pids(list: &str) -> Vec<Pid> {
    list.split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .filter(|&pid| pid > 0)
        .map(Pid)
        .collect()
}

/// `None` for a process that is gone, or dead and waiting for its parent to notice.
fn read(pid: Pid) -> Option<(Process, Stat)> {
    let process = Process::new(pid.0).ok()?;
    let stat = process.stat().ok()?;
    (!matches!(stat.state, 'Z' | 'X')).then_some((process, stat))
}

/// The account of a cgroup, `cpu.stat` of the kernel's `cgroup-v2` document.
fn cpu_stat(cgroup: &Path) -> Option<Account> {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok().map(Duration::from_micros)
    };
    Some(Account {
        cpu: value("usage_usec")?,
        user: value("user_usec"),
        system: value("system_usec"),
    })
}

#[cfg(test)]
mod tests;
