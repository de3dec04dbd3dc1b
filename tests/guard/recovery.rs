//! The guard dies, alone or together with the daemon.

use bunpilot::{
    domain::{Exit, Pid, Signal},
    guard::{
        Grip, strays,
        wire::{Order, Role, Rung, Spawn},
    },
    platform::sys::kill,
    world::Reach,
};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::house::{House, Started, processes_with, read_all, until, wait_readable};

/// A worker with a kid in another session; it answers to SIGTERM with status 6.
const SCRIPT: &str = r#"
    trap 'echo bye; exit 6' TERM
    trap 'echo alone' USR1
    setsid sleep 1000 &
    echo ready
    while :; do wait; done
"#;

fn family(house: &House, label: &str) -> (Spawn, String) {
    let mark = format!("{}/{label}", house.home.0.display());
    let mut spawn = House::spawn_order(label, SCRIPT);
    spawn.env.push(("FAMILY".into(), mark.clone().into()));
    (spawn, format!("FAMILY={mark}"))
}

/// Kills the guard and waits for its end.
fn kill_guard(house: &House) {
    let pidfd =
        pidfd_open(rustix::process::Pid::from_raw(house.guard.0).unwrap(), PidfdFlags::empty());
    kill(house.guard, Signal::KILL).unwrap();
    wait_readable(pidfd.unwrap());
}

/// A kernel that tells anybody how a process ended.
fn tells_exits() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

pub(crate) fn a_new_guard_takes_over_in_a_cgroup() {
    a_new_guard_takes_over(Grip::Best);
}

pub(crate) fn a_new_guard_takes_over_in_a_session() {
    a_new_guard_takes_over(Grip::Session);
}

fn a_new_guard_takes_over(grip: Grip) {
    let mut house = House::new(grip);
    let (spawn, mark) = family(&house, "1/0#1");
    let worker = house.start(spawn);
    assert_eq!(worker.line(), "ready");
    // one that is over, one whose leader is over, one that ends while nobody watches
    let over = house.start(House::spawn_order("1/1#1", "exit 9"));
    assert_eq!(house.exited("1/1#1"), Exit::Code(9));
    house.gone("1/1#1");
    let (mut orphans, orphans_mark) = family(&house, "1/2#1");
    orphans.argv = ["/bin/sh", "-c", "setsid sleep 1000 & exit 8"].map(Into::into).to_vec();
    let orphaned = house.start(orphans);
    assert_eq!(house.exited("1/2#1"), Exit::Code(8));
    let lost = house.start(House::spawn_order("1/3#1", "exec sleep 1000"));

    kill_guard(&house);
    kill(lost.life.pid, Signal::KILL).unwrap();
    until("it ended", || !crate::house::alive(lost.life.pid.0));
    house.new_guard();
    let as_seen = |worker: Started, exit, gone| {
        let mut life = worker.life;
        (life.exit, life.gone) = (exit, gone);
        (Order::Adopt(life, worker.roles), worker.fds)
    };
    let handover = [
        as_seen(worker, None, false),
        as_seen(over, Some(Exit::Code(9)), true),
        as_seen(orphaned, Some(Exit::Code(8)), false),
        as_seen(lost, None, false),
    ];
    for (order, fds) in handover {
        house.send(&order, fds);
    }
    let (workers, _, rung) = house.inventory();
    let mut workers: Vec<_> = workers
        .into_iter()
        .map(|worker| (worker.life.label.clone(), worker.life.exit, worker))
        .collect();
    // if its new parent has not reaped it yet, even this one's end can still be learned
    let (_, exit, _) = workers.pop().unwrap();
    let exit = exit.unwrap_or_else(|| house.exited("1/3#1"));
    assert!(matches!(exit, Exit::Unknown | Exit::Signal(9)), "{exit:?}");
    let exits: Vec<_> = workers.iter().map(|(label, exit, _)| (label.as_str(), *exit)).collect();
    let (over, orphaned) = (Some(Exit::Code(9)), Some(Exit::Code(8)));
    let expected = [("1/0#1", None), ("1/1#1", over), ("1/2#1", orphaned)];
    assert_eq!(exits, expected);
    let (_, _, mut first) = workers.remove(0);
    assert_eq!(first.life.note, "note of 1/0#1");

    house.signal("1/0#1", Signal::TERM, Reach::Leader);
    let exit = house.exited("1/0#1");
    assert!(exit == Exit::Code(6) || (exit == Exit::Unknown && !tells_exits()), "{exit:?}");
    assert_eq!(processes_with(&mark).len(), 1, "its kid lives on");
    for label in ["1/0#1", "1/2#1"] {
        house.bury(label);
    }
    assert_eq!(processes_with(&mark), Vec::<i32>::new());
    assert_eq!(processes_with(&orphans_mark), Vec::<i32>::new());
    assert_eq!(read_all(first.take(Role::Out)), "bye\n");
    assert!(grip == Grip::Best || rung == Rung::Session);
}

pub(crate) fn strays_are_found() {
    let mut house = House::new(Grip::Best);
    let (spawn, mark) = family(&house, "1/0#1");
    let worker = house.start(spawn);
    assert_eq!(worker.line(), "ready");
    kill_guard(&house);
    let life = worker.life.clone();
    // as if the daemon had died, too
    drop(worker);
    // nobody has the other end of its pipe but itself: it writes all the same
    kill(life.pid, Signal(10)).unwrap();

    let found = strays(&house.home.0);
    let [stray] = <[_; 1]>::try_from(found).unwrap();
    assert_eq!((stray.life.pid, stray.life.started_ticks), (life.pid, life.started_ticks));
    assert_eq!(stray.life.label, "1/0#1");
    let apart = stray.life.spawned.since(life.spawned).max(life.spawned.since(stray.life.spawned));
    crate::say(&format!("a stray's age is known to {apart:?}"));
    house.new_guard();
    house.send(&Order::Adopt(stray.life, stray.roles), stray.fds);
    let mut adopted = house.inventory().0.pop().unwrap();
    house.signal("1/0#1", Signal::TERM, Reach::Leader);
    house.exited("1/0#1");
    house.bury("1/0#1");
    assert_eq!(processes_with(&mark), Vec::<i32>::new());
    assert_eq!(read_all(adopted.take(Role::Out)), "alone\nbye\n");
}

pub(crate) fn a_new_guard_restarts_the_daemon() {
    let mut house = House::new(Grip::Best);
    let (spawn, mark) = family(&house, "1/0#1");
    let worker = house.start(spawn);
    assert_eq!(worker.line(), "ready");
    let Pid(first_guard) = house.guard;
    // a daemon in between hands our worker over to a guard of its own and is killed
    kill_guard(&house);
    let exe = std::env::current_exe().unwrap();
    let mut daemon = std::process::Command::new(exe);
    let daemon = daemon.arg("as-heir").arg(&house.home.0).stdout(std::process::Stdio::piped());
    let mut daemon = daemon.spawn().unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(daemon.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert!(line.starts_with("adopted"), "{line:?}");
    assert_eq!(processes_with(&mark).len(), 2);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // the guard starts the next daemon, which is the undertaker
    until("the undertaker came", || processes_with(&mark).is_empty());
    assert!(!crate::house::alive(first_guard));
    drop(worker);
}
