//! The guard dies, or the guard and the daemon together.

use std::time::Duration;

use serde_json::json;

use super::{
    Verb, Wanted, Witness, kill_daemon,
    ledger::{exits, lines},
    no_doubles, scribe,
};
use crate::test::{
    Clients, Home, Load, Luck, Tool, free_port, get, inherited, kill, need, parent, poke, rounds,
    say, wait_for,
};

/// The longest a verb is left alone.
const MOMENT_MAX: Duration = Duration::from_millis(400);

/// The guard, by its command line: the daemon's parent only if it started it.
#[track_caller]
pub(crate) fn guard(home: &Home) -> u32 {
    wait_for("one guard", || {
        let guards = home.pids("__guard");
        (guards.len() == 1).then(|| guards[0])
    })
}

#[track_caller]
pub(crate) fn another_guard(home: &Home, before: u32) -> u32 {
    wait_for("another guard", || Some(guard(home)).filter(|it| *it != before))
}

/// Kills guard and daemon at once, and whoever one of them started in its last moment.
#[track_caller]
pub(crate) fn kill_both(home: &Home) {
    kill(guard(home));
    kill(home.daemon());
    wait_for("both to be gone", || {
        let left = [home.pids("__daemon"), home.pids("__guard")].concat();
        for pid in &left {
            kill(*pid);
        }
        left.is_empty().then_some(())
    });
}

/// Nothing but the guard changes, and the new one does all the old one did.
#[test]
fn the_guard_dies() {
    need!(Tool::Python);
    let witness = Witness::new();
    let home = &witness.home;
    home.start([scribe("mortal", "0.005", 1)]).succeeded();
    kill_daemon(home); // the next one has nothing but what the guard gave it
    let (old, daemon) = (guard(home), home.daemon());
    kill(old);
    let new = another_guard(home, old);
    assert_eq!(home.daemon(), daemon, "the daemon goes on");
    witness.is_untouched();

    // it restarts the daemon
    kill_daemon(home);
    assert_eq!(guard(home), new);
    assert_eq!(parent(home.daemon()), Some(new));
    witness.is_untouched();

    // it sees the end of workers that are not its children
    let mortal = wait_for("a mortal that handles its signals", || {
        let pid = home.online("mortal", 1)[0].pid;
        lines(home, "mortal").contains_key(&pid).then_some(pid)
    });
    poke(mortal);
    wait_for("another mortal", || (home.online("mortal", 1)[0].pid != mortal).then_some(()));
    wait_for("its end to be written down", || exits(home, "mortal").remove(&mortal));
    wait_for("its last line", || lines(home, "mortal")[&mortal].ended);
    lines(home, "mortal")[&mortal].is_whole(mortal);

    // it starts and ends others
    home.ok(["reload", "web"]);
    home.ok(["restart", "mortal"]);
    home.online("mortal", 1);
    no_doubles(home, "mortal");
    home.online("web", 2);
    no_doubles(home, "web");
    witness.has_every_line();
    home.ok(["daemon", "stop"]);
    wait_for("everything to be gone", || home.pids("").is_empty().then_some(()));
}

#[test]
fn the_guard_dies_under_load() {
    need!(Tool::Python);
    let mut luck = Luck::new("the guard dies under load");
    let (home, port) = (Home::new(), free_port());
    home.start([inherited("server.py", port, 2, json!({}))]).succeeded();
    let load = Load::start(port, Clients::Fresh, 4);
    for round in 0..rounds(4) {
        load.flows(20);
        let reload = (round % 2 == 1).then(|| home.spawn(home.command(["reload", "web"])));
        luck.dawdle(MOMENT_MAX * 2);
        let old = guard(&home);
        kill(old);
        another_guard(&home, old);
        if let Some(mut reload) = reload {
            wait_for("the reload to end", || reload.child.try_wait().unwrap());
        }
        home.online("web", 2);
        no_doubles(&home, "web");
    }
    load.flows(20);
    load.lost_nothing();
}

/// The guard is killed at a random moment of one verb after the other.
#[test]
fn the_guard_dies_over_every_verb() {
    need!(Tool::Python);
    let mut luck = Luck::new("the guard dies over every verb");
    let witness = Witness::new();
    let home = &witness.home;
    let mut wanted = Wanted::None;
    let mut unfulfilled = 0;
    for round in 0..rounds(5) {
        let verb = Verb::pick(&mut luck, wanted);
        let mut order = home.spawn(verb.command(home));
        luck.dawdle(MOMENT_MAX);
        let old = guard(home);
        kill(old);
        another_guard(home, old);
        let status = wait_for("the command to end", || order.child.try_wait().unwrap());
        let got = wanted.after(verb);
        let fulfilled = got.holds(home);
        let told = order.so_far();
        assert!(fulfilled || !status.success(), "round {round}: {verb:?} claims success: {told:?}");
        if !fulfilled {
            unfulfilled += 1;
            home.finish(verb.again(home)).succeeded();
            assert!(got.holds(home), "round {round}: {verb:?}: {:?}", home.rows("job"));
        }
        wanted = got;
        no_doubles(home, "job");
        witness.is_untouched();
    }
    say(&format!("  {unfulfilled} orders failed with the guard and said so"));
    witness.has_every_line();
    for (pid, written) in lines(home, "job") {
        written.is_unbroken(pid);
    }
}

/// Whoever lives on is found again; nobody is started beside it.
#[test]
fn guard_and_daemon_die_together() {
    need!(Tool::Python);
    let witness = Witness::new();
    let home = &witness.home;
    let rows = home.online("writer", 1);
    kill_both(home);
    assert_eq!(home.pids_of("writer"), [rows[0].pid], "workers live on");
    // a question starts nothing
    home.run(["list"]);
    assert_eq!(home.pids_of("writer"), [rows[0].pid]);

    home.ok(["daemon", "start"]);
    home.online("writer", 1);
    no_doubles(home, "writer");
    // one that inherited its socket may be replaced, but not doubled
    home.online("web", 2);
    no_doubles(home, "web");
    assert_eq!(get(witness.port, "/").unwrap().status, 200);
    assert_eq!(home.online("writer", 1)[0].pid, rows[0].pid, "it need not be replaced");

    // all is as it was: the new guard and daemon do their work
    kill_daemon(home);
    home.online("writer", 1);
    no_doubles(home, "writer");
    home.ok(["reload", "web"]);
    home.online("web", 2);
    no_doubles(home, "web");
    witness.has_every_line();
    home.ok(["daemon", "stop"]);
    wait_for("everything to be gone", || home.pids("").is_empty().then_some(()));
}

/// At a random moment of one verb after the other.
#[test]
fn guard_and_daemon_die_together_over_every_verb() {
    need!(Tool::Python);
    let mut luck = Luck::new("guard and daemon die together over every verb");
    let home = Home::new();
    home.start([scribe("writer", "0.004", 1)]).succeeded();
    let writer = home.online("writer", 1);
    let mut wanted = Wanted::None;
    for round in 0..rounds(5) {
        let verb = Verb::pick(&mut luck, wanted);
        let order = home.spawn(verb.command(&home));
        luck.dawdle(MOMENT_MAX);
        kill_both(&home);
        drop(order);
        home.ok(["daemon", "start"]);
        let got = wanted.after(verb);
        if !got.holds(&home) {
            home.finish(verb.again(&home)).succeeded();
            assert!(got.holds(&home), "round {round}: {verb:?}: {:?}", home.rows("job"));
        }
        wanted = got;
        no_doubles(&home, "job");
        assert_eq!(home.online("writer", 1), writer, "round {round}: {verb:?}");
        no_doubles(&home, "writer");
    }
    home.ok(["stop", "writer"]);
    wait_for("its last line", || lines(&home, "writer")[&writer[0].pid].ended);
    lines(&home, "writer")[&writer[0].pid].is_whole(writer[0].pid);
}
