//! What the kernel does for us: rings and programs.

use super::{
    facts::{Facts, Refusal, Rings, System, Why},
    finding::{Finding, Level},
    house::bytes,
    remedy,
};

/// Memory the log pump's ring must be allowed to lock, in bytes.
const MEMLOCK_MIN: u64 = 512 << 10;
/// What we recommend.
const MEMLOCK_GOOD: u64 = 8 << 20;
/// Capabilities that programs in the kernel need, in the order we name them.
const NEEDED: &[&str] = &["BPF", "PERFMON", "NET_ADMIN"];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        rings(facts),
        memlock(facts),
        capabilities(&facts.system),
        types(facts),
        bpf(facts),
        cpu_time(facts),
    ]
}

fn rings(facts: &Facts) -> Finding {
    let id = "io-uring";
    let Rings { control, logs, disabled } = &facts.rings;
    let (refusal, follows) = match (control, logs) {
        (Ok(()), Ok(())) if facts.limits.memlock.is_some_and(|it| it < MEMLOCK_MIN) => {
            return Finding::ok(id, "rings for commands; for logs see `memlock`");
        }
        (Ok(()), Ok(())) => return Finding::ok(id, "rings for commands and for logs"),
        (Err(refusal), _) => {
            (refusal, "commands and logs wait in epoll: all works, for some more CPU time")
        }
        (Ok(()), Err(refusal)) => {
            (refusal, "logs wait in epoll: all works, for some more CPU time")
        }
    };
    let part = if control.is_ok() { "none for logs" } else { "none" };
    let finding = Finding::at(Level::Note, id, format!("{part}: {}", refusal.said), follows);
    let system = &facts.system;
    match refusal.why {
        Why::Unknown => finding.fix(["it comes with Linux 6.1 or newer"]),
        Why::Forbidden | Why::Other if disabled.is_some_and(|it| it > 0) => {
            finding.fix(remedy::sysctl(system, "kernel.io_uring_disabled", 0))
        }
        Why::Forbidden if system.filtered => finding
            .fix([allow(system, "`io_uring_setup`, `io_uring_enter` and `io_uring_register`")]),
        Why::Forbidden | Why::Other | Why::Off => finding,
    }
}

/// How a seccomp filter learns to let system calls through.
fn allow(system: &System, calls: &str) -> String {
    match system.container.as_deref() {
        Some("kubernetes") => format!("a seccomp profile for the pod that allows {calls}"),
        Some(kind) => format!(
            "`{} run --security-opt seccomp=profile.json …` with a profile that allows {calls}",
            remedy::runner(kind)
        ),
        None => format!("let the filter (systemd: `SystemCallFilter=`) allow {calls}"),
    }
}

fn memlock(facts: &Facts) -> Finding {
    let id = "memlock";
    match facts.limits.memlock {
        None => Finding::ok(id, "unlimited"),
        Some(limit) if limit >= MEMLOCK_MIN => Finding::ok(id, bytes(limit)),
        Some(limit) => {
            let found = format!("{}, of {} needed", bytes(limit), bytes(MEMLOCK_MIN));
            let follows = "no ring for logs: they wait in epoll; kernels before 5.11 also refuse \
                           programs for it";
            let fix = remedy::limit(&facts.system, id, "LimitMEMLOCK", MEMLOCK_GOOD);
            Finding::at(Level::Note, id, found, follows).fix(fix)
        }
    }
}

fn capabilities(system: &System) -> Finding {
    let names = system.capabilities.join(", ");
    let found = if names.is_empty() { "none that matter here" } else { &names };
    Finding::ok("capabilities", found)
}

/// Capabilities that are missing for programs.
fn missing(system: &System) -> Vec<&'static str> {
    let all = |name: &str| name != "NET_ADMIN" && system.can("SYS_ADMIN");
    NEEDED.iter().copied().filter(|name| !system.can(name) && !all(name)).collect()
}

fn types(facts: &Facts) -> Finding {
    let id = "btf";
    match &facts.programs.types {
        Ok(()) => Finding::ok(id, "the kernel tells its types"),
        Err(refusal) => {
            let found = format!("`/sys/kernel/btf/vmlinux`: {}", refusal.said);
            let follows = "the program that accounts CPU time cannot be fitted to this kernel";
            Finding::at(Level::Note, id, found, follows)
                .fix(["a kernel built with `CONFIG_DEBUG_INFO_BTF=y`"])
        }
    }
}

fn bpf(facts: &Facts) -> Finding {
    let id = "bpf";
    let accounting = std::iter::once(("CPU accounting", &facts.programs.cpu));
    let sharing = facts.programs.ports.iter().map(|(name, trial)| (*name, trial));
    let all = accounting.chain(sharing);
    let failed: Vec<(&str, &Refusal)> =
        all.filter_map(|(name, it)| Some((name, it.as_ref().err()?))).collect();
    let Some((_, first)) = failed.first().copied() else {
        return Finding::ok(id, "programs for ports and for CPU time");
    };
    let system = &facts.system;
    let lacks = missing(system);
    let follows =
        "the kernel does less than it could; `ports` and `cpu-time` say what is done instead";
    if first.why == Why::Off {
        return Finding::at(Level::Note, id, &first.said, follows).fix(["see `environment`"]);
    }
    let forbidden = failed.iter().any(|(_, it)| it.why == Why::Forbidden);
    if forbidden && !lacks.is_empty() {
        let named: Vec<_> = lacks.iter().map(|name| format!("CAP_{name}")).collect();
        let found = format!("not allowed: {} missing", named.join(", "));
        return Finding::at(Level::Note, id, found, follows)
            .fix(remedy::capabilities(system, NEEDED));
    }
    let finding = Finding::at(Level::Note, id, in_groups(&failed), follows);
    if !forbidden {
        return match first.why {
            Why::Unknown => finding.fix(["Linux 6.1 or newer has all of it"]),
            Why::Forbidden | Why::Off | Why::Other => finding,
        };
    }
    if system.mapped {
        return finding
            .fix(["capabilities of a user namespace do not count: run it outside of one"]);
    }
    if system.lockdown.as_deref().is_some_and(|it| it.contains("[confidentiality]")) {
        return finding.fix(["the kernel is locked down: boot with `lockdown=integrity` at most"]);
    }
    if system.filtered {
        return finding.fix([allow(system, "`bpf`")]);
    }
    finding
}

/// What was refused with the same words stands together.
fn in_groups(failed: &[(&str, &Refusal)]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, refusal) in failed {
        match groups.iter_mut().find(|(said, _)| *said == refusal.said) {
            Some((_, names)) => names.push(name),
            None => groups.push((&refusal.said, vec![name])),
        }
    }
    let told = groups.iter().map(|(said, names)| format!("{}: {said}", names.join(", ")));
    told.collect::<Vec<_>>().join("; ")
}

fn cpu_time(facts: &Facts) -> Finding {
    let id = "cpu-time";
    if facts.programs.cpu.is_ok() {
        return Finding::ok(id, "exact, from the scheduler");
    }
    let follows = "children that nobody waits for and that end between two looks are missed";
    let place = if facts.programs.types.is_ok() { "`bpf`" } else { "`btf`" };
    Finding::at(Level::Note, id, "the clocks of each worker's processes", follows)
        .fix([format!("see {place}")])
}
