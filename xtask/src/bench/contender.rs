//! The two managers under test: how each is told the same things.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{clock, proc, ward::Ward};
use crate::shell::{Failure, program, spelled};

/// Longest wait for a manager to come up.
const BOOT_MAX: Duration = Duration::from_secs(20);

/// The app's name, and its program.
const APP: &str = "sleeper";
const SLEEP: &str = "/bin/sleep";

/// Which manager, and its program.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bunpilot { program: PathBuf },
    Pm2 { program: PathBuf },
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bunpilot { .. } => "bunpilot",
            Self::Pm2 { .. } => "pm2",
        }
    }
}

/// A manager in a home of its own.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) kind: Kind,
    ward: Ward,
    /// Port of bunpilot's metrics server: it is part of what we ship, so it runs.
    port: u16,
    /// Variables of every command.
    env: Vec<(&'static str, &'static str)>,
}

impl Contender {
    pub(super) fn new(kind: Kind) -> Result<Self, Failure> {
        let ward = Ward::new(kind.name())?;
        let port = free_port().map_err(|source| {
            let path = PathBuf::from("127.0.0.1:0");
            Failure::File { what: "listen on", path, source }
        })?;
        Ok(Self { kind, ward, port, env: Vec::new() })
    }

    /// Gives every command these variables, too.
    pub(super) fn with_env(mut self, env: &[(&'static str, &'static str)]) -> Self {
        self.env.extend(env);
        self
    }

    /// Where it keeps its home, and what else is gone with it.
    pub(super) fn folder(&self) -> &Path {
        self.ward.folder()
    }

    /// Takes responsibility for these, too.
    pub(super) fn watch(&mut self, pids: &[i32]) {
        self.ward.watch(pids);
    }

    /// A command in this contender's home.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.ward.folder();
        let mut command = match &self.kind {
            Kind::Bunpilot { program } => {
                let mut command = Command::new(program);
                command.env("BUNPILOT_HOME", folder.join("home"));
                command.env("BUNPILOT_HTTP_PORT", self.port.to_string());
                command
            }
            Kind::Pm2 { program } => {
                let mut command = Command::new(program);
                command.env("PM2_HOME", folder.join("home")).env("PM2_DISCRETE_MODE", "true");
                command
            }
        };
        command.args(arguments).current_dir(folder).envs(self.env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the manager, without any app.
    pub(super) fn boot(&mut self) -> Result<(), Failure> {
        match &self.kind {
            Kind::Bunpilot { .. } => finish(&mut self.command(&["daemon", "start"]))?,
            Kind::Pm2 { .. } => finish(&mut self.command(&["ping"]))?,
        }
        let managers = || Some(self.managers()).filter(|it| !it.is_empty());
        let managers = clock::await_some(BOOT_MAX, Duration::from_millis(10), managers);
        self.ward.watch(&managers.unwrap_or_default());
        Ok(())
    }

    /// Pids of all that the manager consists of; the last one has the workers as children.
    pub(super) fn managers(&self) -> Vec<i32> {
        let file = match &self.kind {
            Kind::Bunpilot { .. } => "home/bunpilot.pid",
            Kind::Pm2 { .. } => "home/pm2.pid",
        };
        let text = fs::read_to_string(self.ward.folder().join(file)).unwrap_or_default();
        let Some(pid) = text.split_whitespace().next().and_then(|it| it.parse().ok()) else {
            return Vec::new();
        };
        match &self.kind {
            Kind::Bunpilot { .. } => {
                proc::parent(pid).map(|guard| [pid, guard]).into_iter().flatten().collect()
            }
            Kind::Pm2 { .. } => vec![pid],
        }
    }

    /// The workers that run their program by now.
    pub(super) fn workers(&self) -> Vec<i32> {
        let Some(parent) = self.managers().last().copied() else { return Vec::new() };
        workers_of(parent)
    }

    /// Writes the config of `count` workers that only sleep; returns the command that starts them.
    pub(super) fn start(&self, count: u16) -> Result<Command, Failure> {
        self.launch(&match &self.kind {
            Kind::Bunpilot { .. } => bunpilot_app(count),
            Kind::Pm2 { .. } => pm2_app(count),
        })
    }

    /// Writes the config of `app`; returns the command that starts it.
    pub(super) fn launch(&self, app: &Value) -> Result<Command, Failure> {
        let file = match &self.kind {
            Kind::Bunpilot { .. } => "bunpilot.config.json",
            Kind::Pm2 { .. } => "ecosystem.config.json",
        };
        let path = self.ward.folder().join(file);
        write(&path, &json!({ "apps": [app] }))?;
        let mut command = self.command(&["start", file]);
        command.stderr(Stdio::null()); // a line for each step of each worker
        Ok(command)
    }

    pub(super) fn list(&self) -> Command {
        self.command(&["list"])
    }

    /// Takes everything down; what stays is killed when `self` is dropped.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let workers = self.workers();
        self.ward.watch(&workers);
        match &self.kind {
            Kind::Bunpilot { .. } => finish(&mut self.command(&["daemon", "stop"])),
            Kind::Pm2 { .. } => finish(&mut self.command(&["kill"])),
        }
    }
}

/// Children of `parent` that sleep; others are on their way to be workers.
pub(super) fn workers_of(parent: i32) -> Vec<i32> {
    proc::children(parent).into_iter().filter(|pid| proc::program(*pid) == "sleep").collect()
}

fn bunpilot_app(count: u16) -> Value {
    json!({
        "name": APP, "script": SLEEP, "args": ["1000000"], "instances": count,
        "backoff": { "initial": 0 }, "maxRestarts": 1000,
    })
}

fn pm2_app(count: u16) -> Value {
    json!({
        "name": APP, "script": SLEEP, "args": ["1000000"], "instances": count,
        "interpreter": "none", "exec_mode": "fork", "pmx": false,
        "restart_delay": 0, "max_restarts": 1000,
    })
}

/// Runs a command to its end; an error if it says so.
pub(super) fn finish(command: &mut Command) -> Result<(), Failure> {
    let program = program(command);
    let status = command.status().map_err(|source| Failure::Start { program, source })?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Status { program: spelled(command), status })
    }
}

fn write(path: &Path, value: &Value) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: path.to_owned(), source };
    fs::write(path, value.to_string()).map_err(failed)
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|it| it.port())
}
