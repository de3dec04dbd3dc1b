//! Whole trees: nobody survives, and nobody else is touched.

use bunpilot::{
    domain::{Exit, Signal},
    guard::{
        Grip,
        wire::{Order, Rung, Spawn},
    },
    world::Reach,
};

use crate::house::{House, processes_with, until};

/// A tree that does not want to die: kids, a kid in another session, an orphan of an orphan in
/// yet another, one that ignores SIGTERM, and one that forks all the time.
const HYDRA: &str = r#"
    sleep 1000 &
    setsid sleep 1000 &
    (setsid sh -c 'sleep 1000 & exec sleep 1000' &)
    (trap '' TERM; sleep 1000; sleep 1000; sleep 1000) &
    (trap '' TERM; while :; do (sleep 0.2 &); sleep 0.01; done) &
    trap '' TERM
    echo ready
    while :; do wait; done
"#;

fn hydra(house: &House, label: &str) -> (Spawn, String) {
    let mark = format!("{}/{label}", house.home.0.display());
    let mut spawn = House::spawn_order(label, HYDRA);
    spawn.env.push(("HYDRA".into(), mark.clone().into()));
    (spawn, format!("HYDRA={mark}"))
}

/// Makes a house of this grip; `None` where the machine has no cgroup to give.
fn house(grip: Grip) -> Option<House> {
    let mut house = House::new(grip);
    let rung = house.inventory().2;
    match grip {
        Grip::Best => (rung == Rung::Cgroup).then_some(house),
        Grip::Session => {
            assert_eq!(rung, Rung::Session);
            Some(house)
        }
    }
}

pub(crate) fn nobody_survives_a_stop_in_a_cgroup() {
    nobody_survives_a_stop(Grip::Best);
}

pub(crate) fn nobody_survives_a_stop_in_a_session() {
    nobody_survives_a_stop(Grip::Session);
}

fn nobody_survives_a_stop(grip: Grip) {
    let Some(mut house) = house(grip) else { return };
    let (spawn, mark) = hydra(&house, "1/0#1");
    let worker = house.start(spawn);
    assert_eq!(worker.line(), "ready");
    until("the tree has grown", || processes_with(&mark).len() >= 8);
    let before = processes_with(&mark).len();
    house.signal("1/0#1", Signal::TERM, Reach::Tree);
    until("those that may die did", || processes_with(&mark).len() < before);
    house.signal("1/0#1", Signal::KILL, Reach::Tree);
    assert_eq!(house.exited("1/0#1"), Exit::Signal(9));
    house.gone("1/0#1");
    assert_eq!(processes_with(&mark), Vec::<i32>::new(), "survivors");
    if grip == Grip::Best {
        assert_eq!(cgroups_of(&house), 0);
    }
}

pub(crate) fn gone_waits_for_the_kids_in_a_cgroup() {
    gone_waits_for_the_kids(Grip::Best);
}

pub(crate) fn gone_waits_for_the_kids_in_a_session() {
    gone_waits_for_the_kids(Grip::Session);
}

fn gone_waits_for_the_kids(grip: Grip) {
    let Some(mut house) = house(grip) else { return };
    let (spawn, mark) = hydra(&house, "1/0#1");
    let worker = house.start(spawn);
    assert_eq!(worker.line(), "ready");
    until("the tree has grown", || processes_with(&mark).len() >= 8);
    house.signal("1/0#1", Signal::KILL, Reach::Leader);
    assert_eq!(house.exited("1/0#1"), Exit::Signal(9));
    // some time later, which its growing again proves, it is still not gone
    until("the tree lives on", || processes_with(&mark).len() >= 7);
    let life = house.inventory().0.pop().unwrap().life;
    assert_eq!((life.exit, life.gone), (Some(Exit::Signal(9)), false));
    // a worker that is not gone is not forgotten
    house.send(&Order::Forget { label: "1/0#1".into() }, Vec::new());
    assert_eq!(house.inventory().0.len(), 1);
    house.signal("1/0#1", Signal::KILL, Reach::Tree);
    house.gone("1/0#1");
    assert_eq!(processes_with(&mark), Vec::<i32>::new(), "survivors");
    // and one whose kids leave by themselves
    house.start(House::spawn_order("1/0#2", "sleep 0.15 & exit 4"));
    assert_eq!(house.exited("1/0#2"), Exit::Code(4));
    house.gone("1/0#2");
}

pub(crate) fn one_tree_never_touches_another() {
    for grip in [Grip::Best, Grip::Session] {
        let mut house = House::new(grip);
        let (first, first_mark) = hydra(&house, "1/0#1");
        let (second, second_mark) = hydra(&house, "1/0#11");
        for spawn in [first, second] {
            assert_eq!(house.start(spawn).line(), "ready");
        }
        for mark in [&first_mark, &second_mark] {
            until("the tree has grown", || processes_with(mark).len() >= 8);
        }
        house.signal("1/0#1", Signal::KILL, Reach::Tree);
        house.exited("1/0#1");
        house.gone("1/0#1");
        assert_eq!(processes_with(&first_mark), Vec::<i32>::new());
        assert!(processes_with(&second_mark).len() >= 7);
        house.bury("1/0#11");
        assert_eq!(processes_with(&second_mark), Vec::<i32>::new());
    }
}

/// How many cgroups the guard of this house has made for workers.
pub(crate) fn cgroups_of(house: &House) -> usize {
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", house.guard)).unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    let root = std::path::Path::new(mount.split(' ').nth(4).unwrap()).join(own);
    let base = bunpilot::guard::cgroup_name(&house.home.0);
    let folders = std::fs::read_dir(root.join(base)).unwrap().flatten();
    folders.filter(|entry| entry.file_type().unwrap().is_dir()).count()
}
