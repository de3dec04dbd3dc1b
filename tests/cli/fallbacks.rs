//! The same program with less than it would like: no privileges, no `io_uring`, no cgroups.

use serde_json::{Value, json};

use crate::test::{
    Clients, Home, Load, Tool, app, declared, free_port, inherited, kill, need, skip, wait_for,
};

/// What the daemon says it runs on.
#[track_caller]
fn engines(home: &Home) -> Value {
    let told = home.ok(["daemon", "status", "--json"]);
    serde_json::from_str::<Value>(&told).unwrap()["engines"].clone()
}

/// Start, reload under load, `kill -9` of the daemon, stop: each does what it does elsewhere.
#[track_caller]
fn works(home: &Home) {
    let port = free_port();
    let ticker = declared("tick", "ticker.sh", json!({ "env": { "EVERY": "0.01" } }));
    home.start([inherited("server.py", port, 2, json!({})), ticker]).succeeded();
    let before = home.online("web", 2);
    let load = Load::start(port, Clients::Fresh, 4);
    load.flows(20);
    home.ok(["reload", "web"]);
    let rows = home.online("web", 2);
    assert!(rows.iter().zip(&before).all(|(new, old)| new.pid != old.pid));
    let daemon = home.daemon();
    kill(daemon);
    wait_for("another daemon", || (home.daemon() != daemon).then_some(()));
    assert_eq!(home.online("web", 2), rows);
    load.flows(20);
    load.lost_nothing();
    home.ok(["stop", "all"]);
    assert!(home.pids_of("web").is_empty() && home.pids_of("tick").is_empty());
    let log = std::fs::read_to_string(home.log("tick", "tick-0-out.log")).unwrap();
    let ticks: Vec<&str> = log.lines().filter_map(|it| it.split(' ').nth(2)).collect();
    let lost = (0..).zip(&ticks).find(|(number, it)| it.parse() != Ok(*number));
    assert_eq!(lost, None, "of {} lines", ticks.len());
    assert!(!ticks.is_empty());
}

#[test]
fn without_privileges() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    let home = Home::new().owned_by(65_534);
    works(&home);
    let engines = engines(&home);
    assert_eq!(engines["trees"], "process group");
    let cpu = "clocks of processes: CAP_BPF and CAP_PERFMON are missing; workers have no cgroups of \
               their own";
    assert_eq!(engines["cpu"], cpu);
}

#[test]
fn without_programs_in_the_kernel() {
    need!(Tool::Python);
    let home = Home::new().with_env("BUNPILOT_BPF", "off");
    works(&home);
    let cpu = engines(&home)["cpu"].as_str().unwrap().to_owned();
    assert!(cpu.contains(": `BUNPILOT_BPF` is `off`"), "{cpu}");
}

#[test]
fn without_io_uring() {
    let python = need!(Tool::Python);
    let home = Home::new().run_by([python.as_os_str(), app("no_io_uring.py").as_os_str()]);
    works(&home);
    let engines = engines(&home);
    assert_eq!((&engines["control"], &engines["logs"]), (&json!("epoll"), &json!("epoll")));
}

#[test]
fn without_any_of_them() {
    let python = need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    drop(python);
    let launcher = app("no_io_uring.py");
    let home = Home::new().with_env("BUNPILOT_TREES", "session").owned_by(65_534).run_by([
        "/usr/bin/env".as_ref(),
        "python3".as_ref(),
        launcher.as_os_str(),
    ]);
    works(&home);
    let engines = engines(&home);
    assert_eq!((&engines["control"], &engines["logs"]), (&json!("epoll"), &json!("epoll")));
    assert_eq!(engines["trees"], "process group");
}
