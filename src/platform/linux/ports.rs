//! How connections reach the workers of each app: the best way this machine offers, and one face
//! for all of them.
//!
//! 1. [`Balanced`]: workers open the port themselves, programs in the kernel make them share it
//!    and choose. Asks nothing of the program that runs.
//! 2. [`Listeners`]: workers inherit sockets of ours (strategy `inherit`).
//! 3. Neither: workers share the port if they can, the kernel chooses by its hash, and nobody can
//!    be probed or drained alone.

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
    listeners::Listeners,
    selector,
};
use crate::domain::{AppId, AppSpec, Connections, Lane, Parting, Pid, WorkerId};

/// Environment variable that names the best way to be used.
const CHOICE: &str = "BUNPILOT_PORTS";

/// Every app's port.
pub(super) struct Ports {
    listeners: Listeners,
    balanced: Result<Balanced, Refusal>,
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
        let gates = Gate::keys(held);
        let mut balanced = match env::var(CHOICE).as_deref() {
            Ok("trap") => Err(Refusal::Off { variable: CHOICE, value: "trap" }),
            Ok("workers") => Err(Refusal::Off { variable: CHOICE, value: "workers" }),
            _ => Balanced::open(held, home, workers.iter().copied()),
        };
        if let Ok(it) = &mut balanced {
            needless.extend(it.adopt(apps, held, &mut keep));
        }
        match &balanced {
            Ok(it) => {
                let used: BTreeSet<String> = it.gate().keepsakes().map(|(key, _)| key).collect();
                needless.extend(gates.into_iter().filter(|it| !used.contains(it)));
            }
            Err(why @ (Refusal::Off { .. } | Refusal::Forbidden | Refusal::Network)) => {
                tracing::info!(%why, "ports are shared without programs in the kernel");
                needless.extend(gates);
            }
            Err(why) => {
                tracing::warn!(%why, "ports are shared without programs in the kernel");
                needless.extend(gates);
            }
        }
        (Self { listeners, balanced }, needless)
    }

    /// How ports are shared, in a word.
    pub(super) const fn rung(&self) -> &'static str {
        match &self.balanced {
            Ok(_) => "ebpf",
            Err(_) => "workers",
        }
    }

    /// How ports are shared, for people.
    pub(super) fn engine(&self) -> String {
        match &self.balanced {
            Ok(_) => "eBPF sk_reuseport, cgroup bind hooks".to_owned(),
            Err(why) => format!("workers' own sockets, the kernel's hash: {why}"),
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

    /// A worker is about to exist: the name of the socket it inherits, if it does.
    ///
    /// # Errors
    ///
    /// In words, why it cannot.
    pub(super) fn expect(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<Option<String>, String> {
        match &mut self.balanced {
            Ok(it) if spec.shares() => it.expect(worker, spec).map(|()| None),
            _ => self.listeners.expect(worker, lane, spec),
        }
    }

    /// A worker exists that an earlier daemon started.
    ///
    /// # Errors
    ///
    /// In words, why it is on its own.
    pub(super) fn resume(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<(), String> {
        match &mut self.balanced {
            Ok(it) if spec.shares() => it.resume(worker, spec),
            _ => self.listeners.resume(worker, lane, spec),
        }
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
        match &mut self.balanced {
            Ok(it) if it.has(worker) => it.admit(worker),
            _ => self.listeners.admit(worker),
        }
    }

    /// No new ones may.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        match &mut self.balanced {
            Ok(it) if it.has(worker) => it.retire(worker),
            _ => self.listeners.retire(worker),
        }
    }

    /// Whether new connections go to others than this worker.
    pub(super) fn is_retired(&self, worker: WorkerId) -> bool {
        match &self.balanced {
            Ok(it) if it.has(worker) => it.is_retired(worker),
            _ => self.listeners.is_retired(worker),
        }
    }

    /// Whether connections wait to be accepted by this worker.
    pub(super) fn is_awaited(&self, worker: WorkerId, pid: Pid, port: u16) -> bool {
        match &self.balanced {
            Ok(it) if it.has(worker) => listen::queued(pid, port),
            _ => self.listeners.backlog(worker) > 0,
        }
    }

    /// Whether the worker serves its port.
    pub(super) fn is_served(&self, worker: WorkerId, pid: Pid, spec: &AppSpec) -> bool {
        match &self.balanced {
            Ok(it) if it.has(worker) => it.is_settled(worker),
            _ if spec.inherits() => {
                let socket = self.listeners.socket(worker);
                socket.is_some_and(|(_, inode)| listen::accepting(pid, inode))
            }
            _ => spec.port.is_some_and(|port| listen::listening(pid, port.get())),
        }
    }

    /// Where a probe of this worker must come from, if it can be told from others.
    pub(super) fn probe_source(&self, worker: WorkerId) -> Option<std::net::Ipv4Addr> {
        let number = match &self.balanced {
            Ok(it) if it.has(worker) => it.number(worker),
            _ => self.listeners.socket(worker).map(|(number, _)| number),
        };
        number.map(selector::Group::probe_source)
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
        self.balanced.as_ref().is_ok_and(|it| it.has(worker) && !it.is_settled(worker))
    }

    /// Looks for the worker's sockets; yields new ones of ours, for the guard to keep.
    pub(super) fn settle(&mut self, worker: WorkerId, pid: Pid) -> Vec<Kept> {
        self.balanced.as_mut().map(|it| it.settle(worker, pid)).unwrap_or_default()
    }

    /// What is to be done every second.
    pub(super) fn tend(&self) {
        if let Ok(it) = &self.balanced {
            it.tend();
        }
    }
}
