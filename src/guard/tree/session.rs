//! Who belongs to a worker where there is no cgroup.
//!
//! Quiet. Decides from one look at all processes: a worker's are its leader, all of the session
//! and process group the leader began, those that carry the worker's mark in their environment,
//! and all descendants of these.

use std::collections::{BTreeMap, BTreeSet};

use crate::guard::procfs::{Process, Pulse};

/// All processes at one moment.
#[derive(Debug)]
pub(in crate::guard) struct Census {
    processes: BTreeMap<i32, Process>,
    children: BTreeMap<i32, Vec<i32>>,
}

impl Census {
    pub(in crate::guard) fn new(processes: Vec<Process>) -> Self {
        let mut children = BTreeMap::<i32, Vec<i32>>::new();
        for process in &processes {
            children.entry(process.parent).or_default().push(process.pid);
        }
        let processes = processes.into_iter().map(|process| (process.pid, process)).collect();
        Self { processes, children }
    }

    /// Every living process of the worker that `leader` began at `started_ticks`.
    ///
    /// `marked` looks whether a process carries the worker's mark. `others` (the guard, the
    /// daemon, other workers' leaders) and what descends from them are never members.
    pub(in crate::guard) fn members(
        &self,
        (leader, started_ticks): (i32, u64),
        others: &BTreeSet<i32>,
        mut marked: impl FnMut(&Process) -> bool,
    ) -> Vec<Process> {
        // A number is not given to a new process while a session or group still has it. So if
        // somebody else is the leader's number now, nobody of its session is left.
        let reused = self.processes.get(&leader).is_some_and(|p| p.started_ticks != started_ticks);
        let mut found = BTreeSet::new();
        for process in self.processes.values() {
            let by_number = !reused && (process.session == leader || process.group == leader);
            if process.started_ticks >= started_ticks
                && !found.contains(&process.pid)
                && !others.contains(&process.pid)
                && (by_number || marked(process))
            {
                self.with_descendants(process.pid, others, &mut found);
            }
        }
        let alive = |process: &Process| process.pulse == Pulse::Alive;
        found.iter().filter_map(|pid| self.processes.get(pid)).copied().filter(alive).collect()
    }

    fn with_descendants(&self, pid: i32, others: &BTreeSet<i32>, found: &mut BTreeSet<i32>) {
        let mut todo = vec![pid];
        while let Some(pid) = todo.pop() {
            if !others.contains(&pid) && found.insert(pid) {
                todo.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        let started_ticks = 100;
        Process { pid, parent, group: session, session, started_ticks, pulse: Pulse::Alive }
    }

    #[track_caller]
    fn check(processes: &[Process], marked: &[i32], expected: &[i32]) {
        let census = Census::new(processes.to_vec());
        let others = BTreeSet::from([1, 2, 20]);
        let members = census.members((10, 100), &others, |p| marked.contains(&p.pid));
        assert_eq!(members.iter().map(|p| p.pid).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn members() {
        let guard = process(2, 1, 2);
        let leader = process(10, 2, 10);
        let other = [process(20, 2, 20), process(21, 20, 20)];
        check(&[guard, leader, other[0], other[1]], &[], &[10]);
        // a kid; a kid with a session of its own, and that one's kid
        let kids = [process(11, 10, 10), process(12, 11, 12), process(13, 12, 13)];
        check(&[guard, leader, kids[0], kids[1], kids[2], other[0]], &[], &[10, 11, 12, 13]);
        // the leader is dead and its kids are the guard's: one by session, one by mark
        let orphans = [process(11, 2, 10), process(12, 2, 12), process(14, 12, 14)];
        check(&[guard, orphans[0], orphans[1], orphans[2], other[0]], &[12], &[11, 12, 14]);
        // a zombie is nobody, but its kids are somebody
        let zombie = Process { pulse: Pulse::Zombie, ..leader };
        check(&[guard, zombie, kids[0]], &[], &[11]);
    }

    #[test]
    fn strangers_are_never_members() {
        let guard = process(2, 1, 2);
        // the leader's number is a stranger's now
        let stranger = Process { started_ticks: 200, ..process(10, 1, 10) };
        let theirs = Process { started_ticks: 201, ..process(11, 10, 10) };
        check(&[guard, stranger, theirs], &[], &[]);
        // older than the worker, whatever it claims
        let old = Process { started_ticks: 99, ..process(12, 1, 12) };
        check(&[guard, old], &[12], &[]);
    }
}
