//! What may stand on the command line.

mod doctor;
mod logs;

use std::{num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use super::redact::Secrets;
use crate::{
    config::Engine,
    control::wire::{Force, Target},
    domain::Signal,
};

pub(crate) use doctor::Doctor;
pub(crate) use logs::Logs;

const EXIT_CODES: &str = "\
Exit status:
  0   done
  1   tried, and failed
  2   wrong usage
  3   the app is known but does not run
  4   no such app
  69  the daemon cannot be reached or started
  75  busy, or no answer in time: try again
  78  wrong configuration

Files are kept in `BUNPILOT_HOME`, or else in `~/.bunpilot`.";

/// Keeps programs running: clusters, reloads, watches and measures them.
#[derive(Debug, Parser)]
#[command(
    name = "bunpilot",
    version = concat!("v", env!("CARGO_PKG_VERSION")),
    after_help = EXIT_CODES,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Line {
    /// Show the version
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// Output as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a script, the apps of a config file, or an app that is known
    Start(Start),
    /// Stop a running app
    Stop(Ending),
    /// Stop an app, then start it
    Restart(Ending),
    /// Replace an app's workers one after the other, without losing a connection
    Reload(Reload),
    /// Stop an app and forget it
    #[command(alias = "del")]
    Delete(Delete),
    /// Change how many workers an app has
    Scale(Scale),
    /// Send a signal to an app's workers
    Signal(SendSignal),
    /// Run an app in the foreground, as a container's main process
    Run(Start),
    /// Start all apps that ran when the daemon or the machine went down
    Resurrect,

    /// List all apps
    #[command(alias = "ls")]
    List(Shown),
    /// Show all about an app
    #[command(alias = "info")]
    Status(Status),
    /// Show what apps print
    #[command(alias = "log")]
    Logs(Logs),
    /// Empty log files, and remove the rotated ones
    Flush(Tidy),
    /// Rotate log files now
    #[command(alias = "reloadLogs")]
    Rotate(Tidy),
    /// Live dashboard of CPU and memory
    #[command(alias = "monit")]
    Metrics(Metrics),

    /// Start, stop or look at the daemon
    Daemon {
        #[command(subcommand)]
        command: DaemonCommand,
    },
    /// Check if the daemon is alive
    Ping,
    /// Look what this machine offers, and what to do about the rest
    Doctor(Doctor),

    /// Write a config file to begin with
    Init,
    /// Check config files, or print their JSON schema
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Put the worker SDK into a project
    Sdk {
        #[command(subcommand)]
        command: SdkCommand,
    },
    /// Show a reload under load on an example server, in 15 seconds
    Demo,

    #[command(name = "__demo-server", hide = true)]
    DemoServer,
}

/// `start` and `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Start {
    /// Script, config file, or name of a known app; without one, the config file of this folder
    pub(crate) what: Option<String>,
    /// Name of the app; from a config file, start only this app
    #[arg(short, long)]
    pub(crate) name: Option<String>,
    /// How many workers: a number, or `max` for one per CPU
    #[arg(short, long, value_name = "N|max", value_parser = instances)]
    pub(crate) instances: Option<Instances>,
    /// Port the app serves
    #[arg(short, long)]
    pub(crate) port: Option<NonZeroU16>,
    /// Environment variable `KEY=VALUE` (may be repeated), or the name of an `env` profile of the
    /// config file
    #[arg(long, value_name = "K=V|PROFILE", value_parser = env)]
    pub(crate) env: Vec<Env>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Program that runs the script, with its arguments
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) interpreter: Option<String>,
    /// All workers of an app write to one log file
    #[arg(long)]
    pub(crate) merge_logs: bool,
    /// Put the time before each line of the logs
    #[arg(long)]
    pub(crate) time: bool,
    /// Start the apps of a config file; without a value, of the one in this folder
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap's way to say: flag with an optional value")]
    pub(crate) config: Option<Option<PathBuf>>,
    /// What evaluates a TypeScript or JavaScript config file: `builtin`, `bun` or `node`
    #[arg(long, value_name = "RUNTIME", default_value_t)]
    pub(crate) config_runtime: Engine,
    /// Stay in the foreground and print what the apps print
    #[arg(long)]
    pub(crate) no_daemon: bool,
    /// Arguments of the script
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instances {
    /// So many.
    Count(NonZeroU16),
    /// One per CPU.
    Max,
}

/// One value of `--env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Env {
    /// `KEY=VALUE`
    Set(String, String),
    /// The name of a profile.
    Profile(String),
}

fn instances(text: &str) -> Result<Instances, &'static str> {
    if text == "max" {
        return Ok(Instances::Max);
    }
    let wrong = "give a whole number from 1 to 65535, or `max` for one per CPU";
    text.parse().map(Instances::Count).or(Err(wrong))
}

fn env(text: &str) -> Result<Env, &'static str> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is missing; write `KEY=VALUE`"),
        Some((key, value)) => Ok(Env::Set(key.to_owned(), value.to_owned())),
        None if text.is_empty() => Err("write `KEY=VALUE`, or the name of a profile"),
        None => Ok(Env::Profile(text.to_owned())),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap's shape of a parser")]
fn target(text: &str) -> Result<Target, std::convert::Infallible> {
    Ok(Target::parse(text))
}

/// Whom a command means.
#[derive(Clone, Debug, Args)]
pub(crate) struct Targets {
    /// Apps: `app`, `app:instance` or `all`
    #[arg(required = true, value_name = "APP|all", value_parser = target)]
    pub(crate) targets: Vec<Target>,
}

/// `stop` and `restart`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Ending {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Kill the workers at once
    #[arg(short, long)]
    pub(crate) force: bool,
}

impl Ending {
    /// How hard.
    pub(crate) fn force(&self) -> Force {
        if self.force { Force::Kill } else { Force::Gentle }
    }
}

/// `reload`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reload {
    /// Apps: `app`, `app:instance` or `all`; with `--config`, the apps of the file if left out
    #[arg(value_name = "APP|all", value_parser = target, required_unless_present = "config")]
    pub(crate) targets: Vec<Target>,
    /// Take the apps' new configuration from this file; it lasts only if the reload succeeds
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name of an `env` profile of the config file
    #[arg(long, value_name = "PROFILE", requires = "config")]
    pub(crate) env: Option<String>,
    /// What evaluates a TypeScript or JavaScript config file: `builtin`, `bun` or `node`
    #[arg(long, value_name = "RUNTIME", default_value_t)]
    pub(crate) config_runtime: Engine,
    /// Accepted and ignored: a reload is never forced
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

/// `delete`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Do not ask, and kill the workers at once
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `scale`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Scale {
    /// Name of the app
    pub(crate) app: String,
    /// How many workers: a number, or `max` for one per CPU
    #[arg(value_name = "N|max", value_parser = instances)]
    pub(crate) instances: Instances,
}

/// `signal`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SendSignal {
    /// App: `app`, `app:instance` or `all`
    #[arg(value_name = "APP|all", value_parser = target)]
    pub(crate) target: Target,
    /// Name or number, e.g. `SIGUSR1`, `usr1` or `10`
    pub(crate) signal: Signal,
}

/// What a list shows.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shown {
    /// Show the values of environment variables in JSON
    #[arg(long)]
    show_env: bool,
}

impl Shown {
    /// Whether values of environment variables may be seen.
    pub(crate) fn secrets(&self) -> Secrets {
        if self.show_env { Secrets::Shown } else { Secrets::Hidden }
    }
}

/// `status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Status {
    /// Name of the app
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

/// `flush` and `rotate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Tidy {
    /// App: `app`, `app:instance` or `all`; all apps if left out
    #[arg(value_name = "APP|all", value_parser = target)]
    pub(crate) target: Option<Target>,
}

/// `metrics`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Metrics {
    /// Name of the app; all apps if left out
    pub(crate) name: Option<String>,
    /// Export as Prometheus reads it
    #[arg(long, conflicts_with = "name")]
    pub(crate) prometheus: bool,
    /// Print once, also on a terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// `daemon …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Start the daemon
    Start,
    /// Stop all apps, then the daemon
    Stop,
    /// Show how the daemon is
    Status,
}

/// `config …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a config file and show what it means
    Check {
        /// The file; without one, the config file of this folder
        file: Option<PathBuf>,
        /// What evaluates a TypeScript or JavaScript config file: `builtin`, `bun` or `node`
        #[arg(long, value_name = "RUNTIME", default_value_t)]
        config_runtime: Engine,
    },
    /// Print the JSON schema of config files
    Schema,
}

/// `sdk …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SdkCommand {
    /// Write the SDK into a project
    Install {
        /// The project's folder; this one if left out
        folder: Option<PathBuf>,
        /// The npm package, whatever the project is written in
        #[arg(long, conflicts_with = "python")]
        js: bool,
        /// The Python module, whatever the project is written in
        #[arg(long)]
        python: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(std::iter::once("bunpilot").chain(line.split_whitespace()))
    }

    #[track_caller]
    fn check(line: &str) -> Command {
        match parse(line) {
            Ok(line) => line.command,
            Err(error) => panic!("`{line}`: {error}"),
        }
    }

    #[test]
    fn clap_finds_no_fault() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_line_of_the_original_still_parses() {
        for line in [
            "start ./src/server.ts --name api",
            "start ./src/server.ts --name api --instances 4 --port 3000",
            "start a.ts -n api -i max -p 3000 --env A=1 --env B=2",
            "start --config bunpilot.config.ts",
            "start --config",
            "start",
            "list",
            "ls --json",
            "--json list",
            "status api",
            "info api --json",
            "logs api",
            "logs",
            "log api --lines 20 --follow",
            "logs -f api",
            "logs api -f",
            "logs api worker:2 -n all --since -10m --until now -g a -g b -i --nostream",
            "logs api -f --no-follow --previous",
            "metrics",
            "monit api --json",
            "metrics --prometheus",
            "restart api --force",
            "reload all --force",
            "stop api",
            "delete api",
            "del all --force",
            "daemon start",
            "daemon stop",
            "daemon status",
            "ping --json",
            "doctor --json",
            "doctor bunpilot.config.ts --config-runtime bun",
            "init",
        ] {
            let _parsed = check(line);
        }
    }

    #[test]
    fn what_follows_two_dashes_is_the_scripts() {
        let Command::Start(start) = check("start a.py --cwd /tmp -- --name x -v") else {
            panic!("not start")
        };
        assert_eq!(start.args, ["--name", "x", "-v"]);
        assert_eq!(start.name, None);
    }

    #[test]
    fn env_is_a_variable_or_a_profile() {
        let Command::Start(start) = check("start --env production --env A=b=c --env E=") else {
            panic!("not start")
        };
        let expected = [
            Env::Profile("production".into()),
            Env::Set("A".into(), "b=c".into()),
            Env::Set("E".into(), String::new()),
        ];
        assert_eq!(start.env, expected);
        assert!(parse("start a.ts --env =x").is_err());
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "",
            "stop",
            "frobnicate",
            "start a.ts -i 0",
            "start a.ts -i 65536",
            "start a.ts -p 0",
            "signal api NOPE",
            "scale api",
            "logs api --out --err",
            "logs api --raw -t",
            "logs api -f --previous",
            "logs api --invert",
            "logs api -n some",
        ] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().exit_code(), 2, "`{line}`");
        }
    }

    #[test]
    fn the_version_is_written_as_the_original_does() {
        let text = parse("-v").map(|_| ()).unwrap_err().to_string();
        assert_eq!(text, format!("bunpilot v{}\n", env!("CARGO_PKG_VERSION")));
    }
}
