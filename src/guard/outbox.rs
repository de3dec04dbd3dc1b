//! Notices that wait to be sent.
//!
//! Decides their order. Holds names, not contents: what a notice says is read from the table at
//! the moment it is sent, so a daemon that does not read costs a few bytes per worker.

use std::collections::{BTreeMap, VecDeque};

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{
    table::Table,
    wire::{Notice, Rung},
};

/// One notice to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Worker(String),
    SpawnFailed { label: String, reason: String },
    Exited(String),
    Gone(String),
    Took { label: String, key: String },
    Untrapped { label: String, reason: String },
    Held(String),
    InventoryEnd { rung: Rung, nofile_soft: Option<u64> },
}

/// Notices that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<Pending>);

/// How many may wait before no further orders are taken. An inventory and the ends of workers
/// can add to them; both are bounded by the number of workers.
pub(super) const WAITING_MAX: usize = 1024;

impl Outbox {
    pub(super) fn push(&mut self, pending: Pending) {
        self.0.push_back(pending);
    }

    /// Drops the first, which is sent, and what it said already.
    pub(super) fn pop(&mut self) {
        if let Some(Pending::Worker(sent)) = self.0.pop_front() {
            self.0.retain(|pending| match pending {
                Pending::Exited(label) | Pending::Gone(label) => *label != sent,
                Pending::Worker(_)
                | Pending::SpawnFailed { .. }
                | Pending::Took { .. }
                | Pending::Untrapped { .. }
                | Pending::Held(_)
                | Pending::InventoryEnd { .. } => true,
            });
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= WAITING_MAX
    }

    /// Everything there is to tell, in place of all that waited.
    pub(super) fn inventory(
        &mut self,
        table: &Table,
        held: &BTreeMap<String, OwnedFd>,
        end: Pending,
    ) {
        self.clear();
        self.0.extend(table.labels().map(Pending::Worker));
        self.0.extend(held.keys().cloned().map(Pending::Held));
        self.push(end);
    }

    /// The first notice with its descriptors; those that have become pointless are dropped.
    pub(super) fn first<'a>(
        &mut self,
        table: &'a Table,
        held: &'a BTreeMap<String, OwnedFd>,
    ) -> Option<(Vec<u8>, Vec<BorrowedFd<'a>>)> {
        loop {
            if let Some((notice, fds)) = compose(self.0.front()?, table, held) {
                return Some((notice.encode(), fds));
            }
            self.pop();
        }
    }
}

/// `None` if whom it is about was forgotten meanwhile.
fn compose<'a>(
    pending: &Pending,
    table: &'a Table,
    held: &'a BTreeMap<String, OwnedFd>,
) -> Option<(Notice, Vec<BorrowedFd<'a>>)> {
    let alone = |notice| Some((notice, Vec::new()));
    match pending {
        Pending::Worker(label) => {
            let worker = table.find(label)?;
            let roles = worker.fds.keys().copied().collect();
            let fds = worker.fds.values().map(|fd| fd.as_fd()).collect();
            Some((Notice::Worker(worker.life.clone(), roles), fds))
        }
        Pending::SpawnFailed { label, reason } => {
            alone(Notice::SpawnFailed { label: label.clone(), reason: reason.clone() })
        }
        Pending::Exited(label) => {
            let exit = table.find(label)?.life.exit?;
            alone(Notice::Exited { label: label.clone(), exit })
        }
        Pending::Gone(label) => {
            table.find(label)?;
            alone(Notice::Gone { label: label.clone() })
        }
        Pending::Took { label, key } => {
            let notice = Notice::Took { label: label.clone(), key: key.clone() };
            Some((notice, vec![held.get(key)?.as_fd()]))
        }
        Pending::Untrapped { label, reason } => {
            alone(Notice::Untrapped { label: label.clone(), reason: reason.clone() })
        }
        Pending::Held(key) => {
            Some((Notice::Held { key: key.clone() }, vec![held.get(key)?.as_fd()]))
        }
        Pending::InventoryEnd { rung, nofile_soft } => {
            alone(Notice::InventoryEnd { rung: *rung, nofile_soft: *nofile_soft })
        }
    }
}
