//! `bunpilot daemon start|stop|status`.

use std::time::Duration;

use serde_json::json;

use super::{
    args::DaemonCommand,
    client::Daemon,
    clock,
    failure::{Failure, Outcome, Verdict},
    format,
    home::Home,
    launch::{self, Found},
    output::{Format, Out},
};
use crate::control::{status::DaemonStatus, wire::Command};

/// Longest wait for the daemon to be gone: the longest `killTimeout` there can be, and some.
const STOP_MAX: Duration = Duration::from_secs(150);

/// Runs it.
pub(crate) fn run(home: &Home, command: DaemonCommand, out: &mut Out) -> Outcome {
    match command {
        DaemonCommand::Start => start(home, out),
        DaemonCommand::Stop => stop(home, out),
        DaemonCommand::Status => status(home, out),
    }
}

fn start(home: &Home, out: &mut Out) -> Outcome {
    let found = launch::ensure(home)?;
    let pid = dump(home)?.pid;
    if out.format == Format::Json {
        let action = if found == Found::Started { "started" } else { "already-running" };
        return out.json(&json!({ "action": action, "pid": pid }));
    }
    match found {
        Found::Started => out.ok(format_args!("bunpilot daemon started (pid {pid})")),
        Found::Running => out.warn(format_args!("Daemon is already running (pid {pid})")),
    }
}

fn stop(home: &Home, out: &mut Out) -> Outcome {
    let pid = match dump(home) {
        Ok(dump) => dump.pid,
        // What was wished for is so already.
        Err(Failure::Unreachable { .. }) if out.format == Format::Json => {
            return out.json(&json!({ "action": "not-running" }));
        }
        Err(Failure::Unreachable { .. }) => {
            return out.warn("Daemon is not running");
        }
        Err(failure) => return Err(failure),
    };
    end(home)?;
    if out.format == Format::Json {
        return out.json(&json!({ "action": "stopped", "pid": pid }));
    }
    out.ok(format_args!("Daemon (pid {pid}) stopped"))
}

/// Ends the daemon, and waits until it is gone.
pub(crate) fn end(home: &Home) -> Outcome {
    let daemon = Daemon::of(home);
    let pid = dump(home)?.pid;
    daemon.order(Command::KillDaemon, &mut |_| Ok(()))?;
    let start = clock::now();
    while lives(pid) {
        if clock::now().saturating_sub(start) > STOP_MAX {
            let socket = home.socket().to_owned();
            return Err(Failure::Silent { socket, seconds: STOP_MAX.as_secs() });
        }
        clock::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn lives(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn status(home: &Home, out: &mut Out) -> Outcome {
    let status = match dump(home) {
        Ok(status) => status,
        Err(Failure::Unreachable { .. }) if out.format == Format::Human => {
            out.warn("Daemon is not running")?;
            return Err(Failure::Told(Verdict::Unreachable));
        }
        Err(failure) => return Err(failure),
    };
    if out.format == Format::Json {
        return out.json(&json!({
            "running": true,
            "pid": status.pid,
            "uptime": status.uptime,
            "version": status.version,
            "apps": status.apps.len(),
            "engines": status.engines,
            "warnings": status.warnings,
            "home": home.folder(),
            "socket": home.socket(),
        }));
    }
    show(home, &status, out)
}

fn show(home: &Home, status: &DaemonStatus, out: &mut Out) -> Outcome {
    let uptime = format::uptime(status.uptime);
    out.ok(format_args!("Daemon is running (pid {}, up {uptime})", status.pid))?;
    let mine = env!("CARGO_PKG_VERSION");
    let version = match status.version.as_str() {
        version if version == mine => version.to_owned(),
        version => format!("{version} (this command is {mine}; restart the daemon to upgrade)"),
    };
    let workers: usize = status.apps.iter().map(|it| it.workers.len()).sum();
    let mut facts = vec![
        ("version".to_owned(), version),
        ("home".to_owned(), home.folder().display().to_string()),
        ("socket".to_owned(), home.socket().display().to_string()),
        ("apps".to_owned(), format!("{} ({workers} workers)", status.apps.len())),
    ];
    facts.extend(status.engines.clone());
    for (key, value) in facts {
        writeln!(out.stdout(), "  {key:<10}{value}")?;
    }
    for warning in &status.warnings {
        out.warn(warning)?;
    }
    Ok(())
}

fn dump(home: &Home) -> Result<DaemonStatus, Failure> {
    Daemon::of(home).ask(&Command::Dump)
}
