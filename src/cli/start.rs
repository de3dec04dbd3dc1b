//! `bunpilot start`: a script, the apps of a config file, or an app that is known.

use super::{
    args,
    client::{Daemon, read},
    failure::Outcome,
    home::{Home, Http},
    launch::{self, Found},
    output::Out,
    plan::{self, Plan},
    verb::{self, Order},
};
use crate::control::{
    status::DaemonStatus,
    wire::{Command, Target},
};

/// Runs it. Nothing is started, not even the daemon, before everything is understood.
pub(crate) fn run(home: &Home, args: &args::Start, out: &mut Out) -> Outcome {
    let plan = plan::plan(args)?;
    warn(&plan, out)?;
    let home = home.clone().with_http_port(plan.http_port);
    let found = launch::ensure(&home)?;
    order(&home, plan, out)?;
    match (found, home.http()) {
        (Found::Running, Http::At(port)) => compare_ports(&home, port, out),
        (Found::Running | Found::Started, Http::Usual | Http::At(_) | Http::Off) => Ok(()),
    }
}

/// Tells if the daemon that runs serves metrics elsewhere than the apps wish.
fn compare_ports(home: &Home, port: u16, out: &mut Out) -> Outcome {
    let daemon: DaemonStatus = read(Daemon::of(home).ask(&Command::Dump)?)?;
    match daemon.engines.get("http") {
        Some(there) if !there.ends_with(&format!(":{port}")) => out.warn(format_args!(
            "`metrics.httpPort` is {port}, but the daemon that runs has its metrics server at \
             {there}; it moves with `bunpilot daemon stop` and `bunpilot resurrect`"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Tells what the plan is and starts its apps.
pub(crate) fn order(home: &Home, plan: Plan, out: &mut Out) -> Outcome {
    let mut orders = Vec::new();
    for app in plan.apps {
        let workers = match app.instances {
            Some(count @ 2..) => format!(" ({count} workers)"),
            Some(_) | None => String::new(),
        };
        if app.config.is_some() {
            out.start(format_args!("\"{}\"{workers}", app.name))?;
        }
        orders.push(Order {
            target: Target::App(app.name.clone()),
            command: Command::Start {
                name: app.name,
                config: app.config,
                config_path: app.config_path,
            },
        });
    }
    verb::run(home, orders, "started", out)
}

/// Tells what is odd about a config file.
pub(crate) fn warn(plan: &Plan, out: &mut Out) -> Outcome {
    plan.warnings.iter().try_for_each(|it| out.warn(it))
}
