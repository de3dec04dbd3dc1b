//! The original's names, beside ours.

use super::{
    super::writer::{Family, Kind, Labels, Value, Writer},
    Column, Shown, fill, gauge,
};
use crate::{
    domain::Stage,
    metrics::{Daemon, State, Worker},
};

/// The original's names for what a worker uses while it lives.
const OLD_NAMES: &[Column] = &[
    Column {
        family: gauge(
            "bunpilot_worker_memory_rss_bytes",
            "bytes",
            "Old name of bunpilot_worker_resident_memory_bytes.",
        ),
        of: |worker| worker.usage.map(|usage| usage.rss_bytes.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_memory_heap_used_bytes",
            "bytes",
            "Old name of bunpilot_worker_heap_used_bytes.",
        ),
        of: |worker| worker.heap.map(|heap| heap.used_bytes.into()),
    },
    Column {
        family: gauge(
            "bunpilot_worker_cpu_percent",
            "percent",
            "Share of one CPU the worker used between its last two measurements.",
        ),
        of: |worker| worker.cpu_millipercent.map(Value::Millipercent),
    },
    Column {
        family: gauge(
            "bunpilot_worker_uptime_seconds",
            "seconds",
            "How long the worker runs; better use bunpilot_worker_start_time_seconds.",
        ),
        of: |worker| worker.uptime.map(Value::from),
    },
];

/// The names of the original's README and HTTP server. `restart_count` breaks a rule of naming, so
/// it is of unknown kind: then no linter objects.
pub(super) fn write(daemon: &Daemon, apps: &[Shown<'_>], writer: &mut Writer) {
    for column in OLD_NAMES {
        fill(column, apps, Worker::is_live, writer);
    }
    let family = Family {
        name: "bunpilot_worker_restart_count",
        kind: Kind::Unknown,
        unit: "",
        help: "Old name of bunpilot_worker_restarts_total.",
    };
    fill(
        &Column { family, of: |worker| Some(worker.restarts.into()) },
        apps,
        |_worker| true,
        writer,
    );
    for (name, states) in [
        ("bunpilot_app_workers_online", &[State::Live(Stage::Online)][..]),
        ("bunpilot_app_workers_errored", &[State::Errored, State::Crashed][..]),
    ] {
        writer.family(gauge(name, "", "Old name of a series of bunpilot_app_workers."));
        for shown in apps {
            let count: u64 = states.iter().map(|&state| shown.count(state)).sum();
            writer.sample(&shown.labels, count);
        }
    }
    writer.family(gauge(
        "bunpilot_master_uptime_seconds",
        "seconds",
        "How long the bunpilot daemon runs; better use process_start_time_seconds.",
    ));
    writer.sample(&Labels::default(), daemon.uptime);
}
