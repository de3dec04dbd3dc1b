//! `bunpilot demo`: a cluster, reloaded and hurt under load, and what it cost.
//!
//! Everything happens in a home of its own, which is gone afterwards.

mod load;
pub(super) mod server;

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use load::{CLIENTS, Load, Tally};

use super::{
    client::Daemon,
    clock, daemon as daemon_command,
    failure::{Failure, Outcome, Verdict},
    home::Home,
    launch, list,
    output::{Format, Out},
    plan,
    progress::Progress,
    redact::Secrets,
    scratch::Scratch,
};
use crate::control::{
    status::{AppStatus, DaemonStatus},
    wire::{Command, Target},
};

const NAME: &str = "demo";

/// How many workers share the port.
const WORKERS: u16 = 4;

/// How long the load runs before and after each event.
const CALM: Duration = Duration::from_millis(700);

/// Longest wait for a worker or the daemon to be back.
const RETURN_MAX: Duration = Duration::from_secs(5);

/// Runs it.
pub(crate) fn run(out: &mut Out) -> Outcome {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(Failure::io("watch for signals"))?;
    }
    let stage = Stage::new(interrupted)?;
    let port = free_port()?;
    out.start(format_args!("a daemon of its own, in {}", stage.home.folder().display()))?;
    launch::ensure(&stage.home)?;
    out.start(format_args!("{WORKERS} workers that share port {port}"))?;
    stage.start(port, out)?;
    list::run(&stage.daemon, Secrets::Hidden, out)?;
    let load = Load::on(port);
    let lossless = stage.reload(&load, out)?;
    stage.kill_worker(&load, out)?;
    stage.kill_daemon(&load, out)?;
    drop(load);
    daemon_command::end(&stage.home)?;
    drop(stage);
    out.ok("everything is stopped and removed")?;
    if lossless { Ok(()) } else { Err(Failure::Told(Verdict::Failed)) }
}

/// The home of the demo; when dropped, its daemon ends and it is removed.
#[derive(Debug)]
struct Stage {
    home: Home,
    daemon: Daemon,
    /// Whether the user wants it to end.
    interrupted: Arc<AtomicBool>,
    _folder: Scratch,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _no_daemon_to_end = daemon_command::end(&self.home);
    }
}

impl Stage {
    fn new(interrupted: Arc<AtomicBool>) -> Result<Self, Failure> {
        let folder = Scratch::new().map_err(Failure::io("create a temporary folder"))?;
        let home = Home::at(folder.path())?.without_http();
        Ok(Self { daemon: Daemon::of(&home), home, interrupted, _folder: folder })
    }

    fn start(&self, port: NonZeroU16, out: &mut Out) -> Outcome {
        let program = env::current_exe().map_err(Failure::io("find this program's file"))?;
        let config = plan::resolved(json!({
            "name": NAME,
            "script": program,
            "interpreter": "none",
            "args": ["__demo-server"],
            "cwd": self.home.folder(),
            "inheritEnv": false,
            "instances": WORKERS,
            "port": port,
            "backoff": { "initial": 100 },
            "readyTimeout": 5_000,
            "clustering": { "strategy": "inherit", "rollingRestart": { "batchDelay": 0 } },
        }))?;
        self.order(
            Command::Start { name: NAME.to_owned(), config: Some(config), config_path: None },
            out,
        )
    }

    fn order(&self, command: Command, out: &mut Out) -> Outcome {
        let mut progress = Progress::default();
        self.daemon.order(command, &mut |step| progress.show(step, out)).map(drop)
    }

    /// Replaces every worker under load; whether no request was lost.
    fn reload(&self, load: &Load, out: &mut Out) -> Result<bool, Failure> {
        out.start(format_args!("{CLIENTS} clients, each request on a new connection"))?;
        let (first, begin) = (load.tally(), clock::now());
        self.calm()?;
        out.start("reload under load")?;
        let (before, start) = (load.tally(), clock::now());
        self.order(Command::Reload { target: Target::App(NAME.to_owned()), config: None }, out)?;
        let (after, took) = (load.tally(), clock::now().saturating_sub(start));
        self.calm()?;
        let whole = load.tally().since(first);
        let rate = rate(whole, clock::now().saturating_sub(begin));
        let during = after.since(before);
        out.ok(format_args!(
            "all {WORKERS} workers replaced in {} ms; {} requests meanwhile, {} in all, {rate} per second, {} failed",
            took.as_millis(), during.sent, whole.sent, whole.failed
        ))?;
        say_error(load, out)?;
        Ok(whole.failed == 0)
    }

    fn kill_worker(&self, load: &Load, out: &mut Out) -> Outcome {
        let victim = self.workers()?.into_iter().find_map(|(_, pid)| pid);
        let Some(pid) = victim.and_then(Pid::from_raw) else {
            return Err(Failure::Local("the demo has no worker to kill".to_owned()));
        };
        out.start(format_args!("kill -9 of worker {pid}"))?;
        let (before, start) = (load.tally(), clock::now());
        kill(pid)?;
        let back = || {
            let workers = self.workers()?;
            let whole = workers.iter().all(|(state, now)| state == "online" && *now != victim);
            Ok(whole.then_some(()))
        };
        self.wait(start, "the worker", back)?;
        let took = clock::now().saturating_sub(start);
        self.calm()?;
        let cost = load.tally().since(before);
        out.ok(format_args!(
            "a new one is online after {} ms (100 of them its `backoff.initial`); {} requests, {} failed",
            took.as_millis(), cost.sent, cost.failed
        ))?;
        say_error(load, out)
    }

    fn kill_daemon(&self, load: &Load, out: &mut Out) -> Outcome {
        let workers = self.workers()?;
        let old = self.pid()?;
        out.start(format_args!("kill -9 of the daemon, {old}"))?;
        let (before, start) = (load.tally(), clock::now());
        if let Some(pid) = Pid::from_raw(old) {
            kill(pid)?;
        }
        // Until the dead one's last answers are gone, and the next one gives its own.
        self.wait(start, "the daemon", || Ok(self.pid().ok().filter(|now| *now != old)))?;
        let took = clock::now().saturating_sub(start);
        self.calm()?;
        let cost = load.tally().since(before);
        let same =
            if self.workers()? == workers { "the workers are the same" } else { "workers changed" };
        out.ok(format_args!(
            "a new one is in control after {} ms; {same}; {} requests, {} failed",
            took.as_millis(),
            cost.sent,
            cost.failed
        ))?;
        say_error(load, out)
    }

    /// Lets the load run for a while.
    fn calm(&self) -> Outcome {
        let start = clock::now();
        while clock::now().saturating_sub(start) < CALM {
            self.go_on()?;
            clock::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// An error once the user wants it to end.
    fn go_on(&self) -> Outcome {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Local("interrupted; everything is removed".to_owned()));
        }
        Ok(())
    }

    /// Looks again and again until there is something to see.
    fn wait<T>(
        &self,
        start: Duration,
        whom: &str,
        mut look: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            self.go_on()?;
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            if clock::now().saturating_sub(start) > RETURN_MAX {
                let log = self.home.daemon_log();
                let tail = launch::tail(&log).unwrap_or_default();
                return Err(Failure::Local(format!("{whom} did not come back\n{tail}")));
            }
            clock::sleep(Duration::from_millis(1));
        }
    }

    fn workers(&self) -> Result<Vec<(String, Option<i32>)>, Failure> {
        let app: AppStatus = self.daemon.ask(&Command::Status(NAME.to_owned()))?;
        Ok(app.workers.into_iter().map(|it| (it.state, it.pid)).collect())
    }

    fn pid(&self) -> Result<i32, Failure> {
        let daemon: DaemonStatus = self.daemon.ask(&Command::Dump)?;
        Ok(daemon.pid)
    }
}

fn kill(pid: Pid) -> Outcome {
    kill_process(pid, Signal::KILL)
        .map_err(|error| Failure::io(format!("kill process {pid}"))(error.into()))
}

fn say_error(load: &Load, out: &mut Out) -> Outcome {
    match load.take_error() {
        Some(error) if out.format == Format::Human => {
            writeln!(out.stdout(), "  the first failure: {error}")?;
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

fn rate(tally: Tally, time: Duration) -> u128 {
    u128::from(tally.sent) * 1000 / time.as_millis().max(1)
}

/// A port nobody listens on now.
fn free_port() -> Result<NonZeroU16, Failure> {
    let attempt = "find a free port";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::io(attempt))?;
    let port = listener.local_addr().map_err(Failure::io(attempt))?.port();
    NonZeroU16::new(port).ok_or_else(|| Failure::Local(format!("cannot {attempt}")))
}
