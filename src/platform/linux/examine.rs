//! Tries what bunpilot would like to use, and looks up what limits it.
//!
//! Changes nothing: what is tried is undone at once. Judges nothing, [`crate::doctor`] does.

mod apps;
mod home;
mod programs;
mod system;

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, inotify},
    process::{PidfdFlags, getpid, getuid, pidfd_open},
};

use super::listen;
use crate::{
    doctor::facts::{
        Cgroup, Daemon, Facts, Layout, Network, Processes, Refusal, Rings, Trial, Why,
    },
    domain::AppSpec,
    guard,
    platform::sys::{self, ring::PollRing, seccomp},
};

/// Entries of a trial ring: as many as the control thread's has.
const RING_ENTRIES: u32 = 64;

/// What must be known before.
#[derive(Debug)]
pub struct Place {
    /// Where the files go; the reason in words if nowhere.
    pub home: Result<PathBuf, String>,
    /// The daemon there.
    pub daemon: Daemon,
    /// Where metrics are served, if they are.
    pub http_port: Option<u16>,
    /// Apps that are to start.
    pub apps: Vec<AppSpec>,
}

/// Looks at everything; takes some tenths of a second.
#[must_use]
pub fn examine(place: Place) -> Facts {
    let Place { home, daemon, http_port, apps } = place;
    let (cgroup, programs) = in_a_cgroup();
    let off = |(name, value): &(&'static str, &'static str)| {
        let is = std::env::var(name).is_ok_and(|it| it == *value);
        is.then(|| ((*name).to_owned(), (*value).to_owned()))
    };
    Facts {
        system: system::look(),
        home: home.map(|folder| home::look(&folder)),
        network: network(http_port.filter(|_| matches!(daemon, Daemon::Absent))),
        daemon,
        switches: SWITCHES.iter().filter_map(off).collect(),
        rings: rings(),
        programs,
        limits: system::limits(cgroup.own.as_deref()),
        cgroup,
        processes: processes(),
        apps: apps.iter().map(apps::look).collect(),
        inotify: trial(inotify::init(inotify::CreateFlags::CLOEXEC)),
    }
}

/// What turns something off.
const SWITCHES: &[(&str, &str)] = &[
    ("BUNPILOT_BPF", "off"),
    ("BUNPILOT_PORTS", "trap"),
    ("BUNPILOT_PORTS", "workers"),
    ("BUNPILOT_TREES", "session"),
];

/// What came of it.
fn trial<T, E: Into<io::Error>>(outcome: Result<T, E>) -> Trial {
    outcome.map(drop).map_err(|error| refusal(&error.into()))
}

fn refusal(error: &io::Error) -> Refusal {
    let why = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Why::Forbidden,
        Some(libc::ENOSYS | libc::EINVAL | libc::ENOTTY | libc::EOPNOTSUPP) => Why::Unknown,
        Some(_) | None => Why::Other,
    };
    let said = error.to_string();
    // the number tells a user nothing the words do not
    let said = said.split(" (os error").next().unwrap_or(&said).to_owned();
    Refusal { why, said }
}

fn rings() -> Rings {
    Rings {
        control: trial(io_uring::IoUring::new(RING_ENTRIES)),
        logs: trial(PollRing::new()),
        disabled: system::number("kernel/io_uring_disabled"),
    }
}

/// A cgroup that is gone once this is dropped.
struct Trials {
    path: PathBuf,
    folder: OwnedFd,
}

impl Drop for Trials {
    fn drop(&mut self) {
        // It was made by us, and nobody lives in it.
        drop(fs::remove_dir(&self.path));
    }
}

impl Trials {
    fn make(own: &Path) -> io::Result<Self> {
        let path = own.join(format!("bunpilot-doctor-{}", std::process::id()));
        fs::create_dir(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self { path, folder }),
            Err(error) => {
                drop(fs::remove_dir(&path));
                Err(error.into())
            }
        }
    }
}

/// What is tried within a cgroup of our own.
fn in_a_cgroup() -> (Cgroup, crate::doctor::facts::Programs) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // without the `/` a root of a hierarchy ends in
    let own = guard::own_folder(&mounts, &ours).map(|it| it.components().collect::<PathBuf>());
    let nowhere = || Err(io::Error::from(io::ErrorKind::NotFound));
    let trials = own.as_deref().map_or_else(nowhere, Trials::make);
    let entered = trials.as_ref().is_ok_and(|it| guard::can_enter(&it.folder));
    let no_entry = || Refusal { why: Why::Other, said: "no process can be born in it".to_owned() };
    let programs = programs::look(trials.as_ref().ok().map(|it| it.path.as_path()));
    let cgroup = Cgroup {
        layout: layout(&mounts),
        own,
        make: trials.as_ref().map(|_| ()).map_err(refusal),
        enter: entered.then_some(()).ok_or_else(no_entry),
    };
    (cgroup, programs)
}

fn layout(mounts: &str) -> Layout {
    let has = |kind: &str| {
        let kinds = mounts.lines().filter_map(|line| line.split_once(" - "));
        kinds.into_iter().any(|(_, rest)| rest.split(' ').next() == Some(kind))
    };
    match (has("cgroup2"), has("cgroup")) {
        (true, false) => Layout::Unified,
        (true, true) => Layout::Hybrid,
        (false, true) => Layout::Legacy,
        (false, false) => Layout::None,
    }
}

fn processes() -> Processes {
    let me = pidfd_open(getpid(), PidfdFlags::empty());
    let with = |look: &dyn Fn(&OwnedFd) -> io::Result<()>| match &me {
        Ok(me) => trial(look(me)),
        Err(error) => trial::<(), _>(Err(*error)),
    };
    Processes {
        signal: with(&|me| sys::pidfd_signal(me.as_fd(), crate::domain::Signal(0))),
        status: with(&|me| sys::pidfd_exit_status(me.as_fd()).map(drop)),
        open: me.as_ref().map(|_| ()).map_err(|error| refusal(&(*error).into())),
        children: trial(fs::read_to_string("/proc/thread-self/children")),
        notify: trial(seccomp::try_trap()),
        ptrace_scope: system::number("kernel/yama/ptrace_scope"),
    }
}

fn network(metrics: Option<u16>) -> Network {
    let four = |name: &str| system::number(&format!("net/ipv4/{name}"));
    Network {
        diag: trial(listen::can_ask()),
        somaxconn: system::number("net/core/somaxconn"),
        syn_backlog: four("tcp_max_syn_backlog"),
        syncookies: four("tcp_syncookies"),
        abort_on_overflow: four("tcp_abort_on_overflow"),
        migrate_req: four("tcp_migrate_req"),
        unprivileged_from: four("ip_unprivileged_port_start"),
        optmem_max: system::number("net/core/optmem_max"),
        metrics: metrics.map(|port| (port, held(port))),
    }
}

/// Who listens on a port, in words.
fn held(port: u16) -> Option<String> {
    let unseen = || "a process of another user".to_owned();
    listen::in_use(port).then(|| listen::holder(port).unwrap_or_else(unseen))
}

/// Whether we are the superuser.
fn is_root() -> bool {
    getuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let own = in_a_cgroup().0.own;
        let left = own.map(|own| own.join(format!("bunpilot-doctor-{}", std::process::id())));
        assert!(left.is_none_or(|it| !it.exists()));
    }

    #[test]
    fn layouts() {
        let (one, two) =
            ("1 2 0:3 / /a rw - cgroup cgroup rw", "1 2 0:3 / /b rw - cgroup2 none rw");
        assert_eq!(layout(two), Layout::Unified);
        assert_eq!(layout(one), Layout::Legacy);
        assert_eq!(layout(&format!("{one}\n{two}")), Layout::Hybrid);
        assert_eq!(layout("1 2 0:3 / / rw - ext4 cgroup rw"), Layout::None);
    }

    #[test]
    fn refusals_are_told_without_numbers() {
        let told = refusal(&io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(told, Refusal { why: Why::Forbidden, said: "Operation not permitted".into() });
    }
}
