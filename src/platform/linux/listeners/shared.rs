//! One app's sockets: which address has which, who listens on them, whom the kernel may choose.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    os::fd::OwnedFd,
};

use super::{
    super::selector::{ListenError, Place},
    key::Key,
    pool::Pool,
};
use crate::domain::{AppId, WorkerId};

/// One app's sockets, and who has them.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) pools: Vec<Pool>,
    /// Workers that exist, ready or not.
    pub(super) present: BTreeMap<WorkerId, Seats>,
    /// Workers that may get connections.
    pub(super) admitted: BTreeSet<WorkerId>,
    /// Workers that may not any more.
    pub(super) leaving: BTreeSet<WorkerId>,
}

/// What a worker listens on.
pub(super) struct Seats {
    pub(super) keys: BTreeSet<Key>,
    pub(super) weight: NonZeroU16,
}

/// What became of a socket the guard gave a worker.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::platform::linux) enum Took {
    /// It is new: another guard must be given it, too.
    New,
    /// We have it.
    Known,
    /// Nobody needs it; the guard is to let it go.
    Needless,
}

impl Shared {
    /// Opens what is missing of `wanted` sockets to be inherited; yields the new ones.
    pub(super) fn open(
        &mut self,
        app: AppId,
        port: u16,
        wanted: usize,
    ) -> Result<Vec<(Key, OwnedFd)>, ListenError> {
        // of another port, under keys that are needed now
        let is_ours = |key: &Key| matches!(key, Key::Inherited(..));
        self.pools.retain(|pool| pool.port() == port || !pool.keys().iter().any(is_ours));
        let ours = Some(Place::ours(port));
        let missing = |pool: Option<&Pool>| -> Vec<Key> {
            let keys = (0..wanted).map(|place| Key::Inherited(app, place));
            keys.filter(|key| pool.is_none_or(|it| it.position(*key).is_none())).collect()
        };
        // those workers asked for, on the same address, are of one group with ours
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.place() == ours) {
            let before = pool.keys().len();
            pool.grow(missing(Some(pool)))?;
            return pool.copies(before);
        }
        let pool = Pool::open(port, missing(None))?;
        let kept = pool.copies(0);
        self.pools.push(pool);
        kept
    }

    /// Takes in a socket that listens; news if we did not have it.
    pub(super) fn take_in(&mut self, key: Key, socket: OwnedFd) -> Result<Took, ListenError> {
        if self.pools.iter().any(|pool| pool.position(key).is_some()) {
            return Ok(Took::Known);
        }
        let place = Place::of(&socket);
        match self.pools.iter_mut().find(|pool| pool.place() == place) {
            Some(pool) => {
                pool.prune();
                pool.join(key, socket)?;
            }
            None => self.pools.push(Pool::begin(key, socket)?),
        }
        Ok(Took::New)
    }

    /// The worker's sockets: each the pool it is in, and its number there.
    pub(super) fn seats(&self, worker: WorkerId) -> impl Iterator<Item = (&Pool, usize)> {
        let keys = self.present.get(&worker).into_iter().flat_map(|seats| &seats.keys);
        keys.filter_map(|key| self.pools.iter().find_map(|it| Some((it, it.position(*key)?))))
    }

    /// Closes addresses on which nobody listens any more, while others serve elsewhere: who
    /// connects there would wait for good. Yields their keys.
    pub(super) fn abandon(&mut self) -> Vec<Key> {
        if self.admitted.is_empty() {
            return Vec::new(); // who comes back finds what waits there
        }
        let has = |pool: &Pool, seats: &Seats| seats.keys.iter().any(|it| pool.keys().contains(it));
        let is_left = |pool: &mut Pool| !self.present.values().any(|seats| has(pool, seats));
        self.pools.extract_if(.., is_left).flat_map(Pool::close).collect()
    }

    /// Tells the kernel whom to choose from, on each address: those admitted; before any is,
    /// those that will be.
    pub(super) fn choose(&mut self) {
        for pool in &mut self.pools {
            pool.prune();
            let chosen = |among: Option<&BTreeSet<WorkerId>>| {
                let mut chosen: BTreeMap<usize, NonZeroU16> = BTreeMap::new();
                for (worker, seats) in &self.present {
                    if among.is_none_or(|it| it.contains(worker)) {
                        let positions = seats.keys.iter().filter_map(|key| pool.position(*key));
                        chosen.extend(positions.map(|position| (position, seats.weight)));
                    }
                }
                chosen
            };
            let admitted = chosen(Some(&self.admitted));
            if !admitted.is_empty() {
                pool.shut(BTreeSet::new());
                pool.select(admitted);
                continue;
            }
            let (all, leaving) = (chosen(None), chosen(Some(&self.leaving)));
            // Nobody is left to take them: they come again when this one, who might break off in
            // the middle, is gone, and wait for the next one then.
            let trapped = pool.keys().iter().all(|key| matches!(key, Key::Trapped(..)));
            let nobody_else = trapped && all.keys().all(|position| leaving.contains_key(position));
            pool.shut(if nobody_else { leaving.into_keys().collect() } else { BTreeSet::new() });
            pool.select(all);
        }
    }
}
