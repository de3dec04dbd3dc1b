//! Defects between daemon and worker: what a worker could do to the daemon, and what the daemon
//! never told a worker.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::declared;
use crate::test::{Home, Row, Tool, alive, kill, need, wait_for};

/// A bystander, to see that others do not pay.
#[track_caller]
fn bystander(home: &Home) -> (u32, Vec<Row>) {
    home.start([declared("bystander", "ticker.sh", json!({}))]).succeeded();
    (home.daemon(), home.online("bystander", 1))
}

#[track_caller]
fn unharmed(home: &Home, (daemon, rows): &(u32, Vec<Row>)) {
    assert!(home.ok(["ping"]).contains("pong"));
    assert_eq!(home.daemon(), *daemon);
    assert!(alive(*daemon));
    assert_eq!(home.rows("bystander"), *rows);
}

/// `{type:"metrics"}` without a payload killed the daemon, and every other worker was an orphan.
#[test]
fn d15_garbage_from_a_worker_is_dropped() {
    need!(Tool::Python);
    let home = Home::new();
    let others = bystander(&home);
    home.start([declared("loud", "garbage.py", json!({}))]).succeeded();
    let worker = home.online("loud", 1).remove(0);
    wait_for("everything to be said", || {
        home.ok(["logs", "loud"]).contains("said it all").then_some(())
    });
    unharmed(&home, &others);
    assert_eq!(home.rows("loud"), [worker]);
}

/// An interpreter that was gone when a crashed worker should come back killed the daemon.
#[test]
fn d16_a_vanished_interpreter_is_the_apps_problem() {
    let home = Home::new();
    let others = bystander(&home);
    let interpreter = home.write("interpreter", "#!/bin/sh\nexec sh \"$@\"\n");
    fs::set_permissions(&interpreter, fs::Permissions::from_mode(0o755)).unwrap();
    let more = json!({ "interpreter": interpreter, "maxRestarts": 1 });
    home.start([declared("app", "ticker.sh", more)]).succeeded();
    let worker = home.online("app", 1).remove(0);
    fs::remove_file(&interpreter).unwrap();
    kill(worker.pid);
    home.in_state("app", "errored");
    unharmed(&home, &others);
}

/// So did a vanished working directory.
#[test]
fn d16_a_vanished_folder_is_the_apps_problem() {
    let home = Home::new();
    let others = bystander(&home);
    let folder = home.write("site/keep", "").parent().map(ToOwned::to_owned).unwrap();
    home.start([declared("app", "ticker.sh", json!({ "cwd": folder, "maxRestarts": 1 }))])
        .succeeded();
    let worker = home.online("app", 1).remove(0);
    fs::remove_dir_all(&folder).unwrap();
    kill(worker.pid);
    home.in_state("app", "errored");
    unharmed(&home, &others);
}

/// And so did a `start` over the socket whose config nobody had checked.
#[test]
fn d16_a_bare_config_over_the_socket_is_refused() {
    let home = Home::new();
    let others = bystander(&home);
    for config in [json!({}), json!({ "script": 7 }), json!([]), json!(null)] {
        let answer = home.control().ask("start", &json!({ "name": "bare", "config": config }));
        assert_eq!(answer["ok"], false, "{answer}");
    }
    unharmed(&home, &others);
}

/// Never sent a worker anything: `bunpilotOnShutdown` handlers did not run.
#[test]
fn d20_a_worker_is_told_to_shut_down() {
    need!(Tool::Python);
    let home = Home::new();
    let more = json!({ "killTimeout": 5000, "env": { "HEARD": home.path("heard") } });
    home.start([declared("app", "channel.py", more)]).succeeded();
    // online it may be before it said a word, by living long enough
    wait_for("it to have spoken", || (home.read("heard") == "spoke\n").then_some(()));
    home.ok(["stop", "app"]);
    assert_eq!(home.read("heard"), "spoke\nshutdown\ncleaned\n");
}

/// Nor did they in Node, whose workers never even became online.
#[test]
fn d20_a_node_worker_is_told_to_shut_down() {
    let node = need!(Tool::Node);
    let home = Home::new();
    let env = json!({ "HEARD": home.path("heard") });
    let more = json!({ "interpreter": node, "killTimeout": 5000, "env": env });
    home.start([declared("app", "server.mjs", more)]).succeeded();
    wait_for("it to have spoken", || (home.read("heard") == "spoke\n").then_some(()));
    home.ok(["stop", "app"]);
    let heard = home.read("heard");
    assert!(heard.starts_with("spoke\nshutdown\n"), "{heard:?}");
}

/// Left every program without the SDK in `starting`.
#[test]
fn a_program_that_knows_nothing_of_bunpilot_comes_online() {
    let home = Home::new();
    home.start([declared("plain", "ticker.sh", json!({}))]).succeeded();
    home.online("plain", 1);
}
