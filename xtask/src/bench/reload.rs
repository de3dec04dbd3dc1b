//! `cargo xtask bench reload`: what is lost when every worker is replaced under load.
//!
//! The servers are programs as they are: they know nothing of bunpilot, open their port themselves
//! and die of SIGTERM on the spot. Each round runs each server under each manager and rung, one
//! after the other; who comes first changes. Forty clients ask meanwhile, 24 of them over a new
//! connection each time.

use std::{ops::Range, time::Duration};

use serde_json::json;

use super::{
    clock,
    grid::{self, Grid},
    rotated,
    sharing::{Builds, Program, Rung, Sharer, Site},
    some_or_all, tell,
    traffic::{Answer, Crowd, Outcome, Traffic, percentile},
};
use crate::shell::{Failure, say};

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// One round of two reloads each
    #[arg(long)]
    quick: bool,
    /// Rounds, each of which runs everything once
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Reloads in each run
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    reloads: Option<u16>,
    /// Only these servers
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Program>,
    /// Only these ways to share the port
    #[arg(long, value_enum, value_delimiter = ',')]
    rungs: Vec<Rung>,
    /// Only these orders
    #[arg(long, value_enum, value_delimiter = ',')]
    orders: Vec<Order>,
    /// Without PM2
    #[arg(long)]
    alone: bool,
    /// Milliseconds each client rests between two questions
    #[arg(long, default_value_t = 2)]
    pause: u16,
    #[command(flatten)]
    builds: Builds,
}

/// What is ordered under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// `reload` of four workers, one after the other
    Reload,
    /// `reload` of the only worker
    ReloadOne,
    /// `restart` of the only worker: the old one is gone before the new one comes
    RestartOne,
}

impl Order {
    const ALL: [Self; 3] = [Self::Reload, Self::ReloadOne, Self::RestartOne];

    /// What it is, the command, and the number of workers.
    fn facts(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Reload => ("reload of 4 workers", "reload", 4),
            Self::ReloadOne => ("reload of 1 worker", "reload", 1),
            Self::RestartOne => ("restart of 1 worker", "restart", 1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    Lost,
    Answered,
    Gap,
    Median,
    Slow,
    Took,
}

impl grid::Figure for Figure {
    const ALL: &'static [Self] =
        &[Self::Lost, Self::Answered, Self::Gap, Self::Median, Self::Slow, Self::Took];

    fn title(self) -> &'static str {
        match self {
            Self::Lost => "failed",
            Self::Answered => "answered",
            Self::Gap => "longest gap ms",
            Self::Median => "p50 meanwhile ms",
            Self::Slow => "p99 meanwhile ms",
            Self::Took => "s per order",
        }
    }
}

/// Clients.
const FRESH: u16 = 24;
const KEPT: u16 = 16;

/// Rounds, and orders in each run, unless the caller says otherwise.
const ROUNDS: u16 = 3;
const RELOADS: u16 = 5;
const QUICK_RELOADS: u16 = 2;

/// Answers before the first order, between two, and after the last.
const ANSWERS: u64 = 400;

/// Longest wait for them: beyond what a client waits for one.
const ANSWERS_MAX: Duration = Duration::from_secs(20);

pub(super) fn measure(args: &Args) -> Result<(), Failure> {
    let rungs = some_or_all(&args.rungs, &Rung::ALL);
    let mut sharers = args.builds.sharers(&rungs)?;
    if !args.alone {
        sharers.extend(Sharer::pm2());
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS });
    let mut servers = some_or_all(&args.servers, &Program::ALL);
    servers.retain(|it| it.is_there());
    let mut grid = Grid::new();
    for round in 0..rounds {
        for order in some_or_all(&args.orders, &Order::ALL) {
            for &server in &servers {
                for sharer in rotated(&sharers, round).filter(|it| it.can(server)) {
                    run(sharer, server, order, args, &mut grid)?;
                }
            }
        }
    }
    tell(&grid, "reload")
}

fn run(
    sharer: &Sharer,
    server: Program,
    order: Order,
    args: &Args,
    grid: &mut Grid<Figure>,
) -> Result<(), Failure> {
    let (what, command, workers) = order.facts();
    let reloads = args.reloads.unwrap_or(if args.quick { QUICK_RELOADS } else { RELOADS });
    let site = Site::new(sharer, server, workers, &json!({}))?;
    let crowd = Crowd {
        fresh: FRESH,
        kept: KEPT,
        pause: Duration::from_millis(args.pause.into()),
        questions_max: u64::MAX,
    };
    let traffic = Traffic::start(site.port, crowd);
    let section = format!("{what}, {}, {reloads} times", server.name());
    flow(&traffic, &sharer.name)?;
    let mut spans = Vec::new();
    for _ in 0..reloads {
        let start = traffic.elapsed();
        match site.order(command) {
            Ok(took) => grid.note(&section, &sharer.name, Figure::Took, took.as_secs_f64()),
            Err(error) => {
                say(format_args!("{}: {error}", sharer.name));
                grid.count(&section, &sharer.name, "orders refused", 1);
            }
        }
        spans.push(start..traffic.elapsed());
        flow(&traffic, &sharer.name)?;
    }
    let outcome = traffic.finish();
    site.end()?;
    say(format_args!(
        "{section}: {}: {} answered, {} failed, {} retried",
        sharer.name,
        outcome.answers.len(),
        outcome.lost(),
        outcome.retried
    ));
    note(grid, &section, &sharer.name, &outcome, &spans);
    Ok(())
}

/// Waits for more answers.
fn flow(traffic: &Traffic, who: &str) -> Result<(), Failure> {
    let before = traffic.answered();
    let flows = || (traffic.answered() >= before + ANSWERS).then_some(());
    let flows = clock::await_some(ANSWERS_MAX, Duration::from_millis(5), flows);
    let stuck = || Failure::Stuck { who: who.to_owned(), what: "nobody answers".to_owned() };
    flows.ok_or_else(stuck)
}

fn note(
    grid: &mut Grid<Figure>,
    section: &str,
    who: &str,
    outcome: &Outcome,
    spans: &[Range<Duration>],
) {
    let within = |answer: &&Answer| spans.iter().any(|it| it.contains(&answer.at));
    let meanwhile: Vec<_> = outcome.answers.iter().filter(within).copied().collect();
    let answered = u32::try_from(outcome.answers.len()).unwrap_or(u32::MAX);
    let mut note = |figure, value| grid.note(section, who, figure, value);
    note(Figure::Lost, outcome.lost().into());
    note(Figure::Answered, answered.into());
    note(Figure::Gap, outcome.longest_gap().as_secs_f64() * 1e3);
    for (figure, part) in [(Figure::Median, 50), (Figure::Slow, 99)] {
        if let Some(wait) = percentile(&meanwhile, part) {
            note(figure, wait.as_secs_f64() * 1e3);
        }
    }
    grid.count(section, who, "retried", outcome.retried.into());
    for (how, count) in &outcome.failed {
        grid.count(section, who, &how.word(), (*count).into());
    }
}
