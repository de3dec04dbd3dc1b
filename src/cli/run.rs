//! `bunpilot run`: everything in the foreground, also as process 1 of a container.
//!
//! This process starts a guard, the guard a daemon, and what the apps write goes to standard
//! output. SIGTERM and SIGINT end it all, a second one at once; SIGHUP reloads all.

mod echo;
mod warden;

use std::time::Duration;

use super::{
    args,
    client::Daemon,
    clock,
    failure::{Failure, Outcome},
    home::Home,
    launch,
    output::Out,
    plan::{self, Plan},
    start,
};
use crate::control::wire::Target;
use echo::Echo;
use warden::Warden;

/// Time between two looks at the signals that came.
const GLANCE: Duration = Duration::from_millis(50);

/// Glances between two looks at the apps.
const GLANCES: u32 = 20;

/// Runs it.
pub(crate) fn run(home: &Home, args: &args::Start, out: &mut Out) -> Outcome {
    let plan = plan::plan(args)?;
    start::warn(&plan, out)?;
    if Daemon::of(home).answers() {
        return Err(Failure::Local(format!(
            "a daemon already uses `{}`; add to it with `bunpilot start`, or set `BUNPILOT_HOME` to another folder",
            home.folder().display()
        )));
    }
    home.create()?;
    let home = &home.clone().with_http_port(plan.http_port);
    let warden = Warden::begin(home)?;
    // It outlives the apps: their last lines are worth reading.
    let echo = Echo::of(home)?;
    let outcome = launch::await_daemon(home, || warden.guard_gone() || warden.asked())
        .and_then(|()| serve(home, plan, &warden, out));
    let ended = warden.end();
    drop(echo);
    // What failed because the end was asked for is no failure.
    if warden.asked() { ended } else { outcome.and(ended) }
}

fn serve(home: &Home, plan: Plan, warden: &Warden, out: &mut Out) -> Outcome {
    if let Err(failure) = start::order(home, plan, out) {
        if warden.asked() {
            return Ok(());
        }
        if matches!(failure, Failure::Closed) {
            return Err(failure);
        }
        // The daemon may try again and succeed; whether it will, the apps' states tell.
        if !matches!(failure, Failure::Told(_)) {
            out.error(&failure)?;
        }
    }
    out.flush()?;
    watch(home, warden)
}

/// Waits for a reason to end.
fn watch(home: &Home, warden: &Warden) -> Outcome {
    let daemon = Daemon::of(home);
    let mut glances = 0;
    while !warden.asked() {
        if warden.guard_gone() {
            let log = home.daemon_log();
            let tail = launch::tail(&log).unwrap_or_default();
            return Err(Failure::Local(format!("the guard ended unasked\n{tail}")));
        }
        if glances % GLANCES == 0 && hopeless(&daemon) {
            return Err(Failure::Local("no app is left running: all have errored".to_owned()));
        }
        glances += 1;
        clock::sleep(GLANCE);
    }
    Ok(())
}

/// Whether nothing runs and nothing will.
fn hopeless(daemon: &Daemon) -> bool {
    // A daemon that does not answer now is the guard's business.
    daemon.apps(&Target::All).is_ok_and(|apps| {
        let is = |status: &str| apps.iter().filter(|it| it.status == status).count();
        // A home may hold apps that were stopped long ago, or just now on purpose.
        is("errored") > 0 && is("errored") + is("stopped") == apps.len()
    })
}
