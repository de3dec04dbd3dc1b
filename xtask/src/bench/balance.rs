//! `cargo xtask bench balance`: who gets the next connection, and what it costs to choose.
//!
//! Three questions, in each round of every policy and of the kernel's hash: how even 10,000
//! connections fall on four workers, how many questions are answered if one worker of four is
//! slow, and how much time on a CPU a request costs everybody together. The client is part of that:
//! on one machine it is the client's thread in which the kernel chooses a worker.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    clock,
    grid::{self, Grid},
    rotated,
    sharing::{Builds, Program, Rung, Sharer, Site},
    some_or_all, tell,
    traffic::{Crowd, Outcome, Traffic, percentile},
};
use crate::shell::{Failure, say};

/// How thoroughly.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// One round, and fewer questions where their number does not matter
    #[arg(long)]
    quick: bool,
    /// Rounds, each of which runs everything once
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Only these ways to share the port
    #[arg(long, value_enum, value_delimiter = ',')]
    rungs: Vec<Rung>,
    #[command(flatten)]
    builds: Builds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    MaxByMin,
    Spread,
    Answered,
    ByHash,
    Median,
    Slow,
    Rate,
    Everybody,
    Workers,
    Manager,
    Added,
}

impl grid::Figure for Figure {
    const ALL: &'static [Self] = &[
        Self::MaxByMin,
        Self::Spread,
        Self::Answered,
        Self::ByHash,
        Self::Median,
        Self::Slow,
        Self::Rate,
        Self::Everybody,
        Self::Workers,
        Self::Manager,
        Self::Added,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::MaxByMin => "max / min",
            Self::Spread => "cv %",
            Self::Answered => "answered",
            Self::ByHash => "× kernel's hash",
            Self::Median => "p50 ms",
            Self::Slow => "p99 ms",
            Self::Rate => "requests/s",
            Self::Everybody => "all µs/request",
            Self::Workers => "workers µs/request",
            Self::Manager => "bunpilot µs/request",
            Self::Added => "more than hash %",
        }
    }
}

/// Rounds, unless the caller says otherwise.
const ROUNDS: u16 = 5;

/// Workers, and clients that ask over a new connection each time.
const WORKERS: u16 = 4;
const CLIENTS: u16 = 16;

/// Connections that are spread, and questions whose cost is measured.
const CONNECTIONS: u64 = 10_000;
const REQUESTS: u64 = 40_000;
const QUICK_REQUESTS: u64 = 10_000;

/// How long clients ask workers of which one is slow.
const SLOW_TIME: Duration = Duration::from_secs(4);

/// A way to share a port, and a policy if it has any.
struct Way {
    name: String,
    sharer: Sharer,
    clustering: Value,
}

pub(super) fn measure(args: &Args) -> Result<(), Failure> {
    let rungs = some_or_all(&args.rungs, &Rung::ALL);
    let ways: Vec<_> = args.builds.sharers(&rungs)?.into_iter().flat_map(ways).collect();
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { ROUNDS });
    let requests = if args.quick { QUICK_REQUESTS } else { REQUESTS };
    let mut grid = Grid::new();
    for round in 0..rounds {
        say(format_args!("round {} of {rounds}", round + 1));
        let order = || rotated(&ways, round);
        for way in order() {
            spread(way, &mut grid)?;
        }
        let answered = order().map(|way| Ok((way, slow(way, &mut grid)?)));
        beside_hash(answered.collect::<Result<_, Failure>>()?, |way, ours, hash| {
            grid.note(SLOW, &way.name, Figure::ByHash, ours / hash);
        });
        let costs = order().map(|way| Ok((way, cost(way, requests, &mut grid)?)));
        beside_hash(costs.collect::<Result<_, Failure>>()?, |way, ours, hash| {
            grid.note(COST, &way.name, Figure::Added, (ours / hash - 1.0) * 100.0);
        });
    }
    tell(&grid, "balance")
}

/// Every policy of the rungs that have any.
fn ways(sharer: Sharer) -> Vec<Way> {
    let way = |policy: &str| Way {
        name: format!("{}, {policy}", sharer.name),
        sharer: sharer.clone(),
        clustering: json!({ "balance": policy }),
    };
    if sharer.is_rung(Rung::Workers) {
        return vec![Way { name: sharer.name.clone(), sharer, clustering: json!({}) }];
    }
    ["leastConnections", "roundRobin", "random"].map(way).into()
}

/// Compares each figure of a round with that of the kernel's hash in the same round.
fn beside_hash(figures: Vec<(&Way, f64)>, mut compare: impl FnMut(&Way, f64, f64)) {
    let hash = figures.iter().find(|(way, _)| way.sharer.is_rung(Rung::Workers));
    if let Some((_, hash)) = hash.copied() {
        for (way, figure) in figures {
            compare(way, figure, hash);
        }
    }
}

const SPREAD: &str = "10,000 connections over 4 workers in C";
const SLOW: &str = "one worker of four needs 40 ms, the others 2; 16 clients for 4 s";
const COST: &str = "time on a CPU, 4 workers in C, 16 clients";

fn spread(way: &Way, grid: &mut Grid<Figure>) -> Result<(), Failure> {
    let site = Site::new(&way.sharer, Program::C, WORKERS, &way.clustering)?;
    let outcome = ask(&site, CONNECTIONS).join();
    site.end()?;
    let shares: Vec<f64> = outcome.by_worker().into_values().map(f64::from).collect();
    let (max, min) =
        shares.iter().fold((0.0_f64, f64::MAX), |(max, min), it| (max.max(*it), min.min(*it)));
    let mean = shares.iter().sum::<f64>() / f64::from(WORKERS);
    let variance = shares.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / f64::from(WORKERS);
    grid.note(SPREAD, &way.name, Figure::MaxByMin, max / min);
    grid.note(SPREAD, &way.name, Figure::Spread, variance.sqrt() / mean * 100.0);
    lost(&outcome, SPREAD, way, grid);
    Ok(())
}

/// Returns how many questions were answered.
fn slow(way: &Way, grid: &mut Grid<Figure>) -> Result<f64, Failure> {
    let site = Site::new(&way.sharer, Program::Slow, WORKERS, &way.clustering)?;
    let traffic = ask(&site, u64::MAX);
    clock::sleep(SLOW_TIME);
    let outcome = traffic.finish();
    site.end()?;
    let answered = count(&outcome);
    grid.note(SLOW, &way.name, Figure::Answered, answered);
    for (figure, part) in [(Figure::Median, 50), (Figure::Slow, 99)] {
        if let Some(wait) = percentile(&outcome.answers, part) {
            grid.note(SLOW, &way.name, figure, wait.as_secs_f64() * 1e3);
        }
    }
    lost(&outcome, SLOW, way, grid);
    Ok(answered)
}

/// Returns what a request cost everybody, in microseconds.
fn cost(way: &Way, requests: u64, grid: &mut Grid<Figure>) -> Result<f64, Failure> {
    let site = Site::new(&way.sharer, Program::C, WORKERS, &way.clustering)?;
    let parts = || [clock::cpu(), site.work().cpu, site.overhead().cpu];
    let before = parts();
    let outcome = ask(&site, requests).join();
    let after = parts();
    site.end()?;
    let part = |index: usize| {
        let spent = after[index].saturating_sub(before[index]);
        spent.as_secs_f64() * 1e6 / count(&outcome)
    };
    let [client, workers, manager] = [0, 1, 2].map(part);
    if let Some(last) = outcome.answers.last() {
        grid.note(COST, &way.name, Figure::Rate, count(&outcome) / last.at.as_secs_f64());
    }
    grid.note(COST, &way.name, Figure::Everybody, client + workers + manager);
    grid.note(COST, &way.name, Figure::Workers, workers);
    grid.note(COST, &way.name, Figure::Manager, manager);
    lost(&outcome, COST, way, grid);
    Ok(client + workers + manager)
}

fn ask(site: &Site, questions_max: u64) -> Traffic {
    let crowd = Crowd { fresh: CLIENTS, kept: 0, pause: Duration::ZERO, questions_max };
    Traffic::start(site.port, crowd)
}

fn count(outcome: &Outcome) -> f64 {
    u32::try_from(outcome.answers.len()).map_or(f64::NAN, f64::from)
}

fn lost(outcome: &Outcome, section: &str, way: &Way, grid: &mut Grid<Figure>) {
    for (how, count) in &outcome.failed {
        grid.count(section, &way.name, &how.word(), (*count).into());
    }
}
