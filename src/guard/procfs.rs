//! The few things the guard must read of other processes (`proc_pid_stat(5)`).
//!
//! One small read per process, nothing kept. Decides nothing.

use std::{
    fs::File,
    io::Read as _,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use rustix::process::{PidfdFlags, geteuid, pidfd_open};

use super::harmless;
use crate::{
    domain::{Pid, Signal},
    platform::sys,
};

/// One process, as its `stat` file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Clock ticks since boot.
    pub(super) started_ticks: u64,
    pub(super) pulse: Pulse,
}

/// Whether a process still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Alive,
    /// Ended, not reaped.
    Zombie,
}

impl Process {
    /// Reads one process; `None` if there is none of that number.
    pub(super) fn read(pid: i32) -> Option<Self> {
        // the name has at most 64 bytes, the 50 numbers 20 digits each
        let mut room = [0_u8; 1536];
        let count = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut room).ok()?;
        Self::parse(room.get(..count)?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // the name may contain anything, so begin behind its last bracket
        let end = memchr::memrchr(b')', stat)?;
        let pid = str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?;
        let mut fields = str::from_utf8(stat.get(end + 2..)?).ok()?.split(' ');
        let pulse = match fields.next()? {
            "Z" | "X" => Pulse::Zombie,
            _ => Pulse::Alive,
        };
        Some(Self {
            pid: pid.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            started_ticks: fields.nth(15)?.parse().ok()?,
            pulse,
        })
    }

    /// Reads every process there is.
    pub(super) fn all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::read)
            .collect()
    }

    /// Opens a handle that can never come to mean another process; `None` if it ended.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        let pidfd = open_pid(Pid(self.pid))?;
        let now = Self::read(self.pid)?;
        (now.started_ticks == self.started_ticks).then_some(pidfd)
    }

    /// Sends `signal` to this process and to no other that may have its number by now.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pidfd) = self.open() {
            // it may just have ended, or be another user's set-uid child: nothing to be done
            harmless(sys::pidfd_signal(pidfd.as_fd(), signal));
        }
    }
}

/// Opens a handle of whoever has this number now.
pub(super) fn open_pid(pid: Pid) -> Option<OwnedFd> {
    pidfd_open(rustix::process::Pid::from_raw(pid.0)?, PidfdFlags::empty()).ok()
}

/// The wait status of a process that ended and is not reaped; `None` if it is, or is another
/// user's, for whom the kernel would say 0.
pub(super) fn zombie_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let pid = pid_of(pidfd)?;
    if std::fs::metadata(format!("/proc/{pid}")).ok()?.uid() != geteuid().as_raw() {
        return None;
    }
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.get(memchr::memrchr(b')', &stat)?..)?;
    let last = str::from_utf8(fields).ok()?.split_whitespace().nth(LAST_FIELD - 2)?;
    let status = last.parse().ok()?;
    // until it is reaped its number is nobody else's
    (pid_of(pidfd) == Some(pid)).then_some(status)
}

/// `exit_code` of `proc_pid_stat(5)`.
const LAST_FIELD: usize = 52;

/// The number of the process a pidfd stands for; `None` once it is reaped.
fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}

/// Longest environment that is looked at: the kernel's own limit is a quarter of the stack.
const ENVIRON_MAX: u64 = 8 << 20;

/// Reads the value of `name` in the environment a process started its program with; `None` if
/// it has none, or is another user's.
pub(super) fn environ(pid: i32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRON_MAX).read_to_end(&mut bytes).ok()?;
    let value =
        |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    bytes.split(|byte| *byte == 0).find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_tells_its_status() {
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "exit 6"]).spawn().unwrap();
        let pidfd = open_pid(Pid(i32::try_from(child.id()).unwrap())).unwrap();
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert_eq!(zombie_status(pidfd.as_fd()), Some(6 << 8));
        child.wait().unwrap();
        assert_eq!(zombie_status(pidfd.as_fd()), None);
    }

    #[test]
    fn names_may_contain_anything() {
        let stat = b"42 (a) Z (b) S 1 40 7 34816 40 4194304 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
        let process = Process::parse(stat).unwrap();
        let (pid, parent, group, session) = (42, 1, 40, 7);
        let pulse = Pulse::Alive;
        assert_eq!(process, Process { pid, parent, group, session, started_ticks: 9876, pulse });
    }

    #[test]
    fn we_find_ourselves() {
        let me = i32::try_from(std::process::id()).unwrap();
        let process = Process::read(me).unwrap();
        assert!(Process::all().contains(&process));
        assert!(process.open().is_some());
        let reused = Process { started_ticks: process.started_ticks + 1, ..process };
        assert!(reused.open().is_none(), "another process of our number is not us");
    }
}
