//! The command line: parse, ask the daemon, show what came of it.
//!
//! Decides nothing about apps. Scripts, folders and environments are resolved here, at the
//! caller; what is to be done about them is the daemon's.

pub mod config;
pub mod init;
pub mod logs;
pub mod sdk;

mod args;
mod client;
mod clock;
mod daemon;
mod delete;
mod demo;
mod doctor;
mod failure;
mod format;
mod home;
mod launch;
mod list;
mod metrics;
mod output;
mod ping;
mod plan;
mod process;
mod progress;
mod project;
mod redact;
mod reload;
mod restart;
mod resurrect;
mod run;
mod scale;
mod scratch;
mod show_logs;
mod signal;
mod start;
mod status;
mod stop;
mod suggest;
mod table;
mod tidy;
mod verb;
mod wish;

#[cfg(test)]
mod example;

use std::{env, ffi::OsString, process::ExitCode};

use clap::Parser as _;

use args::{Command, Line};
use client::Daemon;
use failure::{Failure, Outcome, Verdict};
use home::Home;
use output::{Format, Out};
use process::Role;

use crate::world::Tidying;

/// Does what the command line says; returns the exit status.
pub fn main() -> ExitCode {
    if let Some(role) = Role::of(env::args_os()) {
        return role.play();
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) if error.use_stderr() && wants_json(env::args_os()) => {
            let mut out = Out::standard(Format::Json);
            return ExitCode::from(status(Err(Failure::Usage(essence(&error))), &mut out));
        }
        Err(error) => error.exit(),
    };
    let format = if line.json { Format::Json } else { Format::Human };
    let mut out = Out::standard(format);
    let outcome = run(line.command, &mut out).and_then(|()| out.flush());
    ExitCode::from(status(outcome, &mut out))
}

/// Whether a line that could not be read asks for JSON all the same.
fn wants_json(mut words: impl Iterator<Item = OsString>) -> bool {
    words.by_ref().take_while(|it| it != "--").any(|it| it == "--json")
}

/// What is wrong with a line, without clap's frame and its advice.
fn essence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    text.strip_prefix("error: ").unwrap_or(text).trim_end().to_owned()
}

/// Tells what went wrong; returns the exit status.
fn status(outcome: Outcome, out: &mut Out) -> u8 {
    let Err(failure) = outcome else { return 0 };
    let told = if matches!(failure, Failure::Told(_)) { Ok(()) } else { out.error(&failure) };
    let told = told.and_then(|()| out.flush());
    match told {
        Err(Failure::Closed) => 0,
        Ok(()) | Err(_) => failure.verdict().map_or(0, Verdict::status),
    }
}

fn run(command: Command, out: &mut Out) -> Outcome {
    // Not every command needs one.
    let home = Home::find;
    let daemon = || home().map(|it| Daemon::of(&it));
    match command {
        Command::Start(args) if !args.no_daemon => start::run(&home()?, &args, out),
        Command::Start(args) | Command::Run(args) => run::run(&home()?, &args, out),
        Command::Stop(args) => stop::run(&home()?, args, out),
        Command::Restart(args) => restart::run(&home()?, args, out),
        Command::Reload(args) => reload::run(&home()?, args, out),
        Command::Delete(args) => delete::run(&home()?, args, out),
        Command::Scale(args) => scale::run(&home()?, args, out),
        Command::Signal(args) => signal::run(&home()?, args, out),
        Command::Resurrect => resurrect::run(&home()?, out),
        Command::List(args) => list::run(&daemon()?, args.secrets(), out),
        Command::Status(args) => status::run(&daemon()?, &args, out),
        Command::Logs(args) => show_logs::run(&home()?, &args, out),
        Command::Flush(args) => tidy::run(&home()?, Tidying::Flush, args, out),
        Command::Rotate(args) => tidy::run(&home()?, Tidying::Rotate, args, out),
        Command::Metrics(args) => metrics::run(&daemon()?, &args, out),
        Command::Daemon { command } => daemon::run(&home()?, command, out),
        Command::Ping => ping::run(&daemon()?, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Init => project::init(out),
        Command::Config { command } => project::config(command, out),
        Command::Sdk { command } => project::sdk(&command, out),
        Command::Demo => demo::run(out),
        Command::DemoServer => demo::server::run(),
    }
}
