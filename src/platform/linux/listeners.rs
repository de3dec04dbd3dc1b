//! Who gets the next connection under strategy `inherit`: the sockets of each app, which of them
//! the kernel may choose, and when a retired one is empty.
//!
//! Decides by [`crate::domain::Lane`] and what the supervisor admitted; the kernel chooses.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use super::selector::{Group, ListenError, in_words};
use crate::domain::{AppId, AppSpec, InstanceId, Lane, WorkerId};

/// Every app's sockets.
#[derive(Default)]
pub(super) struct Listeners {
    apps: BTreeMap<AppId, Shared>,
    /// Why an app's sockets could not be opened.
    failed: BTreeMap<AppId, String>,
}

/// One app's sockets.
struct Shared {
    group: Group,
    /// Workers that may get connections.
    admitted: BTreeMap<WorkerId, usize>,
    /// Workers that exist, ready or not.
    present: BTreeMap<WorkerId, usize>,
    selected: Vec<usize>,
}

/// The number of a place's socket within its app's group.
fn socket(instance: InstanceId, lane: Lane) -> usize {
    let lane = match lane {
        Lane::A => 0,
        Lane::B => 1,
    };
    usize::from(instance.index) * 2 + lane
}

/// What the guard keeps a socket as.
fn key(app: AppId, index: usize) -> String {
    format!("listen/{}/{index}", app.0)
}

/// Reads a [`key`].
fn parse_key(text: &str) -> Option<(AppId, usize)> {
    let (app, index) = text.strip_prefix("listen/")?.split_once('/')?;
    Some((AppId(app.parse().ok()?), index.parse().ok()?))
}

impl Listeners {
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
        let Some(port) = spec.port.filter(|_| spec.inherits()) else { return Ok(Vec::new()) };
        let wanted = usize::from(spec.instances.get()) * 2;
        let same_port = |it: &&Shared| it.group.port() == port.get();
        let before = self.apps.get(&app).filter(same_port).map_or(0, |it| it.group.fds().len());
        let opened = match self.apps.get_mut(&app) {
            Some(shared) if shared.group.port() == port.get() => shared.group.grow(wanted),
            Some(_) | None => Group::open(port.get(), wanted).map(|group| {
                self.apps.insert(app, Shared::new(group));
            }),
        };
        let kept = opened.and_then(|()| self.copies(app, before));
        match kept {
            Ok(kept) => {
                self.failed.remove(&app);
                Ok(kept)
            }
            Err(error) => {
                let why = in_words(&error);
                self.failed.insert(app, why.clone());
                Err(why)
            }
        }
    }

    /// Takes the sockets of `apps` back out of all that the guard kept, and shows each to `keep`;
    /// yields the keys of those nobody needs any more.
    pub(super) fn adopt_all(
        &mut self,
        apps: &BTreeSet<AppId>,
        held: &mut BTreeMap<String, OwnedFd>,
        mut keep: impl FnMut(&str, &OwnedFd),
    ) -> Vec<String> {
        let mut groups: BTreeMap<AppId, BTreeMap<usize, OwnedFd>> = BTreeMap::new();
        for (text, fd) in std::mem::take(held) {
            match parse_key(&text) {
                Some((app, index)) => drop(groups.entry(app).or_default().insert(index, fd)),
                None => drop(held.insert(text, fd)),
            }
        }
        let mut needless = Vec::new();
        for (app, group) in groups {
            if !apps.contains(&app) {
                needless.extend(group.into_keys().map(|index| key(app, index)));
                continue;
            }
            for (index, fd) in &group {
                keep(&key(app, *index), fd);
            }
            if let Err(why) = self.adopt(app, group.into_values().collect()) {
                tracing::warn!(app = app.0, why, "the app's sockets do not fit");
            }
        }
        needless
    }

    /// Takes back sockets the guard kept.
    fn adopt(&mut self, app: AppId, sockets: Vec<OwnedFd>) -> Result<(), String> {
        let group = Group::adopt(sockets).map_err(|error| in_words(&error))?;
        self.apps.insert(app, Shared::new(group));
        Ok(())
    }

    /// Closes an app's sockets; yields the keys the guard is to let go.
    pub(super) fn close(&mut self, app: AppId) -> Vec<String> {
        self.failed.remove(&app);
        let Some(Shared { group, .. }) = self.apps.remove(&app) else { return Vec::new() };
        let count = group.fds().len();
        group.close();
        (0..count).map(|index| key(app, index)).collect()
    }

    /// A worker is about to exist: the key of the socket it inherits.
    ///
    /// # Errors
    ///
    /// Why the app has no sockets.
    pub(super) fn expect(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<Option<String>, String> {
        if !spec.inherits() {
            return Ok(None);
        }
        let app = worker.instance.app;
        let shared = self.sockets_of(app)?;
        let index = socket(worker.instance, lane);
        shared.present.insert(worker, index);
        shared.choose();
        Ok(Some(key(app, index)))
    }

    /// A worker exists that an earlier daemon started. Whom the kernel chooses stays as that
    /// daemon left it until somebody is admitted: this worker may be on its way out, or not ready.
    ///
    /// # Errors
    ///
    /// Why the app has no sockets.
    pub(super) fn resume(
        &mut self,
        worker: WorkerId,
        lane: Lane,
        spec: &AppSpec,
    ) -> Result<(), String> {
        if spec.inherits() {
            self.sockets_of(worker.instance.app)?
                .present
                .insert(worker, socket(worker.instance, lane));
        }
        Ok(())
    }

    /// A worker is gone.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        if let Some(shared) = self.apps.get_mut(&worker.instance.app) {
            shared.present.remove(&worker);
            shared.admitted.remove(&worker);
            shared.choose();
        }
    }

    /// New connections may reach the worker.
    pub(super) fn admit(&mut self, worker: WorkerId) {
        if let Some(shared) = self.apps.get_mut(&worker.instance.app)
            && let Some(index) = shared.present.get(&worker)
        {
            shared.admitted.insert(worker, *index);
            shared.choose();
        }
    }

    /// No new ones may.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        if let Some(shared) = self.apps.get_mut(&worker.instance.app) {
            shared.admitted.remove(&worker);
            shared.choose();
        }
    }

    /// Whether the kernel was told to send new connections to others than this worker.
    pub(super) fn is_retired(&self, worker: WorkerId) -> bool {
        let shared = self.apps.get(&worker.instance.app);
        shared.is_some_and(|it| {
            let index = it.present.get(&worker);
            !it.admitted.is_empty() && index.is_some_and(|it_is| !it.selected.contains(it_is))
        })
    }

    /// Connections that wait for the worker alone; 0 also where nobody can tell.
    pub(super) fn backlog(&self, worker: WorkerId) -> u32 {
        let shared = self.apps.get(&worker.instance.app);
        let Some((shared, index)) = shared.and_then(|it| Some((it, *it.present.get(&worker)?)))
        else {
            return 0;
        };
        if shared.selected.contains(&index) {
            return 0; // another worker serves the same socket, or nobody else is left to
        }
        shared.group.backlog(index).unwrap_or(0)
    }

    /// The worker's socket: its number, for a probe's source address, and its inode.
    pub(super) fn socket(&self, worker: WorkerId) -> Option<(u16, u64)> {
        let shared = self.apps.get(&worker.instance.app)?;
        let index = *shared.present.get(&worker)?;
        Some((u16::try_from(index).ok()?, shared.group.inode(index).ok()?))
    }

    fn sockets_of(&mut self, app: AppId) -> Result<&mut Shared, String> {
        self.apps.get_mut(&app).ok_or_else(|| {
            let why = self.failed.get(&app).cloned();
            why.unwrap_or_else(|| "the app's sockets are not open".to_owned())
        })
    }

    fn copies(&self, app: AppId, from: usize) -> Result<Vec<(String, OwnedFd)>, ListenError> {
        let Some(shared) = self.apps.get(&app) else { return Ok(Vec::new()) };
        let copy = |(index, fd): (usize, std::os::fd::BorrowedFd<'_>)| {
            let copy = fd.try_clone_to_owned().map_err(|source| ListenError::Refused {
                what: "keep a socket",
                port: shared.group.port(),
                source,
            });
            Ok((key(app, index), copy?))
        };
        shared.group.fds().enumerate().skip(from).map(copy).collect()
    }
}

impl Shared {
    fn new(group: Group) -> Self {
        let (admitted, present) = (BTreeMap::new(), BTreeMap::new());
        Self { group, admitted, present, selected: Vec::new() }
    }

    /// Tells the kernel whom to choose from: those admitted; before any is, those that will be.
    fn choose(&mut self) {
        let among = if self.admitted.is_empty() { &self.present } else { &self.admitted };
        let chosen: BTreeSet<usize> = among.values().copied().collect();
        let chosen: Vec<usize> = chosen.into_iter().collect();
        // With nobody there the kernel goes on with whom it had: their queues are served first.
        if chosen.is_empty() || chosen == self.selected {
            return;
        }
        match self.group.select(&chosen) {
            Ok(()) => self.selected = chosen,
            Err(error) => {
                let error = in_words(&error);
                tracing::warn!(error, "the kernel goes on choosing as before");
            }
        }
    }
}
