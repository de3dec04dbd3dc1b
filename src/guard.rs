//! Parent of the daemon and of every worker: spawns, reaps, keeps descriptors, restarts the
//! daemon.
//!
//! Decides nothing about apps. It does what the daemon orders ([`wire`]), remembers what must
//! not die with the daemon — pids, exit statuses, notes, descriptors — and tells it to the next
//! one. One thread, no runtime, no timers while nothing happens.
//!
//! If the guard itself dies, workers go on; the daemon starts another guard with [`respawn()`] and
//! hands it what it knows. If both die, [`strays`] finds the workers again.

mod backoff;
mod keeper;
mod launch;
pub mod link;
mod outbox;
mod procfs;
mod respawn;
mod socket;
mod table;
mod trap;
mod tree;
mod ward;
mod watch;
pub mod wire;

use std::{ffi::OsString, io, io::Write as _, path::PathBuf, process::ExitCode};

pub use link::Link;
pub use respawn::{State, Stray, respawn, strays};
pub use trap::{Place, can_trap};
pub(crate) use tree::cgroup::{
    can_enter, folder as cgroup_folder, home_folder, make as make_cgroup, own_folder,
    root as cgroup_root, worker_folder,
};

use crate::domain::Exit;

/// What a guard must know.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// The home of the daemon it guards; tells its workers from another home's.
    pub home: PathBuf,
    /// The daemon's program, absolute, and its arguments.
    pub daemon_argv: Vec<OsString>,
    /// Whether somebody waits for it.
    pub mode: Mode,
    /// How it holds its workers' trees together.
    pub grip: Grip,
}

/// Whether somebody waits for the guard to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A terminal, a container runtime or another supervisor does.
    Foreground,
    /// Nobody; it begins a session of its own so that no terminal takes it down.
    Detached,
}

/// How the guard holds its workers' trees together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grip {
    /// By the best means this machine offers.
    Best,
    /// Without cgroups, even where there are some.
    Session,
}

/// Why the guard, or the line to it, does not work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The process was not started by a guard.
    #[error("no guard started this process; start bunpilot with `bunpilot daemon start`")]
    NoGuard,
    /// The socket between daemon and guard is broken.
    #[error("cannot talk over the socket between daemon and guard")]
    Link(#[source] io::Error),
    /// The other side speaks another language.
    #[error("daemon and guard do not understand each other; are they of different versions?")]
    Wire(#[source] wire::WireError),
    /// The order is too large.
    #[error(
        "an order of {bytes} bytes and {fds} descriptors is too large for the guard; is the app's environment that long?"
    )]
    TooLarge {
        /// Length of the order.
        bytes: usize,
        /// Descriptors that come with it.
        fds: usize,
    },
    /// The guard takes no more orders.
    #[error("the guard has taken no orders for long; is it stopped?")]
    Stuck,
    /// The kernel refuses what the guard is made of.
    #[error("cannot prepare the guard: {what}")]
    Prepare {
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The guard could not be started.
    #[error("cannot start a new guard as `{program}`")]
    Start {
        /// Its program.
        program: String,
        /// Why.
        source: crate::platform::sys::SpawnError,
    },
}

/// Runs the guard until an agreed end; returns the daemon's exit code.
///
/// Must be called from the only thread of a process.
#[must_use]
pub fn run(config: GuardConfig) -> ExitCode {
    match watch::Watch::new(config) {
        Ok(watch) => watch.run(),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            say(format_args!("{error}: {}", source.unwrap_or_default()));
            ExitCode::FAILURE
        }
    }
}

/// Names the folder, below the guard's own cgroup, that holds one cgroup per worker of `home`.
#[must_use]
pub fn cgroup_name(home: &std::path::Path) -> String {
    format!("bunpilot-{}", hash(std::os::unix::ffi::OsStrExt::as_bytes(home.as_os_str())))
}

/// Tells an operator what cannot be told to the daemon.
fn say(text: std::fmt::Arguments<'_>) {
    // nobody may be there to read it
    harmless(writeln!(io::stderr(), "bunpilot guard: {text}"));
}

/// Lets what may fail without harm fail; the place says why.
fn harmless<T, E>(_outcome: Result<T, E>) {}

/// FNV-1a in hexadecimal: names something in few letters, the same in every life.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

/// Reads a wait status as `waitpid(2)` gives it.
fn exit_of(status: rustix::process::WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}
