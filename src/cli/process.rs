//! The two processes behind the commands: `__guard` and, started by it, `__daemon`.

use std::{env, io, process::ExitCode};

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

/// Runs the guard until its daemon ends for good.
pub(crate) fn guard(home: &Home, mode: Mode) -> Result<ExitCode, Failure> {
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
pub(crate) fn daemon(home: &Home) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BUNPILOT_LOG")
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info,glommio=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // It would be told on standard error, which is the log: on a full disk that panics.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .init();
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
