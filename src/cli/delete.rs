//! `bunpilot delete`: an app is taken down and forgotten. A person is asked first.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::{
    args,
    failure::{Failure, Outcome, Verdict},
    home::Home,
    output::{Format, Out},
    verb::{self, Order},
};
use crate::control::wire::{Command, Force, Target};

/// Runs it.
pub(crate) fn run(home: &Home, args: args::Delete, out: &mut Out) -> Outcome {
    let force = if args.force { Force::Kill } else { Force::Gentle };
    let sure = args.force || args.yes || out.format == Format::Json;
    if !sure && io::stdin().is_terminal() && !confirmed(&args.targets.targets, out)? {
        out.warn("nothing deleted")?;
        return Err(Failure::Told(Verdict::Failed));
    }
    let orders = args
        .targets
        .targets
        .into_iter()
        .map(|target| Order { command: Command::Delete(target.clone(), force), target });
    verb::run(home, orders.collect(), "deleted", out)
}

fn confirmed(targets: &[Target], out: &mut Out) -> Result<bool, Failure> {
    let names: Vec<_> = targets.iter().map(|it| format!("\"{it}\"")).collect();
    write!(out.stderr(), "delete {}? [y/N] ", names.join(", "))?;
    out.stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::io("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
