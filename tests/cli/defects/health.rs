//! Defects of health: who was asked, who was blamed, and who had to go.

use std::time::Duration;

use serde_json::{Value, json};

use super::declared;
use crate::test::{Home, Tool, alive, free_port, holds_for, need, stop, wait_for};

/// A Python server that is probed as often as a config may ask for.
fn probed(name: &str, port: u16, more: Value) -> Value {
    let health =
        json!({ "path": "/health", "interval": 1000, "timeout": 500, "unhealthyThreshold": 2 });
    let mut app = declared(name, "server.py", json!({ "port": port, "healthCheck": health }));
    super::merge(&mut app, more);
    app
}

/// Killed every worker that used the SDK and sent no heartbeats, 30 s after its start. A monitor
/// may wait for heartbeats only after the first one came.
#[test]
fn d01_a_worker_without_heartbeats_lives_on() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([declared("quiet", "channel.py", json!({}))]).succeeded();
    let worker = home.online("quiet", 1).remove(0);
    // 30 s of silence, and the 10 s the original took to notice
    holds_for(Duration::from_secs(42), "the worker lives", || alive(worker.pid));
    assert_eq!(home.rows("quiet"), [worker]);
}

/// Probed port 40001 unless the strategy was spelled `reusePort`, and restarted healthy apps for
/// it. A probe goes where the app listens.
#[test]
fn d11_a_probe_goes_where_the_app_listens() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([probed("well", free_port(), json!({ "clustering": {} }))]).succeeded();
    let worker = home.online("well", 1).remove(0);
    holds_for(Duration::from_secs(4), "the worker lives", || alive(worker.pid));
    assert_eq!(home.rows("well"), [worker]);
}

/// Counted failed probes by worker number alone: while B was sick, A was restarted.
#[test]
fn d12_a_sick_app_pays_for_itself() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([probed("well", free_port(), json!({}))]).succeeded();
    let well = home.online("well", 1);
    // whether this start may already be called a failure is not the point
    home.start([probed("sick", free_port(), json!({ "env": { "HEALTH": "500" } }))]);
    wait_for("the sick worker to be replaced", || {
        home.rows("sick").iter().any(|it| it.restarts >= 2).then_some(())
    });
    assert_eq!(home.rows("well"), well);
}

/// Counted crashes by worker number alone: B gave up on its first crash since A had used up the
/// budget.
#[test]
fn d28_each_app_has_its_own_crashes_to_spend() {
    let home = Home::new();
    let starts = home.path("starts");
    let doomed = |name| {
        let more = json!({ "maxRestarts": 2, "env": { "STARTS": starts } });
        declared(name, "crash.sh", more)
    };
    for name in ["first", "second"] {
        home.start([doomed(name)]);
        home.in_state(name, "errored");
        let lives = home.read("starts").lines().filter(|it| *it == name).count();
        assert_eq!(lives, 3, "one start and two restarts of `{name}`");
    }
}

/// Left a frozen worker in rotation until its heartbeats had been missing for 30 s.
#[test]
fn a_frozen_worker_is_replaced() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([probed("web", free_port(), json!({}))]).succeeded();
    let frozen = home.online("web", 1).remove(0);
    stop(frozen.pid);
    wait_for("another worker in its place", || {
        home.rows("web").iter().any(|it| it.state == "online" && it.pid != frozen.pid).then_some(())
    });
    assert!(!alive(frozen.pid));
}

/// Waited forever at `start` for a worker that never got ready: `readyTimeout` meant reload only.
#[test]
fn ready_timeout_holds_at_start() {
    need!(Tool::Python);
    let home = Home::new();
    let more = json!({
        "port": free_port(),
        "readyTimeout": 1000,
        "maxRestarts": 0,
        "env": { "BOOT_MS": "600000" },
    });
    home.start([declared("late", "server.py", more)]);
    let worker = home.in_state("late", "errored");
    wait_for("the late worker to be gone", || (!alive(worker.pid)).then_some(()));
}
