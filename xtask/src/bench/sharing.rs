//! Workers that share one port, under any of the managers and by any of the ways to share it.
//!
//! A [`Site`] is one app at work, from the start of its manager to its end; nothing of it is left
//! when it is dropped.

mod program;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};

pub(super) use self::program::Program;
use super::{
    clock,
    contender::{Contender, Kind},
    proc::{self, Work},
    traffic::{Crowd, Traffic},
};
use crate::{
    shell::{Failure, cargo, root, run as command, say, spelled},
    tools,
};

/// Longest wait until every worker answers.
const ANSWERS_MAX: Duration = Duration::from_secs(30);

/// The app's name.
const APP: &str = "web";

/// How the workers of bunpilot come to share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rung {
    /// By programs in the kernel, for programs as they are
    Ebpf,
    /// By bind(2) answered by the guard, for programs as they are
    Trap,
    /// By `SO_REUSEPORT`, which the program sets itself: the kernel's hash
    Workers,
}

impl Rung {
    pub(super) const ALL: [Self; 3] = [Self::Ebpf, Self::Trap, Self::Workers];

    fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "eBPF",
            Self::Trap => "trap",
            Self::Workers => "kernel's hash",
        }
    }

    fn env(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ebpf => &[],
            Self::Trap => &[("BUNPILOT_BPF", "off")],
            Self::Workers => &[("BUNPILOT_PORTS", "workers")],
        }
    }

    /// Whether what `daemon status` says of ports means this.
    fn is_told_by(self, said: &str) -> bool {
        match self {
            Self::Ebpf => said.starts_with("eBPF"),
            Self::Trap => said.starts_with("trap") || said.starts_with("seccomp"),
            Self::Workers => true,
        }
    }
}

/// Who lets workers share a port, and how.
#[derive(Clone, Debug)]
pub(super) struct Sharer {
    pub(super) name: String,
    kind: Kind,
    /// `None`: PM2, by its own cluster mode.
    rung: Option<Rung>,
}

/// Which builds of bunpilot are measured.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Builds {
    /// Measures this build of bunpilot instead of making one
    #[arg(long)]
    program: Option<PathBuf>,
    /// Another build of bunpilot to measure beside this one
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = super::named_program)]
    beside: Vec<(String, PathBuf)>,
}

impl Builds {
    /// Each build by each of the rungs it can stand on here; says which it cannot, and why.
    pub(super) fn sharers(&self, rungs: &[Rung]) -> Result<Vec<Sharer>, Failure> {
        let program = if let Some(program) = &self.program {
            root().join(program)
        } else {
            command(cargo().args(["build", "--release", "--bin", "bunpilot"]))?;
            root().join("target/release/bunpilot")
        };
        let ours = ("bunpilot".to_owned(), program);
        let mut sharers = Vec::new();
        for (name, program) in [&ours].into_iter().chain(&self.beside) {
            for rung in rungs {
                let kind = Kind::Bunpilot { program: program.clone() };
                let name = format!("{name}, {}", rung.name());
                let sharer = Sharer { name, kind, rung: Some(*rung) };
                let said = sharer.says()?;
                if rung.is_told_by(&said) {
                    sharers.push(sharer);
                } else {
                    say(format_args!("without {}: it shares ports by {said}", sharer.name));
                }
            }
        }
        Ok(sharers)
    }
}

impl Sharer {
    /// PM2, if it is to be had; else says where to get it.
    pub(super) fn pm2() -> Option<Self> {
        match tools::program("pm2") {
            Ok(program) => {
                Some(Self { name: "pm2".to_owned(), kind: Kind::Pm2 { program }, rung: None })
            }
            Err(error) => {
                say(format_args!("without pm2: {error}; npm has it: `npm install pm2`"));
                None
            }
        }
    }

    /// Whether the workers of `program` can share a port this way.
    pub(super) fn can(&self, program: Program) -> bool {
        match self.rung {
            None => program == Program::Node,
            Some(Rung::Workers) => program.can_reuse(),
            Some(Rung::Ebpf | Rung::Trap) => true,
        }
    }

    pub(super) fn is_rung(&self, rung: Rung) -> bool {
        self.rung == Some(rung)
    }

    fn contender(&self) -> Result<Contender, Failure> {
        let env = self.rung.map(Rung::env).unwrap_or_default();
        Ok(Contender::new(self.kind.clone())?.with_env(env))
    }

    /// How the daemon says that ports are shared.
    fn says(&self) -> Result<String, Failure> {
        let mut contender = self.contender()?;
        contender.boot()?;
        let mut status = contender.command(&["daemon", "status", "--json"]);
        let program = crate::shell::program(&status);
        let told = status.stdout(Stdio::piped()).output();
        let told = told.map_err(|source| Failure::Start { program, source })?;
        contender.end()?;
        let status: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let said = status.pointer("/engines/ports").and_then(Value::as_str);
        Ok(said.unwrap_or("what the workers do themselves").to_owned())
    }
}

/// An app whose workers share a port.
#[derive(Debug)]
pub(super) struct Site {
    contender: Contender,
    who: String,
    pub(super) port: u16,
    /// Those who answered when it began.
    pub(super) workers: Vec<i32>,
}

impl Site {
    /// Starts `count` workers, and waits until each of them has answered. `clustering` adds to how
    /// bunpilot shares the port.
    pub(super) fn new(
        sharer: &Sharer,
        program: Program,
        count: u16,
        clustering: &Value,
    ) -> Result<Self, Failure> {
        let mut contender = sharer.contender()?;
        contender.boot()?;
        let port = free_port().ok_or_else(|| Failure::Stuck {
            who: sharer.name.clone(),
            what: "no port is free".to_owned(),
        })?;
        let words = program.words(port, sharer.is_rung(Rung::Workers))?;
        let app = match &sharer.kind {
            Kind::Bunpilot { .. } => bunpilot_app(&words, port, count, clustering),
            Kind::Pm2 { .. } => pm2_app(&words, count),
        };
        finish(&mut contender.launch(&app)?)?;
        let who = format!("{}, {}", sharer.name, program.name());
        let mut site = Self { contender, who, port, workers: Vec::new() };
        site.workers = site.all_answer(count)?;
        site.contender.watch(&site.workers);
        Ok(site)
    }

    fn all_answer(&self, count: u16) -> Result<Vec<i32>, Failure> {
        let mut seen = BTreeSet::new();
        let crowd = Crowd { fresh: 4, kept: 0, pause: Duration::ZERO, questions_max: 40 };
        let all = || {
            let answers = Traffic::start(self.port, crowd).join().answers;
            seen.extend(answers.iter().filter_map(|it| i32::try_from(it.pid).ok()));
            (seen.len() >= usize::from(count)).then_some(())
        };
        let all = clock::await_some(ANSWERS_MAX, Duration::from_millis(10), all);
        let stuck = || Failure::Stuck {
            who: self.who.clone(),
            what: format!("{} of {count} workers answer", seen.len()),
        };
        all.ok_or_else(stuck)?;
        Ok(seen.into_iter().collect())
    }

    /// Gives an order about the app; how long it took.
    pub(super) fn order(&self, order: &str) -> Result<Duration, Failure> {
        let start = clock::now();
        finish(&mut self.contender.command(&[order, APP]))?;
        Ok(start.elapsed())
    }

    /// What the workers did until now, each a process that does its work itself.
    pub(super) fn work(&self) -> Work {
        self.workers.iter().map(|it| Work::of(*it)).fold(Work::default(), Work::and)
    }

    /// What the manager did until now.
    pub(super) fn overhead(&self) -> Work {
        let managers = self.contender.managers().into_iter();
        managers.map(Work::of).fold(Work::default(), Work::and)
    }

    pub(super) fn end(mut self) -> Result<(), Failure> {
        let workers = self.contender.managers().last().map(|it| proc::children(*it));
        self.contender.watch(&workers.unwrap_or_default());
        self.contender.end()
    }
}

fn bunpilot_app(words: &[String], port: u16, count: u16, clustering: &Value) -> Value {
    let mut sharing = json!({
        "strategy": "reusePort", "rollingRestart": { "batchSize": 1, "batchDelay": 0 },
    });
    if let (Some(all), Some(more)) = (sharing.as_object_mut(), clustering.as_object()) {
        all.extend(more.clone());
    }
    let (script, args) = words.split_first().map_or(("", words), |(it, rest)| (it.as_str(), rest));
    json!({
        "name": APP, "script": script, "args": args, "port": port, "instances": count,
        "clustering": sharing, "killTimeout": KILL_TIMEOUT_MS,
    })
}

/// Time a worker has for connections that are kept open, and to go. They hold up a reload for as
/// long as that.
const KILL_TIMEOUT_MS: u16 = 1_000;

fn pm2_app(words: &[String], count: u16) -> Value {
    // node itself is the interpreter of cluster mode
    let (script, args) = words.split_first().map_or(("", words), |(_, rest)| {
        rest.split_first().map_or(("", rest), |(it, rest)| (it.as_str(), rest))
    });
    json!({
        "name": APP, "script": script, "args": args, "instances": count, "exec_mode": "cluster",
        "pmx": false, "kill_timeout": KILL_TIMEOUT_MS,
    })
}

/// Runs a command to its end; what it says is told only if it fails.
fn finish(command: &mut std::process::Command) -> Result<(), Failure> {
    let program = crate::shell::program(command);
    let said = command.stderr(Stdio::piped()).output();
    let said = said.map_err(|source| Failure::Start { program, source })?;
    if said.status.success() {
        return Ok(());
    }
    say(String::from_utf8_lossy(&said.stderr));
    Err(Failure::Status { program: spelled(command), status: said.status })
}

/// A port nobody uses, below those that the kernel gives to clients: one that waits out the end of
/// its connection would keep a server from it.
fn free_port() -> Option<u16> {
    let start = u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    let ports = (0..10_000).map(|it| 20_000 + (start + it) % 10_000);
    ports.into_iter().find(|it| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *it)).is_ok())
}
