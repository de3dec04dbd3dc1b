//! A slow daemon, held descriptors, and a guard with nothing to do.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use bunpilot::{
    domain::Exit,
    guard::{
        Grip,
        wire::{Order, Role},
    },
    platform::sys::monotonic_now,
};

use crate::house::{House, read_all, until};

pub(crate) fn a_slow_daemon_loses_nothing() {
    const WORKERS: usize = 400;
    for grip in [Grip::Best, Grip::Session] {
        let mut house = House::new(grip);
        let label = |n: usize| format!("1/{n}#1");
        // none of the answers is read until all orders are written, and they do not fit a socket
        for n in 0..WORKERS {
            let mut spawn = House::spawn_order(&label(n), "");
            spawn.argv = vec!["/bin/sh".into(), "-c".into(), format!("exit {}", n % 200).into()];
            house.link.send(&Order::Spawn(Box::new(spawn)), Vec::new()).unwrap();
        }
        while house.link.wants_write() {
            house.link.flush().unwrap();
            until("the guard takes orders", || {
                house.link.flush().is_ok() && !house.link.wants_write()
            });
        }
        let mut exits = BTreeMap::new();
        for n in 0..WORKERS {
            let worker = house.started(&label(n));
            // what a worker did before its first notice was sent is part of that notice
            let exit = worker.life.exit.unwrap_or_else(|| house.exited(&label(n)));
            if !worker.life.gone {
                house.gone(&label(n));
            }
            assert!(exits.insert(n, exit).is_none());
        }
        for (n, exit) in exits {
            assert_eq!(exit, Exit::Code(i32::try_from(n % 200).unwrap()));
        }
        house.nothing_more();
        let (workers, _, _) = house.inventory();
        assert_eq!(workers.len(), WORKERS);
        assert!(workers.iter().all(|worker| worker.life.gone && worker.life.exit.is_some()));
    }
}

pub(crate) fn what_is_held_comes_back() {
    let mut house = House::new(Grip::Best);
    let (mut near, far) = UnixStream::pair().unwrap();
    house.send(&Order::Hold { key: "a".into() }, vec![OwnedFd::from(far)]);
    near.write_all(b"still here").unwrap();
    drop(near);
    let (_, held, _) = house.inventory();
    let [(key, fd)] = <[_; 1]>::try_from(held).unwrap();
    assert_eq!((&*key, &*read_all(fd)), ("a", "still here"));
    house.send(&Order::Release { key: "a".into() }, Vec::new());
    assert!(house.inventory().1.is_empty());
}

pub(crate) fn an_idle_guard_is_small_and_sleeps() {
    let mut house = House::new(Grip::Best);
    for n in 0..20 {
        house.start(House::spawn_order(&format!("1/{n}#1"), "exec sleep 1000"));
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", house.guard)).unwrap();
    let field = |text: String, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let switches = || field(read("status"), "voluntary_ctxt_switches:");
    // The time is what is measured here: nothing may happen in it. The last workers may still be
    // on their way into it, so any such time will do.
    until("an idle guard sleeps for 300 ms", || {
        let (before, begin) = (switches(), monotonic_now());
        until("300 ms are over", || monotonic_now() - begin > Duration::from_millis(300));
        switches() == before
    });
    let (pss, private) =
        (field(read("smaps_rollup"), "Pss:"), field(read("smaps_rollup"), "Private_Dirty:"));
    crate::say(&format!("guard with 20 workers: PSS {pss} kB, private dirty {private} kB"));
    for n in 0..20 {
        house.bury(&format!("1/{n}#1"));
    }
    let (workers, _, _) = house.inventory();
    assert!(workers.iter().all(|worker| worker.roles.contains(&Role::Out)) && workers.is_empty());
}
