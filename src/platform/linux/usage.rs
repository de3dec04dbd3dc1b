//! What a worker's process tree uses: CPU, memory, descriptors, threads, processes.
//!
//! A [`Meter`] follows one worker at two speeds. [`Depth::Cpu`] reads one CPU clock for each
//! process it knows and opens no file. [`Depth::Full`] looks for new processes and reads memory,
//! descriptors and threads as well.
//!
//! CPU never runs backwards. Where the kernel keeps books for us ([`super::bpf::books`]) it is
//! what they say, which is all there is to know but for what was used before they were opened.
//! With a cgroup it is the group's own `cpu.stat`, which counts every process that ever was in it.
//! Without either it is kept in a ledger of two accounts:
//!
//! - the clocks of the processes alive, plus the last reading of each one that is gone;
//! - at each full sample, the clocks of those alive plus what they inherited from children they
//!   waited for (`cutime` and `cstime` of `proc_pid_stat(5)`, in steps of 10 ms).
//!
//! Both are at most the truth, so the higher one counts. What can be lost is the time of
//! processes that nobody waited for and that we never read again. Where no other process's clock
//! can be read, `proc_pid_stat(5)` stands in for it, in its steps.
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
use super::bpf::books::Booked;
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

/// Deepest cgroups of a worker's own whose processes are counted.
const CGROUP_DEPTH_MAX: usize = 16;

/// Who is asked for the CPU time of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// Its CPU clock, to the nanosecond: `clock_getcpuclockid(3)`.
    #[default]
    Process,
    /// `proc_pid_stat(5)`, in steps of 10 ms.
    Stat,
}

impl Clock {
    /// The better one that works here.
    #[must_use]
    pub fn best() -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        if process_cpu(Pid(own)).is_some() { Self::Process } else { Self::Stat }
    }

    fn read(self, pid: Pid) -> Option<Duration> {
        match self {
            Self::Process => process_cpu(pid),
            Self::Stat => Some(Share::ticked(&stat(pid)?)),
        }
    }

    /// As [`Self::read`], of a process of which `stat` is known.
    fn of(self, pid: Pid, stat: &Stat) -> Option<Duration> {
        match self {
            Self::Process => process_cpu(pid),
            Self::Stat => Some(Share::ticked(stat)),
        }
    }
}

/// Measures one worker from its first breath to its last.
#[derive(Debug)]
pub struct Meter {
    leader: Pid,
    cgroup: Option<PathBuf>,
    clock: Clock,
    ledger: Ledger,
    /// What was last found without books.
    last: Usage,
    /// The highest CPU time booked, with what was used before.
    booked: Duration,
    /// What the cgroup knows and the books do not, once that is known.
    before_books: Option<Duration>,
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
            clock: Clock::default(),
            ledger: Ledger::default(),
            last: Usage::default(),
            booked: Duration::ZERO,
            before_books: None,
            divided: Default::default(),
        }
    }

    /// Asks `clock`.
    #[must_use]
    pub fn by(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Follows everything in the cgroup2 directory `cgroup`, which `leader` was started in.
    #[must_use]
    pub fn cgroup(leader: Pid, cgroup: &Path) -> Self {
        Self { cgroup: Some(cgroup.to_owned()), ..Self::tree(leader) }
    }

    /// Measures now; `None` once no process is left. `booked` is what the kernel's books say of
    /// the worker if there are any, and spares [`Depth::Cpu`] every look at the processes.
    ///
    /// The first call is always full.
    pub fn measure(&mut self, depth: Depth, booked: Option<Booked>) -> Option<Usage> {
        let usage = match depth {
            Depth::Cpu if self.last.processes == 0 => self.full(),
            Depth::Cpu if booked.is_some() => Some(self.last),
            Depth::Cpu => self.cpu(),
            Depth::Full => self.full(),
        };
        let mut usage = usage?;
        if let Some(booked) = booked {
            let known = if self.cgroup.is_some() { usage.cpu } else { Duration::ZERO };
            let before = *self.before_books.get_or_insert_with(|| known.saturating_sub(booked.cpu));
            self.booked = self.booked.max(before + booked.cpu);
            usage.cpu = self.booked;
            usage.scheduling = Some(booked.scheduling);
        } else {
            usage.cpu = usage.cpu.max(self.booked);
        }
        let (user, system) = self.divided(usage.cpu);
        (usage.user, usage.system) = (Some(user), Some(system));
        Some(usage)
    }

    /// User and system time of all that was used. Neither books nor clocks tell them apart, so what
    /// is new is divided as the cgroup or the ledger has it, whose own sum is older or in ticks;
    /// neither ever falls, and they add up.
    fn divided(&mut self, cpu: Duration) -> (Duration, Duration) {
        let of = |it: Option<Duration>| it.unwrap_or_default();
        let (of_user, of_system) = (of(self.last.user), of(self.last.system));
        let (user, system) = &mut self.divided;
        let left = |all: Duration, past: Duration| all.saturating_sub(past).as_secs_f64();
        let (new_user, new_system) = (left(of_user, *user), left(of_system, *system));
        let (of_user, of_all) = if new_user + new_system > 0.0 {
            (new_user, new_user + new_system)
        } else {
            (of_user.as_secs_f64(), (of_user + of_system).as_secs_f64())
        };
        let share = if of_all > 0.0 { of_user / of_all } else { 1.0 };
        let new = cpu.saturating_sub(*user + *system);
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
        self.ledger.tick(|pid| self.clock.read(pid));
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
            let Some(cpu) = self.clock.of(pid, &stat) else { continue };
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

/// Who is in a cgroup or in one below it.
fn cgroup_members(cgroup: &Path) -> BTreeSet<Pid> {
    let mut members = BTreeSet::new();
    let mut level = vec![cgroup.to_owned()];
    for _ in 0..CGROUP_DEPTH_MAX {
        for folder in &level {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            let room = PROCESSES_MAX.saturating_sub(members.len());
            members.extend(pids(&list).into_iter().take(room));
        }
        level = level.iter().flat_map(|it| folders(it)).collect();
    }
    members
}

fn folders(path: &Path) -> Vec<PathBuf> {
    // Each folder is a link to the one it is in, which has two of its own.
    let links = fs::metadata(path).map_or(0, |it| std::os::unix::fs::MetadataExt::nlink(&it));
    if links <= 2 {
        return Vec::new();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()).collect()
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

/// Whether this kernel keeps an account of the cgroup `cgroup`.
pub(super) fn has_account(cgroup: &Path) -> bool {
    cpu_stat(cgroup).is_some()
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
