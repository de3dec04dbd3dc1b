//! `cargo xtask bench logs`: what it costs to keep what workers write, beside other loggers.
//!
//! Each round runs every logger once under every load, in an order that is drawn anew. A writer
//! of our own writes the same bytes under each; every byte that is kept is compared. What a logger
//! costs is the time its threads were on a CPU, read from the kernel (`schedstat`) before the
//! first byte and after the last. Bunpilot is the real one, with the writer as its worker: its
//! threads named `logs…` are the logger; those of the whole daemon and its guard are told beside
//! it.

mod load;
mod logger;
mod own;
mod rig;
mod sheet;
mod splicer;
mod text;
mod writer;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use self::{
    load::{Effort, Load},
    logger::{How, KEEP, KEEP_ALL, Logger, Piped},
    rig::Rig,
    sheet::{Figure, Sheet},
    text::verify,
};
use super::{clock, contender::Kind, proc::Work, write};
use crate::{
    shell::{Failure, cargo, root, run as command, say},
    tools,
};

pub(crate) use self::writer::Args as WriterArgs;

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Two rounds, and less is written
    #[arg(long)]
    quick: bool,
    /// Rounds, each of which runs every logger under every load
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Only these loads
    #[arg(long, value_enum, value_delimiter = ',', ignore_case = true)]
    loads: Vec<Load>,
    /// Only loggers whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of bunpilot to measure beside this one
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = super::named_program)]
    beside: Vec<(String, PathBuf)>,
    /// Measures this build of bunpilot instead of making one
    #[arg(long)]
    program: Option<PathBuf>,
    /// Seed of the order
    #[arg(long)]
    seed: Option<u64>,
}

/// Rounds, unless the caller says otherwise.
const ROUNDS: u16 = 5;
const QUICK_ROUNDS: u16 = 2;

/// Rest before the loggers of [`Load::Q`] are watched.
const SETTLE: Duration = Duration::from_secs(1);

/// Writes as [`writer`] says.
pub(super) fn write_text(args: &WriterArgs) -> io::Result<()> {
    writer::run(args)
}

/// Moves standard input as [`splicer`] says.
pub(super) fn splice(path: &Path) -> io::Result<()> {
    splicer::run(path)
}

pub(super) fn measure(args: &Args) -> Result<(), Failure> {
    let loggers = loggers(args)?;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let rounds = args.rounds.unwrap_or(if args.quick { QUICK_ROUNDS } else { ROUNDS });
    let loads = if args.loads.is_empty() { Load::ALL.to_vec() } else { args.loads.clone() };
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    say(format_args!("--seed {seed}"));
    let (mut luck, mut sheet) = (Luck(seed), Sheet::new(seed));
    for load in loads.iter().filter(|it| matches!(it, Load::L1 | Load::L2 | Load::L3)) {
        for logger in loggers.iter().filter(|it| it.rotates()) {
            keep_everything(logger, *load, &mut sheet)?;
        }
    }
    for round in 1..=rounds {
        for load in &loads {
            let mut order: Vec<_> = loggers.iter().collect();
            luck.shuffle(&mut order);
            let names: Vec<_> = order.iter().map(|it| it.name.as_str()).collect();
            say(format_args!("round {round} of {rounds}, {}: {}", load.name(), names.join(", ")));
            for logger in order {
                match load {
                    Load::L1 | Load::L2 | Load::L3 => loud(logger, *load, effort, &mut sheet)?,
                    Load::Q => quiet(logger, effort, &mut sheet)?,
                    Load::F | Load::M if !logger.is_bunpilot() => {}
                    Load::F => own::followed(logger, effort, &mut sheet)?,
                    Load::M => own::memory(logger, effort, &mut sheet)?,
                }
            }
        }
    }
    sheet.write(&mut io::stdout().lock()).map_err(|source| {
        let path = PathBuf::from("standard output");
        Failure::File { what: "write to", path, source }
    })?;
    write(&root().join("target/bench/logs.json"), &format!("{:#}\n", sheet.json()))
}

/// All that are measured; says who is missing, and where to get it.
fn loggers(args: &Args) -> Result<Vec<Logger>, Failure> {
    let wanted = |name: &str| {
        args.only.is_empty() || args.only.iter().any(|word| name.contains(word.as_str()))
    };
    let mut all = Vec::new();
    let bunpilots = args.beside.iter().cloned();
    let built = wanted("bunpilot").then(|| built(args)).transpose()?;
    for (name, program) in built.into_iter().chain(bunpilots) {
        all.push(Logger { name, how: How::Managed(Kind::Bunpilot { program }) });
    }
    for piped in Piped::ALL.into_iter().filter(|it| wanted(it.name())) {
        let program = match piped {
            Piped::Splice => env::current_exe()
                .map_err(|source| Failure::Start { program: "xtask".to_owned(), source }),
            Piped::Cat => tools::installed("cat"),
            Piped::S6Log => tools::program("s6-log"),
            Piped::Svlogd => tools::program("svlogd"),
            Piped::Multilog => tools::program("multilog"),
        };
        let how = program.map(|program| How::Piped(piped, program));
        add(&mut all, piped.name(), how);
    }
    if wanted("pm2") {
        let how = tools::program("pm2").map(|program| How::Managed(Kind::Pm2 { program }));
        add(&mut all, "pm2", how);
    }
    Ok(all)
}

fn add(all: &mut Vec<Logger>, name: &str, how: Result<How, Failure>) {
    match how {
        Ok(how) => all.push(Logger { name: name.to_owned(), how }),
        Err(error) => say(format_args!(
            "without {name}: {error}; `apt-get install s6 runit daemontools` has s6-log, svlogd \
             and multilog, npm has pm2"
        )),
    }
}

/// The bunpilot of this tree.
fn built(args: &Args) -> Result<(String, PathBuf), Failure> {
    let program = if let Some(program) = &args.program {
        program.clone()
    } else {
        command(cargo().args(["build", "--release", "--bin", "bunpilot"]))?;
        command(&mut Command::new("sync"))?;
        root().join("target/release/bunpilot")
    };
    Ok(("bunpilot".to_owned(), program))
}

fn rig(logger: &Logger, load: Load, effort: Effort, keep: u16) -> Result<Rig, Failure> {
    Rig::new(logger, load.writers(), keep, |yard| load.writer(effort, yard).words())
}

/// Lets one writer write as fast as it can.
fn loud(logger: &Logger, load: Load, effort: Effort, sheet: &mut Sheet) -> Result<(), Failure> {
    let mut rig = rig(logger, load, effort, KEEP)?;
    let before = (rig.work(), rig.all_work());
    rig.go()?;
    let reports = rig.written()?;
    rig.still()?;
    let (after, counting) = ((rig.work(), rig.all_work()), rig.counting());
    check(logger, &rig, load, effort, 0)?;
    rig.end()?;
    let gigabytes = gigabytes(load.lines(effort), load.line_bytes());
    let mut note = |figure, value| sheet.note(load, &logger.name, figure, value);
    note(Figure::Cpu, between(before.0, after.0).as_secs_f64() / gigabytes);
    note(Figure::AllCpu, between(before.1, after.1).as_secs_f64() / gigabytes);
    if let Some(counting) = counting {
        note(Figure::Counting, counting.cpu.as_secs_f64() / gigabytes);
    }
    for report in reports {
        note(Figure::WriterCpu, report.cpu.as_secs_f64() / gigabytes);
        note(Figure::Rate, gigabytes * 1e3 / report.took.as_secs_f64());
    }
    Ok(())
}

/// Watches many writers that write little.
fn quiet(logger: &Logger, effort: Effort, sheet: &mut Sheet) -> Result<(), Failure> {
    let mut rig = rig(logger, Load::Q, effort, KEEP)?;
    rig.go()?;
    clock::sleep(SETTLE);
    let (start, before) = (clock::now(), (rig.work(), rig.all_work()));
    clock::sleep(Duration::from_secs(effort.quiet_seconds));
    let (took, after) = (start.elapsed(), (rig.work(), rig.all_work()));
    rig.written()?;
    rig.still()?;
    check(logger, &rig, Load::Q, effort, 0)?;
    rig.end()?;
    let share = |cpu: Duration| cpu.as_secs_f64() / took.as_secs_f64() * 100.0;
    let mut note = |figure, value| sheet.note(Load::Q, &logger.name, figure, value);
    note(Figure::Share, share(between(before.0, after.0)));
    note(Figure::AllShare, share(between(before.1, after.1)));
    Ok(())
}

/// Keeps so many files that nothing may be missing, and compares every byte.
fn keep_everything(logger: &Logger, load: Load, sheet: &mut Sheet) -> Result<(), Failure> {
    let mut rig = rig(logger, load, Effort::VERIFY, KEEP_ALL)?;
    rig.go()?;
    rig.written()?;
    rig.still()?;
    let line = check(logger, &rig, load, Effort::VERIFY, KEEP_ALL)?;
    say(format_args!("{line}"));
    sheet.verified(line);
    rig.end()
}

/// Compares what is kept of every writer; if at least `keep` files are, nothing may be missing.
fn check(
    logger: &Logger,
    rig: &Rig,
    load: Load,
    effort: Effort,
    keep: u16,
) -> Result<String, Failure> {
    let failed = |what| Failure::Stuck { who: logger.name.clone(), what };
    let lines = load.lines(effort);
    let (mut files, mut torn, mut bytes) = (0, 0, 0);
    for writer in 0..load.writers() {
        let row = rig.files(writer);
        let kept = verify(&row, load.line_bytes(), lines).map_err(|it| failed(it.to_string()))?;
        if keep == KEEP_ALL && kept.first > 0 {
            return Err(failed(format!("lines 0 to {} are gone", kept.first)));
        }
        files += row.len();
        torn += kept.torn_files;
        bytes += kept.bytes;
    }
    let (who, load) = (&logger.name, load.name());
    Ok(format!("{who} {load}: {bytes} bytes in {files} files are as written, {torn} cut mid-line"))
}

fn between(before: Work, after: Work) -> Duration {
    after.cpu.saturating_sub(before.cpu)
}

fn gigabytes(lines: u64, line_bytes: usize) -> f64 {
    let [lines, line_bytes] =
        [u32::try_from(lines), u32::try_from(line_bytes)].map(|it| f64::from(it.unwrap_or(0)));
    lines * line_bytes / 1e9
}

/// `SplitMix64`.
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((z ^ (z >> 31)) % bound).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_all_and_mixes_them() {
        let mut luck = Luck(1);
        let mut all: Vec<_> = (0..50).collect();
        luck.shuffle(&mut all);
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..50));
    }
}
