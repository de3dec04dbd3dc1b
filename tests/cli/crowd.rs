//! Many at once, and some of them hostile.

use std::{collections::BTreeSet, io::Write as _, os::unix::net::UnixStream, time::Duration};

use serde_json::json;

use crate::test::{
    Clients, Home, Load, Luck, Running, Stopwatch, Tool, app, declared, free_port, inherited, need,
    rounds, wait_for,
};

#[track_caller]
fn all_succeed(mut running: Vec<Running>) {
    for command in &mut running {
        let status = wait_for("a command to end", || command.child.try_wait().unwrap());
        assert!(status.success(), "{:?}", command.so_far());
    }
}

/// Where there is no daemon, twenty who need one start one.
#[test]
fn twenty_starts_at_once_make_one_daemon() {
    let home = Home::new();
    let script = app("ticker.sh");
    let names: Vec<String> = (0..20).map(|it| format!("app{it}")).collect();
    let start = |name: &String| {
        home.spawn(home.command([
            "start".as_ref(),
            script.as_os_str(),
            "--name".as_ref(),
            name.as_ref(),
        ]))
    };
    all_succeed(names.iter().map(start).collect());
    for name in &names {
        let rows = home.online(name, 1);
        assert_eq!(home.pids_of(name), [rows[0].pid]);
    }
    let daemons: Vec<u32> = home.pids("__daemon");
    assert_eq!(daemons, [home.daemon()]);
    assert_eq!(home.pids("__guard").len(), 1);
}

/// Of one app that is started twenty times at once one start wins; the others say so.
#[test]
fn twenty_starts_of_one_app_make_one_worker() {
    let home = Home::new();
    let script = app("ticker.sh");
    let start = |_| {
        home.spawn(home.command([
            "start".as_ref(),
            script.as_os_str(),
            "--name".as_ref(),
            "one".as_ref(),
        ]))
    };
    let mut running: Vec<Running> = (0..20).map(start).collect();
    let mut won = 0;
    for command in &mut running {
        let status = wait_for("a command to end", || command.child.try_wait().unwrap());
        let told = command.so_far();
        let turned_away =
            told.stderr.contains("already running") || told.stderr.contains("under way");
        assert!(status.success() || turned_away, "{told:?}");
        won += u32::from(status.success());
    }
    assert!(won >= 1);
    let rows = home.online("one", 1);
    assert_eq!(home.pids_of("one"), [rows[0].pid]);
}

/// Four people give orders about one app at once: each is obeyed or turned away in words, and in
/// the end the app is what the last order says.
#[test]
fn orders_that_cross_each_other_leave_no_mess() {
    let mut luck = Luck::new("orders that cross each other");
    let home = Home::new();
    let more = json!({ "instances": 2, "clustering": { "rollingRestart": { "batchDelay": 0 } } });
    home.start([declared("tick", "ticker.sh", more)]).succeeded();
    for _ in 0..rounds(6) {
        let orders = ["reload", "restart", "stop", "start", "scale"];
        let give = |order: &str, size: u64| match order {
            "scale" => home.spawn(home.command(["scale", "tick", &size.to_string()])),
            _ => home.spawn(home.command([order, "tick"])),
        };
        let mut given = Vec::new();
        for _ in 0..4 {
            given.push(give(orders[usize::try_from(luck.below(5)).unwrap()], 1 + luck.below(4)));
            luck.dawdle(Duration::from_millis(150));
        }
        for order in &mut given {
            let status = wait_for("an order to be answered", || order.child.try_wait().unwrap());
            let told = order.so_far();
            let in_words =
                status.code().is_some_and(|it| it > 0 && it != 101) && !told.stderr.is_empty();
            assert!(status.success() || in_words, "{told:?}");
        }
    }
    home.ok(["stop", "tick"]);
    assert!(home.pids_of("tick").is_empty());
    home.ok(["scale", "tick", "3"]);
    home.run(["start", "tick"]);
    let told: BTreeSet<u32> = home.online("tick", 3).iter().map(|it| it.pid).collect();
    assert_eq!(home.pids_of("tick").into_iter().collect::<BTreeSet<_>>(), told);
}

/// Whoever looks on does not hold up a reload, nor the other way round.
#[test]
fn fifty_lists_during_a_reload() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    home.start([inherited("server.py", port, 2, json!({}))]).succeeded();
    let load = Load::start(port, Clients::Fresh, 2);
    load.flows(10);
    let mut all = vec![home.spawn(home.command(["reload", "web"]))];
    all.extend((0..50).map(|_| home.spawn(home.command(["list"]))));
    for list in &mut all[1..] {
        wait_for("a list", || list.child.try_wait().unwrap());
        assert!(list.so_far().stdout.contains("web"), "{:?}", list.so_far());
    }
    all_succeed(all);
    load.flows(10);
    load.lost_nothing();
    home.online("web", 2);
}

/// How long others wait for an answer while somebody misbehaves.
#[track_caller]
fn others_are_served(home: &Home, misdeed: &str) {
    let clock = Stopwatch::start();
    let answer = home.control().ask("ping", &json!({}));
    assert_eq!(answer["data"]["pong"], true, "{misdeed}");
    let took = clock.elapsed();
    assert!(took < Duration::from_secs(1), "after {misdeed}: {took:?}");
    home.ok(["list"]);
}

#[test]
fn misbehaving_clients_leave_the_others_served() {
    let home = Home::new();
    home.start([declared("tick", "ticker.sh", json!({}))]).succeeded();
    let daemon = home.daemon();
    let socket = home.root().join("bunpilot.sock");
    let connect = || UnixStream::connect(&socket).unwrap();

    let idle: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
    others_are_served(&home, "two hundred who say nothing");

    let mut long = connect();
    long.write_all(&vec![b'x'; 1 << 20]).unwrap();
    others_are_served(&home, "a megabyte without an end");

    let mut endless = connect();
    endless.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    endless.write_all(&vec![b'{'; 32 << 20]).unwrap();
    others_are_served(&home, "thirty-two megabytes without an end");

    let junk: Vec<u8> =
        (0..1_000_000_u32).flat_map(|it| it.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    let mut binary = connect();
    // its answers are never read: it may be cut off for that
    binary.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    drop(binary.write_all(&junk));
    others_are_served(&home, "four megabytes of junk");

    // one that asks and asks and never listens
    let mut deaf = connect();
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let questions = "{\"id\":\"1\",\"cmd\":\"list\",\"args\":{}}\n".repeat(100_000);
    drop(deaf.write_all(questions.as_bytes()));
    others_are_served(&home, "a hundred thousand questions and no ear");

    let mut half: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
    for client in &mut half {
        client.write_all(b"{\"id\":\"1\",\"cmd\":\"pi").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
    }
    others_are_served(&home, "two hundred half sentences");

    drop((idle, long, endless, binary, deaf, half));
    others_are_served(&home, "all of them left");
    assert_eq!(home.daemon(), daemon, "the daemon was talked to death");
}
