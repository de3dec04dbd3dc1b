//! Defects of starting and stopping: what was started wrongly, and what was left running.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::json;

use super::declared;
use crate::test::{Home, Tool, app, free_port, get, holds_for, need, wait_for};

/// The README's quick start ran one worker; the others crashed on the taken port.
#[test]
fn d03_instances_on_one_port_all_serve() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    let script = app("server.py");
    let number = port.to_string();
    let flags = ["--name", "api", "--instances", "4", "--port", &number];
    let start = ["start", script.to_str().unwrap()];
    home.ok(start.into_iter().chain(flags));
    let rows = home.online("api", 4);
    assert!(rows.iter().all(|it| it.restarts == 0), "{rows:?}");
    let mut seen = BTreeSet::new();
    wait_for("an answer from each worker", || {
        seen.insert(get(port, "/").ok()?.body);
        (seen.len() == 4).then_some(())
    });
}

/// The config `init` wrote left one worker online and the others crashing.
#[test]
fn d04_what_init_writes_runs() {
    need!(Tool::Bun);
    let home = Home::new();
    home.ok(["init"]);
    let config = home.read("bunpilot.config.ts");
    let port = free_port();
    home.write("bunpilot.config.ts", &config.replace("3000", &port.to_string()));
    home.ok(["start"]);
    let answer = home.control().ask("list", &json!({}));
    let name = answer["data"][0]["name"].as_str().expect("init declares an app").to_owned();
    wait_for("all of its workers to be online", || {
        let rows = home.rows(&name);
        (!rows.is_empty() && rows.iter().all(|it| it.state == "online")).then_some(())
    });
    assert!(home.rows(&name).iter().all(|it| it.restarts == 0));
}

/// Took a relative script, the folder and the environment from the daemon.
#[test]
fn d05_script_folder_and_environment_are_the_callers() {
    let home = Home::new();
    home.ok(["daemon", "start"]);
    let script = fs::read_to_string(app("where.sh")).unwrap();
    let site = home.write("site/where.sh", &script).parent().unwrap().to_owned();
    let report = home.path("report");
    let report_to = format!("REPORT={}", report.display());
    let mut start = home.command(["start", "./where.sh", "--name", "here", "--env", &report_to]);
    start.current_dir(&site).env("CALLER", "me");
    home.finish(start).succeeded();
    let told = wait_for("the report", || fs::read_to_string(&report).ok());
    assert!(told.lines().any(|it| it == format!("cwd {}", site.display())), "{told}");
    assert!(told.lines().any(|it| it == "CALLER=me"), "{told}");
}

/// A start that failed kept its name: the next one was "already running".
#[test]
fn d17_a_failed_start_does_not_keep_the_name() {
    let home = Home::new();
    let script = app("ticker.sh");
    let start = ["start", script.to_str().unwrap(), "--name", "api"];
    let failing = start.into_iter().chain(["--interpreter", "no-such-program"]);
    home.run(failing).refused("no-such-program");
    home.ok(start);
    home.online("api", 1);
}

/// Signalled one pid: grandchildren stayed.
#[test]
fn d23_stop_reaches_grandchildren() {
    let home = Home::new();
    home.start([declared("family", "family.sh", json!({}))]).succeeded();
    let children = || home.pids("sleep 432").len();
    wait_for("child and grandchild", || (children() == 2).then_some(()));
    home.ok(["stop", "family"]);
    assert_eq!(children(), 0);
}

/// Nor were they gone when a crashed leader came back.
#[test]
fn d23_a_crash_takes_grandchildren_along() {
    let home = Home::new();
    home.start([declared("family", "family.sh", json!({}))]).succeeded();
    let first = home.online("family", 1).remove(0);
    wait_for("child and grandchild", || (home.pids("sleep 432").len() == 2).then_some(()));
    let old = home.pids("sleep 432");
    crate::test::kill(first.pid);
    wait_for("a new family", || {
        let now = home.pids("sleep 432");
        (now.len() == 2 && now.iter().all(|pid| !old.contains(pid))).then_some(())
    });
}

/// Said "already running" of an app that was stopped.
#[test]
fn d24_a_stopped_app_starts_again() {
    let home = Home::new();
    let script = app("ticker.sh");
    let start = ["start", script.to_str().unwrap(), "--name", "api"];
    home.ok(start);
    home.online("api", 1);
    home.ok(["stop", "api"]);
    assert!(home.pids("ticker.sh").is_empty());
    home.ok(start);
    home.online("api", 1);
    // one that does run is indeed running already
    home.run(start).refused("already running");
}

/// With a `killTimeout` over 10 s the daemon killed itself before the worker, and left it running.
#[test]
fn d30_the_daemon_outwaits_its_workers() {
    let home = Home::new();
    home.start([declared("stubborn", "stubborn.sh", json!({ "killTimeout": 12_000 }))]).succeeded();
    home.online("stubborn", 1);
    home.ok(["daemon", "stop"]);
    assert!(home.pids("stubborn.sh").is_empty());
    wait_for("daemon and guard to be gone", || home.pids("").is_empty().then_some(()));
}

/// Neither `stop` nor `daemon stop` reached workers whose exits it had booked on others.
#[test]
fn d32_stop_leaves_nothing_of_a_crashing_app() {
    let home = Home::new();
    let env = json!({ "AFTER": "0.1", "STARTS": home.path("starts") });
    home.start([declared("doomed", "crash.sh", json!({ "instances": 3, "env": env }))]);
    let starts = || home.read("starts").lines().count();
    wait_for("some crashes", || (starts() > 9).then_some(()));
    home.ok(["stop", "doomed"]);
    let at_stop = starts();
    holds_for(Duration::from_millis(1500), "nothing runs", || {
        home.pids("crash.sh").is_empty() && starts() == at_stop
    });
    assert!(home.rows("doomed").iter().all(|it| it.state == "stopped"));
    home.ok(["daemon", "stop"]);
    wait_for("daemon and guard to be gone", || home.pids("").is_empty().then_some(()));
}
