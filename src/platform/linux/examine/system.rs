//! What the system is, who we are in it, and what limits us.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    param::page_size,
    process::{Resource, geteuid, getrlimit},
    system::uname,
    thread::{CapabilitySet, capabilities},
    time::{ClockId, clock_gettime},
};

use super::is_root;
use crate::{
    config::Host as _,
    doctor::facts::{Limits, System},
    platform::host::{Machine, own_program},
};

/// Capabilities that matter here, and their names.
const CAPABILITIES: &[(CapabilitySet, &str)] = &[
    (CapabilitySet::BPF, "BPF"),
    (CapabilitySet::PERFMON, "PERFMON"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
    (CapabilitySet::NET_BIND_SERVICE, "NET_BIND_SERVICE"),
    (CapabilitySet::SETUID, "SETUID"),
    (CapabilitySet::SETGID, "SETGID"),
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::SYS_PTRACE, "SYS_PTRACE"),
    (CapabilitySet::SYS_RESOURCE, "SYS_RESOURCE"),
];

/// The number in a file below `/proc/sys`.
pub(super) fn number(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

pub(super) fn look() -> System {
    let name = uname();
    let (kernel, release) = (name.sysname().to_string_lossy(), name.release().to_string_lossy());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<_> = map.split_whitespace().collect();
    let comm = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let have = capabilities(None).map_or(CapabilitySet::empty(), |it| it.effective);
    let had = |(set, name): &(CapabilitySet, &'static str)| have.contains(*set).then_some(*name);
    System {
        kernel: format!("{kernel} {release}"),
        machine: name.machine().to_string_lossy().into_owned(),
        cpus: Machine.cpus().get(),
        container: container(),
        first_process: comm.trim_end().to_owned(),
        mapped: !map.is_empty() && map != ["0", "0", "4294967295"],
        uid: geteuid().as_raw(),
        capabilities: CAPABILITIES.iter().filter_map(had).collect(),
        filtered: status.lines().any(|line| line == "Seccomp:\t2"),
        program: own_program().unwrap_or_else(|_unknown| "bunpilot".into()),
        unix_seconds: u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or_default(),
        overcommit: number("vm/overcommit_memory"),
        lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok(),
    }
}

/// The kind of container we are in, by what its maker leaves for programs to see.
fn container() -> Option<String> {
    let signs = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("kubernetes".to_owned());
    }
    if let Some((_, name)) = signs.iter().find(|(file, _)| Path::new(file).exists()) {
        return Some((*name).to_owned());
    }
    let said = env::var("container").ok().filter(|it| !it.is_empty());
    let told = || fs::read_to_string("/run/systemd/container").ok();
    said.or_else(told).map(|it| it.trim().to_owned())
}

pub(super) fn limits(cgroup: Option<&Path>) -> Limits {
    let files = getrlimit(Resource::Nofile);
    let pipe_pages = number("fs/pipe-user-pages-soft").filter(|pages| *pages > 0 && !is_root());
    let page = u64::try_from(page_size()).unwrap_or(4096);
    Limits {
        files_soft: files.current,
        files_hard: files.maximum,
        processes: getrlimit(Resource::Nproc).current.filter(|_| !is_root()),
        threads: if is_root() { 0 } else { threads(geteuid().as_raw()) },
        pids_left: cgroup.and_then(pids_left),
        memlock: getrlimit(Resource::Memlock).current,
        pipes: pipe_pages.map(|pages| pages.saturating_mul(page)),
    }
}

/// All threads of a user.
fn threads(uid: u32) -> u64 {
    let of = |entry: fs::DirEntry| -> Option<u64> {
        entry.metadata().ok().filter(|it| it.uid() == uid)?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(of).sum()
}

/// How many more tasks fit our cgroup and all above it; `None` without a bound.
fn pids_left(own: &Path) -> Option<u64> {
    let left = |folder: &Path| -> Option<u64> {
        let read = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        Some(read("pids.max")?.saturating_sub(read("pids.current")?))
    };
    own.ancestors().take_while(|it| it.join("cgroup.procs").exists()).filter_map(left).min()
}
