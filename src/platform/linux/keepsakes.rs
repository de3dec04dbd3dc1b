//! Copies of all that the guard keeps for us, so that another guard can be given it.
//!
//! Decides nothing; costs five descriptors for each worker.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    domain::{Exit, WorkerId},
    guard::wire::{Life, Order, Role},
};

/// What the guard keeps, as we know it.
#[derive(Debug, Default)]
pub(super) struct Keepsakes {
    workers: BTreeMap<WorkerId, Keepsake>,
    sockets: BTreeMap<String, OwnedFd>,
}

#[derive(Debug)]
struct Keepsake {
    life: Life,
    fds: Vec<(Role, OwnedFd)>,
}

impl Keepsakes {
    /// Remembers a worker. A descriptor that cannot be copied is lost with the guard.
    pub(super) fn worker(&mut self, worker: WorkerId, life: &Life, fds: &BTreeMap<Role, OwnedFd>) {
        let copies = fds.iter().filter_map(|(role, fd)| Some((*role, copy(fd, "worker")?)));
        let keepsake = Keepsake { life: life.clone(), fds: copies.collect() };
        self.workers.insert(worker, keepsake);
    }

    /// The worker's note has changed.
    pub(super) fn note(&mut self, worker: WorkerId, note: &str) {
        if let Some(keepsake) = self.workers.get_mut(&worker) {
            note.clone_into(&mut keepsake.life.note);
        }
    }

    /// The worker listens on a held socket.
    pub(super) fn listens(&mut self, worker: WorkerId, key: String) {
        let life = self.workers.get_mut(&worker).map(|it| &mut it.life);
        if let Some(life) = life.filter(|life| !life.listens.contains(&key)) {
            life.listens.push(key);
        }
    }

    /// The worker's process ended; true if that is news.
    pub(super) fn exited(&mut self, worker: WorkerId, exit: Exit) -> bool {
        let life = self.workers.get_mut(&worker).map(|it| &mut it.life);
        life.is_some_and(|life| life.exit.replace(exit).is_none())
    }

    /// Nothing is left of the worker; true if that is news.
    pub(super) fn gone(&mut self, worker: WorkerId) -> bool {
        let life = self.workers.get_mut(&worker).map(|it| &mut it.life);
        life.is_some_and(|life| !std::mem::replace(&mut life.gone, true))
    }

    /// Forgets a worker.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// Remembers a socket.
    pub(super) fn socket(&mut self, key: &str, fd: &impl AsFd) {
        if let Some(copy) = copy(fd, key) {
            self.sockets.insert(key.to_owned(), copy);
        }
    }

    /// Forgets a socket.
    pub(super) fn release(&mut self, key: &str) {
        self.sockets.remove(key);
    }

    /// The orders that tell another guard everything, with the descriptors that go along.
    pub(super) fn testament(&self) -> Vec<(Order, Vec<OwnedFd>)> {
        let sockets = self
            .sockets
            .iter()
            .filter_map(|(key, fd)| Some((Order::Hold { key: key.clone() }, vec![copy(fd, key)?])));
        let workers = self.workers.values().map(|it| {
            let copies = it.fds.iter().filter_map(|(role, fd)| Some((*role, copy(fd, "worker")?)));
            let (roles, fds) = copies.unzip();
            (Order::Adopt(it.life.clone(), roles), fds)
        });
        sockets.chain(workers).collect()
    }
}

fn copy(fd: &impl AsFd, what: &str) -> Option<OwnedFd> {
    match fd.as_fd().try_clone_to_owned() {
        Ok(copy) => Some(copy),
        Err(error) => {
            tracing::warn!(what, %error, "no copy of a descriptor; it is lost if the guard dies");
            None
        }
    }
}
