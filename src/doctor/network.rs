//! How connections reach workers.

use super::{
    facts::Facts,
    finding::{Finding, Level},
    remedy,
};

/// Connections bunpilot lets wait at a socket; the kernel cuts it to `somaxconn`.
const BACKLOG: u64 = 4096;
/// Below this a burst of a busy server does not fit.
const BACKLOG_MIN: u64 = 1024;
/// Memory a program that chooses among the sockets of one port may need, in bytes.
const OPTMEM_MIN: u64 = 20_480;
/// The first port nobody needs a right for, unless somebody changed it.
const UNPRIVILEGED: u64 = 1024;

/// How a port is shared by programs that open it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Kernel,
    Trap,
    Workers,
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![ports(facts), migrate(facts), somaxconn(facts), backlog(facts)];
    findings.extend([unprivileged(facts), optmem(facts), diag(facts)]);
    findings.extend(metrics(facts));
    findings
}

/// Whether programs in the kernel can choose a worker.
pub(super) fn is_balanced(facts: &Facts) -> bool {
    rung(facts) == Rung::Kernel
}

fn rung(facts: &Facts) -> Rung {
    let turned = |value: &str| {
        facts.switches.iter().any(|(name, it)| name == "BUNPILOT_PORTS" && it == value)
    };
    let loaded = facts.programs.ports.iter().all(|(_, trial)| trial.is_ok());
    if loaded && facts.cgroup.enter.is_ok() && !turned("trap") && !turned("workers") {
        Rung::Kernel
    } else if facts.processes.notify.is_ok() && !turned("workers") {
        Rung::Trap
    } else {
        Rung::Workers
    }
}

fn ports(facts: &Facts) -> Finding {
    let id = "ports";
    let loaded = facts.programs.ports.iter().all(|(_, trial)| trial.is_ok());
    let see = match (loaded, facts.cgroup.enter.is_ok()) {
        (false, false) => "see `bpf` and `cgroup`",
        (false, true) => "see `bpf`",
        (true, false) => "see `cgroup`",
        (true, true) => "see `environment`",
    };
    match rung(facts) {
        Rung::Kernel => Finding::ok(id, "programs in the kernel can choose a worker"),
        Rung::Trap => {
            let follows = "connections go to a worker at random, not to the least busy one";
            let found = "the guard can answer bind(2) of workers and give them a socket of ours";
            Finding::at(Level::Note, id, found, follows).fix([see])
        }
        Rung::Workers => {
            let follows = "connections are chosen by the kernel's hash, and a reload of a program \
                           that opens its port itself can lose those still queued";
            Finding::at(Level::Warn, id, "workers must share them by `SO_REUSEPORT`", follows)
                .fix(["`strategy: 'inherit'`, for programs that take an open socket", see])
        }
    }
}

fn migrate(facts: &Facts) -> Finding {
    let id = "tcp-migrate-req";
    let name = "net.ipv4.tcp_migrate_req";
    match (facts.network.migrate_req, rung(facts)) {
        (Some(0), Rung::Workers) => {
            let follows = "connections in the queue of a worker that ends are lost with it";
            Finding::at(Level::Warn, id, "0", follows).fix(remedy::net_sysctl(
                &facts.system,
                name,
                1,
            ))
        }
        (Some(0), Rung::Kernel | Rung::Trap) => Finding::ok(id, "0; it is not needed"),
        (Some(value), _) => Finding::ok(id, value.to_string()),
        (None, _) => Finding::ok(id, "this kernel has none"),
    }
}

fn somaxconn(facts: &Facts) -> Finding {
    let id = "somaxconn";
    match facts.network.somaxconn {
        None => Finding::ok(id, "unknown"),
        Some(most) if most >= BACKLOG_MIN => Finding::ok(id, most.to_string()),
        Some(most) => {
            let follows = format!(
                "of a burst of connections only {most} wait at a worker; the others try again a \
                 second later"
            );
            Finding::at(Level::Warn, id, most.to_string(), follows).fix(remedy::net_sysctl(
                &facts.system,
                "net.core.somaxconn",
                BACKLOG,
            ))
        }
    }
}

fn backlog(facts: &Facts) -> Finding {
    let id = "tcp-backlog";
    let (system, network) = (&facts.system, &facts.network);
    if network.abort_on_overflow.is_some_and(|it| it > 0) {
        let follows = "a connection that finds the queue full is reset instead of trying again";
        let found = "`net.ipv4.tcp_abort_on_overflow` is on";
        return Finding::at(Level::Warn, id, found, follows).fix(remedy::net_sysctl(
            system,
            "net.ipv4.tcp_abort_on_overflow",
            0,
        ));
    }
    let most = network.syn_backlog;
    if let Some(most) = most.filter(|it| *it < BACKLOG_MIN && network.syncookies == Some(0)) {
        let found = format!("{most} half-open connections, and no SYN cookies");
        let follows = "of a burst, or an attack, the rest is not answered";
        return Finding::at(Level::Warn, id, found, follows).fix(remedy::net_sysctl(
            system,
            "net.ipv4.tcp_syncookies",
            1,
        ));
    }
    let cookies = if network.syncookies == Some(0) { "" } else { ", then SYN cookies" };
    let found = most.map_or("unknown".to_owned(), |it| format!("{it} half-open{cookies}"));
    Finding::ok(id, found)
}

fn unprivileged(facts: &Facts) -> Finding {
    let id = "unprivileged-ports";
    let from = facts.network.unprivileged_from.unwrap_or(UNPRIVILEGED);
    if facts.system.can("NET_BIND_SERVICE") || from <= 1 {
        return Finding::ok(id, "every port may be opened");
    }
    // Nobody misses the ports between.
    if from <= 80 {
        return Finding::ok(id, format!("from {from} on"));
    }
    let found = format!("ports below {from} may not be opened");
    let follows = "an app with such a `port`, 80 or 443 say, does not start";
    let system = &facts.system;
    Finding::at(Level::Note, id, found, follows).fix(remedy::net_sysctl(
        system,
        "net.ipv4.ip_unprivileged_port_start",
        80,
    ))
}

fn optmem(facts: &Facts) -> Finding {
    let id = "optmem-max";
    match facts.network.optmem_max {
        None => Finding::ok(id, "unknown"),
        Some(most) if most >= OPTMEM_MIN => Finding::ok(id, most.to_string()),
        Some(most) => {
            let found = format!("{most} bytes, of {OPTMEM_MIN} needed");
            let follows = "an app with hundreds of instances on one port cannot be spread";
            Finding::at(Level::Note, id, found, follows).fix(remedy::sysctl(
                &facts.system,
                "net.core.optmem_max",
                OPTMEM_MIN,
            ))
        }
    }
}

fn diag(facts: &Facts) -> Finding {
    let id = "sock-diag";
    match &facts.network.diag {
        Ok(()) => Finding::ok(id, "the kernel tells who listens"),
        Err(refusal) => {
            let follows = "a worker with a port is ready only once it says so or a probe succeeds, \
                           and a reload does not see requests under way";
            Finding::at(Level::Warn, id, &refusal.said, follows)
                .fix(["a kernel with `CONFIG_INET_DIAG`: `modprobe tcp_diag`"])
        }
    }
}

fn metrics(facts: &Facts) -> Option<Finding> {
    let (port, holder) = facts.network.metrics.as_ref()?;
    let id = "metrics-port";
    Some(match holder {
        None => Finding::ok(id, format!("{port} is free")),
        Some(holder) => {
            let follows = "the next daemon serves no metrics over HTTP";
            Finding::at(Level::Warn, id, format!("{port} is held by {holder}"), follows)
                .fix(["set `BUNPILOT_HTTP_PORT` to another port, or to 0 for none"])
        }
    })
}
