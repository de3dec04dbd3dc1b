//! How connections reach the workers of each app: the best way this machine offers, and one face
//! for all of them.
//!
//! 1. [`Balanced`]: workers open the port themselves, programs in the kernel make them share it
//!    and choose. Asks nothing of the program that runs.
//! 2. [`Listeners`]: workers open the port themselves and find a socket of the guard's in the
//!    place of theirs. Needs no privilege, and asks nothing either.
//! 3. [`Listeners`], too: workers inherit sockets of ours (strategy `inherit`).
//! 4. None of them: workers share the port if they can, the kernel chooses by its hash, and nobody
//!    can be probed or drained alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    os::fd::OwnedFd,
    path::Path,
};

use super::{
    balanced::{Balanced, Kept},
    bpf::{Refusal, gate::Gate},
    listen,
    listeners::{Gift, Listeners, Sharing, Took},
    selector,
};
use crate::{
    domain::{AppId, AppSpec, Connections, Lane, Parting, Pid, WorkerId},
    guard,
};

/// Environment variable that names the best way to be used.
const CHOICE: &str = "BUNPILOT_PORTS";

/// Every app's port.
pub(super) struct Ports {
    listeners: Listeners,
    balanced: Result<Balanced, Refusal>,
    /// Why workers are not given sockets in exchange for theirs, if they are not.
    untrapped: Option<String>,
}

/// What an earlier daemon left.
pub(super) struct Left<'a> {
    /// Descriptors the guard kept.
    pub(super) held: &'a mut BTreeMap<String, OwnedFd>,
    /// All apps.
    pub(super) apps: &'a BTreeSet<AppId>,
    /// Workers that live.
    pub(super) workers: &'a [WorkerId],
}

impl Ports {
    /// Goes on where an earlier daemon stopped, if there was one: shows what it takes back to
    /// `keep`, and yields the names of what nobody needs any more.
    pub(super) fn open(
        left: Left<'_>,
        home: &Path,
        mut keep: impl FnMut(&str, &OwnedFd),
    ) -> (Self, Vec<String>) {
        let Left { held, apps, workers } = left;
        let mut listeners = Listeners::default();
        let mut needless = listeners.adopt_all(apps, held, &mut keep);
        for worker in workers {
            listeners.settled(worker.instance.app);
        }
        let gates = Gate::keys(held);
        let choice = env::var(CHOICE);
        let mut balanced = match choice.as_deref() {
            Ok("trap") => Err(Refusal::Off { variable: CHOICE, value: "trap" }),
            Ok("workers") => Err(Refusal::Off { variable: CHOICE, value: "workers" }),
            _ => Balanced::open(held, home, workers.iter().copied()),
        };
        if let Ok(it) = &mut balanced {
            needless.extend(it.adopt(apps, held, &mut keep));
        }
        match &balanced {
            Ok(_) => (),
            Err(why @ (Refusal::Off { .. } | Refusal::Forbidden | Refusal::Network)) => {
                tracing::info!(%why, "ports are shared without programs in the kernel");
            }
            Err(why) => tracing::warn!(%why, "ports are shared without programs in the kernel"),
        }
        let used = balanced.iter().flat_map(|it| it.gate().keepsakes());
        let used: BTreeSet<String> = used.map(|(key, _)| key).collect();
        needless.extend(gates.into_iter().filter(|it| !used.contains(it)));
        let untrapped = match choice.as_deref() {
            Ok("workers") => Some(format!("`{CHOICE}` is `workers`")),
            _ if balanced.is_ok() => None, // and yet nobody needs to be
            _ => guard::can_trap().err(),
        };
        if balanced.is_err() && untrapped.is_none() {
            listeners.share(Sharing::Trapped);
        }
        (Self { listeners, balanced, untrapped }, needless)
    }

    /// How ports are shared, in a word.
    pub(super) const fn rung(&self) -> &'static str {
        match (&self.balanced, &self.untrapped) {
            (Ok(_), _) => "ebpf",
            (Err(_), None) => "trap",
            (Err(_), Some(_)) => "workers",
        }
    }

    /// How ports are shared, for people.
    pub(super) fn engine(&self) -> String {
        match (&self.balanced, &self.untrapped) {
            (Ok(_), _) => "eBPF sk_reuseport, cgroup bind hooks".to_owned(),
            (Err(why), None) => format!("seccomp, classic BPF: {why}"),
            (Err(Refusal::Off { value: "workers", .. }), Some(why)) => {
                format!("workers' own sockets, the kernel's hash: {why}")
            }
            (Err(why), Some(also)) => {
                format!("workers' own sockets, the kernel's hash: {why}; {also}")
            }
        }
    }

    /// The gate's descriptors, which outlive us with the guard.
    pub(super) fn gate(&self) -> Option<&Gate> {
        self.balanced.as_ref().ok().map(Balanced::gate)
    }

    /// Opens what is missing for an app; yields the new sockets, for the guard to keep.
    ///
    /// # Errors
    ///
    /// In words.
    pub(super) fn open_for(&mut self, app: AppId, spec: &AppSpec) -> Result<Vec<Kept>, String> {
        match &mut self.balanced {
            Ok(it) if spec.shares() => it.serve(app, spec).map(|()| Vec::new()),
            _ => self.listeners.open(app, spec),
        }
    }

    /// Closes an app's sockets; yields the names the guard is to let go.
    pub(super) fn close(&mut self, app: AppId) -> Vec<String> {
        let mut released = self.listeners.close(app);
        if let Ok(it) = &mut self.balanced {
            released.extend(it.close(app));
        }
        released
    }

    /// A worker is about to exist: how it comes by its socket.
    ///
    /// # Errors
    ///
    /// In words, why it cannot.
    pub(super) fn expect(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<Gift, String> {
        match &mut self.balanced {
            Ok(it) if spec.shares() => it.expect(worker, spec).map(|()| Gift::None),
            _ => self.listeners.expect(worker, lane, spec),
        }
    }

    /// A worker exists that an earlier daemon started, and `listens` on what it was given in
    /// exchange for its own; `None` if that was not to be.
    ///
    /// # Errors
    ///
    /// In words, why it is on its own.
    pub(super) fn resume(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
        listens: Option<&[String]>,
    ) -> Result<(), String> {
        match &mut self.balanced {
            Ok(it) if spec.shares() => it.resume(worker, spec),
            _ => self.listeners.resume(worker, lane, spec, listens),
        }
    }

    /// A worker listens on a socket it was given in exchange for its own.
    pub(super) fn took(&mut self, worker: WorkerId, key: &str, socket: OwnedFd) -> Took {
        self.listeners.took(worker, key, socket)
    }

    /// A worker opens its port itself, although it was to be given a socket.
    pub(super) fn untrapped(&mut self, worker: WorkerId) {
        self.listeners.untrapped(worker);
    }

    /// Names of sockets the guard is to let go, since nobody listens on their address any more.
    pub(super) fn take_needless(&mut self) -> Vec<String> {
        self.listeners.take_needless()
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.listeners.forget(worker);
        if let Ok(it) = &mut self.balanced {
            it.forget(worker);
        }
    }

    /// New connections may reach the worker.
    pub(super) fn admit(&mut self, worker: WorkerId) {
        match self.governing_mut(worker) {
            Some(it) => it.admit(worker),
            None => self.listeners.admit(worker),
        }
    }

    /// No new ones may.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        match self.governing_mut(worker) {
            Some(it) => it.retire(worker),
            None => self.listeners.retire(worker),
        }
    }

    /// Whether new connections go to others than this worker.
    pub(super) fn is_retired(&self, worker: WorkerId) -> bool {
        match self.governing(worker) {
            Some(it) => it.is_retired(worker),
            None => self.listeners.is_retired(worker),
        }
    }

    /// Whether connections wait to be accepted by this worker.
    pub(super) fn is_awaited(&self, worker: WorkerId, pid: Pid, port: u16) -> bool {
        match self.governing(worker) {
            Some(_) => listen::queued(pid, port),
            None => self.listeners.backlog(worker) > 0,
        }
    }

    /// Whether the worker serves its port.
    pub(super) fn is_served(&self, worker: WorkerId, pid: Pid, spec: &AppSpec) -> bool {
        match self.governing(worker) {
            Some(it) => it.is_settled(worker),
            None => self.listeners.is_served(worker, pid, spec),
        }
    }

    /// Where a probe of this worker must come from, if it can be told from others.
    pub(super) fn probe_source(&self, worker: WorkerId) -> Option<std::net::Ipv4Addr> {
        let number = match self.governing(worker) {
            Some(it) => it.number(worker),
            None => self.listeners.number(worker),
        };
        number.map(selector::Group::probe_source)
    }

    /// Whether the worker will be reachable alone once it opens its port.
    pub(super) fn is_unseated(&self, worker: WorkerId) -> bool {
        self.listeners.is_unseated(worker)
    }

    /// The worker's connections, if anybody counts them.
    pub(super) fn connections(&self, worker: WorkerId) -> Option<Connections> {
        self.balanced.as_ref().ok()?.connections(worker)
    }

    /// What became of the connections of a worker that is gone, if anybody counts them.
    pub(super) fn parted(&mut self, worker: WorkerId) -> Option<Parting> {
        self.balanced.as_mut().ok()?.parted(worker)
    }

    /// Whether the worker's sockets are still to be found.
    pub(super) fn is_unsettled(&self, worker: WorkerId) -> bool {
        self.governing(worker).is_some_and(|it| !it.is_settled(worker))
    }

    /// Looks for the worker's sockets; yields new ones of ours, for the guard to keep.
    pub(super) fn settle(&mut self, worker: WorkerId, pid: Pid) -> Vec<Kept> {
        self.balanced.as_mut().map(|it| it.settle(worker, pid)).unwrap_or_default()
    }

    /// Who gives out the worker's connections, if programs in the kernel do.
    fn governing(&self, worker: WorkerId) -> Option<&Balanced> {
        self.balanced.as_ref().ok().filter(|it| it.has(worker))
    }

    fn governing_mut(&mut self, worker: WorkerId) -> Option<&mut Balanced> {
        self.balanced.as_mut().ok().filter(|it| it.has(worker))
    }

    /// What is to be done every second.
    pub(super) fn tend(&self) {
        if let Ok(it) = &self.balanced {
            it.tend();
        }
    }
}
