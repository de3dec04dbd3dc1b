//! What each order does.

use std::borrow::Cow;

use super::{
    BTreeMap, Exit, Leader, OwnedFd, Pending, Rule, Sentence, VecDeque, Ward, Watch, Worker, say,
    tree,
};
use crate::guard::{
    harmless,
    launch::launch,
    wire::{Life, Order, Role, Spawn},
};
use crate::world::Reach;

impl Watch {
    /// Carries out up to `orders_max` orders that have arrived, unless the daemon is too slow to
    /// hear what came of the ones before.
    pub(super) fn obey(&mut self, orders_max: usize) {
        if self.outbox.is_full() {
            return;
        }
        let mut frames = VecDeque::new();
        self.keeper.receive(&mut frames, orders_max);
        for (body, fds) in frames {
            match Order::decode(&body) {
                Ok(order) => self.carry_out(order, fds),
                Err(error) => say(format_args!("cannot understand an order: {error}")),
            }
        }
    }

    fn carry_out(&mut self, order: Order, mut fds: Vec<OwnedFd>) {
        match order {
            Order::Inventory => self.take_inventory(),
            Order::Spawn(spawn) => self.spawn(*spawn),
            Order::Adopt(life, roles) => self.adopt(life, roles, fds),
            Order::Signal { label, signal, reach: Reach::Leader } => {
                if let Some(worker) = self.table.find(&label) {
                    worker.signal_leader(signal);
                }
            }
            Order::Signal { label, signal, reach: Reach::Tree } => self.signal_tree(&label, signal),
            Order::Note { label, note } => {
                if let Some(worker) = self.table.find_mut(&label) {
                    worker.life.note = note;
                }
            }
            Order::Forget { label } => self.forget(&label),
            Order::Hold { key } => {
                if let Some(fd) = fds.pop() {
                    self.held.insert(key, fd);
                }
            }
            Order::Release { key } => drop(self.held.remove(&key)),
            Order::Exit => self.keeper.rule = Rule::Leaving,
        }
    }

    fn take_inventory(&mut self) {
        self.keeper.rule = self.keeper.rule.max(Rule::Control);
        let (rung, nofile_soft) = (self.forest.rung(), self.nofile.soft);
        let end = Pending::InventoryEnd { rung, nofile_soft };
        self.outbox.inventory(&self.table, &self.held, end);
        if let Some(signal) = self.keeper.pending.take() {
            self.keeper.signal(signal);
        }
    }

    fn spawn(&mut self, spawn: Spawn) {
        let label = spawn.label.clone();
        let outcome = match self.table.find(&label) {
            Some(_) => Err(format!("a worker `{label}` exists already")),
            None => launch(spawn, &self.held, &self.forest, self.nofile),
        };
        match outcome {
            Ok(launched) => {
                let untrapped = launched.untrapped;
                self.table.insert(Worker {
                    life: launched.life,
                    fds: launched.fds,
                    tree: launched.tree,
                    leader: Leader::Child,
                    events: None,
                    sentence: Sentence::None,
                });
                self.notify(Pending::Worker(label.clone()));
                if let Some(reason) = untrapped {
                    self.notify(Pending::Untrapped { label, reason });
                }
            }
            Err(reason) => self.notify(Pending::SpawnFailed { label, reason }),
        }
    }

    fn adopt(&mut self, life: Life, roles: Vec<Role>, fds: Vec<OwnedFd>) {
        let label = life.label.clone();
        if self.table.find(&label).is_some() {
            return;
        }
        let fds: BTreeMap<_, _> = roles.into_iter().zip(fds).collect();
        let tree = self.forest.find(&label);
        let (leader, events, sentence) = (Leader::Ended, None, Sentence::None);
        let mut worker = Worker { life, fds, tree, leader, events, sentence };
        let process = tree::same_process(worker.life.pid, worker.life.started_ticks);
        match (worker.life.exit, process.and_then(|process| process.open())) {
            (None, Some(pidfd)) => worker.leader = Leader::Ward(Ward::new(pidfd)),
            (exit, _) => worker.ended(exit.unwrap_or(Exit::Unknown)),
        }
        self.table.insert(worker);
        self.notify(Pending::Worker(label));
    }

    fn forget(&mut self, label: &str) {
        let Some(worker) = self.table.forget(label) else { return };
        let path = worker.fds.get(&Role::Notify).and_then(|socket| {
            let address = rustix::net::getsockname(socket).ok()?;
            let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
            address.path().map(Cow::into_owned)
        });
        if let Some(path) = path {
            // it may be gone together with its folder
            harmless(rustix::fs::unlink(path));
        }
    }
}
