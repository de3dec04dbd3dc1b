//! How processes are held: cgroups, handles, looking into them.

use super::{
    facts::{Cgroup, Facts, Layout, Processes, Why},
    finding::{Finding, Level},
    remedy,
};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![cgroup(facts), pidfd(facts), notify(facts), ptrace(facts), children(facts)]
}

fn cgroup(facts: &Facts) -> Finding {
    let (id, Cgroup { layout, own, make, enter }) = ("cgroup", &facts.cgroup);
    let kind = match layout {
        Layout::Unified => "version 2",
        Layout::Hybrid => "versions 1 and 2",
        Layout::Legacy => "version 1 alone",
        Layout::None => "none mounted",
    };
    let place = own.as_ref().map(|it| format!(", ours is `{}`", it.display()));
    let found = format!("{kind}{}", place.unwrap_or_default());
    let refusal = match (own, make, enter) {
        (Some(_), Ok(()), Ok(())) => return Finding::ok(id, found),
        (Some(_), Err(refusal), _) => format!("{found}: no group can be made: {}", refusal.said),
        (Some(_), Ok(()), Err(refusal)) => format!("{found}: {}", refusal.said),
        (None, _, _) if matches!(layout, Layout::Unified | Layout::Hybrid) => {
            format!("{found}; ours is not in what is mounted")
        }
        (None, _, _) => found,
    };
    let follows = "a worker's processes are found by session, descent and a mark in their \
                   environment: what sheds all three outlives a stop; programs in the kernel cannot \
                   share ports";
    Finding::at(Level::Note, id, refusal, follows).fix(delegate(facts))
}

/// How we get a cgroup that is ours.
fn delegate(facts: &Facts) -> Vec<String> {
    let Facts { system, cgroup: Cgroup { layout, make, .. }, .. } = facts;
    let others = make.as_ref().is_err_and(|it| it.why == Why::Forbidden) && system.uid != 0;
    match (layout, system.container.as_deref()) {
        (Layout::Unified | Layout::Hybrid, Some(kind)) if others => {
            vec![format!("it belongs to root: `{} run --user root …`", remedy::runner(kind))]
        }
        (Layout::Unified | Layout::Hybrid, Some("kubernetes")) => {
            vec!["a container runtime that mounts cgroups writable for the pod".to_owned()]
        }
        (Layout::Unified | Layout::Hybrid, Some("podman")) => {
            vec!["`podman run --security-opt unmask=/sys/fs/cgroup …`".to_owned()]
        }
        (Layout::Unified | Layout::Hybrid, Some(_)) => vec![
            "`docker run --security-opt writable-cgroups=true …` (Docker 28 or newer)".to_owned(),
            "with an older one `docker run --privileged …`".to_owned(),
        ],
        (Layout::Unified | Layout::Hybrid, None) => {
            let user = if system.uid == 0 { "" } else { "--user " };
            vec![
                format!("`systemd-run {user}--scope -p Delegate=yes bunpilot daemon start`"),
                "in a systemd unit: `Delegate=yes`".to_owned(),
            ]
        }
        (Layout::Legacy | Layout::None, Some(_)) => {
            vec!["on the host: boot with `systemd.unified_cgroup_hierarchy=1`".to_owned()]
        }
        (Layout::Legacy | Layout::None, None) => {
            let mount = "mount -t cgroup2 none /sys/fs/cgroup/unified";
            vec![
                "boot with `systemd.unified_cgroup_hierarchy=1`".to_owned(),
                format!("or `{}{mount}`, in a folder made for it", remedy::sudo(system)),
            ]
        }
    }
}

fn pidfd(facts: &Facts) -> Finding {
    let (id, Processes { open, signal, status, .. }) = ("pidfd", &facts.processes);
    let Some(refusal) = open.as_ref().err().or(signal.as_ref().err()) else {
        let more = if status.is_ok() { ", also exit statuses of adopted workers" } else { "" };
        return Finding::ok(id, format!("handles of processes{more}"));
    };
    let follows = "workers cannot be signalled without risking a stranger of the same number, so \
                   they are not: bunpilot cannot stop them";
    let fix = match refusal.why {
        Why::Unknown => "Linux 5.3 or newer",
        Why::Forbidden | Why::Off | Why::Other => {
            "let the sandbox allow `pidfd_open` and `pidfd_send_signal`"
        }
    };
    Finding::at(Level::Bad, id, &refusal.said, follows).fix([fix])
}

fn notify(facts: &Facts) -> Finding {
    let (id, Processes { notify, .. }) = ("seccomp-notify", &facts.processes);
    let Err(refusal) = notify else {
        return Finding::ok(id, "bind(2) of workers can be answered");
    };
    let follows = "a port cannot be shared without programs in the kernel, unless workers do it \
                   themselves";
    let fix = match refusal.why {
        Why::Unknown => "Linux 5.9 or newer with `CONFIG_SECCOMP_FILTER=y`",
        Why::Forbidden => "let the sandbox allow `seccomp`",
        Why::Off | Why::Other => "a container without a seccomp listener of its own",
    };
    Finding::at(Level::Note, id, &refusal.said, follows).fix([fix])
}

fn ptrace(facts: &Facts) -> Finding {
    let (id, scope) = ("ptrace-scope", facts.processes.ptrace_scope);
    let Some(scope) = scope.filter(|it| *it > 0 && !facts.system.can("SYS_PTRACE")) else {
        return Finding::ok(id, "we may look into our workers");
    };
    let found = format!("`kernel.yama.ptrace_scope` is {scope}");
    let follows = "which socket a worker waits for in poll(2) or select(2) cannot be seen: under \
                   `inherit` it is ready by a message or a probe instead";
    Finding::at(Level::Note, id, found, follows)
        .fix(["let such an app send `READY=1` or have a `healthCheck`"])
}

fn children(facts: &Facts) -> Finding {
    let id = "children";
    match &facts.processes.children {
        Ok(()) => Finding::ok(id, "`/proc` tells who is whose child"),
        Err(refusal) => {
            let found = format!("`/proc/thread-self/children`: {}", refusal.said);
            let follows =
                "memory, CPU and ports of what a worker starts are not seen, only its own";
            Finding::at(Level::Warn, id, found, follows)
                .fix(["a kernel built with `CONFIG_PROC_CHILDREN=y`, and a whole `/proc`"])
        }
    }
}
