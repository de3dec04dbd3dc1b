//! What is rare.

use expect_test::expect;

use super::{check, denied, fine, refused};
use crate::doctor::facts::{Rings, Why};

#[test]
fn rare_limits_and_settings() {
    let mut facts = fine();
    facts.switches = vec![("BUNPILOT_PORTS".into(), "workers".into())];
    facts.system.unix_seconds = 12;
    facts.system.overcommit = Some(2);
    facts.limits.memlock = Some(64 << 10);
    facts.limits.files_hard = Some(1024);
    facts.inotify = refused(Why::Other, "Too many open files");
    check(
        &facts,
        &expect![[r#"
        warn clock: 12 seconds since 1970: it was never set
            times in logs are wrong; `logs --since` and `rotateEvery` go by them
            > `timedatectl set-ntp true`, or chrony
        note overcommit: `vm.overcommit_memory` is 2
            runtimes that reserve much more memory than they use (bun, node, deno, Go) may fail to start
            > `sysctl -w vm.overcommit_memory=0`
            > to keep it: `vm.overcommit_memory = 0` in `/etc/sysctl.d/90-bunpilot.conf`
        note environment: `BUNPILOT_PORTS` is `workers`
            a daemon started from this environment uses less than the machine offers
            > `unset BUNPILOT_PORTS`
        note memlock: 64 KiB, of 512 KiB needed
            no ring for logs: they wait in epoll; kernels before 5.11 also refuse programs for it
            > in a systemd unit: `LimitMEMLOCK=8388608`
            > for logins: `* - memlock 8192` in `/etc/security/limits.conf`
        warn nofile: 65536 for a worker, 1024 for bunpilot
            no more than some 192 workers in all
            > in a systemd unit: `LimitNOFILE=65536`
            > for logins: `* - nofile 65536` in `/etc/security/limits.conf`
        warn inotify: Too many open files
            `bunpilot logs -f` does not work
            > `sysctl -w fs.inotify.max_user_instances=512`
            > to keep it: `fs.inotify.max_user_instances = 512` in `/etc/sysctl.d/90-bunpilot.conf`
        warn ports: workers must share them by `SO_REUSEPORT`
            connections are chosen by the kernel's hash, and a reload of a program that opens its port itself can lose those still queued
            > `strategy: 'inherit'`, for programs that take an open socket
            > see `environment`
        warn tcp-migrate-req: 0
            connections in the queue of a worker that ends are lost with it
            > `sysctl -w net.ipv4.tcp_migrate_req=1`
            > to keep it: `net.ipv4.tcp_migrate_req = 1` in `/etc/sysctl.d/90-bunpilot.conf`
    "#]],
    );
}

#[test]
fn rare_sights_of_network_and_processes() {
    let mut facts = fine();
    facts.processes.children = refused(Why::Other, "No such file or directory");
    facts.network.abort_on_overflow = Some(1);
    facts.network.diag = refused(Why::Other, "No such file or directory");
    facts.network.metrics = Some((9615, Some("`python3` (pid 4)".into())));
    facts.rings = Rings { control: denied(), logs: denied(), disabled: Some(2) };
    check(
        &facts,
        &expect![[r#"
        note io-uring: none: Operation not permitted
            commands and logs wait in epoll: all works, for some more CPU time
            > `sysctl -w kernel.io_uring_disabled=0`
            > to keep it: `kernel.io_uring_disabled = 0` in `/etc/sysctl.d/90-bunpilot.conf`
        warn children: `/proc/thread-self/children`: No such file or directory
            memory, CPU and ports of what a worker starts are not seen, only its own
            > a kernel built with `CONFIG_PROC_CHILDREN=y`, and a whole `/proc`
        warn tcp-backlog: `net.ipv4.tcp_abort_on_overflow` is on
            a connection that finds the queue full is reset instead of trying again
            > `sysctl -w net.ipv4.tcp_abort_on_overflow=0`
            > to keep it: `net.ipv4.tcp_abort_on_overflow = 0` in `/etc/sysctl.d/90-bunpilot.conf`
        warn sock-diag: No such file or directory
            a worker with a port is ready only once it says so or a probe succeeds, and a reload does not see requests under way
            > a kernel with `CONFIG_INET_DIAG`: `modprobe tcp_diag`
        warn metrics-port: 9615 is held by `python3` (pid 4)
            the next daemon serves no metrics over HTTP
            > set `BUNPILOT_HTTP_PORT` to another port, or to 0 for none
    "#]],
    );
    facts = fine();
    facts.network.syn_backlog = Some(128);
    facts.network.syncookies = Some(0);
    facts.network.unprivileged_from = Some(80);
    check(
        &facts,
        &expect![[r#"
        warn tcp-backlog: 128 half-open connections, and no SYN cookies
            of a burst, or an attack, the rest is not answered
            > `sysctl -w net.ipv4.tcp_syncookies=1`
            > to keep it: `net.ipv4.tcp_syncookies = 1` in `/etc/sysctl.d/90-bunpilot.conf`
    "#]],
    );
}
