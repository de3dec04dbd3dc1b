//! What a daemon does when its guard died: start another one, and find workers nobody watches.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileTypeExt as _,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{PidfdFlags, getpid, pidfd_open},
};

use super::{
    GuardError,
    keeper::own_plan,
    link::Link,
    procfs::{self, Process},
    socket::Socket,
    tree::{Forest, TRAP_VARIABLE},
    wire::{Life, Role},
};
use crate::{
    domain::{Moment, Pid},
    platform::sys::{self, Parent},
};

/// Environment variable that tells a guard it was started by a daemon: the soft limit of open
/// files for workers, or `-`. The socket is descriptor 3, the daemon's pidfd 4.
pub(super) const HANDOVER_VARIABLE: &str = "BUNPILOT_GUARD_HANDOVER";

/// Starts a new guard for this very process, after the old one died.
///
/// `guard_argv` is what started the old one, its program absolute. `nofile_soft` is from
/// [`Notice::InventoryEnd`](super::wire::Notice::InventoryEnd). The new guard is not our child;
/// it watches this process and starts the next daemon. It knows nothing yet: send it
/// [`Order::Hold`](super::wire::Order::Hold) and [`Order::Adopt`](super::wire::Order::Adopt) for
/// all the old one kept, then [`Order::Inventory`](super::wire::Order::Inventory).
pub fn respawn(
    guard_argv: &[OsString],
    nofile_soft: Option<u64>,
) -> Result<(Link, Pid), GuardError> {
    let prepare = |what| move |source: io::Error| GuardError::Prepare { what, source };
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|errno| prepare("its socket")(errno.into()))?;
    let me = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| prepare("a handle of the daemon")(errno.into()))?;
    let null = File::open("/dev/null").map_err(prepare("`/dev/null`"))?;
    let (out, err) = (io::stdout(), io::stderr());
    let fds = vec![null.as_fd(), out.as_fd(), err.as_fd(), theirs.as_fd(), me.as_fd()];
    let nofile = nofile_soft.map_or_else(|| "-".to_owned(), |soft| soft.to_string());
    let plan = own_plan(guard_argv, (HANDOVER_VARIABLE, &nofile), fds, Parent::Callers)
        .map_err(prepare("its arguments"))?;
    let program = || guard_argv.first().map(|word| word.display().to_string()).unwrap_or_default();
    let born =
        sys::spawn(plan).map_err(|source| GuardError::Start { program: program(), source })?;
    Ok((Link::new(ours)?, born.pid))
}

/// What a guard begins with.
#[derive(Debug)]
pub(super) enum Origin {
    /// It is the first; it starts the daemon.
    First,
    /// A daemon started it, and knows the soft limit of open files its workers get.
    Handover { socket: Socket, daemon: OwnedFd, nofile_soft: Option<u64> },
}

/// Finds out who started this guard.
///
/// Call it once, before anything else opens descriptors.
pub(super) fn origin() -> Result<Origin, GuardError> {
    let Some(nofile) = std::env::var_os(HANDOVER_VARIABLE) else {
        return Ok(Origin::First);
    };
    let inherit = |number| {
        let prepare = |source| GuardError::Prepare { what: "what the daemon left it", source };
        sys::take_inherited(number).map_err(prepare)
    };
    let socket = Socket::new(inherit(3)?).map_err(GuardError::Link)?;
    let nofile_soft = nofile.to_str().and_then(|text| text.parse().ok());
    Ok(Origin::Handover { socket, daemon: inherit(4)?, nofile_soft })
}

/// A worker nobody watches, ready to be adopted.
#[derive(Debug)]
pub struct Stray {
    /// What is known of it; its note is lost.
    pub life: Life,
    /// What `fds` are for.
    pub roles: Vec<Role>,
    /// Its output pipes, opened anew. Its channel and notify socket died with their holders.
    pub fds: Vec<OwnedFd>,
    /// What it can still do.
    pub state: State,
}

/// What a worker nobody watches can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All it ever could.
    Whole,
    /// It had a [`Trap`](super::wire::Trap): it serves, but can never bind again, and who gets
    /// the next connection nobody can say any more.
    Bereft,
}

/// Finds workers of `home` whose guard *and* daemon were killed.
///
/// Those that a living guard has are found, too; leave out every label of its inventory. Of
/// another user's workers only root can find any. Nothing is read from the pipes: what a worker
/// wrote while nobody read is still in them.
#[must_use]
pub fn strays(home: &Path) -> Vec<Stray> {
    Forest::strays(home).into_iter().filter_map(|(label, process)| stray(label, process)).collect()
}

fn stray(label: String, process: Process) -> Option<Stray> {
    let open = |role, number| Some((role, output(process.pid, number)?));
    let outputs = [open(Role::Out, 1), open(Role::Err, 2)];
    let (roles, fds) = outputs.into_iter().flatten().unzip();
    // the number may have changed hands while we opened these
    let process =
        Process::read(process.pid).filter(|now| now.started_ticks == process.started_ticks)?;
    let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
    let nanos = u128::from(process.started_ticks) * 1_000_000_000 / u128::from(ticks);
    let since_boot = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    let life = Life {
        label,
        note: String::new(),
        pid: Pid(process.pid),
        started_ticks: process.started_ticks,
        spawned: Moment::from_boot(since_boot),
        exit: None,
        gone: false,
        trap: None,
        listens: Vec::new(),
    };
    let bereft = procfs::environ(process.pid, TRAP_VARIABLE).is_some();
    let state = if bereft { State::Bereft } else { State::Whole };
    Some(Stray { life, roles, fds, state })
}

/// Opens the read end of the pipe a process has as descriptor `number`, if it is one.
fn output(pid: i32, number: u8) -> Option<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{number}");
    if !std::fs::metadata(&path).ok()?.file_type().is_fifo() {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).ok()
}
