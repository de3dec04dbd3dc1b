//! Whether a worker serves its port: from outside, without its help.
//!
//! [`listening`] answers for a worker that opens the port itself, [`accepting`] for one that
//! inherited a listening socket, where listening says nothing and only waiting for connections
//! does. Both look at the worker and all its descendants, and never touch its sockets.
//!
//! A thread is seen waiting for an inherited socket when
//!
//! - an epoll instance of the process watches it for input (node, bun, deno, Go, asyncio, uvloop,
//!   tokio, nginx), whether or not a thread is in `epoll_wait(2)` this moment; or
//! - it sleeps in `accept(2)` or `accept4(2)` on it (plain blocking servers); or
//! - it sleeps in `poll(2)`, `ppoll(2)`, `select(2)` or `pselect6(2)` with it in the set
//!   (python's `selectors` in socketserver, gunicorn's sync workers, puma).
//!
//! Not seen: sockets watched through `io_uring`, a thread that happens to run at each look, and,
//! where Yama's `ptrace_scope` keeps us from `/proc/<pid>/syscall`, which socket a `poll` or
//! `select` waits for; an `accept` still shows by its wait channel. Such a worker becomes ready by
//! a probe or a message instead.

mod diag;
mod waiting;

use std::{fs, os::fd::OwnedFd, path::Path};

pub use diag::{Listening, Patience};

use super::usage;
use crate::domain::Pid;

/// Whether `pid` or a descendant has a socket of its own listening on TCP port `port`.
#[must_use]
pub fn listening(pid: Pid, port: u16) -> bool {
    let inodes = if shares_our_network(pid) {
        diag::listeners(port).unwrap_or_default()
    } else {
        listeners_elsewhere(pid, port)
    };
    has_any(pid, &inodes)
}

/// Whether `pid` or a descendant waits for connections to the listening socket `inode`.
#[must_use]
pub fn accepting(pid: Pid, inode: u64) -> bool {
    usage::any_in_tree(pid, |member| waiting::waits(member, inode))
}

/// Whether `pid` or a descendant has the listening socket `inode` and may wait for connections to
/// it where [`accepting`] cannot see it: in an `io_uring`.
#[must_use]
pub fn hidden(pid: Pid, inode: u64) -> bool {
    usage::any_in_tree(pid, |member| waiting::may_wait(member, inode))
}

/// Whether `pid` or a descendant has something to do on a connection to TCP port `port`; one that
/// is kept alive between two requests does not count.
#[must_use]
pub fn serving(pid: Pid, port: u16, patience: Patience) -> bool {
    let inodes = diag::busy_connections(port, patience).unwrap_or_default();
    has_any(pid, &inodes)
}

/// Whether connections to TCP port `port` wait to be accepted by `pid` or a descendant.
#[must_use]
pub fn queued(pid: Pid, port: u16) -> bool {
    let queued = diag::listening(port).unwrap_or_default().into_iter();
    let inodes: Vec<u64> = queued.filter(|it| it.waiting > 0).map(|it| it.inode).collect();
    has_any(pid, &inodes)
}

/// All sockets in our network namespace that listen on TCP port `port`.
#[must_use]
pub fn all(port: u16) -> Vec<Listening> {
    diag::listening(port).unwrap_or_default()
}

/// Whether `pid` or a descendant has one of the sockets `inodes` open.
#[must_use]
pub fn has_any(pid: Pid, inodes: &[u64]) -> bool {
    !inodes.is_empty() && usage::any_in_tree(pid, |member| waiting::holds(member, inodes))
}

/// A copy of the socket `inode` of `pid` or a descendant, by `pidfd_getfd(2)`.
#[must_use]
pub fn copy(pid: Pid, inode: u64) -> Option<OwnedFd> {
    let mut copy = None;
    usage::any_in_tree(pid, |member| {
        copy = waiting::copy(member, inode);
        copy.is_some()
    });
    copy
}

/// Whether anybody in our network namespace listens on TCP port `port`.
#[must_use]
pub fn in_use(port: u16) -> bool {
    diag::listeners(port).is_ok_and(|inodes| !inodes.is_empty())
}

/// Whether the kernel answers such questions at all.
///
/// # Errors
///
/// What it says instead.
pub fn can_ask() -> std::io::Result<()> {
    diag::listeners(1).map(drop)
}

/// Who listens on TCP port `port`, in words, if we may see it.
#[must_use]
pub fn holder(port: u16) -> Option<String> {
    let inodes = diag::listeners(port).ok()?;
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| number(&entry.path()));
    let pid = pids.map(Pid).find(|&pid| waiting::holds(pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("`{}` (pid {pid})", name.trim_end()))
}

fn shares_our_network(pid: Pid) -> bool {
    let theirs = fs::read_link(format!("/proc/{pid}/ns/net"));
    let ours = fs::read_link("/proc/self/ns/net");
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // Where we may not see it, `/proc/<pid>/net` would be refused as well.
        _ => true,
    }
}

fn listeners_elsewhere(pid: Pid, port: u16) -> Vec<u64> {
    let Ok(process) = procfs::process::Process::new(pid.0) else { return Vec::new() };
    let tables = [process.tcp().unwrap_or_default(), process.tcp6().unwrap_or_default()];
    tables
        .into_iter()
        .flatten()
        .filter(|entry| entry.state == procfs::net::TcpState::Listen)
        .filter(|entry| entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect()
}

fn number(path: &Path) -> Option<i32> {
    path.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
