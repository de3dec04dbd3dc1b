//! `bunpilot scale`: an app gets more workers, or fewer.

use super::{
    args::{self, Instances},
    failure::Outcome,
    home::Home,
    output::Out,
    verb::{self, Order},
};
use crate::control::wire::{Command, Target};

/// Runs it.
pub(crate) fn run(home: &Home, args: args::Scale, out: &mut Out) -> Outcome {
    let instances = match args.instances {
        Instances::Count(count) => count.get(),
        Instances::Max => std::thread::available_parallelism()
            .map_or(1, |cpus| u16::try_from(cpus.get()).unwrap_or(u16::MAX)),
    };
    let target = Target::App(args.app.clone());
    let command = Command::Scale { name: args.app, instances };
    verb::run(home, vec![Order { target, command }], "scaled", out)
}
