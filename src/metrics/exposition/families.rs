//! Which families there are.

mod old;

use super::writer::{Family, Kind, Labels, Value, Writer};
use crate::{
    domain::{Connections, Logged, Stage, Strategy},
    metrics::{App, CUSTOM_MAX, CompatNames, Daemon, State, View, Worker},
};

/// Bytes a worker, an app and the rest take up, generously.
const WORKER_BYTES: usize = 3_500;
const APP_BYTES: usize = 4_000;
const REST_BYTES: usize = 8_000;

/// About how long the text will be.
pub(super) fn length_hint(view: &View) -> usize {
    let workers: usize = view.apps.iter().map(|app| app.workers.len()).sum();
    REST_BYTES + view.apps.len() * APP_BYTES + workers * WORKER_BYTES
}

/// Writes everything.
pub(super) fn write(view: &View, writer: &mut Writer) {
    let apps: Vec<Shown<'_>> = view.apps.iter().map(Shown::new).collect();
    daemon(&view.daemon, writer);
    of_apps(&apps, writer);
    of_workers(&apps, writer);
    by_enum(&apps, writer);
    let old: Vec<Shown<'_>> =
        apps.into_iter().filter(|it| it.app.compat_names == CompatNames::On).collect();
    // A daemon without apps is the original's to whoever looks for it.
    if view.apps.is_empty() || !old.is_empty() {
        old::write(&view.daemon, &old, writer);
    }
}

/// An app with the labels of all its series.
struct Shown<'a> {
    app: &'a App,
    labels: Labels,
    /// One worker for each place.
    places: Vec<(Labels, &'a Worker)>,
}

impl<'a> Shown<'a> {
    fn new(app: &'a App) -> Self {
        let labels = Labels::default().with("app", app.name.as_str());
        let mut workers: Vec<&Worker> = app.workers.iter().collect();
        workers.sort_by_key(|worker| {
            (worker.index, std::cmp::Reverse((worker.state.rank(), worker.generation)))
        });
        workers.dedup_by_key(|worker| worker.index);
        let named = |worker: &'a Worker| {
            (labels.with("worker", itoa::Buffer::new().format(worker.index)), worker)
        };
        let places = workers.into_iter().map(named).collect();
        Self { app, labels, places }
    }

    fn count(&self, state: State) -> u64 {
        let count = self.app.workers.iter().filter(|worker| worker.state == state).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl Worker {
    /// Whether there is a process behind it.
    const fn is_live(&self) -> bool {
        match self.state {
            State::Live(_) => true,
            State::Stopped | State::Crashed | State::Errored => false,
        }
    }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, help }
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit, help }
}

const fn info(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Info, unit: "", help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, unit: "seconds", help }
}

fn daemon(daemon: &Daemon, writer: &mut Writer) {
    let none = Labels::default();
    writer.family(info("bunpilot_build", "The running version of bunpilot."));
    writer.sample_of(&none, "version", daemon.version, 1_u64);
    writer.family(info("bunpilot_engine", "What each part of bunpilot runs on here."));
    for (part, rung) in &daemon.rungs {
        writer.sample_of(&none.with("part", part), "rung", rung, 1_u64);
    }
    writer.family(counter(
        "bunpilot_scrape_collector_errors",
        "",
        "Measurements of workers that failed or came too late.",
    ));
    writer.sample(&none, daemon.collector_errors);
    writer.family(gauge(
        "process_start_time_seconds",
        "seconds",
        "Start time of the bunpilot daemon since the Unix epoch.",
    ));
    writer.sample(&none, daemon.started_unix);
    if let Some(usage) = daemon.usage {
        writer.family(counter(
            "process_cpu_seconds",
            "seconds",
            "User and system CPU time of the bunpilot daemon.",
        ));
        writer.sample(&none, usage.cpu);
        writer.family(gauge(
            "process_resident_memory_bytes",
            "bytes",
            "Resident memory of the bunpilot daemon.",
        ));
        writer.sample(&none, usage.rss_bytes);
        writer.family(gauge(
            "process_open_fds",
            "",
            "Open file descriptors of the bunpilot daemon.",
        ));
        writer.sample(&none, usage.fds);
    }
    if let Some(fds_max) = daemon.fds_max {
        writer.family(gauge(
            "process_max_fds",
            "",
            "File descriptors the bunpilot daemon may open.",
        ));
        writer.sample(&none, fds_max);
    }
}

fn of_apps(apps: &[Shown<'_>], writer: &mut Writer) {
    writer.family(gauge("bunpilot_app_workers_desired", "", "Workers the app should have."));
    for shown in apps {
        writer.sample(&shown.labels, shown.app.desired);
    }
    writer.family(gauge("bunpilot_app_workers", "", "Workers of the app by state."));
    for shown in apps {
        for state in State::ALL {
            writer.sample_of(&shown.labels, "state", state.word(), shown.count(state));
        }
    }
    writer.family(info("bunpilot_datapath", "How workers of the app share its port."));
    for shown in apps {
        if let Some(strategy) = shown.app.strategy {
            writer.sample_of(&shown.labels, "strategy", word(strategy), 1_u64);
        }
    }
    writer.family(counter("bunpilot_reload_failures", "", "Reloads that were rolled back."));
    for shown in apps {
        writer.sample(&shown.labels, shown.app.reloads_failed);
    }
    writer.family(histogram("bunpilot_reload_duration_seconds", "Time a reload took."));
    for shown in apps {
        writer.histogram(&shown.labels, &shown.app.reload);
    }
    writer.family(histogram(
        "bunpilot_ready_duration_seconds",
        "Time from the start of a worker until it was ready.",
    ));
    for shown in apps {
        writer.histogram(&shown.labels, &shown.app.ready);
    }
}

const fn word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Auto => "auto",
        Strategy::ReusePort => "reusePort",
        Strategy::Inherit => "inherit",
        Strategy::Proxy => "proxy",
    }
}

/// A family with at most one sample for each worker.
struct Column {
    family: Family,
    of: fn(&Worker) -> Option<Value>,
}

/// What is known of a place whether or not there is a worker in it.
const PLACES: &[Column] = &[
    Column {
        family: gauge("bunpilot_worker_up", "", "Whether the worker is online."),
        of: |worker| Some(u64::from(worker.state == State::Live(Stage::Online)).into()),
    },
    Column {
        family: counter("bunpilot_worker_restarts", "", "Restarts of the worker after a crash."),
        of: |worker| Some(worker.restarts.into()),
    },
    Column {
        family: counter(
            "bunpilot_health_check_failures",
            "",
            "Failed health checks of the worker.",
        ),
        of: |worker| worker.health_failures.map(Value::from),
    },
];

/// What is known of a worker while it lives.
const WORKERS: &[Column] = &[
    Column {
        family: gauge(
            "bunpilot_worker_start_time_seconds",
            "seconds",
            "Start time of the worker since the Unix epoch.",
        ),
        of: |worker| worker.started_unix.map(Value::from),
    },
    Column {
        family: gauge(
            "bunpilot_worker_resident_memory_bytes",
            "bytes",
            "Resident memory of all processes of the worker.",
        ),
        of: |worker| worker.usage.map(|usage| usage.rss_bytes.into()),
    },
    Column {
        family: gauge("bunpilot_worker_open_fds", "", "Open file descriptors of the worker."),
        of: |worker| worker.usage.filter(|usage| usage.fds > 0).map(|usage| usage.fds.into()),
    },
    Column {
        family: gauge("bunpilot_worker_threads", "", "Threads of the worker."),
        of: |worker| worker.usage.map(|usage| usage.threads.into()),
    },
    Column {
        family: gauge("bunpilot_worker_processes", "", "Processes of the worker."),
        of: |worker| worker.usage.map(|usage| usage.processes.into()),
    },
    Column {
        family: counter("bunpilot_worker_forks", "", "Processes the worker has started."),
        of: |worker| Some(worker.usage?.scheduling?.forks.into()),
    },
    Column {
        family: counter(
            "bunpilot_worker_run_delay_seconds",
            "seconds",
            "Time threads of the worker could have run but had no CPU.",
        ),
        of: |worker| Some(worker.usage?.scheduling?.run_delay?.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_connections_open",
            "",
            "Connections to the app's port that the worker has open.",
        ),
        of: |worker| connections(worker).map(|it| it.live.into()),
    },
    Column {
        family: counter(
            "bunpilot_worker_connections",
            "",
            "Connections to the app's port that the worker got.",
        ),
        of: |worker| connections(worker).map(|it| it.accepted.into()),
    },
    Column {
        family: counter(
            "bunpilot_worker_connections_moved",
            "",
            "Connections the worker got after they had waited at a socket that closed.",
        ),
        of: |worker| connections(worker).map(|it| it.moved.into()),
    },
    Column {
        family: counter(
            "bunpilot_worker_connections_reset",
            "",
            "Connections of the worker that were cut off, by either side.",
        ),
        of: |worker| connections(worker).map(|it| it.reset.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_heap_used_bytes",
            "bytes",
            "Heap in use as the worker reports it.",
        ),
        of: |worker| worker.heap.map(|heap| heap.used_bytes.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_heap_reserved_bytes",
            "bytes",
            "Heap reserved as the worker reports it.",
        ),
        of: |worker| worker.heap.map(|heap| heap.total_bytes.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_external_memory_bytes",
            "bytes",
            "Memory outside the heap but bound to it as the worker reports it.",
        ),
        of: |worker| worker.heap.map(|heap| heap.external_bytes.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_event_loop_lag_seconds",
            "seconds",
            "How late the event loop runs as the worker reports it.",
        ),
        of: |worker| worker.event_loop_lag.map(Value::from),
    },
];

/// What a log has to say to a family.
type OfLog = fn(&Logged) -> Option<Value>;

/// What is known of each log of a place.
const LOGS: &[(Family, OfLog)] = &[
    (counter("bunpilot_log_bytes", "bytes", "Bytes the worker wrote to its logs."), |logged| {
        Some(logged.bytes.into())
    }),
    (counter("bunpilot_log_lines", "", "Lines the worker wrote to its logs."), |logged| {
        logged.lines.map(Value::from)
    }),
    (
        counter("bunpilot_log_rotations", "", "Log files of the worker that were rotated away."),
        |logged| Some(logged.rotations.into()),
    ),
    (
        counter(
            "bunpilot_log_dropped_bytes",
            "bytes",
            "Bytes of the worker's output that were thrown away.",
        ),
        |logged| Some(logged.dropped_bytes.into()),
    ),
    (
        counter(
            "bunpilot_log_blocked_seconds",
            "seconds",
            "Time the worker's output waited for a file that could not be written.",
        ),
        |logged| Some(logged.blocked.into()),
    ),
    (
        gauge(
            "bunpilot_log_last_write_timestamp_seconds",
            "seconds",
            "When the worker's output was last written since the Unix epoch.",
        ),
        |logged| logged.last_write_unix.map(Value::from),
    ),
];

fn connections(worker: &Worker) -> Option<Connections> {
    worker.usage?.connections
}

fn of_workers(apps: &[Shown<'_>], writer: &mut Writer) {
    for column in PLACES {
        fill(column, apps, |_worker| true, writer);
    }
    for column in WORKERS {
        fill(column, apps, Worker::is_live, writer);
    }
    writer.family(info("bunpilot_worker", "The process behind a worker."));
    for shown in apps {
        for worker in &shown.app.workers {
            let Some(pid) = worker.pid.filter(|_| worker.is_live()) else { continue };
            let labels = shown
                .labels
                .with("worker", itoa::Buffer::new().format(worker.index))
                .with("generation", itoa::Buffer::new().format(worker.generation))
                .with("pid", itoa::Buffer::new().format(pid.0));
            writer.sample(&labels, 1_u64);
        }
    }
}

fn fill(column: &Column, apps: &[Shown<'_>], shows: impl Fn(&Worker) -> bool, writer: &mut Writer) {
    writer.family(column.family);
    for (labels, worker) in apps.iter().flat_map(|shown| &shown.places) {
        if let Some(value) = (column.of)(worker).filter(|_| shows(worker)) {
            writer.sample(labels, value);
        }
    }
}

/// Families of workers with one more label.
fn by_enum(apps: &[Shown<'_>], writer: &mut Writer) {
    let places = || apps.iter().flat_map(|shown| &shown.places);
    writer.family(counter(
        "bunpilot_worker_cpu_seconds",
        "seconds",
        "CPU time of all processes of the worker by mode.",
    ));
    for (labels, worker) in places().filter(|(_, worker)| worker.is_live()) {
        let Some(usage) = worker.usage else { continue };
        match (usage.user, usage.system) {
            (Some(user), Some(system)) => {
                writer.sample_of(labels, "mode", "user", user);
                writer.sample_of(labels, "mode", "system", system);
            }
            (Some(_) | None, None) | (None, Some(_)) => {
                writer.sample_of(labels, "mode", "all", usage.cpu);
            }
        }
    }
    writer.family(counter(
        "bunpilot_worker_context_switches",
        "",
        "Times a thread of the worker left its CPU: to wait, or though it could have gone on.",
    ));
    for (labels, worker) in places().filter(|(_, worker)| worker.is_live()) {
        let Some(scheduling) = worker.usage.and_then(|it| it.scheduling) else { continue };
        writer.sample_of(labels, "kind", "voluntary", scheduling.voluntary_switches);
        writer.sample_of(labels, "kind", "involuntary", scheduling.involuntary_switches);
    }
    writer.family(counter("bunpilot_worker_exits", "", "Ends of the worker by reason."));
    for (labels, worker) in places() {
        for (reason, &count) in &worker.exits {
            writer.sample_of(labels, "reason", reason, count);
        }
    }
    for (family, of) in LOGS {
        writer.family(*family);
        for (labels, worker) in places() {
            for (stream, logged) in [("out", worker.logs.out), ("err", worker.logs.err)] {
                if let Some(value) = logged.and_then(|logged| of(&logged)) {
                    writer.sample_of(labels, "stream", stream, value);
                }
            }
        }
    }
    writer.family(gauge(
        "bunpilot_worker_custom",
        "",
        "What the worker reports under names of its own.",
    ));
    for (labels, worker) in places().filter(|(_, worker)| worker.is_live()) {
        let finite = worker.custom.iter().filter(|(_, value)| value.is_finite());
        for (name, &value) in finite.take(CUSTOM_MAX) {
            writer.sample_of(labels, "name", name, Value::Real(value));
        }
    }
}
