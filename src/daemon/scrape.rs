//! What a scrape sees: everything known, in the shape the metrics room writes out; and what
//! happened meanwhile, counted for it.

use std::{collections::BTreeMap, time::Duration};

use super::Core;
use crate::{
    domain::{AppId, AppName, InstanceId, Logs, Moment, WorkerId},
    metrics::{self, CompatNames, Heap, Histogram, exposition},
    supervisor::{AppView, Ending, PlaceView, State, WorkerView},
    world::Dialect,
};

/// What happened to each app since the daemon began.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<AppId, Tally>);

#[derive(Clone, Debug, Default)]
struct Tally {
    ready: Histogram,
    reload: Histogram,
    reloads_failed: u64,
    /// The newest worker of each place whose readiness was counted.
    counted: BTreeMap<u16, u32>,
    logs: BTreeMap<u16, Logs>,
    /// By place, then by reason.
    exits: BTreeMap<u16, BTreeMap<&'static str, u64>>,
}

impl Tallies {
    /// A worker changed; the first time it is online, how long that took is counted.
    pub(super) fn seen(&mut self, worker: &WorkerView) {
        if let (Some(spawned), Some(ready)) = (worker.spawned, worker.ready_at) {
            let tally = self.of(worker.id.instance.app);
            let last = tally.counted.entry(worker.id.instance.index).or_default();
            if *last < worker.id.generation {
                *last = worker.id.generation;
                tally.ready.observe(ready.since(spawned));
            }
        }
    }

    /// A reload is over.
    pub(super) fn reloaded(&mut self, app: AppId, took: Duration, went: Went) {
        let tally = self.of(app);
        tally.reload.observe(took);
        tally.reloads_failed += u64::from(went == Went::Wrong);
    }

    /// A worker ended.
    pub(super) fn ended(&mut self, ending: &Ending) {
        let instance = ending.worker.instance;
        let exits = self.of(instance.app).exits.entry(instance.index).or_default();
        *exits.entry(ending.cause.word()).or_default() += 1;
    }

    /// The logs of a place were looked at.
    pub(super) fn logged(&mut self, instance: InstanceId, logs: Logs) {
        self.of(instance.app).logs.insert(instance.index, logs);
    }

    /// What is known of the logs of a place.
    pub(super) fn logs(&self, instance: InstanceId) -> Logs {
        let tally = self.0.get(&instance.app);
        tally.and_then(|it| it.logs.get(&instance.index)).copied().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, app: AppId) {
        self.0.remove(&app);
    }

    fn of(&mut self, app: AppId) -> &mut Tally {
        self.0.entry(app).or_default()
    }
}

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    Well,
    Wrong,
}

impl Core {
    /// Everything, as text for Prometheus.
    pub(super) fn exposition(&self, now: Moment, dialect: Dialect) -> Vec<u8> {
        let apps = self.apps.by_name().into_iter();
        let view = metrics::View {
            daemon: metrics::Daemon {
                version: self.facts.version,
                rungs: self.facts.rungs.clone(),
                started_unix: self.unix(self.facts.started),
                uptime: now.since(self.facts.started),
                usage: self.questions.daemon(),
                fds_max: None,
                collector_errors: 0,
            },
            apps: apps.filter_map(|(id, name)| self.app_metrics(now, id, name)).collect(),
        };
        exposition::write(&view, dialect)
    }

    fn unix(&self, moment: Moment) -> Duration {
        Duration::from_millis(self.facts.clock.unix_millis(moment))
    }

    fn app_metrics(&self, now: Moment, id: AppId, name: AppName) -> Option<metrics::App> {
        let shown = |app: &AppView<'_>| app.spec().metrics.enabled && app.spec().metrics.prometheus;
        let app = self.supervisor.app(id).filter(shown)?;
        let tally = self.tallies.0.get(&id).cloned().unwrap_or_default();
        let spec = app.spec();
        let shares = spec.cluster.enabled && spec.port.is_some();
        Some(metrics::App {
            name,
            compat_names: if spec.metrics.compat_names {
                CompatNames::On
            } else {
                CompatNames::Off
            },
            desired: spec.instances.get(),
            strategy: shares.then_some(spec.cluster.strategy),
            workers: self.places_metrics(now, app, &tally),
            ready: tally.ready,
            reload: tally.reload,
            reloads_failed: tally.reloads_failed,
        })
    }

    fn places_metrics(&self, now: Moment, app: AppView<'_>, tally: &Tally) -> Vec<metrics::Worker> {
        let row = |place: PlaceView| metrics::Worker {
            exits: tally.exits.get(&place.id.index).cloned().unwrap_or_default(),
            ..self.place_metrics(now, &place)
        };
        app.places().map(row).collect()
    }

    fn place_metrics(&self, now: Moment, place: &PlaceView) -> metrics::Worker {
        let state = match place.state {
            State::Alive(stage) => metrics::State::Live(stage),
            State::Stopped => metrics::State::Stopped,
            State::Crashed => metrics::State::Crashed,
            State::Errored => metrics::State::Errored,
        };
        let mut row = metrics::Worker::new(place.id.index, place.generation, state);
        row.restarts = u64::from(place.restarts);
        row.logs = self.tallies.logs(place.id);
        if let Some(worker) = &place.worker {
            self.worker_metrics(now, worker, &mut row);
        }
        row
    }

    fn worker_metrics(&self, now: Moment, worker: &WorkerView, row: &mut metrics::Worker) {
        row.pid = worker.pid;
        row.started_unix = worker.spawned.map(|it| self.unix(it));
        row.uptime = worker.spawned.map(|it| now.since(it));
        row.health_failures = worker.spec.health.as_ref().map(|_| u64::from(worker.probes_failed));
        if let Some(measured) = self.questions.of(worker.id) {
            row.usage = Some(measured.usage);
            row.cpu_millipercent = measured.rate.millipercent();
        }
        row.heap = self.heap(worker.id);
        let report = self.voices.of(worker.id).and_then(|it| it.report);
        row.event_loop_lag = report.and_then(|it| it.event_loop_lag);
    }

    /// What the worker says of its memory, if it says so.
    fn heap(&self, worker: WorkerId) -> Option<Heap> {
        let report = self.voices.of(worker)?.report?;
        Some(Heap {
            rss_bytes: report.rss_bytes?,
            total_bytes: report.heap_total_bytes.unwrap_or_default(),
            used_bytes: report.heap_used_bytes?,
            external_bytes: report.external_bytes.unwrap_or_default(),
        })
    }
}
