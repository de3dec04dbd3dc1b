//! One round: one manager from its start to its end, every figure on the way.

use std::{
    ffi::OsStr,
    fs, iter,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{
    clock,
    contender::{Contender, finish, workers_of},
    figures::{Figure, Sheet},
    proc::{self, Work},
    ward::kill,
};
use crate::shell::{Failure, find};

/// How thorough a round is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Rest before a look at memory.
    settle: Duration,
    /// How long the idle manager is watched.
    idle: Duration,
    /// Runs of `list`, one after the other.
    lists: u16,
    /// Runs of `list` so far apart that nothing is fresh.
    late_lists: u16,
    /// Workers killed.
    kills: u16,
}

impl Effort {
    pub(super) const FULL: Self = Self {
        settle: Duration::from_secs(3),
        idle: Duration::from_secs(30),
        lists: 50,
        late_lists: 5,
        kills: 10,
    };
    pub(super) const QUICK: Self = Self {
        settle: Duration::from_secs(1),
        idle: Duration::from_secs(5),
        lists: 10,
        late_lists: 3,
        kills: 5,
    };
}

/// Workers of the app that is measured.
const WORKERS: u16 = 100;

/// Longest wait for all workers to run, and for a killed one to be replaced.
const START_MAX: Duration = Duration::from_mins(1);
const RESPAWN_MAX: Duration = Duration::from_secs(10);

/// Rest between two kills: what the first one set off is over.
const KILL_REST: Duration = Duration::from_millis(300);

/// Longer than any manager keeps a measurement.
const STALE: Duration = Duration::from_millis(1_500);

/// Measures every figure of one manager.
pub(super) fn measure(
    contender: &mut Contender,
    effort: Effort,
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    contender.boot()?;
    clock::sleep(effort.settle);
    memory(contender, [Figure::IdleRss, Figure::IdlePss, Figure::IdleDirty], sheet);
    for time in lists(&contender.list(), effort.lists)? {
        sheet.note(Figure::IdleList, contender.kind.name(), time);
    }
    start(contender, sheet)?;
    clock::sleep(effort.settle);
    memory(contender, [Figure::Rss, Figure::Pss, Figure::Dirty], sheet);
    idle(contender, effort.idle, sheet);
    for time in lists(&contender.list(), effort.lists)? {
        sheet.note(Figure::List, contender.kind.name(), time);
    }
    for _ in 0..effort.late_lists {
        clock::sleep(STALE);
        let time = timed(&mut contender.list())?;
        sheet.note(Figure::LateList, contender.kind.name(), millis(time));
    }
    for victim in 0..effort.kills {
        respawn(contender, usize::from(victim), sheet);
    }
    contender.end()
}

fn memory(contender: &Contender, [rss, pss, dirty]: [Figure; 3], sheet: &mut Sheet) {
    let all = contender.managers().into_iter().map(proc::memory);
    let sum =
        all.fold([0, 0, 0], |[rss, pss, dirty], it| [rss + it.rss, pss + it.pss, dirty + it.dirty]);
    for (figure, kib) in [rss, pss, dirty].into_iter().zip(sum) {
        sheet.note(figure, contender.kind.name(), f64::from(kib) / 1024.0);
    }
}

/// Times `list` by hyperfine where there is one, else by our own clock.
fn lists(list: &Command, runs: u16) -> Result<Vec<f64>, Failure> {
    let mut list = beside(list, list.get_program(), list.get_args());
    for _ in 0..3 {
        finish(&mut list)?;
    }
    if find("hyperfine").is_some()
        && let Some(times) = by_hyperfine(&list, runs)
    {
        return Ok(times);
    }
    (0..runs).map(|_| timed(&mut list).map(millis)).collect()
}

/// A silent command in the folder and environment of another.
fn beside<'a>(
    other: &Command,
    program: &OsStr,
    arguments: impl Iterator<Item = &'a OsStr>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(other.get_current_dir().unwrap_or(".".as_ref()));
    command.envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn by_hyperfine(list: &Command, runs: u16) -> Option<Vec<f64>> {
    let file = list.get_current_dir()?.join("hyperfine.json");
    let words = iter::once(list.get_program()).chain(list.get_args());
    let line = words.collect::<Vec<_>>().join(OsStr::new(" "));
    let runs = runs.to_string();
    let arguments = ["-N", "--style", "none", "--warmup", "2", "--runs", &runs, "--export-json"]
        .map(OsStr::new);
    let arguments = arguments.into_iter().chain([file.as_os_str(), line.as_os_str()]);
    finish(&mut beside(list, "hyperfine".as_ref(), arguments)).ok()?;
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
    let times = report.pointer("/results/0/times")?.as_array()?;
    times.iter().map(|it| it.as_f64().map(|seconds| seconds * 1e3)).collect()
}

fn timed(command: &mut Command) -> Result<Duration, Failure> {
    let start = clock::now();
    finish(command)?;
    Ok(start.elapsed())
}

/// Starts all workers; the last one counts.
fn start(contender: &Contender, sheet: &mut Sheet) -> Result<(), Failure> {
    let mut command = contender.start(WORKERS)?;
    let begun = clock::since_boot();
    let took = timed(&mut command)?;
    let all = || Some(contender.workers()).filter(|it| it.len() >= usize::from(WORKERS));
    let workers = clock::await_some(START_MAX, Duration::from_millis(5), all).unwrap_or_default();
    let last = workers.iter().filter_map(|pid| proc::born(*pid)).max().unwrap_or_default();
    let name = contender.kind.name();
    sheet.note(Figure::StartSpawned, name, millis(last.saturating_sub(begun)));
    sheet.note(Figure::StartCommand, name, millis(took));
    Ok(())
}

fn idle(contender: &Contender, window: Duration, sheet: &mut Sheet) {
    let work = || contender.managers().into_iter().map(Work::of).collect::<Vec<_>>();
    let (before, start) = (work(), clock::now());
    clock::sleep(window);
    let (after, took) = (work(), start.elapsed());
    let cpu: Duration =
        after.iter().zip(&before).map(|(it, was)| it.cpu.saturating_sub(was.cpu)).sum();
    let sleeps: u32 =
        after.iter().zip(&before).map(|(it, was)| it.sleeps.saturating_sub(was.sleeps)).sum();
    let name = contender.kind.name();
    sheet.note(Figure::IdleCpu, name, cpu.as_secs_f64() / took.as_secs_f64() * 100.0);
    sheet.note(Figure::Wakeups, name, f64::from(sleeps) / took.as_secs_f64());
}

/// Kills a worker and waits until its successor runs its program.
fn respawn(contender: &Contender, victim: usize, sheet: &mut Sheet) {
    clock::sleep(KILL_REST);
    let Some(parent) = contender.managers().last().copied() else { return };
    let (before, workers) = (proc::children(parent), workers_of(parent));
    let Some(pid) = workers.get(victim * 7 % workers.len().max(1)) else { return };
    let newcomer = || proc::children(parent).into_iter().find(|it| !before.contains(it));
    let start = clock::now();
    kill(*pid);
    let pause = Duration::from_micros(100);
    let Some(new) = clock::await_some(RESPAWN_MAX, pause, newcomer) else { return };
    let runs = || (proc::program(new) == "sleep").then_some(());
    if clock::await_some(RESPAWN_MAX, pause, runs).is_some() {
        sheet.note(Figure::Respawn, contender.kind.name(), millis(start.elapsed()));
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
