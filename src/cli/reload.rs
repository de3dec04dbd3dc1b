//! `bunpilot reload`: workers are replaced one batch after the other.

use super::{
    args,
    failure::{Failure, Outcome},
    home::Home,
    output::Out,
    plan, start,
    verb::{self, Order},
};
use crate::control::wire::{Command, Target};

/// Runs it.
pub(crate) fn run(home: &Home, args: args::Reload, out: &mut Out) -> Outcome {
    let orders = match &args.config {
        None => args.targets.into_iter().map(|target| order(target, None)).collect(),
        Some(file) => {
            let plan = plan::of_file(file, args.config_runtime, args.env)?;
            start::warn(&plan, out)?;
            chosen(plan.apps, &args.targets)?
        }
    };
    verb::run(home, orders, "reloaded", out)
}

fn order(target: Target, config: Option<serde_json::Value>) -> Order {
    Order { command: Command::Reload { target: target.clone(), config }, target }
}

/// Those of the file's apps that are meant: all, or the ones named.
fn chosen(apps: Vec<plan::Planned>, targets: &[Target]) -> Result<Vec<Order>, Failure> {
    for target in targets {
        let in_file = |name: &str| apps.iter().any(|it| it.name == name);
        match target {
            Target::All => {}
            Target::App(name) if in_file(name) => {}
            Target::App(name) => {
                return Err(Failure::config(format!("the config file has no app `{name}`")));
            }
            Target::Instance(..) => {
                return Err(Failure::Usage(format!(
                    "a new configuration is for a whole app, not for `{target}` alone"
                )));
            }
        }
    }
    let meant = |name: &str| {
        let names = |it: &Target| *it == Target::All || *it == Target::App(name.to_owned());
        targets.is_empty() || targets.iter().any(names)
    };
    Ok(apps
        .into_iter()
        .filter(|it| meant(&it.name))
        .map(|it| order(Target::App(it.name), it.config))
        .collect())
}
