//! Ports that workers open themselves, shared and balanced by programs in the kernel
//! ([`super::bpf::gate`]): which workers may be chosen, and where connections wait meanwhile.
//!
//! A worker needs not know of it. Whoever connects while nobody is admitted waits at the app's
//! *parking* sockets: bunpilot's own, one for each address a worker was seen to listen on. They
//! live with the guard, and hand over who waits at them as soon as somebody is admitted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Shutdown, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Gid, Uid};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    bpf::{
        Refusal,
        gate::{Counts, Family, Folders, Gate, Seat},
    },
    listen::{self, Listening},
    selector,
};
use crate::{
    balance::Rule,
    domain::{AppId, AppSpec, Cluster, Connections, Parting, Pid, WorkerId},
    guard,
};

/// Connections that may wait at a parking socket; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// Addresses of one app that have a parking socket.
const ADDRESSES_MAX: usize = 8;

/// Every app whose port is shared like this.
pub(super) struct Balanced {
    gate: Gate,
    /// Where workers' cgroups are.
    base: PathBuf,
    apps: BTreeMap<AppId, Served>,
    workers: BTreeMap<WorkerId, Seated>,
}

/// One app's port.
struct Served {
    port: u16,
    cluster: Cluster,
    /// Workers that may get connections.
    admitted: BTreeSet<WorkerId>,
    parking: Option<Parking>,
    /// Connections moved to those of its workers that live, as of the last parting.
    moved: u64,
}

/// Where connections wait.
struct Parking {
    seat: Seat,
    sockets: Vec<(Socket, SocketAddr)>,
}

/// A worker.
struct Seated {
    seat: Seat,
    cgroup: u64,
    /// Its sockets are known and governed.
    settled: bool,
    /// Connections that were cut off before it began to leave.
    reset: u64,
}

/// A parking socket for the guard to keep, and its name there.
pub(super) type Kept = (String, OwnedFd);

/// What the guard keeps a parking socket as.
fn key(app: AppId, seat: Seat, index: usize) -> String {
    format!("park/{}/{}/{index}", app.0, seat.number())
}

/// Reads a [`key`]: whose it is, and of which seat.
fn parse_key(text: &str) -> Option<(AppId, u16)> {
    let mut parts = text.strip_prefix("park/")?.split('/');
    Some((AppId(parts.next()?.parse().ok()?), parts.next()?.parse().ok()?))
}

impl Balanced {
    /// Goes on with what the guard kept, for the workers `survivors`; else begins anew.
    ///
    /// # Errors
    ///
    /// Why ports must be shared in another way.
    pub(super) fn open(
        kept: &mut BTreeMap<String, OwnedFd>,
        home: &Path,
        survivors: impl Iterator<Item = WorkerId>,
    ) -> Result<Self, Refusal> {
        let base = guard::home_folder(home).filter(|it| it.is_dir()).ok_or(Refusal::NoCgroups)?;
        let root = guard::cgroup_root().ok_or(Refusal::NoCgroups)?;
        let gate = Gate::open(kept, &Folders { workers: base.clone(), root })?;
        let (apps, workers) = (BTreeMap::new(), BTreeMap::new());
        let mut balanced = Self { gate, base, apps, workers };
        let seats = survivors.filter_map(|it| balanced.gate.seat_of(balanced.cgroup(it)?));
        let parked = kept.keys().filter_map(|it| balanced.gate.seat_at(parse_key(it)?.1));
        let taken = seats.chain(parked).collect();
        if let Err(error) = balanced.gate.clear(&taken) {
            tracing::warn!(%error, "seats of workers that are gone stay taken");
        }
        Ok(balanced)
    }

    /// The descriptors that keep it going, under the names the guard keeps them by.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes the parking sockets of `apps` back out of all that the guard kept, and shows each to
    /// `keep`; yields the names of those nobody needs any more.
    pub(super) fn adopt(
        &mut self,
        apps: &BTreeSet<AppId>,
        held: &mut BTreeMap<String, OwnedFd>,
        mut keep: impl FnMut(&str, &OwnedFd),
    ) -> Vec<String> {
        let mut needless = Vec::new();
        for (text, fd) in std::mem::take(held) {
            let Some((app, number)) = parse_key(&text) else {
                held.insert(text, fd);
                continue;
            };
            let seat = self.gate.seat_at(number);
            let Some(seat) = seat.filter(|_| apps.contains(&app)) else {
                needless.push(text);
                continue;
            };
            keep(&text, &fd);
            let socket = Socket::from(fd);
            let Some(address) = socket.local_addr().ok().and_then(|it| it.as_socket()) else {
                continue;
            };
            let served = self.apps.entry(app).or_insert_with(|| Served::new(address.port()));
            let parking = served.parking.get_or_insert(Parking { seat, sockets: Vec::new() });
            parking.sockets.push((socket, address));
        }
        needless
    }

    /// Begins to serve an app's port, or goes on by other rules.
    ///
    /// # Errors
    ///
    /// In words, that somebody else has the port.
    pub(super) fn serve(&mut self, app: AppId, spec: &AppSpec) -> Result<(), String> {
        let Some(port) = spec.port else { return Ok(()) };
        let known =
            self.apps.contains_key(&app) || self.workers.keys().any(|it| it.instance.app == app);
        if !known && listen::in_use(port.get()) {
            return Err(selector::in_words(&selector::in_use(port.get())));
        }
        let served = self.apps.entry(app).or_insert_with(|| Served::new(port.get()));
        served.cluster = spec.cluster.clone();
        // An earlier daemon's rule stays until somebody is admitted: its workers are ready.
        if !self.gate.serves(port.get()) || !served.admitted.is_empty() {
            self.apply(app);
        }
        Ok(())
    }

    /// Serves an app's port no more; yields the names the guard is to let go.
    pub(super) fn close(&mut self, app: AppId) -> Vec<String> {
        let Some(served) = self.apps.remove(&app) else { return Vec::new() };
        self.gate.release(served.port);
        let Some(Parking { seat, sockets }) = served.parking else { return Vec::new() };
        self.gate.leave(seat);
        for (socket, _) in &sockets {
            // Fails only if it does not listen.
            socket.shutdown(Shutdown::Both).unwrap_or_default();
        }
        (0..sockets.len()).map(|index| key(app, seat, index)).collect()
    }

    /// A worker is about to exist: its cgroup is made, so that it is known from its first breath.
    ///
    /// # Errors
    ///
    /// In words, why it cannot be given a seat.
    pub(super) fn expect(&mut self, worker: WorkerId, spec: &AppSpec) -> Result<(), String> {
        let Some(port) = spec.port else { return Ok(()) };
        let folder = guard::cgroup_folder(&self.base, &worker.to_string());
        guard::make_cgroup(&folder)
            .map_err(|error| format!("cannot make the cgroup `{}`: {error}", folder.display()))?;
        let cgroup = self.cgroup(worker).ok_or("the worker's cgroup is gone")?;
        self.seat(worker, cgroup, port.get())
    }

    /// A worker exists that an earlier daemon started.
    ///
    /// # Errors
    ///
    /// In words, why it cannot be given a seat.
    pub(super) fn resume(&mut self, worker: WorkerId, spec: &AppSpec) -> Result<(), String> {
        let Some(port) = spec.port else { return Ok(()) };
        let cgroup = self.cgroup(worker).ok_or("the worker has no cgroup of its own")?;
        match self.gate.seat_of(cgroup) {
            Some(seat) => {
                self.workers.insert(worker, Seated { seat, cgroup, settled: false, reset: 0 });
                Ok(())
            }
            None => self.seat(worker, cgroup, port.get()),
        }
    }

    /// Whether the worker's connections are given out here.
    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Whether the worker's sockets are governed.
    pub(super) fn is_settled(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|it| it.settled)
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.retire(worker);
        if let Some(Seated { seat, cgroup, .. }) = self.workers.remove(&worker) {
            let moved = self.gate.counts(seat).moved;
            if let Some(served) = self.apps.get_mut(&worker.instance.app) {
                served.moved = served.moved.saturating_sub(moved);
            }
            self.gate.displace(cgroup);
            self.gate.leave(seat);
        }
    }

    /// New connections may reach the worker, and those that wait.
    pub(super) fn admit(&mut self, worker: WorkerId) {
        let app = worker.instance.app;
        if self.has(worker) && self.apps.get_mut(&app).is_some_and(|it| it.admitted.insert(worker))
        {
            self.apply(app);
            self.unpark(app);
        }
    }

    /// No new ones may.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        let app = worker.instance.app;
        if self.apps.get_mut(&app).is_some_and(|it| it.admitted.remove(&worker)) {
            self.apply(app);
            if let Some(it) = self.workers.get_mut(&worker) {
                it.reset = self.gate.counts(it.seat).reset;
            }
        }
    }

    /// Whether new connections go elsewhere.
    pub(super) fn is_retired(&self, worker: WorkerId) -> bool {
        let served = self.apps.get(&worker.instance.app);
        served.is_some_and(|it| {
            let elsewhere = it.parking.is_some() || !it.admitted.is_empty();
            elsewhere && !it.admitted.contains(&worker)
        })
    }

    /// What a probe of the worker names it by.
    pub(super) fn number(&self, worker: WorkerId) -> Option<u16> {
        self.workers.get(&worker).map(|it| it.seat.number())
    }

    /// Its connections.
    pub(super) fn connections(&self, worker: WorkerId) -> Option<Connections> {
        let Counts { live, accepted, moved, reset, .. } =
            self.workers.get(&worker).map(|it| self.gate.counts(it.seat))?;
        Some(Connections { live, accepted, moved, reset })
    }

    /// What became of the connections of a worker that is gone; told once.
    pub(super) fn parted(&mut self, worker: WorkerId) -> Option<Parting> {
        let app = worker.instance.app;
        let seated = self.workers.get_mut(&worker)?;
        let reset = self.gate.counts(seated.seat).reset;
        let cut = reset.saturating_sub(std::mem::replace(&mut seated.reset, reset));
        let own = self.workers.iter().filter(|(it, _)| it.instance.app == app);
        let moved: u64 = own.map(|(_, it)| self.gate.counts(it.seat).moved).sum();
        let served = self.apps.get_mut(&app)?;
        let moved = moved.saturating_sub(std::mem::replace(&mut served.moved, moved));
        Some(Parting { moved, cut })
    }

    /// Has the worker's sockets governed once it listens; yields new parking sockets.
    pub(super) fn settle(&mut self, worker: WorkerId, pid: Pid) -> Vec<Kept> {
        let app = worker.instance.app;
        let seat = self.workers.get(&worker).map(|it| it.seat);
        let Some((seat, port)) = seat.zip(self.apps.get(&app).map(|it| it.port)) else {
            return Vec::new();
        };
        let listens = self.gate.counts(seat).listening > 0;
        let all = listen::all(port);
        let mut theirs: Vec<&Listening> =
            all.iter().filter(|it| !listens || self.is_strange(app, it)).collect();
        let inodes: Vec<u64> = theirs.iter().map(|it| it.inode).collect();
        // Mostly it has none of them yet, which one look at its processes tells.
        let has_any = listen::has_any(pid, &inodes);
        theirs.retain(|it| has_any && listen::has_any(pid, &[it.inode]));
        if !listens {
            // It listened before there was a gate.
            let taken = theirs.iter().filter(|it| self.take_up(seat, pid, it)).count();
            if taken == 0 {
                return Vec::new();
            }
        }
        let mut kept = Vec::new();
        for listening in theirs {
            if !self.is_strange(app, listening) {
                continue;
            }
            match self.park(app, listening) {
                Ok(socket) => kept.push(socket),
                Err(error) => {
                    let address = listening.address;
                    tracing::warn!(%worker, %address, %error, "nobody waits there while no worker is ready");
                    self.govern(pid, listening);
                }
            }
        }
        if let Some(it) = self.workers.get_mut(&worker) {
            it.settled = true;
        }
        if !kept.is_empty() {
            self.apply(app);
        }
        kept
    }

    /// Gives a sign of life, and hands over whom a handshake left at a parking socket.
    pub(super) fn tend(&self) {
        if self.apps.is_empty() {
            return;
        }
        self.gate.beat(crate::platform::sys::monotonic_now());
        for app in self.apps.keys() {
            self.unpark(*app);
        }
    }

    fn cgroup(&self, worker: WorkerId) -> Option<u64> {
        let folder = guard::cgroup_folder(&self.base, &worker.to_string());
        std::fs::metadata(folder).ok().map(|it| it.ino())
    }

    fn seat(&mut self, worker: WorkerId, cgroup: u64, port: u16) -> Result<(), String> {
        let refused = |error: io::Error| format!("cannot prepare the worker's port: {error}");
        let seat = self.gate.sit().map_err(refused)?;
        let seat = seat.ok_or("too many workers share ports")?;
        self.gate.place(cgroup, seat, port).map_err(refused)?;
        self.workers.insert(worker, Seated { seat, cgroup, settled: false, reset: 0 });
        Ok(())
    }

    /// Tells the kernel whom to choose from.
    fn apply(&self, app: AppId) {
        let Some(served) = self.apps.get(&app) else { return };
        let ready = served.admitted.iter().filter_map(|it| {
            let seat = self.workers.get(it)?.seat;
            Some((seat.number(), served.cluster.weight(it.instance.index)))
        });
        let parking = served.parking.as_ref().map(|it| it.seat.number());
        let rule = Rule::new(served.cluster.balance, ready, parking);
        self.gate.beat(crate::platform::sys::monotonic_now());
        if let Err(error) = self.gate.rule(served.port, &rule) {
            tracing::warn!(port = served.port, %error, "the kernel goes on choosing as before");
        }
    }

    /// Whether nobody waits for connections to this address yet.
    fn is_strange(&self, app: AppId, listening: &Listening) -> bool {
        let parking = self.apps.get(&app).and_then(|it| it.parking.as_ref());
        !parking
            .is_some_and(|it| it.sockets.iter().any(|(_, address)| *address == listening.address))
    }

    /// Opens a parking socket beside a worker's.
    fn park(&mut self, app: AppId, beside: &Listening) -> io::Result<Kept> {
        let served = self.apps.get_mut(&app).ok_or(io::ErrorKind::NotFound)?;
        if served.parking.is_none() {
            let seat = self.gate.sit()?.ok_or_else(|| io::Error::other("no seat is left"))?;
            served.parking = Some(Parking { seat, sockets: Vec::new() });
        }
        let Some(parking) = &mut served.parking else { return Err(io::ErrorKind::NotFound.into()) };
        if parking.sockets.len() >= ADDRESSES_MAX {
            return Err(io::Error::other("the app listens on too many addresses"));
        }
        let address = beside.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(beside.only_v6)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if beside.owner != rustix::process::geteuid().as_raw() {
            // Sockets share a port only with those of the same user.
            rustix::fs::fchown(&socket, Some(Uid::from_raw(beside.owner)), None::<Gid>)?;
        }
        self.gate.tag(parking.seat, socket.as_fd())?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_MAX)?;
        self.gate.attach(socket.as_fd())?;
        self.gate.enter(parking.seat, socket.as_fd(), family(address))?;
        let copy = socket.as_fd().try_clone_to_owned()?;
        let key = key(app, parking.seat, parking.sockets.len());
        parking.sockets.push((socket, address));
        Ok((key, copy))
    }

    /// Has those that wait chosen for anew: a socket that stops listening loses nobody.
    fn unpark(&self, app: AppId) {
        let Some(served) = self.apps.get(&app).filter(|it| !it.admitted.is_empty()) else { return };
        let Some(parking) = &served.parking else { return };
        for (socket, address) in &parking.sockets {
            if !selector::accept_backlog(socket.as_fd()).is_ok_and(|it| it > 0) {
                continue;
            }
            let again = || {
                socket.shutdown(Shutdown::Both)?;
                socket.listen(BACKLOG_MAX)?;
                self.gate.enter(parking.seat, socket.as_fd(), family(*address))
            };
            if let Err(error) = again() {
                tracing::warn!(%address, %error, "nobody waits there while no worker is ready");
            }
        }
    }

    /// Governs a socket that was there before the gate.
    fn take_up(&self, seat: Seat, pid: Pid, listening: &Listening) -> bool {
        let Some(socket) = listen::copy(pid, listening.inode) else { return false };
        let fd = socket.as_fd();
        let family = family(listening.address);
        let done = self.gate.tag(seat, fd).and_then(|()| self.gate.enter(seat, fd, family));
        done.and_then(|()| self.gate.attach(fd)).is_ok()
    }

    /// Has the kernel ask us about a worker's socket, where no parking socket does.
    fn govern(&self, pid: Pid, listening: &Listening) {
        let copy = listen::copy(pid, listening.inode);
        let governed = copy.map(|socket| self.gate.attach(socket.as_fd()));
        if !matches!(governed, Some(Ok(()))) {
            let address = listening.address;
            tracing::warn!(%address, ?governed, "the kernel chooses there by its hash");
        }
    }
}

impl Served {
    fn new(port: u16) -> Self {
        let cluster = Cluster::default();
        Self { port, cluster, admitted: BTreeSet::new(), parking: None, moved: 0 }
    }
}

fn family(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        assert_eq!(parse_key("park/7/41/0"), Some((AppId(7), 41)));
        for other in ["park/7", "listen/7/0", "park/x/1/0", ""] {
            assert_eq!(parse_key(other), None, "{other}");
        }
    }
}
