//! What the log pump says and counts, in the words of the loop.

use std::{path::PathBuf, time::Duration};

use super::{
    logs::{Counters, Pump, PumpNotice},
    world::Shared,
};
use crate::{
    domain::{InstanceId, Logged, Logs},
    logs::{Stream, files},
    world::{Blockage, Event, Launch, Meanwhile},
};

/// Carries what the pump reports to whom it concerns.
pub(super) fn said(shared: &Shared, notice: PumpNotice) {
    match notice {
        PumpNotice::Closed(worker, _) => shared.stream_closed(worker),
        PumpNotice::Blocked { path, reason } => {
            tracing::warn!(path = %path.display(), reason, "a log file cannot be written");
            blocked(shared, path, reason, Meanwhile::Waits);
        }
        PumpNotice::Dropping { path, reason } => {
            let shown = path.display();
            tracing::warn!(path = %shown, reason, "a log file cannot be written; output is dropped");
            blocked(shared, path, reason, Meanwhile::Dropped);
        }
        PumpNotice::Evicted { path } => {
            let path = path.display();
            tracing::warn!(%path, "no space left; the oldest log file was removed");
        }
        PumpNotice::Resumed { path, after, dropped_bytes } => {
            let shown = path.display();
            tracing::info!(path = %shown, ?after, dropped_bytes, "the log file is written again");
            shared.inbox.push(Event::LogResumed(path));
        }
        PumpNotice::RotationFailed { path, reason } => {
            tracing::warn!(path = %path.display(), reason, "a log file cannot be rotated");
        }
        PumpNotice::PackingFailed { path, reason } => {
            tracing::warn!(path = %path.display(), reason, "a full log file cannot be packed");
        }
        PumpNotice::Dropped { worker, stream, bytes } => {
            tracing::warn!(%worker, %stream, bytes, "last words of a worker were dropped");
        }
        PumpNotice::Broken(reason) => tracing::error!(reason, "the log pump ended"),
    }
}

fn blocked(shared: &Shared, path: PathBuf, reason: String, output: Meanwhile) {
    let writes = |launch: &Launch| {
        let index = launch.worker.instance.index;
        let file = |stream| files::paths(&shared.logs, &launch.spec, index, stream);
        Stream::BOTH.into_iter().any(|stream| file(stream) == path)
    };
    let apps = shared.workers.apps(writes).into_iter().collect();
    shared.inbox.push(Event::LogBlocked(Blockage { path, apps, reason, output }));
}

/// What the pump has counted, by place.
pub(super) fn counted(pump: &Pump) -> Vec<(InstanceId, Logs)> {
    let places = pump.places().into_iter();
    places
        .map(|(place, [out, err])| (place, Logs { out: out.map(logged), err: err.map(logged) }))
        .collect()
}

fn logged(counters: Counters) -> Logged {
    let micros = counters.last_write_unix_micros;
    Logged {
        bytes: counters.bytes,
        lines: counters.lines,
        rotations: counters.rotations,
        dropped_bytes: counters.dropped_bytes,
        blocked: counters.blocked,
        last_write_unix: (micros > 0).then(|| Duration::from_micros(micros)),
    }
}
