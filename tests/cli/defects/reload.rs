//! Defects of reload: what it left behind, what it lost, and what it took for a success.

use std::fs;

use serde_json::json;

use super::declared;
use crate::test::{Clients, Home, Load, Row, Tool, app, free_port, inherited, need, wait_for};

/// Clients at once, each question over a connection of its own.
const CLIENTS: usize = 16;

fn pids(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|it| it.pid).collect()
}

/// Reloads `web` under load and asserts that every worker changed and no question failed.
#[track_caller]
fn reloads_without_loss(home: &Home, port: u16, count: usize) {
    let before = home.online("web", count);
    let load = Load::start(port, Clients::Fresh, CLIENTS);
    load.flows(50);
    home.ok(["reload", "web"]);
    load.flows(50);
    let after = home.online("web", count);
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)), "{before:?} {after:?}");
    load.lost_nothing();
}

/// Doubled the workers with every reload, and listed the dead.
#[test]
fn d02_reload_keeps_the_number_of_workers() {
    let home = Home::new();
    let more = json!({
        "instances": 2,
        "clustering": { "rollingRestart": { "batchSize": 2, "batchDelay": 0 } },
    });
    home.start([declared("tick", "ticker.sh", more)]).succeeded();
    let mut before = home.online("tick", 2);
    for _ in 0..3 {
        home.ok(["reload", "tick"]);
        let after = home.online("tick", 2);
        assert!(after.iter().zip(&before).all(|(new, old)| new.id == old.id && new.pid != old.pid));
        wait_for("the old workers to be gone", || (home.pids_of("tick").len() == 2).then_some(()));
        before = after;
    }
}

/// Could not reload the only worker of a port: the new one failed to bind for 30 s, then the old
/// one was killed, and 977 requests failed.
#[test]
fn d19_a_single_worker_reloads_without_loss() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    home.start([inherited("server.py", port, 1, json!({}))]).succeeded();
    reloads_without_loss(&home, port, 1);
}

/// Sent SIGTERM at once: a program without a handler died in the middle of its answers. A worker
/// is asked to go when nobody is waiting for it.
#[test]
fn d21_answers_in_flight_are_finished() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    let more = json!({ "killTimeout": 5000, "env": { "ABRUPT": "1", "ANSWER_MS": "300" } });
    home.start([inherited("server.py", port, 2, more)]).succeeded();
    reloads_without_loss(&home, port, 2);
}

/// Lost 12 of 749 requests, fresh connections with 100 ms in flight.
#[test]
fn d34_reload_loses_nothing_python() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    let more = json!({ "killTimeout": 5000, "env": { "ANSWER_MS": "100" } });
    home.start([inherited("server.py", port, 4, more)]).succeeded();
    reloads_without_loss(&home, port, 4);
}

#[test]
fn d34_reload_loses_nothing_node() {
    let node = need!(Tool::Node);
    let (home, port) = (Home::new(), free_port());
    let more = json!({ "interpreter": node, "killTimeout": 5000, "env": { "ANSWER_MS": "100" } });
    home.start([inherited("server.mjs", port, 4, more)]).succeeded();
    reloads_without_loss(&home, port, 4);
}

#[test]
fn d34_reload_loses_nothing_uvicorn() {
    let uvicorn = need!(Tool::Uvicorn);
    let (home, port) = (Home::new(), free_port());
    let more = json!({
        "script": uvicorn,
        "args": ["--fd", "3", "--log-level", "warning", "asgi:app"],
        "cwd": app("asgi.py").parent(),
        "killTimeout": 5000,
    });
    home.start([inherited("asgi.py", port, 2, more)]).succeeded();
    reloads_without_loss(&home, port, 2);
}

#[test]
fn d34_reload_loses_nothing_gunicorn() {
    let gunicorn = need!(Tool::Gunicorn);
    let (home, port) = (Home::new(), free_port());
    let more = json!({
        "script": gunicorn,
        "args": ["--worker-class", "asgi", "asgi:app"],
        "cwd": app("asgi.py").parent(),
        "env": { "HOME": home.root() },
        "killTimeout": 5000,
    });
    home.start([inherited("asgi.py", port, 2, more)]).succeeded();
    reloads_without_loss(&home, port, 2);
}

/// Bun ignores inherited sockets: its workers open the port themselves.
#[test]
fn bun_reloads_by_reuse_port() {
    need!(Tool::Bun);
    let (home, port) = (Home::new(), free_port());
    let cluster = json!({ "strategy": "reusePort", "rollingRestart": { "batchDelay": 0 } });
    let more = json!({ "port": port, "instances": 2, "clustering": cluster });
    home.start([declared("web", "server.ts", more)]).succeeded();
    let before = pids(&home.online("web", 2));
    home.ok(["reload", "web"]);
    let after = pids(&home.online("web", 2));
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert_eq!(crate::test::get(port, "/").unwrap().status, 200);
}

/// Took the wait for a broken version for success and killed the working one.
#[track_caller]
fn a_bad_version_changes_nothing(bad: &str, instances: u16) {
    let (home, port) = (Home::new(), free_port());
    let script = home.write("server.py", &fs::read_to_string(app("server.py")).unwrap());
    let more = json!({
        "script": script,
        "readyTimeout": 4000,
        "maxRestarts": 0,
        "healthCheck": { "interval": 1000, "timeout": 500, "unhealthyThreshold": 1 },
    });
    home.start([inherited("server.py", port, instances, more)]).succeeded();
    let before = home.online("web", instances.into());
    let load = Load::start(port, Clients::Fresh, CLIENTS);
    load.flows(50);
    home.write("server.py", bad);
    home.run(["reload", "web"]).refused("web");
    load.flows(50);
    load.lost_nothing();
    assert_eq!(pids(&home.online("web", instances.into())), pids(&before));
}

const CRASHES_AT_BOOT: &str = "raise SystemExit(3)\n";
const NEVER_READY: &str = "import time\ntime.sleep(3600)\n";

fn sick() -> String {
    let text = fs::read_to_string(app("server.py")).unwrap();
    let sick = text.replace("setting(\"HEALTH\", 200)", "500");
    assert_ne!(sick, text);
    sick
}

#[test]
fn a_version_that_crashes_at_boot_changes_nothing() {
    need!(Tool::Python);
    a_bad_version_changes_nothing(CRASHES_AT_BOOT, 1);
    a_bad_version_changes_nothing(CRASHES_AT_BOOT, 4);
}

#[test]
fn a_version_that_is_never_ready_changes_nothing() {
    need!(Tool::Python);
    a_bad_version_changes_nothing(NEVER_READY, 1);
    a_bad_version_changes_nothing(NEVER_READY, 4);
}

#[test]
fn a_version_that_fails_its_probe_changes_nothing() {
    need!(Tool::Python);
    a_bad_version_changes_nothing(&sick(), 1);
    a_bad_version_changes_nothing(&sick(), 4);
}
