//! Without one right or another: the rung that is documented, and nothing lost on it.

use serde_json::{Value, json};

use super::{
    ordered_under_load,
    site::{Rung, Server, Site},
};
use crate::test::{Home, skip};

/// What `daemon status` says of ports by eBPF.
const EBPF: &str = "eBPF sk_reuseport, cgroup bind hooks";

/// A reload of two workers in `home` loses nothing, and ports are shared as `told`.
#[track_caller]
fn check(home: Home, rung: Rung, told: &str) {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to give rights up");
    }
    let Some(site) = Site::staged_at(home, Server::Asyncio, rung, 2, json!({})) else { return };
    let status = site.home.ok(["daemon", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["engines"]["ports"], told);
    let tally = ordered_under_load(&site, "reload");
    assert!(tally.failed.is_empty(), "{tally:#?}");
}

/// A home of root without some capabilities.
fn without(capabilities: &str) -> Home {
    Home::new().run_by(["setpriv", "--bounding-set", capabilities])
}

#[test]
fn programs_need_no_admin_of_everything() {
    check(without("-sys_admin"), Rung::Ebpf, EBPF);
}

#[test]
fn programs_need_no_right_to_trace() {
    check(without("-sys_ptrace"), Rung::Ebpf, EBPF);
}

#[test]
fn without_the_network_workers_are_trapped() {
    check(without("-net_admin"), Rung::Trap, "seccomp, classic BPF: CAP_NET_ADMIN is missing");
}

#[test]
fn without_programs_workers_are_trapped() {
    let why = "seccomp, classic BPF: CAP_BPF and CAP_PERFMON are missing";
    check(without("-bpf,-sys_admin"), Rung::Trap, why);
}

#[test]
fn without_the_verifiers_trust_workers_are_trapped() {
    let why = "seccomp, classic BPF: CAP_BPF and CAP_PERFMON are missing";
    check(without("-perfmon,-sys_admin"), Rung::Trap, why);
}

#[test]
fn without_cgroups_workers_are_trapped() {
    let home = Home::new().with_env("BUNPILOT_TREES", "session");
    let why = "seccomp, classic BPF: workers have no cgroups of their own";
    check(home, Rung::Trap, why);
}
