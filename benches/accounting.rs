//! What it costs to account CPU time in the kernel: a context switch with and without the program,
//! and reading the counters of 1,000 workers. `cargo xtask bench metrics` runs it and shows what
//! it says, one sample a line: a word, a tab, a number.
//!
//! A switch is measured by two processes on one CPU that pass a byte to and fro, in turn with no
//! program, with one that does not know them, and with one that accounts them. What counts is
//! their time on the CPU, so who else runs does not matter much.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use bunpilot::{
    domain::{Pid, Stage, Usage},
    metrics::{App, CompatNames, Daemon, Histogram, State, View, Worker, exposition::write},
    platform::{
        linux::bpf::books::{Books, Origin, Seat},
        sys::{monotonic_now, process_cpu},
    },
    world::Dialect,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Times the byte goes to and comes back, each of which is two switches.
const TRIPS: u32 = 4_000;

/// How often it does in one sample, of which the quickest counts: others disturb caches.
const PLAYS: u32 = 5;

/// Workers whose counters are read.
const WORKERS: u16 = 1_000;

/// Samples of each way of reading them in one round.
const READINGS: u32 = 5;

/// Rounds, unless the first argument says otherwise.
const ROUNDS: u32 = 15;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    let outcome = match words.first().map(String::as_str) {
        Some("ping") => ping(),
        Some("pong") => pong(),
        Some(rounds) => measure(rounds.parse().unwrap_or(ROUNDS)),
        None => measure(ROUNDS),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "accounting: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: u32) -> io::Result<()> {
    let mut pair = Pair::start()?;
    pair.play()?; // caches and branch predictors
    for round in 0..rounds {
        let mut variants = [Variant::Off, Variant::Unknown, Variant::Accounted];
        let turn = usize::try_from(round).map_or(0, |it| it % variants.len());
        variants.rotate_left(turn); // nobody is always first
        let mut taken = BTreeMap::new();
        for variant in variants {
            taken.insert(variant, pair.sample(variant)?);
        }
        let base = taken.get(&Variant::Off).copied().unwrap_or_default();
        for (variant, nanos) in taken {
            let nanos = if variant == Variant::Off { nanos } else { nanos - base };
            say(variant.word(), nanos)?;
        }
    }
    drop(pair);
    let mut crowd = Crowd::gather()?;
    for _ in 0..rounds * READINGS {
        crowd.sample()?;
    }
    Ok(())
}

fn say(word: &str, number: f64) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{word}\t{number}")?;
    out.flush()
}

/// What is in the kernel during a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Variant {
    Off,
    Unknown,
    Accounted,
}

impl Variant {
    const fn word(self) -> &'static str {
        match self {
            Self::Off => "switch",
            Self::Unknown => "switch-unknown",
            Self::Accounted => "switch-accounted",
        }
    }
}

fn books() -> io::Result<Books> {
    Books::open(&mut BTreeMap::new(), []).map_err(|refusal| io::Error::other(refusal.to_string()))
}

/// Two processes on one CPU.
struct Pair {
    first: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
    second: Pid,
}

impl Pair {
    fn start() -> io::Result<Self> {
        let mut first = Command::new(env::current_exe()?)
            .arg("ping")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("no pipe to the pair");
        let tell = first.stdin.take().ok_or_else(gone)?;
        let mut hear = BufReader::new(first.stdout.take().ok_or_else(gone)?);
        let mut line = String::new();
        hear.read_line(&mut line)?;
        let second = Pid(line.trim().parse().map_err(io::Error::other)?);
        Ok(Self { first, tell, hear, second })
    }

    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.first.id()).unwrap_or_default())
    }

    fn cpu(&self) -> io::Result<Duration> {
        let of = |pid| process_cpu(pid).ok_or_else(|| io::Error::other("the pair is gone"));
        Ok(of(self.pid())? + of(self.second)?)
    }

    fn play(&mut self) -> io::Result<()> {
        self.tell.write_all(b"\n")?;
        self.hear.read_line(&mut String::new())?;
        Ok(())
    }

    /// CPU time of one switch in nanoseconds.
    fn sample(&mut self, variant: Variant) -> io::Result<f64> {
        let mut books = match variant {
            Variant::Off => None,
            Variant::Unknown | Variant::Accounted => Some(books()?),
        };
        let mut seat = None;
        if let (Some(books), Variant::Accounted) = (&mut books, variant) {
            seat = books.follow(self.pid(), Origin::Found);
            books.refresh();
        }
        let mut quickest = f64::INFINITY;
        for _ in 0..PLAYS {
            let (before, switches) = (self.cpu()?, switches(books.as_ref(), seat));
            self.play()?;
            let spent = self.cpu()?.saturating_sub(before);
            let counted = self::switches(books.as_ref(), seat).saturating_sub(switches);
            if variant == Variant::Accounted && counted < u64::from(TRIPS) * 2 {
                return Err(io::Error::other(format!("only {counted} switches are accounted")));
            }
            quickest = quickest.min(spent.as_secs_f64() * 1e9 / f64::from(TRIPS * 2));
        }
        Ok(quickest)
    }
}

/// Switches of both kinds that are booked.
fn switches(books: Option<&Books>, seat: Option<Seat>) -> u64 {
    let booked = books.zip(seat).and_then(|(books, seat)| books.booked(seat));
    let scheduling = booked.map(|it| it.scheduling);
    scheduling.map_or(0, |it| it.voluntary_switches + it.involuntary_switches)
}

impl Drop for Pair {
    fn drop(&mut self) {
        end(&mut self.first);
    }
}

fn end(child: &mut Child) {
    child.kill().unwrap_or_default();
    child.wait().map(drop).unwrap_or_default();
}

/// Has a byte go to and fro for each line it reads.
fn ping() -> io::Result<()> {
    let cpus = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|it| cpus.is_set(*it)).unwrap_or_default();
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one)?;
    let mut pong = Command::new(env::current_exe()?)
        .arg("pong")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(there), Some(back)) = (pong.stdin.take(), pong.stdout.take()) else {
        return Err(io::Error::other("no pipe"));
    };
    let mut out = io::stdout();
    writeln!(out, "{}", pong.id())?;
    let mut byte = [0];
    for line in io::stdin().lines() {
        line?;
        for _ in 0..TRIPS {
            rustix::io::write(&there, &byte)?;
            rustix::io::read(&back, &mut byte)?;
        }
        writeln!(out)?;
    }
    drop(there);
    pong.wait()?;
    Ok(())
}

fn pong() -> io::Result<()> {
    let mut byte = [0];
    while rustix::io::read(rustix::stdio::stdin(), &mut byte)? == 1 {
        rustix::io::write(rustix::stdio::stdout(), &byte)?;
    }
    Ok(())
}

/// Many workers that do nothing.
struct Crowd {
    workers: Vec<Child>,
    books: Books,
    seats: Vec<(Pid, Seat)>,
}

impl Crowd {
    fn gather() -> io::Result<Self> {
        let mut crowd = Self { workers: Vec::new(), books: books()?, seats: Vec::new() };
        for _ in 0..WORKERS {
            let worker = Command::new("sleep").arg("1000").spawn()?;
            let pid = Pid(i32::try_from(worker.id()).unwrap_or_default());
            crowd.workers.push(worker);
            let seat = crowd.books.follow(pid, Origin::Born);
            let seat = seat.ok_or_else(|| io::Error::other("no seat"))?;
            crowd.seats.push((pid, seat));
        }
        crowd.books.refresh();
        Ok(crowd)
    }

    /// Reads everybody's numbers in each way.
    fn sample(&mut self) -> io::Result<()> {
        let Self { books, seats, .. } = self;
        let count = |of: &dyn Fn(&(Pid, Seat)) -> bool| seats.iter().filter(|it| of(it)).count();
        timed("read-books", || count(&|(_, seat)| books.booked(*seat).is_some()))?;
        timed("read-clocks", || count(&|(pid, _)| process_cpu(*pid).is_some()))?;
        timed("read-stat", || count(&|(pid, _)| fs::read(format!("/proc/{pid}/stat")).is_ok()))?;
        timed("read-flushed", || {
            books.refresh();
            seats.iter().filter(|(_, seat)| books.booked(*seat).is_some()).count()
        })?;
        let view = self.view()?;
        timed("write", || write(&view, Dialect::Text).len().min(usize::from(WORKERS)))
    }

    fn view(&self) -> io::Result<View> {
        let worker = |(index, (pid, seat)): (u16, &(Pid, Seat))| {
            let booked = self.books.booked(*seat);
            let usage = booked.map(|it| Usage {
                cpu: it.cpu,
                user: Some(it.cpu),
                system: Some(Duration::ZERO),
                scheduling: Some(it.scheduling),
                connections: None,
                rss_bytes: 52_428_800,
                fds: 23,
                threads: 1,
                processes: 1,
            });
            let place = Worker::new(index, 1, State::Live(Stage::Online));
            Worker { pid: Some(*pid), usage, ..place }
        };
        let app = App {
            name: "api".parse().map_err(|_name| io::Error::other("no name"))?,
            compat_names: CompatNames::On,
            desired: WORKERS,
            strategy: None,
            workers: (0..).zip(&self.seats).map(worker).collect(),
            ready: Histogram::default(),
            reload: Histogram::default(),
            reloads_failed: 0,
        };
        let daemon = Daemon {
            version: "0.0.0",
            rungs: BTreeMap::new(),
            started_unix: Duration::ZERO,
            uptime: Duration::ZERO,
            usage: None,
            fds_max: None,
            collector_errors: 0,
        };
        Ok(View { daemon, apps: vec![app] })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.workers.iter_mut().for_each(end);
    }
}

/// Says how many microseconds `read` took, which must have found everybody.
fn timed(word: &str, read: impl FnOnce() -> usize) -> io::Result<()> {
    let before = monotonic_now();
    let found = read();
    let took = monotonic_now().saturating_sub(before);
    if found != usize::from(WORKERS) {
        return Err(io::Error::other(format!("{word}: found {found} of {WORKERS}")));
    }
    say(word, took.as_secs_f64() * 1e6)
}
