//! The apps by name and number, and how they are written down.

use std::{collections::BTreeMap, sync::Arc};

use super::Core;
use crate::{
    config::raw::RawApp,
    domain::{AppId, AppName, AppSpec, InstanceId, Moment, WorkerId},
    supervisor::{Ending, State},
    world::{Action, Ended, Goal, Record, SavedApp, SavedInstance},
};

/// Every app the user declared.
#[derive(Debug, Default)]
pub(super) struct Apps {
    entries: BTreeMap<AppId, Entry>,
    last: u32,
}

/// What the supervisor does not know about an app.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: AppName,
    /// The file its configuration came from.
    pub(super) config_path: Option<String>,
    pub(super) created_unix_millis: u64,
    /// It ran when the machine or the daemon went down; `resurrect` starts it.
    pub(super) asleep: bool,
}

impl Apps {
    /// Makes room for a new app.
    pub(super) fn add(&mut self, entry: Entry) -> AppId {
        self.last += 1;
        let id = AppId(self.last);
        self.entries.insert(id, entry);
        id
    }

    /// Takes an app back under the number it had.
    pub(super) fn restore(&mut self, id: AppId, entry: Entry) {
        self.reserve(id.0);
        self.entries.insert(id, entry);
    }

    /// Never gives out a number up to `last` again.
    pub(super) fn reserve(&mut self, last: u32) {
        self.last = self.last.max(last);
    }

    pub(super) fn remove(&mut self, id: AppId) {
        self.entries.remove(&id);
    }

    pub(super) fn find(&self, name: &str) -> Option<AppId> {
        self.entries.iter().find(|(_, it)| it.name.as_str() == name).map(|(id, _)| *id)
    }

    pub(super) fn entry(&self, id: AppId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn entry_mut(&mut self, id: AppId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn name(&self, id: AppId) -> Option<&AppName> {
        self.entry(id).map(|it| &it.name)
    }

    /// Every app, in the order of their names.
    pub(super) fn by_name(&self) -> Vec<(AppId, AppName)> {
        let mut all: Vec<_> = self.entries.iter().map(|(id, it)| (*id, it.name.clone())).collect();
        all.sort_by(|one, other| one.1.cmp(&other.1));
        all
    }
}

/// A configuration as the database keeps it.
fn written(spec: &AppSpec) -> String {
    // Strings, numbers and lists only: writing them cannot fail.
    serde_json::to_string(&RawApp::of(spec)).unwrap_or_default()
}

impl Core {
    /// Writes an app down as it is now.
    pub(super) fn write_app(&mut self, id: AppId) {
        let Some(entry) = self.apps.entry(id).cloned() else { return };
        let Some(app) = self.supervisor.app(id) else { return };
        let saved = SavedApp {
            id,
            name: entry.name,
            config: written(app.spec()),
            previous: app.previous().map(|it| written(it)),
            // It rests now, and is to run again after `resurrect`.
            goal: if entry.asleep { Goal::Run } else { app.goal() },
            asleep: entry.asleep,
            config_path: entry.config_path,
            created_unix_millis: entry.created_unix_millis,
        };
        self.act(Action::Persist(Record::App(saved)));
    }

    pub(super) fn write_instance(&mut self, instance: InstanceId) {
        let Some(app) = self.apps.name(instance.app).cloned() else { return };
        let Some(place) = self.place(instance) else { return };
        let unix = |moment: Moment| self.facts.clock.unix_millis(moment);
        let worker = place.worker.as_ref();
        if let Some(worker) = worker {
            self.tallies.seen(worker);
        }
        let saved = SavedInstance {
            worker: WorkerId { instance, generation: place.generation },
            app,
            state: place.state.word().to_owned(),
            pid: worker.and_then(|it| it.pid),
            started_unix_millis: worker.and_then(|it| it.spawned).map(unix),
            restarts: place.restarts,
            crashes_in_a_row: place.crashes_in_a_row,
            crashes_unix_millis: place.crashes.iter().map(|it| unix(*it)).collect(),
        };
        self.act(Action::Persist(Record::Instance(saved)));
    }

    pub(super) fn ended(&mut self, ending: &Ending) {
        self.tallies.ended(ending);
        let Some(app) = self.apps.name(ending.worker.instance.app).cloned() else { return };
        tracing::info!(
            worker = format!("{app}:{}", ending.worker.instance.index),
            generation = ending.worker.generation,
            pid = ending.pid.map(|it| it.0),
            exit = ?ending.exit,
            cause = ending.cause.word(),
            "worker ended"
        );
        let ended = Ended {
            worker: ending.worker,
            app,
            pid: ending.pid,
            exit: ending.exit,
            uptime: ending.uptime,
            reason: ending.cause.word(),
            unix_millis: self.facts.clock.unix_millis(ending.at),
        };
        self.act(Action::Persist(Record::Ended(ended)));
    }

    pub(super) fn app_gone(&mut self, id: AppId) {
        self.apps.remove(id);
        self.tallies.forget(id);
        self.act(Action::Unlisten(id));
        self.act(Action::Persist(Record::AppGone(id)));
    }

    /// Opens the sockets a running app's workers inherit, before any of them is spawned.
    pub(super) fn open_sockets(&mut self, id: AppId) {
        let Some(app) = self.supervisor.app(id) else { return };
        if app.goal() == Goal::Run && app.spec().cluster.enabled {
            let spec = Arc::clone(app.spec());
            self.act(Action::Listen(id, spec));
        }
    }

    /// Closes the listening sockets of an app none of whose workers runs or will: who connects is
    /// refused then, instead of waiting for good.
    pub(super) fn unlisten_if_over(&mut self, id: AppId) {
        let Some(app) = self.supervisor.app(id) else { return };
        let gave_up = || app.places().all(|it| it.state == State::Errored);
        let over = app.workers().next().is_none() && (app.goal() != Goal::Run || gave_up());
        if over && app.spec().cluster.enabled {
            self.act(Action::Unlisten(id));
        }
    }
}
