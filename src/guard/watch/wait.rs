//! Sleeping until something happens.

use std::collections::BTreeSet;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{Duration, Leader, Process, Tree, Watch, sys};
use crate::guard::wire::Role;

/// What polling saw; everything else is looked at in any case.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The daemon that started us has ended.
    pub(super) senior: bool,
    /// Labels of wards with news.
    pub(super) wards: BTreeSet<String>,
    /// Labels of workers one of whose threads waits for an answer.
    pub(super) asking: Vec<String>,
    /// Labels of workers none of whose threads will ever again.
    pub(super) silent: Vec<String>,
}

impl Watch {
    /// Sleeps until something happens or is due.
    pub(super) fn wait(&self) -> Ready {
        let mut ready = Ready::default();
        let bell = self.looks.bell();
        let mut fds =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&bell, PollFlags::IN)];
        if let Some(socket) = &self.keeper.socket {
            fds.push(PollFd::new(socket, self.socket_interest(socket.mid_frame())));
        }
        let senior = fds.len();
        if let Process::Senior(pidfd) = &self.keeper.process {
            fds.push(PollFd::new(pidfd, PollFlags::IN));
        }
        let first_ward = fds.len();
        let mut wards = Vec::new();
        for worker in self.table.iter() {
            if let Leader::Ward(ward) = &worker.leader {
                fds.push(PollFd::new(&ward.pidfd, ward.interest()));
                wards.push(&worker.life.label);
            }
        }
        let first_trap = fds.len();
        let mut traps = Vec::new();
        for worker in self.table.iter() {
            let label = &worker.life.label;
            let trap = worker.fds.get(&Role::Trap).filter(|_| !self.looks.is_busy(label));
            if let Some(trap) = trap {
                fds.push(PollFd::new(trap, PollFlags::IN));
                traps.push(label);
            }
        }
        for worker in self.table.iter().filter(|worker| worker.lingers()) {
            fds.extend(worker.events.as_ref().map(|file| PollFd::new(file, PollFlags::PRI)));
        }
        let timeout = self.timeout();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return ready,
        }
        let news = |fd: &PollFd<'_>| !fd.revents().is_empty();
        ready.senior = first_ward > senior && fds.get(senior).is_some_and(news);
        let with_news = fds.iter().skip(first_ward).zip(wards).filter(|(fd, _)| news(fd));
        ready.wards = with_news.map(|(_, label)| label.clone()).collect();
        for (fd, label) in fds.iter().skip(first_trap).zip(traps) {
            let events = fd.revents();
            if events.contains(PollFlags::IN) {
                ready.asking.push(label.clone());
            } else if !events.is_empty() {
                ready.silent.push(label.clone());
            }
        }
        ready
    }

    fn socket_interest(&self, mid_frame: bool) -> PollFlags {
        let mut interest = PollFlags::empty();
        if !self.outbox.is_full() {
            interest |= PollFlags::IN;
        }
        if (mid_frame || !self.outbox.is_empty()) && self.starved_until.is_none() {
            interest |= PollFlags::OUT;
        }
        interest
    }

    /// Time until the next thing is due; `None` if nothing is.
    fn timeout(&self) -> Option<Timespec> {
        let census = |worker: &super::Worker| match &worker.tree {
            Tree::Session(_) => Some(self.next_census),
            Tree::Cgroup(_) if worker.sentence == super::Sentence::Death => {
                Some(sys::monotonic_now() + super::CENSUS_MIN)
            }
            Tree::Cgroup(_) => None,
        };
        let trees = self.table.iter().filter(|worker| worker.lingers()).filter_map(census).min();
        let wards = self.table.iter().filter_map(|worker| match &worker.leader {
            Leader::Ward(ward) => ward.deadline(),
            Leader::Child | Leader::Ended => None,
        });
        let dues = [self.keeper.deadline(), self.starved_until, trees, wards.min()];
        let due: Duration = dues.into_iter().flatten().min()?;
        let left = due.saturating_sub(sys::monotonic_now());
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }
}
