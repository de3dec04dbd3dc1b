//! Machines as pictures: what the doctor says of them.

mod apps;
mod house;
mod machines;
mod rare;

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::{
    facts::{
        Cgroup, Daemon, Facts, Home, Layout, Limits, Network, Processes, Programs, Refusal, Rings,
        System, Trial, Why,
    },
    judge,
};
use crate::doctor::Level;

/// A fine machine, and root on it.
fn fine() -> Facts {
    let all = ["BPF", "PERFMON", "NET_ADMIN", "NET_BIND_SERVICE", "SETUID", "SETGID", "SYS_PTRACE"];
    let parts = ["bind hook", "listen hook", "socket selector", "socket table"];
    Facts {
        system: System {
            kernel: "Linux 6.18.0".into(),
            machine: "x86_64".into(),
            cpus: 8,
            first_process: "systemd".into(),
            capabilities: all.into(),
            program: "/usr/bin/bunpilot".into(),
            unix_seconds: 1_780_000_000,
            ..System::default()
        },
        home: Ok(Home {
            folder: "/srv/bunpilot".into(),
            missing_in: None,
            owner: None,
            mode: 0o700,
            write: Ok(()),
            socket: Ok(()),
            lock: Ok(()),
            file_system: "ext4".into(),
            free_bytes: 40 << 30,
            free_files: Some(1_000_000),
        }),
        daemon: Daemon::Absent,
        switches: Vec::new(),
        rings: Rings { control: Ok(()), logs: Ok(()), disabled: Some(0) },
        programs: Programs {
            cpu: Ok(()),
            ports: parts.iter().map(|name| (*name, Ok(()))).collect(),
            types: Ok(()),
        },
        cgroup: Cgroup {
            layout: Layout::Unified,
            own: Some("/sys/fs/cgroup/system.slice".into()),
            make: Ok(()),
            enter: Ok(()),
        },
        processes: Processes {
            open: Ok(()),
            signal: Ok(()),
            status: Ok(()),
            children: Ok(()),
            notify: Ok(()),
            ptrace_scope: Some(1),
        },
        limits: Limits {
            files_soft: Some(65_536),
            files_hard: Some(524_288),
            memlock: Some(8 << 20),
            ..Limits::default()
        },
        network: Network {
            diag: Ok(()),
            somaxconn: Some(4096),
            syn_backlog: Some(2048),
            syncookies: Some(1),
            abort_on_overflow: Some(0),
            migrate_req: Some(0),
            unprivileged_from: Some(1024),
            optmem_max: Some(131_072),
            metrics: Some((9615, None)),
        },
        inotify: Ok(()),
        apps: Vec::new(),
    }
}

fn refused(why: Why, said: &str) -> Trial {
    Err(Refusal { why, said: said.to_owned() })
}

fn denied() -> Trial {
    refused(Why::Forbidden, "Operation not permitted")
}

fn invalid() -> Trial {
    refused(Why::Unknown, "Invalid argument")
}

/// Takes programs in the kernel away.
fn without_programs(facts: &mut Facts) {
    facts.programs.cpu = denied();
    facts.programs.ports.iter_mut().for_each(|(_, trial)| *trial = denied());
}

/// Takes cgroups away.
fn without_cgroups(facts: &mut Facts, make: Trial) {
    facts.cgroup.enter = refused(Why::Other, "no process can be born in it");
    facts.cgroup.make = make;
}

/// Shows what is not as it should be.
#[track_caller]
fn check(facts: &Facts, expected: &Expect) {
    let mut picture = String::new();
    for finding in judge(facts).iter().filter(|it| it.level != Level::Ok) {
        writeln!(picture, "{} {}: {}", finding.level, finding.id, finding.found).unwrap();
        writeln!(picture, "    {}", finding.consequence).unwrap();
        for line in &finding.fix {
            writeln!(picture, "    > {line}").unwrap();
        }
    }
    expected.assert_eq(&picture);
}

#[test]
fn a_bare_machine_and_root() {
    let facts = fine();
    check(&facts, &expect![[""]]);
    let mut said = String::new();
    for finding in judge(&facts) {
        writeln!(said, "{}: {}", finding.id, finding.found).unwrap();
    }
    expect![[r#"
        daemon: none runs for this home
        home: `/srv/bunpilot` (ext4, 40 GiB free)
        kernel: Linux 6.18.0 on x86_64, 8 CPUs
        container: none; process 1 is `systemd`
        user: root; apps may have any `user`
        clock: set
        overcommit: memory may be promised beyond what there is
        io-uring: rings for commands and for logs
        memlock: 8 MiB
        capabilities: BPF, PERFMON, NET_ADMIN, NET_BIND_SERVICE, SETUID, SETGID, SYS_PTRACE
        btf: the kernel tells its types
        bpf: programs for ports and for CPU time
        cpu-time: exact, from the scheduler
        cgroup: version 2, ours is `/sys/fs/cgroup/system.slice`
        pidfd: handles of processes, also exit statuses of adopted workers
        seccomp-notify: bind(2) of workers can be answered
        ptrace-scope: we may look into our workers
        children: `/proc` tells who is whose child
        nofile: 65536 for a worker, 524288 for bunpilot
        nproc: unlimited
        pipes: as wide as we like
        inotify: files can be watched
        ports: programs in the kernel can choose a worker
        tcp-migrate-req: 0; it is not needed
        somaxconn: 4096
        tcp-backlog: 2048 half-open, then SYN cookies
        unprivileged-ports: every port may be opened
        optmem-max: 131072
        sock-diag: the kernel tells who listens
        metrics-port: 9615 is free
    "#]]
    .assert_eq(&said);
}

#[test]
fn an_unprivileged_user() {
    let mut facts = fine();
    facts.system.uid = 1000;
    facts.system.capabilities.clear();
    without_programs(&mut facts);
    without_cgroups(&mut facts, refused(Why::Forbidden, "Permission denied"));
    facts.limits.files_soft = Some(1024);
    facts.limits.processes = Some(4096);
    facts.limits.threads = 4000;
    facts.limits.pipes = Some(4 << 20);
    check(
        &facts,
        &expect![[r#"
            note bpf: not allowed: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN missing
                the kernel does less than it could; `ports` and `cpu-time` say what is done instead
                > `sudo setcap cap_bpf,cap_perfmon,cap_net_admin+ep /usr/bin/bunpilot`, again after each upgrade
                > in a systemd unit: `AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN`
            note cpu-time: the clocks of each worker's processes
                children that nobody waits for and that end between two looks are missed
                > see `bpf`
            note cgroup: version 2, ours is `/sys/fs/cgroup/system.slice`: no group can be made: Permission denied
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > `systemd-run --user --scope -p Delegate=yes bunpilot daemon start`
                > in a systemd unit: `Delegate=yes`
            note ptrace-scope: `kernel.yama.ptrace_scope` is 1
                which socket a worker waits for in poll(2) or select(2) cannot be seen: under `inherit` it is ready by a message or a probe instead
                > let such an app send `READY=1` or have a `healthCheck`
            note nofile: 1024 for a worker, 524288 for bunpilot
                a worker that has 1024 files and connections open gets no more
                > for an app: `limits: { nofile: 65536 }`
            warn nproc: 96 more processes and threads for this user
                starting a worker, or a thread in one, fails once they are used up
                > in a systemd unit: `LimitNPROC=65536`
                > for logins: `* - nproc 65536` in `/etc/security/limits.conf`
            note pipes: 4 MiB for all pipes of this user
                workers that print much wait more often for their logs to be read
                > `sudo sysctl -w fs.pipe-user-pages-soft=16384`
                > to keep it: `fs.pipe-user-pages-soft = 16384` in `/etc/sysctl.d/90-bunpilot.conf`
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `bpf` and `cgroup`
            note unprivileged-ports: ports below 1024 may not be opened
                an app with such a `port`, 80 or 443 say, does not start
                > `sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80`
                > to keep it: `net.ipv4.ip_unprivileged_port_start = 80` in `/etc/sysctl.d/90-bunpilot.conf`
        "#]],
    );
}

#[test]
fn layouts_of_cgroups() {
    let mut facts = fine();
    facts.cgroup.layout = Layout::Hybrid;
    facts.cgroup.own = Some("/sys/fs/cgroup/unified".into());
    check(&facts, &expect![[""]]);
    without_cgroups(&mut facts, refused(Why::Other, "Read-only file system"));
    check(
        &facts,
        &expect![[r#"
            note cgroup: versions 1 and 2, ours is `/sys/fs/cgroup/unified`: no group can be made: Read-only file system
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > `systemd-run --scope -p Delegate=yes bunpilot daemon start`
                > in a systemd unit: `Delegate=yes`
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `cgroup`
        "#]],
    );
    facts.cgroup.layout = Layout::Legacy;
    facts.cgroup.own = None;
    check(
        &facts,
        &expect![[r#"
            note cgroup: version 1 alone
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > boot with `systemd.unified_cgroup_hierarchy=1`
                > or `mount -t cgroup2 none /sys/fs/cgroup/unified`, in a folder made for it
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `cgroup`
        "#]],
    );
    facts.cgroup.layout = Layout::Unified;
    facts.system.container = Some("kubernetes".into());
    facts.system.first_process = "tini".into();
    check(
        &facts,
        &expect![[r#"
            note cgroup: version 2; ours is not in what is mounted
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > a container runtime that mounts cgroups writable for the pod
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `cgroup`
        "#]],
    );
}

#[test]
fn rights_that_do_not_help() {
    let mut facts = fine();
    without_programs(&mut facts);
    facts.system.mapped = true;
    check(
        &facts,
        &expect![[r#"
        note bpf: CPU accounting, bind hook, listen hook, socket selector, socket table: Operation not permitted
            the kernel does less than it could; `ports` and `cpu-time` say what is done instead
            > capabilities of a user namespace do not count: run it outside of one
        note cpu-time: the clocks of each worker's processes
            children that nobody waits for and that end between two looks are missed
            > see `bpf`
        note ports: the guard can answer bind(2) of workers and give them a socket of ours
            connections go to a worker at random, not to the least busy one
            > see `bpf`
    "#]],
    );
    facts.system.mapped = false;
    facts.system.lockdown = Some("none integrity [confidentiality]".into());
    check(
        &facts,
        &expect![[r#"
        note bpf: CPU accounting, bind hook, listen hook, socket selector, socket table: Operation not permitted
            the kernel does less than it could; `ports` and `cpu-time` say what is done instead
            > the kernel is locked down: boot with `lockdown=integrity` at most
        note cpu-time: the clocks of each worker's processes
            children that nobody waits for and that end between two looks are missed
            > see `bpf`
        note ports: the guard can answer bind(2) of workers and give them a socket of ours
            connections go to a worker at random, not to the least busy one
            > see `bpf`
    "#]],
    );
}
