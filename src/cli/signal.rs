//! `bunpilot signal`: workers get a signal.

use super::{
    args,
    failure::Outcome,
    home::Home,
    output::Out,
    verb::{self, Order},
};
use crate::control::wire::Command;

/// Runs it.
pub(crate) fn run(home: &Home, args: args::SendSignal, out: &mut Out) -> Outcome {
    // Names differ between systems less than numbers do; a number without a name stays one.
    let signal = args.signal.name().map_or_else(|| args.signal.0.to_string(), str::to_owned);
    let command = Command::Signal(args.target.clone(), signal);
    verb::run(home, vec![Order { target: args.target, command }], "signalled", out)
}
