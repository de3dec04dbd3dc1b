//! What a worker's process tree uses: CPU, memory, descriptors, threads, processes.
//!
//! A [`Meter`] follows one worker at two speeds. [`Depth::Cpu`] reads one CPU clock for each
//! process it knows and opens no file. [`Depth::Full`] looks for new processes and reads memory,
//! descriptors and threads as well.
//!
//! CPU never runs backwards. Where the kernel keeps books for us ([`super::bpf::books`]) it is
//! what they say, which is all there is to know. With a cgroup it is the group's own `cpu.stat`,
//! which counts every process that ever was in it. Without either it is kept in a ledger of two
//! accounts:
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
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use procfs::{FromRead as _, WithCurrentSystemInfo as _, process::Stat};

use self::ledger::{Ledger, Share};
use crate::{
    domain::{Pid, Usage},
    platform::sys::process_cpu,
    world::Depth,
};

/// Processes of one worker we follow; a fork bomb must not take the daemon with it.
const PROCESSES_MAX: usize = 4096;

/// Room for one file of `/proc`: a line of `stat` is below it.
const CONTENTS_BYTES: usize = 1024;

/// Most of one file of `/proc`: the pids of [`PROCESSES_MAX`] children, and some.
const CONTENTS_MAX: u64 = 64 << 10;

/// Measures one worker from its first breath to its last.
#[derive(Debug)]
pub struct Meter {
    leader: Pid,
    cgroup: Option<PathBuf>,
    ledger: Ledger,
    last: Usage,
    /// User and system time of what was booked.
    divided: (Duration, Duration),
}

impl Meter {
    /// Follows `leader` and its descendants.
    #[must_use]
    pub fn tree(leader: Pid) -> Self {
        Self {
            leader,
            cgroup: None,
            ledger: Ledger::default(),
            last: Usage::default(),
            divided: Default::default(),
        }
    }

    /// Follows everything in the cgroup2 directory `cgroup`, which `leader` was started in.
    #[must_use]
    pub fn cgroup(leader: Pid, cgroup: &Path) -> Self {
        Self { cgroup: Some(cgroup.to_owned()), ..Self::tree(leader) }
    }

    /// Measures now; `None` once no process is left. `booked` is the worker's CPU time if the
    /// kernel keeps books, and spares [`Depth::Cpu`] every look at the processes.
    ///
    /// The first call is always full.
    pub fn measure(&mut self, depth: Depth, booked: Option<Duration>) -> Option<Usage> {
        let usage = match depth {
            Depth::Cpu if self.last.processes == 0 => self.full(),
            Depth::Cpu if booked.is_some() => Some(self.last),
            Depth::Cpu => self.cpu(),
            Depth::Full => self.full(),
        };
        let mut usage = usage?;
        let Some(booked) = booked else { return Some(usage) };
        self.last.cpu = self.last.cpu.max(booked);
        let (user, system) = self.divided();
        usage.cpu = self.last.cpu;
        (usage.user, usage.system) = (Some(user), Some(system));
        Some(usage)
    }

    /// User and system time of all that was booked. Books do not tell them apart, so what is new
    /// is divided as the ledger has it; neither ever falls, and they add up.
    fn divided(&mut self) -> (Duration, Duration) {
        let (user, system) = &mut self.divided;
        let new = self.last.cpu.saturating_sub(*user + *system);
        let of = |it: Option<Duration>| it.unwrap_or_default().as_secs_f64();
        let (of_user, of_system) = (of(self.last.user), of(self.last.system));
        let share = if of_system > 0.0 { of_user / (of_user + of_system) } else { 1.0 };
        let new_user = new.mul_f64(share).min(new);
        *user += new_user;
        *system += new.saturating_sub(new_user);
        self.divided
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
        for (pid, stat) in self.members().into_iter().filter(|(_, stat)| lives(stat)) {
            let Some(cpu) = process_cpu(pid) else { continue };
            usage.processes += 1;
            usage.rss_bytes += stat.rss_bytes().get();
            usage.threads += u32::try_from(stat.num_threads).unwrap_or_default();
            usage.fds += descriptors(pid);
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

    fn members(&self) -> BTreeMap<Pid, Stat> {
        let listed = self.cgroup.as_deref().map(cgroup_members).unwrap_or_default();
        if listed.is_empty() {
            family(self.leader)
        } else {
            listed.into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect()
        }
    }
}

/// CPU time of a worker from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    cpu: Duration,
    user: Option<Duration>,
    system: Option<Duration>,
}

/// `pid` and all its descendants; empty if `pid` is gone.
#[must_use]
pub fn tree(pid: Pid) -> BTreeSet<Pid> {
    family(pid).into_keys().collect()
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

/// `leader` and all its descendants, with what the kernel says of each.
fn family(leader: Pid) -> BTreeMap<Pid, Stat> {
    let mut all = BTreeMap::new();
    let mut next = vec![leader];
    while let Some(pid) = next.pop()
        && all.len() < PROCESSES_MAX
    {
        if !all.contains_key(&pid)
            && let Some(stat) = stat(pid)
        {
            let threads = if stat.num_threads == 1 { vec![pid] } else { threads(pid) };
            next.extend(threads.into_iter().flat_map(|thread| children_of(pid, thread)));
            all.insert(pid, stat);
        }
    }
    all
}

fn is_there(pid: Pid) -> bool {
    fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
}

/// Children of every thread: a child belongs to the thread that forked it.
fn children(pid: Pid) -> Vec<Pid> {
    threads(pid).into_iter().flat_map(|thread| children_of(pid, thread)).collect()
}

fn threads(pid: Pid) -> Vec<Pid> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).map(Pid).collect()
}

fn children_of(pid: Pid, thread: Pid) -> Vec<Pid> {
    let list = contents(&format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
    pids(&String::from_utf8_lossy(&list))
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

/// What `proc_pid_stat(5)` says; `None` for a process that is gone.
fn stat(pid: Pid) -> Option<Stat> {
    Stat::from_read(contents(&format!("/proc/{pid}/stat"))?.as_slice()).ok()
}

/// Whether a process is more than dead and waiting for its parent to notice.
fn lives(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X')
}

/// How many descriptors a process has open: since Linux 6.2 the folder's size, before that to be
/// counted.
fn descriptors(pid: Pid) -> u32 {
    let folder = format!("/proc/{pid}/fd");
    let size = fs::metadata(&folder).map_or(0, |it| it.len());
    let count = match usize::try_from(size) {
        Ok(size) if size > 0 => size,
        Ok(_) | Err(_) => fs::read_dir(&folder).map_or(0, Iterator::count),
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// All of a file of `/proc`, whose size nobody knows before; most take one read.
fn contents(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(CONTENTS_BYTES);
    let file = fs::File::open(path).ok()?;
    file.take(CONTENTS_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
