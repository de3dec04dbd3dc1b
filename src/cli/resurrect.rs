//! `bunpilot resurrect`: after a reboot, what ran runs again.

use std::time::Duration;

use serde_json::json;

use super::{
    client::Daemon,
    clock,
    failure::{Failure, Outcome, Verdict},
    home::Home,
    launch,
    output::{Format, Out},
};
use crate::control::{status::AppStatus, wire::Target};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs it: a daemon that starts brings its apps up by itself, so all there is to do is to start
/// it and wait until they have settled.
pub(crate) fn run(home: &Home, out: &mut Out) -> Outcome {
    launch::ensure(home)?;
    let daemon = Daemon::of(home);
    let apps = loop {
        let apps = daemon.apps(&Target::All)?;
        if apps.iter().all(settled) {
            break apps;
        }
        clock::sleep(PAUSE);
    };
    tell(&apps, out)
}

fn settled(app: &AppStatus) -> bool {
    let moving = |state: &str| {
        matches!(state, "spawning" | "starting" | "draining" | "stopping" | "crashed")
    };
    app.status != "running"
        || (app.busy.is_none() && app.workers.iter().all(|it| !moving(&it.state)))
}

fn tell(apps: &[AppStatus], out: &mut Out) -> Outcome {
    let online = |app: &&AppStatus| app.status == "running";
    let up: Vec<_> = apps.iter().filter(online).map(|it| it.name.as_str()).collect();
    let errored: Vec<_> =
        apps.iter().filter(|it| it.status == "errored").map(|it| it.name.as_str()).collect();
    if out.format == Format::Json {
        out.json(&json!({ "action": "resurrected", "running": up, "errored": errored }))?;
    }
    if up.is_empty() && errored.is_empty() {
        out.warn("no app ran when the daemon went down")?;
    }
    for name in up {
        out.ok(format_args!("\"{name}\" is running"))?;
    }
    for name in &errored {
        out.warn(format_args!("\"{name}\" is errored; see `bunpilot status {name}`"))?;
    }
    if errored.is_empty() { Ok(()) } else { Err(Failure::Told(Verdict::Failed)) }
}
