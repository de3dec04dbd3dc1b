//! `cargo xtask bench`: bunpilot measured beside others, in one run.
//!
//! `manager`, here, compares the process manager with PM2; `logs`, `reload` and `balance` are
//! modules of their own. Decides what is measured and how often; each round measures both, in turn,
//! in homes of their own that are gone afterwards. Writes all samples to
//! `target/bench/manager.json`. Judges nothing: the table names our aims, and says how busy the
//! machine was.

mod balance;
mod clock;
mod contender;
mod figures;
mod grid;
mod logs;
mod metrics;
mod proc;
mod reload;
mod round;
mod sharing;
mod summary;
mod traffic;
mod ward;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use self::{
    contender::{Contender, Kind},
    figures::Sheet,
    round::Effort,
};
use crate::{
    shell::{Failure, cargo, root, run as command, say},
    tools,
};

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// The process manager, beside PM2: `list`, memory, idle CPU, starting 100 workers, respawn
    Manager(Args),
    /// The log pump, beside s6-log, svlogd, multilog, pm2, cat and the bare limit
    Logs(logs::Args),
    /// Accounting in the kernel: what it adds to a context switch, and reading it for a scrape
    Metrics(metrics::Args),
    /// What reloads lose: every answer counted, whatever the workers are written in, beside PM2
    Reload(reload::Args),
    /// How connections are spread over workers, what a slow one costs, and what choosing costs
    Balance(balance::Args),
    /// Writes numbered lines to standard output, for `logs`
    #[command(hide = true)]
    LogWriter(logs::WriterArgs),
    /// Moves standard input to a file by bare `splice(2)`, for `logs`
    #[command(hide = true)]
    LogSplice {
        /// The file
        file: PathBuf,
    },
}

/// How thoroughly.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// One round, and shorter looks
    #[arg(long)]
    quick: bool,
    /// Rounds, each of which measures both
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measures bunpilot alone
    #[arg(long)]
    alone: bool,
}

/// Rounds, unless the caller says otherwise.
const ROUNDS: u16 = 3;

pub(crate) fn run(bench: &Bench) -> ExitCode {
    let outcome = match bench {
        Bench::Manager(args) => manager(*args),
        Bench::Logs(args) => logs::measure(args),
        Bench::Metrics(args) => metrics::measure(*args),
        Bench::Reload(args) => reload::measure(args),
        Bench::Balance(args) => balance::measure(args),
        Bench::LogWriter(args) => told("write to", "standard output", logs::write_text(args)),
        Bench::LogSplice { file } => told("move to", file, logs::splice(file)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn told(
    what: &'static str,
    path: impl AsRef<Path>,
    outcome: io::Result<()>,
) -> Result<(), Failure> {
    outcome.map_err(|source| Failure::File { what, path: path.as_ref().to_owned(), source })
}

fn manager(args: Args) -> Result<(), Failure> {
    command(cargo().args(["build", "--release", "--bin", "bunpilot"]))?;
    // Pages of a file that is not on disk yet would count as written by whoever maps them.
    command(&mut Command::new("sync"))?;
    let kinds = kinds(args)?;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS });
    let mut sheet = Sheet::default();
    for round in 0..rounds {
        for kind in rotated(&kinds, round) {
            say(format_args!("round {} of {rounds}: {}", round + 1, kind.name()));
            let mut contender = Contender::new(kind.clone())?;
            round::measure(&mut contender, effort, &mut sheet)?;
        }
    }
    sheet.print()?;
    write(&root().join("target/bench/manager.json"), &sheet.json())
}

/// Who goes first changes with each round, so that a machine that slows down is fair to all.
fn rotated<T>(all: &[T], round: u16) -> impl Iterator<Item = &T> {
    let turn = usize::from(round) % all.len().max(1);
    all.iter().cycle().skip(turn).take(all.len())
}

/// What somebody asked for, or everything there is.
fn some_or_all<T: Copy>(some: &[T], all: &[T]) -> Vec<T> {
    if some.is_empty() { all.to_vec() } else { some.to_vec() }
}

fn kinds(args: Args) -> Result<Vec<Kind>, Failure> {
    let bunpilot = Kind::Bunpilot { program: root().join("target/release/bunpilot") };
    if args.alone {
        return Ok(vec![bunpilot]);
    }
    Ok(vec![bunpilot, Kind::Pm2 { program: tools::program("pm2")? }])
}

/// Another build, as an option names it.
fn named_program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write it as `before=target/old/bunpilot`")?;
    Ok((name.to_owned(), root().join(path)))
}

/// Shows a grid, and writes all its samples to `target/bench/<name>.json`.
fn tell<F: grid::Figure>(grid: &grid::Grid<F>, name: &str) -> Result<(), Failure> {
    told("write to", "standard output", grid.write(&mut io::stdout().lock()))?;
    write(&root().join(format!("target/bench/{name}.json")), &format!("{:#}\n", grid.json()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    fs::write(path, text).map_err(failed)?;
    say(format_args!("all samples are in `{}`", path.display()));
    Ok(())
}
