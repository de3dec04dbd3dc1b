//! What a new daemon makes of what an earlier one left: the database, and the guard's inventory.
//!
//! Nothing that lives is started again; what the earlier daemon was about to do goes on. After a
//! reboot nothing lives, and nothing is started until somebody says `resurrect`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Core, apps::Entry};
use crate::{
    config::{Base, Trust, raw::RawApp, resolve},
    domain::{AppSpec, Moment, WorkerId},
    supervisor::{Legacy, SavedPlace},
    world::{Fate, Goal, Life, Saved, SavedApp, SavedInstance, Survivor},
};

/// The metrics server's port unless somebody says otherwise, as the original has it.
const HTTP_PORT: u16 = 9615;

/// Judges a worker that nobody watched over.
///
/// One that inherited its listening socket cannot be kept: the other sockets of the group, and
/// with them the port's order, died with the daemon.
#[must_use]
pub fn fate(saved: &Saved, worker: WorkerId) -> Fate {
    let app = saved.apps.iter().find(|it| it.id == worker.instance.app);
    match app.and_then(|it| read(&it.config)) {
        Some(spec) if !spec.inherits() => Fate::Kept,
        Some(_) | None => Fate::Ended,
    }
}

/// The port of the metrics server that the apps of an earlier daemon ask for.
#[must_use]
pub fn http_port(saved: &Saved) -> u16 {
    let specs: Vec<_> = saved.apps.iter().filter_map(|it| read(&it.config)).collect();
    resolve::http_port(specs.iter().map(Arc::as_ref)).unwrap_or(HTTP_PORT)
}

impl Core {
    /// Takes over from what an earlier daemon left.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        life: Life,
        saved: Saved,
        survivors: Vec<Survivor>,
    ) {
        let orphaned = survivors.iter().map(|it| it.worker.instance.app).collect();
        self.apps.reserve(saved.last_app);
        let mut survivors = survivors;
        for app in saved.apps {
            let id = app.id;
            let (own, others) = survivors.into_iter().partition(|it| it.worker.instance.app == id);
            survivors = others;
            let life = if BTreeSet::contains(&orphaned, &id) { Life::Next } else { life };
            self.restore_app(now, life, &app, &saved.instances, own);
        }
        for stranger in &survivors {
            self.disown(now, stranger);
        }
        self.collect(now);
    }

    fn restore_app(
        &mut self,
        now: Moment,
        life: Life,
        app: &SavedApp,
        instances: &[SavedInstance],
        survivors: Vec<Survivor>,
    ) {
        let Some(spec) = read(&app.config) else {
            let why = format!("the configuration of app `{}` cannot be read back", app.name);
            self.warn(&format!("configuration of {}", app.name), why);
            for survivor in &survivors {
                self.disown(now, survivor);
            }
            return;
        };
        let asleep = app.goal == Goal::Run && (app.asleep || life == Life::First);
        self.apps.restore(
            app.id,
            Entry {
                name: app.name.clone(),
                config_path: app.config_path.clone(),
                created_unix_millis: app.created_unix_millis,
                asleep,
            },
        );
        let places = instances.iter().filter(|it| it.worker.instance.app == app.id);
        let legacy = Legacy {
            goal: if asleep { Goal::Rest } else { app.goal },
            previous: app.previous.as_deref().and_then(read),
            places: places.map(|it| self.saved_place(it)).map(|it| rested(it, asleep)).collect(),
            survivors,
        };
        self.supervisor.adopt(now, app.id, spec, legacy);
        if asleep != app.asleep {
            self.write_app(app.id);
        }
        self.open_sockets(app.id);
        self.unlisten_if_over(app.id);
    }

    fn saved_place(&self, saved: &SavedInstance) -> SavedPlace {
        let boot = self.facts.clock.boot;
        let moment =
            |unix: &u64| Moment::from_boot(Duration::from_millis(*unix).saturating_sub(boot));
        SavedPlace {
            index: saved.worker.instance.index,
            generation: saved.worker.generation,
            restarts: saved.restarts,
            crashes_in_a_row: saved.crashes_in_a_row,
            crashes: saved.crashes_unix_millis.iter().map(moment).collect(),
            gave_up: (saved.state == "errored").then(|| "it crashed too often".to_owned()),
        }
    }
}

/// After a night's sleep no crash is held against a place.
fn rested(place: SavedPlace, asleep: bool) -> SavedPlace {
    if asleep {
        let SavedPlace { index, generation, restarts, .. } = place;
        SavedPlace { index, generation, restarts, ..SavedPlace::default() }
    } else {
        place
    }
}

/// Reads a configuration the database kept.
fn read(config: &str) -> Option<Arc<AppSpec>> {
    let raw: RawApp = serde_json::from_str(config).ok()?;
    resolve::app(&raw, &Base::default(), &Trust).ok().map(Arc::new)
}
