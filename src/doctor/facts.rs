//! What was looked up and tried on a machine, before anybody judges it.

use std::{collections::BTreeMap, path::PathBuf};

/// Everything there is to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The system.
    pub system: System,
    /// Where the files go; the reason in words if nowhere.
    pub home: Result<Home, String>,
    /// The daemon of this home.
    pub daemon: Daemon,
    /// What of bunpilot the environment turns off: name and value.
    pub switches: Vec<(String, String)>,
    /// Rings of the kernel.
    pub rings: Rings,
    /// Programs in the kernel.
    pub programs: Programs,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Handles of processes.
    pub processes: Processes,
    /// Limits of this process.
    pub limits: Limits,
    /// The network.
    pub network: Network,
    /// Watches of files; why not, otherwise.
    pub inotify: Trial,
    /// The apps of a configuration, if one was named.
    pub apps: Vec<App>,
}

/// The system, and where in it we are.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Its kernel, as `uname -sr` says it.
    pub kernel: String,
    /// The architecture.
    pub machine: String,
    /// CPUs we may use.
    pub cpus: u16,
    /// The kind of container we are in, if in one.
    pub container: Option<String>,
    /// Name of process 1.
    pub first_process: String,
    /// Whether user ids are mapped: we are in a user namespace.
    pub mapped: bool,
    /// Our effective user id.
    pub uid: u32,
    /// Names of our effective capabilities, of those that matter here, without `CAP_`.
    pub capabilities: Vec<&'static str>,
    /// Whether a seccomp filter watches our system calls.
    pub filtered: bool,
    /// The program's file, for `setcap`.
    pub program: PathBuf,
    /// What the clock says, in seconds since 1970.
    pub unix_seconds: u64,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u64>,
    /// `[none] integrity confidentiality`, of which the one in brackets is on.
    pub lockdown: Option<String>,
}

/// Why something that was tried did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub why: Why,
    /// In the kernel's words.
    pub said: String,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// We may not.
    Forbidden,
    /// The kernel does not know it.
    Unknown,
    /// The user turned it off.
    Off,
    /// Something else.
    Other,
}

/// What came of trying something.
pub type Trial = Result<(), Refusal>;

/// The folder of bunpilot's files.
#[derive(Clone, Debug)]
pub struct Home {
    /// The folder.
    pub folder: PathBuf,
    /// The folder it would be made in, if it is not there.
    pub missing_in: Option<PathBuf>,
    /// The folder's owner, if it is not us.
    pub owner: Option<u32>,
    /// Its permissions.
    pub mode: u32,
    /// Whether files can be written there.
    pub write: Trial,
    /// Whether a socket can be bound there.
    pub socket: Trial,
    /// Whether a file can be locked there.
    pub lock: Trial,
    /// Type of its file system.
    pub file_system: String,
    /// Bytes we may still write there.
    pub free_bytes: u64,
    /// Files we may still make there; `None` if the file system does not count them.
    pub free_files: Option<u64>,
}

/// The daemon of this home.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// There is none.
    Absent,
    /// One listens, and does not answer: why.
    Silent(String),
    /// One runs.
    Running(Running),
}

/// A daemon that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its process.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// Ours.
    pub our_version: &'static str,
    /// Whether it was started from the file this command is in; `None` if we may not see it.
    pub same_program: Option<bool>,
    /// Ports of the apps it runs, by name.
    pub ports: BTreeMap<String, u16>,
    /// What each of its parts runs on.
    pub engines: BTreeMap<String, String>,
    /// What an operator should see.
    pub warnings: Vec<String>,
}

/// Rings of the kernel, `io_uring_setup(2)`.
#[derive(Clone, Debug)]
pub struct Rings {
    /// As the control thread has one.
    pub control: Trial,
    /// As the log pump has one.
    pub logs: Trial,
    /// `kernel.io_uring_disabled`.
    pub disabled: Option<u64>,
}

/// Programs in the kernel, `bpf(2)`.
#[derive(Clone, Debug)]
pub struct Programs {
    /// What accounts CPU time, loaded and attached as the daemon does it.
    pub cpu: Trial,
    /// Each kind of program and map that shares ports, by name.
    pub ports: Vec<(&'static str, Trial)>,
    /// Whether the kernel tells its types, `/sys/kernel/btf/vmlinux`.
    pub types: Trial,
}

/// Control groups, `cgroups(7)`.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// What is mounted.
    pub layout: Layout,
    /// The folder of our own group, if it is within what is mounted.
    pub own: Option<PathBuf>,
    /// Whether a group can be made below it.
    pub make: Trial,
    /// Whether a process can be born in one.
    pub enter: Trial,
}

/// What of cgroups is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 2 alone.
    Unified,
    /// Both.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// Nothing.
    None,
}

/// Handles of processes, and looking into them.
#[derive(Clone, Debug)]
pub struct Processes {
    /// `pidfd_open(2)`.
    pub open: Trial,
    /// `pidfd_send_signal(2)`.
    pub signal: Trial,
    /// `PIDFD_GET_INFO` with exit statuses.
    pub status: Trial,
    /// `/proc/<pid>/task/<tid>/children`.
    pub children: Trial,
    /// Listening for the system calls of others, `seccomp_unotify(2)`.
    pub notify: Trial,
    /// `kernel.yama.ptrace_scope`.
    pub ptrace_scope: Option<u64>,
}

/// Limits of this process; `None` is unlimited.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Descriptors: soft.
    pub files_soft: Option<u64>,
    /// Descriptors: hard.
    pub files_hard: Option<u64>,
    /// Processes of our user.
    pub processes: Option<u64>,
    /// Threads our user has.
    pub threads: u64,
    /// The strictest `pids.max` of our cgroup and those above: how many are left.
    pub pids_left: Option<u64>,
    /// Memory that may be locked, in bytes.
    pub memlock: Option<u64>,
    /// Memory pipes may take before they shrink, in bytes; `None` for root.
    pub pipes: Option<u64>,
}

/// The network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Asking the kernel who listens, `sock_diag(7)`.
    pub diag: Trial,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_abort_on_overflow`.
    pub abort_on_overflow: Option<u64>,
    /// `net.ipv4.tcp_migrate_req`.
    pub migrate_req: Option<u64>,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub unprivileged_from: Option<u64>,
    /// `net.core.optmem_max`.
    pub optmem_max: Option<u64>,
    /// The port of the metrics server, and who holds it while no daemon runs.
    pub metrics: Option<(u16, Option<String>)>,
}

/// An app that somebody wants to start.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: Option<u16>,
    /// Who listens there.
    pub holder: Option<String>,
    /// Whom it is to run as, if not as the daemon.
    pub user: Option<u32>,
    /// Descriptors it asks for.
    pub files: Option<u64>,
    /// Log files chosen for it, and whether they can be written.
    pub logs: Vec<(PathBuf, Trial)>,
}

impl System {
    /// Whether we have this capability.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }
}
