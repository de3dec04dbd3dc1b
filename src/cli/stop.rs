//! `bunpilot stop`: workers are taken down.

use super::{
    args,
    failure::Outcome,
    home::Home,
    output::Out,
    verb::{self, Order},
};
use crate::control::wire::Command;

/// Runs it.
pub(crate) fn run(home: &Home, args: args::Ending, out: &mut Out) -> Outcome {
    let force = args.force();
    let orders = args
        .targets
        .targets
        .into_iter()
        .map(|target| Order { command: Command::Stop(target.clone(), force), target });
    verb::run(home, orders.collect(), "stopped", out)
}
