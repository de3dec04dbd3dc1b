//! Starts the daemon when a command needs one and none answers.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    client::Daemon,
    clock,
    failure::{Failure, Outcome},
    home::{Home, Http},
};
use crate::platform::host::own_program;

/// Longest wait for a new daemon to answer.
const BOOT_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a guard to start the next daemon.
const RETURN_MAX: Duration = Duration::from_secs(1);

/// Longest time between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How much of the daemon's log an error shows, in bytes and in lines.
const TAIL_MAX: u64 = 4096;
const TAIL_LINES_MAX: usize = 10;

/// Whether a daemon was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was.
    Running,
    /// We started one.
    Started,
}

/// How the guard stands to the process that starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// It lives on in a session of its own and writes to the daemon's log.
    Detached,
    /// It belongs to this process, which ends it.
    Kept,
}

/// Makes sure that a daemon answers.
///
/// Of many processes that do this at once one starts the daemon, the others wait for it: they
/// queue for a lock on the home folder.
pub(crate) fn ensure(home: &Home) -> Result<Found, Failure> {
    let daemon = Daemon::of(home);
    if daemon.answers() || comes_back(home, &daemon) {
        return Ok(Found::Running);
    }
    home.create()?;
    let folder = home.folder();
    let door = File::open(folder).map_err(Failure::io(format!("open `{}`", folder.display())))?;
    flock(&door, FlockOperation::LockExclusive)
        .map_err(|it| Failure::io(format!("lock `{}`", folder.display()))(it.into()))?;
    if daemon.answers() {
        return Ok(Found::Running);
    }
    let mut guard = guard(home, Bond::Detached)?;
    let answered = await_daemon(home, || {
        // The guard ends only if it cannot do its work.
        matches!(guard.try_wait(), Ok(Some(_)))
    });
    if answered.is_err() {
        dismiss(&mut guard);
    }
    answered.map(|()| Found::Started)
}

/// Ends a guard whose daemon does not come: unasked it would try for ever, and stand in the way of
/// the next one.
fn dismiss(guard: &mut Child) {
    let pid = i32::try_from(guard.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let (Some(pid), Ok(None)) = (pid, guard.try_wait()) {
        let _gone_meanwhile = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Gives a daemon that was killed the time its guard needs to start the next one: a second guard
/// beside it would not know its workers.
fn comes_back(home: &Home, daemon: &Daemon) -> bool {
    let start = clock::now();
    // An orderly end removes the socket; one that is left was killed, or the machine was.
    while home.socket().exists() && clock::now().saturating_sub(start) < RETURN_MAX {
        clock::sleep(PAUSE_MAX);
        if daemon.answers() {
            return true;
        }
    }
    false
}

/// Starts a guard, which starts the daemon.
pub(crate) fn guard(home: &Home, bond: Bond) -> Result<Child, Failure> {
    let program = own_program().map_err(Failure::io("find this program's file"))?;
    let log = log_file(home)?;
    let copy = log.try_clone().map_err(Failure::io("copy a file descriptor"))?;
    let mut command = Command::new(&program);
    command
        .arg("__guard")
        .args((bond == Bond::Detached).then_some("--detach"))
        .env("BUNPILOT_HOME", home.folder())
        .env("BUNPILOT_SOCKET", home.socket())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy);
    match home.http() {
        Http::Usual => {}
        Http::At(port) => {
            command.env("BUNPILOT_HTTP_PORT", port.to_string());
        }
        Http::Off => {
            command.env("BUNPILOT_HTTP_PORT", "0");
        }
    }
    if bond == Bond::Kept {
        // Ctrl-C at the terminal is for us; we tell the guard.
        command.process_group(0);
    }
    command.spawn().map_err(Failure::io(format!("run `{}`", program.display())))
}

/// Waits until the daemon answers, or `given_up` says that it never will.
pub(crate) fn await_daemon(home: &Home, mut given_up: impl FnMut() -> bool) -> Outcome {
    let daemon = Daemon::of(home);
    let start = clock::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if daemon.answers() {
            return Ok(());
        }
        if given_up() && !daemon.answers() {
            return Err(no_daemon(home, "it ended at once"));
        }
        if clock::now().saturating_sub(start) > BOOT_MAX {
            return Err(no_daemon(home, "it did not answer within 10 s"));
        }
        clock::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn log_file(home: &Home) -> Result<File, Failure> {
    let path = home.daemon_log();
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(Failure::io(format!("open `{}`", path.display())))
}

fn no_daemon(home: &Home, reason: &str) -> Failure {
    let path = home.daemon_log();
    let tail = tail(&path).unwrap_or_default();
    let log = match tail.as_str() {
        "" if is_full(home) => {
            format!("; the disk of `{}` is full, make room on it", home.folder().display())
        }
        "" => format!("; `{}` is empty", path.display()),
        tail => format!("\nthe end of `{}`:\n{tail}", path.display()),
    };
    Failure::NoDaemon { reason: reason.to_owned(), log }
}

/// Whether no space is left in the home, so that nothing could even be logged.
fn is_full(home: &Home) -> bool {
    rustix::fs::statvfs(home.folder()).is_ok_and(|it| it.f_bavail == 0)
}

/// The last lines of a file, indented.
pub(crate) fn tail(path: &std::path::Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(|it| format!("    {it}")).collect();
    let from = lines.len().saturating_sub(TAIL_LINES_MAX);
    Ok(lines.get(from..).unwrap_or_default().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_long_log_is_its_last_lines() {
        let folder = crate::cli::scratch::Scratch::new().unwrap();
        let path = folder.path().join("log");
        let text: Vec<_> = (0..2000).map(|it| format!("line {it}")).collect();
        std::fs::write(&path, text.join("\n")).unwrap();
        let tail = tail(&path).unwrap();
        assert_eq!(tail.lines().count(), TAIL_LINES_MAX);
        assert!(tail.starts_with("    line 1990\n"), "{tail}");
        assert!(tail.ends_with("line 1999"), "{tail}");
    }
}
