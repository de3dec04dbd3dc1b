//! Homes and daemons.

use std::{collections::BTreeMap, path::PathBuf};

use expect_test::{Expect, expect};

use super::{check, denied, fine, refused};
use crate::doctor::facts::{Daemon, Home, Running, Why};

#[track_caller]
fn home(change: impl Fn(&mut Home), expected: &Expect) {
    let mut facts = fine();
    change(facts.home.as_mut().unwrap());
    check(&facts, expected);
}

#[test]
fn homes_that_do_not_work() {
    home(
        |it| it.write = refused(Why::Other, "Read-only file system"),
        &expect![[r#"
        bad home: `/srv/bunpilot`: cannot be written: Read-only file system
            the daemon cannot start: it keeps its socket, state and logs there
            > set `BUNPILOT_HOME` to a folder of yours on a local disk
    "#]],
    );
    home(
        |it| it.socket = denied(),
        &expect![[r#"
        bad home: `/srv/bunpilot`: cannot hold a socket: Operation not permitted
            no command reaches the daemon
            > set `BUNPILOT_SOCKET` to a path on a local disk, e.g. in `/run` or `/tmp`
    "#]],
    );
    home(
        |it| it.lock = refused(Why::Other, "No locks available"),
        &expect![[r#"
        bad home: `/srv/bunpilot`: files cannot be locked: No locks available
            nothing keeps two daemons from serving the same home
            > set `BUNPILOT_HOME` to a folder of yours on a local disk
    "#]],
    );
    home(
        |it| it.free_bytes = 3 << 20,
        &expect![[r#"
        bad home: `/srv/bunpilot` (ext4, 3 MiB free)
            too little: state may not be kept, and workers wait for room for their logs
            > make room, or set `BUNPILOT_HOME` to a folder on another disk
    "#]],
    );
    let mut facts = fine();
    facts.home = Err("neither `BUNPILOT_HOME` nor `HOME` is set".into());
    check(
        &facts,
        &expect![[r#"
        bad home: neither `BUNPILOT_HOME` nor `HOME` is set
            the daemon cannot start
    "#]],
    );
}

#[test]
fn homes_that_work() {
    home(
        |it| it.free_bytes = 100 << 20,
        &expect![[r#"
        warn home: `/srv/bunpilot` (ext4, 100 MiB free)
            logs may fill the disk; workers then wait, unless `logs.onFull` says otherwise
            > make room, or set `BUNPILOT_HOME` to a folder on another disk
    "#]],
    );
    home(
        |it| it.free_files = Some(3),
        &expect![[r#"
        warn home: `/srv/bunpilot` (ext4, 40 GiB free)
            the file system is nearly out of files, whatever room there is
            > make room, or set `BUNPILOT_HOME` to a folder on another disk
    "#]],
    );
    home(
        |it| it.file_system = "nfs".into(),
        &expect![[r#"
        warn home: `/srv/bunpilot` (nfs, 40 GiB free)
            SQLite needs shared memory and locks that this file system does not promise
            > set `BUNPILOT_HOME` to a folder of yours on a local disk
    "#]],
    );
    home(
        |it| it.file_system = "tmpfs".into(),
        &expect![[r#"
        note home: `/srv/bunpilot` (tmpfs, 40 GiB free)
            apps and logs are forgotten with the next boot
            > set `BUNPILOT_HOME` to a folder of yours on a local disk
    "#]],
    );
    home(
        |it| it.owner = Some(1000),
        &expect![[r#"
        warn home: `/srv/bunpilot` (ext4, 40 GiB free)
            it belongs to uid 1000: files of both users mix in it
            > set `BUNPILOT_HOME` to a folder of yours on a local disk
    "#]],
    );
    home(
        |it| it.mode = 0o777,
        &expect![[r#"
        warn home: `/srv/bunpilot` (ext4, 40 GiB free)
            others may write there: who can replace the socket commands your daemon
            > `chmod go-w /srv/bunpilot`
    "#]],
    );
    // What is not there yet is made as it must be.
    let missing = |it: &mut Home| {
        (it.missing_in, it.mode, it.owner) = (Some(PathBuf::from("/srv")), 0o1777, Some(1000));
    };
    home(missing, &expect![[""]]);
}

#[test]
fn daemons() {
    #[track_caller]
    fn daemon(change: impl Fn(&mut Running), expected: &Expect) {
        let mut facts = fine();
        let engines = [("control", "io_uring"), ("cpu", "eBPF sched_switch"), ("trees", "cgroup2")];
        let mut running = Running {
            pid: 17,
            version: "0.3.0".into(),
            our_version: "0.3.0",
            same_program: Some(true),
            ports: BTreeMap::new(),
            engines: engines.map(|(part, it)| (part.to_owned(), it.to_owned())).into(),
            warnings: Vec::new(),
        };
        change(&mut running);
        facts.daemon = Daemon::Running(running);
        check(&facts, expected);
    }
    daemon(|_| (), &expect![[""]]);
    daemon(
        |it| it.version = "0.2.9".into(),
        &expect![[r#"
        warn daemon: pid 17, version 0.2.9; control: io_uring, cpu: eBPF sched_switch, trees: cgroup2
            this command is version 0.3.0; the daemon is not upgraded
            > `bunpilot daemon stop`, then `bunpilot resurrect`; apps stop in between
    "#]],
    );
    daemon(
        |it| it.same_program = Some(false),
        &expect![[r#"
        note daemon: pid 17, version 0.3.0; control: io_uring, cpu: eBPF sched_switch, trees: cgroup2
            it was started from another file than this command
            > `bunpilot daemon stop`, then `bunpilot resurrect`; apps stop in between
    "#]],
    );
    daemon(
        |it| it.warnings = vec!["the database cannot be written".into()],
        &expect![[r#"
        warn daemon: pid 17, version 0.3.0; control: io_uring, cpu: eBPF sched_switch, trees: cgroup2
            the database cannot be written
    "#]],
    );
    let lower = |it: &mut Running| {
        it.engines.insert("trees".into(), "process group".into());
        it.engines.insert("cpu".into(), "clocks of processes: CAP_BPF is missing".into());
    };
    daemon(
        lower,
        &expect![[r#"
        note daemon: pid 17, version 0.3.0; control: io_uring, cpu: clocks of processes: CAP_BPF is missing, trees: process group
            it makes do with less than we may use here: cpu, trees
            > as this user, `bunpilot daemon stop`, then `bunpilot resurrect`
    "#]],
    );
    let mut facts = fine();
    facts.daemon = Daemon::Silent("it is silent".into());
    check(
        &facts,
        &expect![[r#"
            bad daemon: it is silent
                no command that needs it works; workers go on
                > read the end of `/srv/bunpilot/bunpilot-daemon.log`
                > or end it, its guard starts the next: `kill -9 $(cat /srv/bunpilot/bunpilot.pid)`
        "#]],
    );
}
