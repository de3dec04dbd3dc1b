//! `bunpilot start`: a script, the apps of a config file, or an app that is known.

use super::{
    args,
    failure::Outcome,
    home::Home,
    launch,
    output::Out,
    plan::{self, Plan},
    verb::{self, Order},
};
use crate::control::wire::{Command, Target};

/// Runs it. Nothing is started, not even the daemon, before everything is understood.
pub(crate) fn run(home: &Home, args: &args::Start, out: &mut Out) -> Outcome {
    let plan = plan::plan(args)?;
    warn(&plan, out)?;
    launch::ensure(home)?;
    order(home, plan, out)
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
