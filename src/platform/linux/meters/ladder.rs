//! The best way to measure CPU time that this machine offers, and why not a better one.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use crate::{
    domain::{Pid, WorkerId},
    guard,
    platform::linux::{
        bpf::{Refusal, books::Books},
        doors::Held,
        usage::{self, Clock, Meter},
    },
};

/// Environment variable that names the best rung to be used, by its [`Rung::word`].
const CHOICE: &str = "BUNPILOT_CPU";

/// Ways to measure the CPU time of a worker, from the worst up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::platform::linux) enum Rung {
    /// What `/proc` says of each process.
    Proc,
    /// The CPU clock of each process.
    Clocks,
    /// What the kernel adds up for the worker's cgroup.
    Cgroup,
    /// What a program in the kernel adds up.
    Ebpf,
}

impl Rung {
    const ALL: [Self; 4] = [Self::Proc, Self::Clocks, Self::Cgroup, Self::Ebpf];

    /// As it is called in metrics and in [`CHOICE`].
    pub(in crate::platform::linux) const fn word(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::Clocks => "clocks",
            Self::Cgroup => "cgroup",
            Self::Ebpf => "ebpf",
        }
    }

    /// The best one anybody wants, and who said so.
    fn wanted() -> (Self, Option<String>) {
        let Ok(word) = env::var(CHOICE) else { return (Self::Ebpf, None) };
        if let Some(rung) = Self::ALL.into_iter().find(|it| it.word() == word) {
            let limit = (rung < Self::Ebpf).then(|| format!("`{CHOICE}` is `{word}`"));
            return (rung, limit);
        }
        let words = Self::ALL.map(Self::word).join("`, `");
        tracing::warn!("`{CHOICE}` is `{word}`, which is none of `{words}`");
        (Self::Ebpf, None)
    }
}

/// Where we stand.
#[derive(Debug)]
pub(super) struct Ladder {
    pub(super) books: Option<Books>,
    pub(super) clock: Clock,
    /// The home of workers that have cgroups.
    cgroups: Option<PathBuf>,
    rung: Rung,
    /// What is wrong with each better rung.
    why: Vec<String>,
}

impl Ladder {
    /// Tries each rung from the best down. Books are those that were `kept`, if they were.
    pub(super) fn climb(
        kept: &mut Held,
        alive: impl IntoIterator<Item = Pid>,
        trees: guard::wire::Rung,
        home: &Path,
    ) -> Self {
        let (best, limit) = Rung::wanted();
        let mut why: Vec<String> = limit.into_iter().collect();
        let books = (best >= Rung::Ebpf).then(|| Books::open(kept, alive)).and_then(|it| {
            it.map_err(|refusal| {
                tell(&refusal);
                why.push(refusal.to_string());
            })
            .ok()
        });
        let has_account = || guard::home_folder(home).is_some_and(|it| usage::has_account(&it));
        let cgroups = (best >= Rung::Cgroup && trees == guard::wire::Rung::Cgroup && has_account())
            .then(|| home.to_owned());
        let clock = if best >= Rung::Clocks { Clock::best() } else { Clock::Stat };
        let rung = match (&books, &cgroups, clock) {
            (Some(_), _, _) => Rung::Ebpf,
            (None, Some(_), _) => Rung::Cgroup,
            (None, None, Clock::Process) => Rung::Clocks,
            (None, None, Clock::Stat) => Rung::Proc,
        };
        if best >= Rung::Cgroup && rung < Rung::Cgroup {
            why.push("workers have no cgroups of their own".to_owned());
        }
        if best >= Rung::Clocks && rung < Rung::Clocks {
            why.push("clocks of other processes cannot be read".to_owned());
        }
        Self { books, clock, cgroups, rung, why }
    }

    pub(super) fn rung(&self) -> Rung {
        self.rung
    }

    /// A meter for a worker that may have no seat in the books.
    pub(super) fn meter(&self, worker: WorkerId, pid: Pid) -> Meter {
        let home = self.cgroups.as_deref();
        let cgroup = home.and_then(|it| guard::worker_folder(it, &worker.to_string(), pid));
        let meter = cgroup.map_or_else(|| Meter::tree(pid), |it| Meter::cgroup(pid, &it));
        meter.by(self.clock)
    }
}

/// Says once why the kernel keeps no books; what an operator chose is no news to them.
fn tell(refusal: &Refusal) {
    match refusal {
        Refusal::Off { .. } => (),
        why @ Refusal::Forbidden => tracing::info!(%why, "the kernel books no CPU time"),
        why @ (Refusal::Network
        | Refusal::NoCgroups
        | Refusal::NoTypes
        | Refusal::NoField(_)
        | Refusal::Kernel { .. }
        | Refusal::Loader { .. }) => tracing::warn!(%why, "the kernel books no CPU time"),
    }
}

/// For people: what it is, and what is wrong with what would be better.
impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.rung {
            Rung::Proc => "/proc, in steps of 10 ms",
            Rung::Clocks => "clocks of processes",
            Rung::Cgroup => "cgroup2 cpu.stat",
            Rung::Ebpf => "eBPF sched_switch",
        })?;
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why.join("; ")) }
    }
}
