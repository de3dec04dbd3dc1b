//! Who gets the next connection where bunpilot has the sockets: those of each app, which of them
//! the kernel may choose, and when a retired one is empty.
//!
//! Workers come by their socket in two ways. Under strategy `inherit` they find it among their
//! descriptors, one for each lane of each instance, all on every address. Or they open the port
//! themselves, and the guard puts a socket of its own in the place of theirs
//! ([`crate::guard::wire::Trap`]): then there are as many sockets, on as many addresses, as
//! workers asked for. From there on both are the same.
//!
//! Decides by [`crate::domain::Lane`] and what the supervisor admitted; the kernel chooses.

mod key;
mod pool;
mod shared;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    os::fd::OwnedFd,
};

pub(super) use self::shared::Took;
use self::{
    key::{Key, place},
    pool::Pool,
    shared::{Seats, Shared},
};
use super::{
    listen,
    selector::{ListenError, Place, SOCKETS_MAX, in_use, in_words},
};
use crate::{
    domain::{AppId, AppSpec, Lane, Pid, WorkerId},
    guard::wire::Trap,
};

/// Every app's sockets.
#[derive(Default)]
pub(super) struct Listeners {
    apps: BTreeMap<AppId, Shared>,
    /// Why an app's sockets could not be opened.
    failed: BTreeMap<AppId, String>,
    /// What becomes of workers that open a shared port themselves.
    sharing: Sharing,
    /// Apps with workers of an earlier daemon.
    settled: BTreeSet<AppId>,
    /// Workers that open it themselves although they should not have to.
    alone: BTreeSet<WorkerId>,
    /// Keys nobody needs any more and the guard has not been told of.
    needless: Vec<Key>,
}

/// A socket the guard kept.
type Kept = (Key, OwnedFd);

/// What becomes of workers that open a port themselves which others have, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sharing {
    /// They are on their own.
    #[default]
    Own,
    /// They get a socket of the guard's instead.
    Trapped,
}

/// How a worker comes by its socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gift {
    /// It opens its own, or has none.
    None,
    /// It inherits the one held by this key.
    Inherited(String),
    /// The guard replaces the one it opens.
    Trapped(Trap),
}

impl Listeners {
    /// Decides about workers to come that open a shared port themselves.
    pub(super) fn share(&mut self, sharing: Sharing) {
        self.sharing = sharing;
    }

    fn traps(&self, spec: &AppSpec) -> bool {
        let fits = spec.instances.get() <= SOCKETS_MAX / 2;
        self.sharing == Sharing::Trapped && spec.shares() && fits
    }

    /// Opens what is missing for `spec`; yields the new sockets, for the guard to keep.
    ///
    /// # Errors
    ///
    /// In words. They are remembered: spawns of this app fail with them until it works.
    pub(super) fn open(
        &mut self,
        app: AppId,
        spec: &AppSpec,
    ) -> Result<Vec<(String, OwnedFd)>, String> {
        let Some(port) = spec.port.map(NonZeroU16::get) else { return Ok(Vec::new()) };
        if !spec.inherits() && !self.traps(spec) {
            return Ok(Vec::new());
        }
        let opened = self.claim(app, port).and_then(|shared| {
            if spec.inherits() {
                shared.open(app, port, usize::from(spec.instances.get()) * 2)
            } else {
                Ok(Vec::new())
            }
        });
        match opened {
            Ok(kept) => {
                self.failed.remove(&app);
                Ok(kept.into_iter().map(|(key, fd)| (key.to_string(), fd)).collect())
            }
            Err(error) => {
                let why = in_words(&error);
                self.failed.insert(app, why.clone());
                Err(why)
            }
        }
    }

    /// Refuses a port somebody else has, even where the kernel would let us join.
    fn claim(&mut self, app: AppId, port: u16) -> Result<&mut Shared, ListenError> {
        let settled = self.settled.contains(&app);
        let shared = self.apps.entry(app).or_default();
        let ours = shared.pools.iter().any(|pool| pool.port() == port);
        if !ours && !settled && shared.present.is_empty() && listen::in_use(port) {
            return Err(in_use(port));
        }
        Ok(shared)
    }

    /// An earlier daemon's workers of this app live: who listens on its port may be one of them.
    pub(super) fn settled(&mut self, app: AppId) {
        self.settled.insert(app);
    }

    /// Takes the sockets of `apps` back out of all that the guard kept, and shows each to `keep`;
    /// yields the keys of those nobody needs any more.
    pub(super) fn adopt_all(
        &mut self,
        apps: &BTreeSet<AppId>,
        held: &mut BTreeMap<String, OwnedFd>,
        mut keep: impl FnMut(&str, &OwnedFd),
    ) -> Vec<String> {
        let mut sockets = BTreeMap::new();
        for (text, fd) in std::mem::take(held) {
            match Key::parse(&text) {
                Some(key) => drop(sockets.insert(key, fd)),
                None => drop(held.insert(text, fd)),
            }
        }
        let mut needless = Vec::new();
        let mut places: Vec<(AppId, Option<Place>, Vec<Kept>)> = Vec::new();
        for (key, fd) in sockets {
            let app = key.app();
            if !apps.contains(&app) {
                needless.push(key.to_string());
                continue;
            }
            keep(&key.to_string(), &fd);
            let at = Place::of(&fd);
            match places.iter_mut().find(|(of, place, _)| *of == app && *place == at) {
                Some((_, _, group)) => group.push((key, fd)),
                None => places.push((app, at, vec![(key, fd)])),
            }
        }
        for (app, _, mut group) in places {
            group.sort_by_key(|(key, _)| match key {
                Key::Inherited(_, place) => (0, u64::try_from(*place).unwrap_or(u64::MAX)),
                Key::Trapped(_, _, number) => (1, *number),
            });
            match Pool::adopt(group) {
                Ok(pool) => self.apps.entry(app).or_default().pools.push(pool),
                Err(error) => {
                    let why = in_words(&error);
                    tracing::warn!(app = app.0, why, "the app's sockets do not fit");
                }
            }
        }
        needless
    }

    /// Closes an app's sockets; yields the keys the guard is to let go.
    pub(super) fn close(&mut self, app: AppId) -> Vec<String> {
        self.failed.remove(&app);
        self.settled.remove(&app);
        let pools = self.apps.remove(&app).map(|shared| shared.pools).unwrap_or_default();
        pools.into_iter().flat_map(Pool::close).map(|key| key.to_string()).collect()
    }

    /// A worker is about to exist: how it comes by its socket.
    ///
    /// # Errors
    ///
    /// Why the app has no sockets.
    pub(super) fn expect(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<Gift, String> {
        let app = worker.instance.app;
        let place = place(worker.instance, lane);
        if spec.inherits() {
            let key = Key::Inherited(app, place);
            self.seat(worker, spec, [key])?.choose();
            return Ok(Gift::Inherited(key.to_string()));
        }
        let Some(port) = spec.port.filter(|_| self.traps(spec)) else { return Ok(Gift::None) };
        self.seat(worker, spec, [])?;
        let key = format!("trap/{}/{place}", app.0);
        Ok(Gift::Trapped(Trap { port: port.get(), key }))
    }

    /// A worker exists that an earlier daemon started, and `listens` on what the guard gave it;
    /// `None` if it was to be given nothing. Whom the kernel chooses stays as that daemon left it
    /// until somebody is admitted: this worker may be on its way out, or not ready.
    ///
    /// # Errors
    ///
    /// Why the app has no sockets.
    pub(super) fn resume(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
        listens: Option<&[String]>,
    ) -> Result<(), String> {
        let app = worker.instance.app;
        if spec.inherits() {
            self.seat(worker, spec, [Key::Inherited(app, place(worker.instance, lane))])?;
        } else if let Some(listens) = listens {
            self.apps.entry(app).or_default();
            self.seat(worker, spec, listens.iter().filter_map(|key| Key::parse(key)))?;
        } else {
            self.alone.insert(worker);
        }
        Ok(())
    }

    /// A worker listens on a socket the guard gave it.
    pub(super) fn took(&mut self, worker: WorkerId, key: &str, socket: OwnedFd) -> Took {
        let Some(key) = Key::parse(key) else { return Took::Needless };
        let shared = self.apps.get_mut(&key.app()).filter(|it| !it.present.is_empty());
        let Some(shared) = shared else {
            // The app was closed while the worker opened its port.
            super::selector::close(&socket);
            return Took::Needless;
        };
        let news = match shared.take_in(key, socket) {
            Ok(news) => news,
            Err(error) => {
                let error = in_words(&error);
                tracing::warn!(%worker, error, "the worker's socket gets no connections");
                return Took::Known;
            }
        };
        if let Some(seats) = shared.present.get_mut(&worker) {
            seats.keys.insert(key);
        }
        shared.choose();
        news
    }

    /// A worker opens its port itself, although it was to be given a socket.
    pub(super) fn untrapped(&mut self, worker: WorkerId) {
        self.alone.insert(worker);
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.alone.remove(&worker);
        if let Some(shared) = self.apps.get_mut(&worker.instance.app) {
            shared.present.remove(&worker);
            shared.admitted.remove(&worker);
            shared.leaving.remove(&worker);
            self.needless.extend(shared.abandon());
            shared.choose();
        }
    }

    /// New connections may reach the worker.
    pub(super) fn admit(&mut self, worker: WorkerId) {
        if let Some(shared) = self.apps.get_mut(&worker.instance.app)
            && shared.present.contains_key(&worker)
        {
            shared.admitted.insert(worker);
            shared.leaving.remove(&worker);
            self.needless.extend(shared.abandon());
            shared.choose();
        }
    }

    /// No new ones may.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        if let Some(shared) = self.apps.get_mut(&worker.instance.app) {
            shared.admitted.remove(&worker);
            shared.leaving.insert(worker);
            shared.choose();
        }
    }

    /// Keys the guard is to let go: of addresses nobody listens on any more.
    pub(super) fn take_needless(&mut self) -> Vec<String> {
        std::mem::take(&mut self.needless).iter().map(Key::to_string).collect()
    }

    /// Whether the kernel was told to send new connections to others than this worker, or to
    /// nobody.
    pub(super) fn is_retired(&self, worker: WorkerId) -> bool {
        let Some(shared) = self.apps.get(&worker.instance.app) else { return false };
        let mut seats = shared.seats(worker).peekable();
        seats.peek().is_some() && seats.all(|(pool, position)| !pool.is_selected(position))
    }

    /// Connections that wait for the worker alone; 0 also where nobody can tell.
    pub(super) fn backlog(&self, worker: WorkerId) -> u32 {
        let seats = self.apps.get(&worker.instance.app).into_iter().flat_map(|it| it.seats(worker));
        // at one selected another worker serves the same socket, or nobody else is left to
        let left = seats.filter(|(pool, position)| !pool.is_selected(*position));
        left.map(|(pool, position)| pool.backlog(position)).sum()
    }

    /// Whether the worker serves its port.
    pub(super) fn is_served(&self, worker: WorkerId, pid: Pid, spec: &AppSpec) -> bool {
        let Some(port) = spec.port.map(NonZeroU16::get) else { return false };
        let shared = self.apps.get(&worker.instance.app);
        let mut inodes = shared
            .into_iter()
            .flat_map(|it| it.seats(worker))
            .filter_map(|(pool, position)| pool.inode(position));
        if spec.inherits() {
            inodes.any(|inode| listen::accepting(pid, inode))
        } else if self.traps(spec) && !self.alone.contains(&worker) {
            inodes.any(|inode| listen::accepting(pid, inode) || listen::hidden(pid, inode))
        } else {
            listen::listening(pid, port)
        }
    }

    /// The number of the worker's socket that clients of 127.0.0.1 reach, for a probe's source
    /// address.
    pub(super) fn number(&self, worker: WorkerId) -> Option<u16> {
        let shared = self.apps.get(&worker.instance.app)?;
        let (_, position) = shared.seats(worker).find(|(pool, _)| pool.is_local())?;
        u16::try_from(position).ok()
    }

    /// Whether the worker is to be given a socket and has not asked for it.
    pub(super) fn is_unseated(&self, worker: WorkerId) -> bool {
        let shared = self.apps.get(&worker.instance.app);
        let seats = shared.and_then(|it| it.present.get(&worker));
        seats.is_some_and(|it| it.keys.is_empty()) && !self.alone.contains(&worker)
    }

    /// Gives a worker its place among those of its app.
    fn seat(
        &mut self,
        worker: WorkerId,
        spec: &AppSpec,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<&mut Shared, String> {
        let app = worker.instance.app;
        if let Some(why) = self.failed.get(&app) {
            return Err(why.clone());
        }
        let shared = self.apps.get_mut(&app).ok_or("the app's sockets are not open")?;
        let weight = spec.cluster.weight(worker.instance.index);
        shared.present.insert(worker, Seats { keys: keys.into_iter().collect(), weight });
        Ok(shared)
    }
}

#[cfg(test)]
mod tests;
