//! Containers and old kernels.

use expect_test::expect;

use super::{check, denied, fine, invalid, refused, without_cgroups, without_programs};
use crate::doctor::facts::{Facts, Rings, Why};

/// What a container of Docker is.
fn docker() -> Facts {
    let mut facts = fine();
    facts.system.container = Some("docker".into());
    facts.system.first_process = "node".into();
    facts.system.capabilities = vec!["NET_BIND_SERVICE", "SETUID", "SETGID"];
    facts.system.filtered = true;
    without_programs(&mut facts);
    without_cgroups(&mut facts, refused(Why::Other, "Read-only file system"));
    facts.rings = Rings { control: denied(), logs: denied(), disabled: Some(0) };
    if let Ok(home) = &mut facts.home {
        home.file_system = "overlay".into();
    }
    facts.limits.pids_left = Some(100);
    facts
}

#[test]
fn docker_as_it_comes() {
    check(
        &docker(),
        &expect![[r#"
            note container: docker; process 1 is `node`
                the container ends with `node`, whatever bunpilot runs beside it
                > `ENTRYPOINT ["bunpilot", "run", "--config", "…"]`
            note io-uring: none: Operation not permitted
                commands and logs wait in epoll: all works, for some more CPU time
                > `docker run --security-opt seccomp=profile.json …` with a profile that allows `io_uring_setup`, `io_uring_enter` and `io_uring_register`
            note bpf: not allowed: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN missing
                the kernel does less than it could; `ports` and `cpu-time` say what is done instead
                > `docker run --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN …`
            note cpu-time: the clocks of each worker's processes
                children that nobody waits for and that end between two looks are missed
                > see `bpf`
            note cgroup: version 2, ours is `/sys/fs/cgroup/system.slice`: no group can be made: Read-only file system
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > `docker run --security-opt writable-cgroups=true …` (Docker 28 or newer)
                > with an older one `docker run --privileged …`
            note ptrace-scope: `kernel.yama.ptrace_scope` is 1
                which socket a worker waits for in poll(2) or select(2) cannot be seen: under `inherit` it is ready by a message or a probe instead
                > let such an app send `READY=1` or have a `healthCheck`
            warn nproc: 100 more processes and threads in our cgroup
                starting a worker, or a thread in one, fails once they are used up
                > `docker run --pids-limit 4096 …`
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `bpf` and `cgroup`
        "#]],
    );
}

#[test]
fn docker_and_not_even_root() {
    let mut facts = docker();
    facts.system.uid = 1000;
    facts.system.first_process = "bunpilot".into();
    facts.system.capabilities.clear();
    facts.limits.pids_left = None;
    without_cgroups(&mut facts, refused(Why::Forbidden, "Permission denied"));
    check(
        &facts,
        &expect![[r#"
            note io-uring: none: Operation not permitted
                commands and logs wait in epoll: all works, for some more CPU time
                > `docker run --security-opt seccomp=profile.json …` with a profile that allows `io_uring_setup`, `io_uring_enter` and `io_uring_register`
            note bpf: not allowed: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN missing
                the kernel does less than it could; `ports` and `cpu-time` say what is done instead
                > `docker run --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN …`
                > in its image: `RUN setcap cap_bpf,cap_perfmon,cap_net_admin+ep /usr/bin/bunpilot`
            note cpu-time: the clocks of each worker's processes
                children that nobody waits for and that end between two looks are missed
                > see `bpf`
            note cgroup: version 2, ours is `/sys/fs/cgroup/system.slice`: no group can be made: Permission denied
                a worker's processes are found by session, descent and a mark in their environment: what sheds all three outlives a stop; programs in the kernel cannot share ports
                > it belongs to root: `docker run --user root …`
            note ptrace-scope: `kernel.yama.ptrace_scope` is 1
                which socket a worker waits for in poll(2) or select(2) cannot be seen: under `inherit` it is ready by a message or a probe instead
                > let such an app send `READY=1` or have a `healthCheck`
            note ports: the guard can answer bind(2) of workers and give them a socket of ours
                connections go to a worker at random, not to the least busy one
                > see `bpf` and `cgroup`
            note unprivileged-ports: ports below 1024 may not be opened
                an app with such a `port`, 80 or 443 say, does not start
                > `docker run --sysctl net.ipv4.ip_unprivileged_port_start=80 …`
        "#]],
    );
}

#[test]
fn an_old_kernel() {
    let mut facts = fine();
    facts.system.kernel = "Linux 5.10.0".into();
    facts.rings.logs = invalid();
    facts.programs.ports[0].1 = refused(Why::Unknown, "Invalid argument: unknown func");
    facts.programs.ports[2].1 = invalid();
    facts.network.migrate_req = None;
    facts.network.somaxconn = Some(128);
    facts.network.optmem_max = Some(8192);
    facts.processes.status = refused(Why::Unknown, "Inappropriate ioctl for device");
    check(
        &facts,
        &expect![[r#"
        note io-uring: none for logs: Invalid argument
            logs wait in epoll: all works, for some more CPU time
            > it comes with Linux 6.1 or newer
        note bpf: bind hook: Invalid argument: unknown func; socket selector: Invalid argument
            the kernel does less than it could; `ports` and `cpu-time` say what is done instead
            > Linux 6.1 or newer has all of it
        note ports: the guard can answer bind(2) of workers and give them a socket of ours
            connections go to a worker at random, not to the least busy one
            > see `bpf`
        warn somaxconn: 128
            of a burst of connections only 128 wait at a worker; the others try again a second later
            > `sysctl -w net.core.somaxconn=4096`
            > to keep it: `net.core.somaxconn = 4096` in `/etc/sysctl.d/90-bunpilot.conf`
        note optmem-max: 8192 bytes, of 20480 needed
            an app with hundreds of instances on one port cannot be spread
            > `sysctl -w net.core.optmem_max=20480`
            > to keep it: `net.core.optmem_max = 20480` in `/etc/sysctl.d/90-bunpilot.conf`
    "#]],
    );
}

#[test]
fn an_older_one_without_types() {
    let mut facts = fine();
    facts.programs.types = refused(Why::Other, "No such file or directory");
    facts.programs.cpu = refused(Why::Unknown, "the kernel has no types");
    facts.processes.notify = refused(Why::Unknown, "Invalid argument");
    facts.processes.open = refused(Why::Unknown, "Function not implemented");
    facts.network.migrate_req = Some(0);
    check(
        &facts,
        &expect![[r#"
        note btf: `/sys/kernel/btf/vmlinux`: No such file or directory
            the program that accounts CPU time cannot be fitted to this kernel
            > a kernel built with `CONFIG_DEBUG_INFO_BTF=y`
        note bpf: CPU accounting: the kernel has no types
            the kernel does less than it could; `ports` and `cpu-time` say what is done instead
            > Linux 6.1 or newer has all of it
        note cpu-time: the clocks of each worker's processes
            children that nobody waits for and that end between two looks are missed
            > see `btf`
        bad pidfd: Function not implemented
            workers cannot be signalled without risking a stranger of the same number, so they are not: bunpilot cannot stop them
            > Linux 5.3 or newer
        note seccomp-notify: Invalid argument
            a port cannot be shared without programs in the kernel, unless workers do it themselves
            > Linux 5.9 or newer with `CONFIG_SECCOMP_FILTER=y`
    "#]],
    );
}
