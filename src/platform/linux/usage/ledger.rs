//! CPU time of a tree that grows and shrinks, as a sum that never falls.

use std::{collections::BTreeMap, time::Duration};

use procfs::process::Stat;

use super::Account;
use crate::domain::Pid;

/// One process at its last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Its clock.
    pub(super) cpu: Duration,
    /// User time of it and of children it waited for.
    pub(super) user: Duration,
    /// System time of it and of children it waited for.
    pub(super) system: Duration,
    /// CPU time of children it waited for.
    pub(super) inherited: Duration,
    /// When it started, in clock ticks since boot: tells it from a later process of its number.
    pub(super) started: u64,
}

impl Share {
    /// What `stat` and the clock `cpu` say of one process.
    pub(super) fn of(stat: &Stat, cpu: Duration) -> Self {
        let children = (stat.cutime.unsigned_abs(), stat.cstime.unsigned_abs());
        Self {
            cpu,
            user: ticks(stat.utime + children.0),
            system: ticks(stat.stime + children.1),
            inherited: ticks(children.0 + children.1),
            started: stat.starttime,
        }
    }

    /// What `stat` says of one process without the children it waited for.
    pub(super) fn ticked(stat: &Stat) -> Duration {
        ticks(stat.utime + stat.stime)
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000) / procfs::ticks_per_second().max(1))
}

/// The processes alive and what those before them used.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    alive: BTreeMap<Pid, Share>,
    /// What processes used that are no longer read.
    retired: Duration,
    /// The highest sum of user time seen.
    user: Duration,
    /// The highest sum of system time seen.
    system: Duration,
}

impl Ledger {
    pub(super) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Reads the clock of each process known; who has none any more is retired.
    pub(super) fn tick(&mut self, clock: impl Fn(Pid) -> Option<Duration>) {
        let retired = &mut self.retired;
        self.alive.retain(|&pid, share| match clock(pid) {
            // A clock that ran back is another process's.
            Some(cpu) if cpu >= share.cpu => {
                share.cpu = cpu;
                true
            }
            Some(_) | None => {
                *retired += share.cpu;
                false
            }
        });
    }

    /// Replaces the processes known by those alive now.
    pub(super) fn settle(&mut self, alive: BTreeMap<Pid, Share>) {
        for (pid, share) in &self.alive {
            let goes_on = alive.get(pid).is_some_and(|now| now.started == share.started);
            if !goes_on {
                self.retired += share.cpu;
            }
        }
        self.alive = alive;
        // The second account: what parents inherited says more than our last look at the children.
        let inherited: Duration = self.alive.values().map(|share| share.inherited).sum();
        self.retired = self.retired.max(inherited);
        self.user = self.user.max(self.alive.values().map(|share| share.user).sum());
        self.system = self.system.max(self.alive.values().map(|share| share.system).sum());
    }

    pub(super) fn total(&self) -> Duration {
        self.retired + self.alive.values().map(|share| share.cpu).sum::<Duration>()
    }

    pub(super) fn account(&self) -> Account {
        Account { cpu: self.total(), user: Some(self.user), system: Some(self.system) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn share(cpu: u32, inherited: u32, started: u64) -> Share {
        Share { cpu: MS * cpu, inherited: MS * inherited, started, ..Share::default() }
    }

    #[track_caller]
    fn check(ledger: &Ledger, millis: u32) {
        assert_eq!(ledger.total(), MS * millis);
    }

    #[test]
    fn a_child_that_ends_takes_nothing_away() {
        let mut ledger = Ledger::default();
        ledger.settle(BTreeMap::from([(Pid(1), share(100, 0, 1)), (Pid(2), share(50, 0, 2))]));
        check(&ledger, 150);
        ledger.tick(|pid| (pid == Pid(1)).then_some(MS * 110));
        check(&ledger, 160);
        // Its parent waited for it and knows it used 70 by the end: counted once, in full.
        ledger.settle(BTreeMap::from([(Pid(1), share(120, 70, 1))]));
        check(&ledger, 190);
    }

    #[test]
    fn a_child_nobody_waited_for_counts_as_last_read() {
        let mut ledger = Ledger::default();
        ledger.settle(BTreeMap::from([(Pid(1), share(10, 0, 1)), (Pid(2), share(50, 0, 2))]));
        ledger.settle(BTreeMap::from([(Pid(1), share(10, 0, 1))]));
        check(&ledger, 60);
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let mut ledger = Ledger::default();
        ledger.settle(BTreeMap::from([(Pid(1), share(10, 0, 1)), (Pid(2), share(50, 0, 2))]));
        ledger.settle(BTreeMap::from([(Pid(1), share(10, 0, 1)), (Pid(2), share(80, 0, 9))]));
        check(&ledger, 140);
        ledger.tick(|pid| Some(if pid == Pid(2) { MS } else { MS * 10 }));
        check(&ledger, 140);
    }

    proptest! {
        #[test]
        fn never_falls(trees in proptest::collection::vec(
            proptest::collection::btree_map(1..6_i32, (0_u32..1000, 0_u32..1000, 0_u64..3), 0..5),
            1..20,
        )) {
            let mut ledger = Ledger::default();
            let mut highest = Duration::ZERO;
            for tree in trees {
                let alive: BTreeMap<Pid, Share> = tree
                    .into_iter()
                    .map(|(pid, (cpu, inherited, started))| {
                        // A real clock never runs back.
                        let floor = ledger.alive.get(&Pid(pid)).filter(|old| old.started == started);
                        let mut share = share(cpu, inherited, started);
                        share.cpu = share.cpu.max(floor.map_or(Duration::ZERO, |old| old.cpu));
                        (Pid(pid), share)
                    })
                    .collect();
                ledger.settle(alive);
                prop_assert!(ledger.total() >= highest);
                highest = ledger.total();
            }
        }
    }
}
