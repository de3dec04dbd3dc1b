//! What is right in a configuration, and yet will not do what its author may think.
//!
//! Decides only what is worth a warning; the meaning is [`desk`](super::desk)'s.

use std::path::Path;

use crate::{
    config::{
        fault::{Aim, Fault, Segment},
        raw::{RawConfig, RawLogs},
        settings,
    },
    domain::{AppSpec, LogMode, Strategy},
};

/// Warnings about a configuration that was resolved to `apps`, at paths within it.
#[must_use]
pub fn remarks(raw: &RawConfig, apps: &[AppSpec]) -> Vec<Fault> {
    let mut remarks = Vec::new();
    remarks.extend(raw.daemon.as_ref().map(|_| daemon_section()));
    remarks.extend(apps.iter().enumerate().filter_map(|(index, app)| deaf_bun(index, app)));
    let logs = raw.apps.iter().flatten().map(|app| app.logs.as_ref());
    for (index, (raw, app)) in logs.zip(apps).enumerate() {
        remarks.extend(raw.and_then(|raw| unwritten(index, raw, app)));
        remarks.extend(too_small_for_one(index, app));
    }
    remarks.extend(second_port(apps));
    remarks
}

/// The port of the metrics server these apps ask for; `None` if they leave it where it is.
#[must_use]
pub fn http_port<'a>(apps: impl IntoIterator<Item = &'a AppSpec>) -> Option<u16> {
    let ports = apps.into_iter().map(|app| app.metrics.http_port.get());
    ports.into_iter().find(|port| !is_default(*port))
}

fn is_default(port: u16) -> bool {
    settings::METRICS_PORT.default == Some(port.into())
}

fn daemon_section() -> Fault {
    Fault {
        path: vec![Segment::from("daemon")],
        aim: Aim::Key,
        message: "the `daemon` section is not heeded".to_owned(),
        help: Some(
            "set `BUNPILOT_HOME`, and `BUNPILOT_SOCKET` if need be, in the environment: every command must find the same daemon"
                .to_owned(),
        ),
    }
}

/// Bun's HTTP servers listen on a socket of their own, whatever they inherit.
fn deaf_bun(index: usize, app: &AppSpec) -> Option<Fault> {
    let program = app.interpreter.first().map(Path::new)?.file_name()?;
    let deaf = program == "bun" && app.cluster.enabled && app.cluster.strategy == Strategy::Inherit;
    deaf.then(|| Fault {
        path: ["apps".into(), index.into(), "clustering".into(), "strategy".into()].into(),
        aim: Aim::Value,
        message: format!("`{}` runs with bun, whose servers ignore inherited sockets", app.name),
        help: Some("use strategy `reusePort`, or another `interpreter`, e.g. `node`".to_owned()),
    })
}

/// Nothing is written, so that it does not matter where and how.
fn unwritten(index: usize, raw: &RawLogs, app: &AppSpec) -> Option<Fault> {
    let rest = RawLogs { mode: None, ..raw.clone() };
    let vain = app.logs.mode == LogMode::Off && rest != RawLogs::default();
    vain.then(|| Fault {
        path: ["apps".into(), index.into(), "logs".into(), "mode".into()].into(),
        aim: Aim::Value,
        message: format!("`{}` writes no logs, so the other keys of `logs` do nothing", app.name),
        help: Some(
            "to discard one stream only, make it `/dev/null`: `outFile: '/dev/null'`".to_owned(),
        ),
    })
}

/// A rotated file has `maxSize` at least, unless it was rotated by time or is packed.
fn too_small_for_one(index: usize, app: &AppSpec) -> Option<Fault> {
    let keep = &app.logs.keep;
    let total = keep.max_total_bytes.filter(|total| *total < keep.max_size_bytes)?;
    let by_size_alone = keep.every.is_none() && keep.compression.is_none();
    by_size_alone.then(|| Fault {
        path: ["apps".into(), index.into(), "logs".into(), "maxTotalSize".into()].into(),
        aim: Aim::Value,
        message: format!(
            "no rotated file of `{}` will be kept: each has {} and all together may have {}",
            app.name,
            settings::LOG_MAX_SIZE.show(keep.max_size_bytes.get()),
            settings::LOG_MAX_TOTAL_SIZE.show(total.get()),
        ),
        help: Some("raise `logs.maxTotalSize`, or lower `logs.maxSize`".to_owned()),
    })
}

/// There is one metrics server.
fn second_port(apps: &[AppSpec]) -> Option<Fault> {
    let chosen = http_port(apps)?;
    let other = apps.iter().position(|app| {
        let port = app.metrics.http_port.get();
        port != chosen && !is_default(port)
    })?;
    Some(Fault {
        path: ["apps".into(), other.into(), "metrics".into(), "httpPort".into()].into(),
        aim: Aim::Value,
        message: format!("there is one metrics server, and another app has it on port {chosen}"),
        help: None,
    })
}
