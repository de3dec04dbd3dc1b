//! What a worker gets, and why some never come to be.

use std::{
    ffi::OsString,
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixDatagram},
    },
};

use bunpilot::{
    domain::{Exit, User},
    guard::{
        Grip,
        wire::{Channel, Order, Output, Role, Spawn},
    },
};

use crate::house::{Folder, House, read_all, wait_readable};

pub(crate) fn output_and_status() {
    for grip in [Grip::Best, Grip::Session] {
        let mut house = House::new(grip);
        let script = "echo hello; echo oops >&2; exit 3";
        let mut worker = house.start(House::spawn_order("1/0#1", script));
        assert_eq!(house.exited("1/0#1"), Exit::Code(3));
        house.gone("1/0#1");
        assert_eq!(read_all(worker.take(Role::Out)), "hello\n");
        assert_eq!(read_all(worker.take(Role::Err)), "oops\n");
        let (workers, _, _) = house.inventory();
        let life = &workers[0].life;
        assert_eq!(
            (life.exit, life.gone, &*life.note),
            (Some(Exit::Code(3)), true, "note of 1/0#1")
        );
        house.send(&Order::Forget { label: "1/0#1".into() }, Vec::new());
        assert!(house.inventory().0.is_empty());
        // a worker killed by a signal; and one that is already there
        house.start(House::spawn_order("1/0#2", "kill -SEGV $$"));
        assert_eq!(house.exited("1/0#2"), Exit::Signal(11));
        house.gone("1/0#2");
        let reason = house.refused(House::spawn_order("1/0#2", "true"));
        assert_eq!(reason, "a worker `1/0#2` exists already");
    }
}

/// A stream that is kept nowhere has no pipe, and the other one is not disturbed.
pub(crate) fn output_that_goes_nowhere() {
    let mut house = House::new(Grip::Best);
    let script = "where=$(readlink /proc/$$/fd/1); echo lost; echo $where >&2";
    let spawn = Spawn { out: Output::Nowhere, ..House::spawn_order("w", script) };
    let mut worker = house.start(spawn);
    assert_eq!(worker.roles, [Role::Err]);
    assert_eq!(house.exited("w"), Exit::Code(0));
    assert_eq!(read_all(worker.take(Role::Err)), "/dev/null\n");
}

pub(crate) fn the_contract_with_a_worker() {
    let mut house = House::new(Grip::Best);
    let sockets =
        [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    for (key, socket) in ["a:b", "c"].into_iter().zip(sockets) {
        house.send(&Order::Hold { key: key.into() }, vec![OwnedFd::from(socket)]);
    }
    let notify = house.home.0.join("notify");
    fs::write(&notify, "left behind by a dead worker").unwrap();
    let script = r#"
        test "$LISTEN_PID" = $$ && echo "listen $LISTEN_FDS $LISTEN_FDNAMES"
        echo "channel $NODE_CHANNEL_FD $NODE_CHANNEL_SERIALIZATION_MODE"
        echo '{"type":"ready"}' >&$NODE_CHANNEL_FD
        read answer <&$NODE_CHANNEL_FD; echo "answer $answer"
        echo "notify $NOTIFY_SOCKET, mark ${BUNPILOT_WORKER_MARK##*:} $$" | sed "s/ $$/ me/g"
        echo "limits $(ulimit -n) $(ulimit -c)"
        echo "cwd $(pwd) $LIAR $UMLAUT"; ls -1 /proc/$$/fd; true
    "#;
    let spawn = Spawn {
        cwd: "/proc".into(),
        listen: vec!["a:b".into(), "c".into()],
        channel: Channel::Json,
        notify: Some(notify.clone()),
        limits: vec![("core".into(), Some(0))],
        env: vec![
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("LISTEN_FDS".into(), "77".into()),
            ("UMLAUT".into(), "ü\"\n€".into()),
        ],
        ..House::spawn_order("w", script)
    };
    let mut worker = house.start(spawn);
    assert_eq!(worker.roles, [Role::Out, Role::Err, Role::Channel, Role::Notify]);
    let channel = worker.take(Role::Channel);
    wait_readable(&channel);
    let mut line = [0; 64];
    let count = rustix::io::read(&channel, &mut line).unwrap();
    assert_eq!(&line[..count], b"{\"type\":\"ready\"}\n");
    rustix::io::write(&channel, b"stop\n").unwrap();
    // the notify socket is ours to read and has tight rights
    assert_eq!(fs::metadata(&notify).unwrap().permissions().mode() & 0o777, 0o600);
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &notify).unwrap();
    let socket = worker.take(Role::Notify);
    wait_readable(&socket);
    let count = rustix::io::read(&socket, &mut line).unwrap();
    assert_eq!(&line[..count], b"READY=1");

    assert_eq!(house.exited("w"), Exit::Code(0), "{}", read_all(worker.take(Role::Err)));
    house.gone("w");
    let expected = format!(
        "listen 2 a_b:c\nchannel 5 json\nanswer stop\nnotify {}, mark me me\nlimits 99 0\n\
         cwd /proc  ü\"\n€\n0\n1\n2\n3\n4\n5\n",
        notify.display()
    );
    assert_eq!(read_all(worker.take(Role::Out)), expected);
    house.send(&Order::Forget { label: "w".into() }, Vec::new());
    house.inventory();
    assert!(!notify.exists(), "the notify socket goes with its worker");
}

pub(crate) fn another_user() {
    if !rustix::process::geteuid().is_root() {
        let mut house = House::new(Grip::Best);
        let user = Some(User { uid: 0, gid: 0 });
        let reason = house.refused(Spawn { user, ..House::spawn_order("w", "true") });
        assert_eq!(reason, "cannot become user 0, group 0: not permitted");
        return;
    }
    let mut house = House::new(Grip::Best);
    let user = Some(User { uid: 65534, gid: 65533 });
    let script = "echo $(id -u) $(id -g) $(id -G); echo through >/dev/stdout";
    let mut worker = house.start(Spawn { user, ..House::spawn_order("w", script) });
    house.exited("w");
    assert_eq!(read_all(worker.take(Role::Err)), "");
    assert_eq!(read_all(worker.take(Role::Out)), "65534 65533 65533\nthrough\n");
    house.gone("w");
    // the working directory is entered as that user
    let folder = Folder::new();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
    let reason =
        house.refused(Spawn { user, cwd: folder.0.clone(), ..House::spawn_order("x", "true") });
    let expected =
        format!("cannot enter the working directory `{}`: permission denied", folder.0.display());
    assert_eq!(reason, expected);
}

pub(crate) fn failures_in_words() {
    let mut house = House::new(Grip::Best);
    let folder = Folder::new();
    let script = |name: &str, text: &str, mode| {
        let path = folder.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.into_os_string()
    };
    let no_interpreter = script("a", "#!/nowhere/bun\n", 0o755);
    let no_program = script("b", "echo hello\n", 0o755);
    let not_executable = script("c", "#!/bin/sh\n", 0o644);
    let mut check = |change: &dyn Fn(&mut Spawn), expected: &str| {
        let mut spawn = House::spawn_order("w", "true");
        change(&mut spawn);
        let reason = house.refused(spawn).replace(&*folder.0.to_string_lossy(), "HERE");
        assert!(reason.starts_with(expected), "{reason}");
    };
    let argv = |word: &OsString| vec![word.clone()];
    check(
        &|w| w.argv = argv(&"/usr/bin/nope".into()),
        "cannot run `/usr/bin/nope`: no such file or directory",
    );
    check(&|w| w.argv = argv(&"nope".into()), "cannot run `nope`: not found on the worker's PATH");
    check(&|w| w.argv = argv(&not_executable), "cannot run `HERE/c`: permission denied");
    check(&|w| w.argv = argv(&no_program), "cannot run `HERE/b`: not a program for this machine");
    check(
        &|w| w.argv = argv(&no_interpreter),
        "cannot run `HERE/a`: the interpreter its first line",
    );
    check(&|w| w.argv = Vec::new(), "there is no program to run");
    check(&|w| w.argv.push("a\0b".into()), "`a\0b` has a zero byte at 1");
    check(&|w| w.cwd = "/nowhere".into(), "cannot enter the working directory `/nowhere`: no such");
    check(
        &|w| w.cwd = "/etc/passwd".into(),
        "cannot enter the working directory `/etc/passwd`: not a dir",
    );
    check(&|w| w.listen.push("3/A".into()), "no listening socket is held as `3/A`");
    check(
        &|w| w.limits.push(("wings".into(), None)),
        "`wings` is no resource limit; there are as,",
    );
    let long = format!("/tmp/{}", "x".repeat(120));
    check(
        &|w| w.notify = Some(long.clone().into()),
        "cannot bind the worker's NOTIFY_SOCKET at `/tmp/xx",
    );
    let huge = "x".repeat(4 << 20);
    check(
        &|w| w.argv.push(huge.clone().into()),
        "cannot run `/bin/sh`: arguments and environment are too",
    );
    // none of them left anything behind
    assert!(house.inventory().0.is_empty());
    if house.inventory().2 == bunpilot::guard::wire::Rung::Cgroup {
        assert_eq!(crate::trees::cgroups_of(&house), 0);
    }
}
