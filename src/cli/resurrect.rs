//! `bunpilot resurrect`: after a reboot or `daemon stop`, what ran runs again.

use super::{
    failure::Outcome,
    home::Home,
    launch,
    output::Out,
    verb::{self, Order},
};
use crate::control::wire::{Command, Target};

/// Runs it.
pub(crate) fn run(home: &Home, out: &mut Out) -> Outcome {
    launch::ensure(home)?;
    let order = Order { target: Target::All, command: Command::Resurrect };
    verb::run(home, vec![order], "started", out)
}
