//! What `/proc` says, and signals to processes a test knows by pid.

use std::{fs, os::fd::AsFd as _, path::Path};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

use super::wait::pause;

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/<pid>/stat` after the name, which may hold anything; `proc_pid_stat(5)`.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(") ")?;
    Some(after_name.split_whitespace().map(str::to_owned).collect())
}

/// Ends a process at once.
pub(crate) fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Freezes a process.
pub(crate) fn stop(pid: u32) {
    send(pid, Signal::STOP);
}

/// Sends SIGUSR1.
pub(crate) fn poke(pid: u32) {
    send(pid, Signal::USR1);
}

fn send(pid: u32, signal: Signal) {
    let sent = kill_process(to_pid(pid).expect("pids are positive"), signal);
    assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "cannot signal {pid}: {sent:?}");
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

pub(super) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Every process that carries this `BUNPILOT_HOME`, zombies left out.
pub(super) fn with_home(home: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() && has_home(*pid, home) && alive(*pid)).collect()
}

fn has_home(pid: u32, home: &Path) -> bool {
    has_variable(pid, |it| it == format!("BUNPILOT_HOME={}", home.display()))
}

/// Whether a process is the leader of a worker of `app`: the guard's mark ends in its own pid.
pub(super) fn leads(pid: u32, app: &str) -> bool {
    let own = format!(":{pid}");
    has_variable(pid, |it| it == format!("BUNPILOT_APP_NAME={app}"))
        && has_variable(pid, |it| it.starts_with("BUNPILOT_WORKER_MARK=") && it.ends_with(&own))
}

fn has_variable(pid: u32, is_it: impl Fn(&str) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|it| std::str::from_utf8(it).is_ok_and(&is_it))
}

/// Kills until none is left that carries this home: a guard may start a daemon, a daemon a worker,
/// while we go through the list.
pub(super) fn kill_all_with_home(home: &Path) {
    const ROUNDS_MAX: u32 = 200;
    for _ in 0..ROUNDS_MAX {
        let pids = with_home(home);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            kill_if_home(pid, home);
        }
        pause();
    }
}

/// Kills through a pidfd taken before the last look: a recycled pid is never hit.
fn kill_if_home(pid: u32, home: &Path) {
    let Some(raw) = to_pid(pid) else { return };
    let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else { return };
    if has_home(pid, home) {
        // an error means that it ended by itself
        pidfd_send_signal(pidfd.as_fd(), Signal::KILL).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::test::{Home, wait_for};

    #[test]
    fn nothing_outlives_its_home() {
        let home = Home::new();
        let stranger = Home::new();
        let script = "trap '' TERM; setsid sleep 1000 & sleep 1000";
        let spawn = |home: &Home| {
            Command::new("sh")
                .args(["-c", script])
                .env("BUNPILOT_HOME", home.root())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let (mut ours, mut theirs) = (spawn(&home), spawn(&stranger));
        let root = home.root();
        let pids = wait_for("a process and its two children", || {
            let pids = with_home(&root);
            (pids.len() == 3).then_some(pids)
        });
        drop(home);
        assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
        assert!(alive(theirs.id()));
        drop(stranger);
        ours.wait().unwrap();
        theirs.wait().unwrap();
    }
}
