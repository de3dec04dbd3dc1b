//! The two processes behind the commands: `__guard` and, started by it, `__daemon`.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    process::ExitCode,
};

use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::{
    failure::{Failure, Verdict},
    home::Home,
};
use crate::{
    daemon::{self, Core, Turn},
    guard::{self, Grip, GuardConfig, Mode},
    platform::{
        host::own_program,
        linux::daemon::{self as platform, Config, HttpPort},
    },
};

/// What the daemon's log holds, unless `BUNPILOT_LOG` says otherwise.
const LOGGED: &str = "info,glommio=warn";

/// What a process is that bunpilot itself started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Parent of the daemon and of every worker.
    Guard(Mode),
    /// The manager.
    Daemon,
}

impl Role {
    /// Reads the arguments of this process; `None` if a user wrote them.
    ///
    /// By hand: these two live long, and the pages of the parser of command lines would stay with
    /// them.
    pub(crate) fn of(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let arguments: Vec<OsString> = arguments.skip(1).take(3).collect();
        let words: Vec<_> = arguments.iter().map(OsString::as_os_str).map(OsStr::to_str).collect();
        match words.as_slice() {
            [Some("__guard")] => Some(Self::Guard(Mode::Foreground)),
            [Some("__guard"), Some("--detach")] => Some(Self::Guard(Mode::Detached)),
            [Some("__daemon")] => Some(Self::Daemon),
            _ => None,
        }
    }

    /// Is that until it ends.
    pub(crate) fn play(self) -> ExitCode {
        let outcome = Home::find().and_then(|home| match self {
            Self::Guard(mode) => guard(&home, mode),
            Self::Daemon => daemon(&home).map(|()| ExitCode::SUCCESS),
        });
        outcome.unwrap_or_else(|failure| {
            // Nobody may be there to read it.
            let _unread = writeln!(io::stderr(), "bunpilot: {failure}");
            ExitCode::from(failure.verdict().map_or(0, Verdict::status))
        })
    }
}

/// Runs the guard until its daemon ends for good.
fn guard(home: &Home, mode: Mode) -> Result<ExitCode, Failure> {
    let program = own_program().map_err(Failure::io("find this program's file"))?;
    let grip = match env::var("BUNPILOT_TREES").as_deref() {
        Ok("session") => Grip::Session,
        Ok(_) | Err(_) => Grip::Best,
    };
    Ok(guard::run(GuardConfig {
        home: home.folder().to_owned(),
        daemon_argv: vec![program.into(), "__daemon".into()],
        mode,
        grip,
    }))
}

/// Runs the daemon until it is told to end: here core and world meet.
fn daemon(home: &Home) -> Result<(), Failure> {
    log();
    let config = Config {
        home: home.folder().to_owned(),
        socket: home.socket().to_owned(),
        http_port: http_port()?,
    };
    let opened = platform::open(config, daemon::fate).map_err(|error| cannot_run(&error))?;
    let Some((mut outside, start)) = opened else { return Ok(()) };
    let mut core = Core::begin(start);
    let mut events = Vec::new();
    while daemon::turn(&mut core, &mut outside.world, &mut events)
        .map_err(|error| cannot_run(&error))?
        == Turn::GoOn
    {}
    outside.farewell();
    Ok(())
}

fn cannot_run(error: &dyn std::error::Error) -> Failure {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "the daemon cannot run");
    Failure::Told(Verdict::Failed)
}

fn log() {
    let chosen = env::var("BUNPILOT_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = chosen.or_else(|| LOGGED.parse().ok()).unwrap_or_default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE) // the filter decides
        .with_ansi(false)
        // It would be told on standard error, which is the log: on a full disk that panics.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .finish()
        .with(filter)
        .init();
}

/// `BUNPILOT_HTTP_PORT`; 0 is no server.
fn http_port() -> Result<HttpPort, Failure> {
    match env::var("BUNPILOT_HTTP_PORT") {
        Err(_unset) => Ok(HttpPort::AsConfigured(daemon::http_port)),
        Ok(text) => match text.parse() {
            Ok(0) => Ok(HttpPort::Off),
            Ok(port) => Ok(HttpPort::At(port)),
            Err(_) => Err(Failure::Local(format!(
                "`BUNPILOT_HTTP_PORT` is `{text}`; it must be a port, or 0 for no metrics server"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: Option<Role>) {
        let words = std::iter::once(&"bunpilot").chain(words).map(OsString::from);
        assert_eq!(Role::of(words), expected);
    }

    #[test]
    fn our_own_processes_are_told_from_commands() {
        check(&["__guard"], Some(Role::Guard(Mode::Foreground)));
        check(&["__guard", "--detach"], Some(Role::Guard(Mode::Detached)));
        check(&["__daemon"], Some(Role::Daemon));
        check(&["list"], None);
        check(&["start", "__daemon"], None);
        check(&["__daemon", "--json"], None);
        check(&[], None);
    }

    #[test]
    fn the_log_has_a_filter() {
        let filter: Targets = LOGGED.parse().unwrap();
        assert!(filter.would_enable("bunpilot::daemon", &tracing::Level::INFO));
        assert!(!filter.would_enable("bunpilot::daemon", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("glommio::executor", &tracing::Level::INFO));
    }
}
