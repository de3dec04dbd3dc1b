//! Defects of the daemon itself: what its death cost, and what its answers were worth.

use serde_json::{Value, json};

use super::declared;
use crate::test::{Home, Tool, alive, free_port, get, kill, need, parent, wait_for};

/// `kill -9` orphaned every worker; the next daemon knew none of them and started twins beside
/// them on the same port.
#[test]
fn d18_workers_outlive_the_daemon() {
    let home = Home::new();
    home.start([declared("tick", "ticker.sh", json!({ "instances": 2 }))]).succeeded();
    let rows = home.online("tick", 2);
    let before = home.daemon();
    kill(before);
    wait_for("another daemon", || {
        let now = home.daemon();
        (now != before && alive(now)).then_some(())
    });
    assert_eq!(home.online("tick", 2), rows);
    assert_eq!(home.pids_of("tick").len(), 2);
    home.ok(["stop", "tick"]);
    assert!(home.pids("ticker.sh").is_empty());
}

/// A worker that ended while no daemon lived was nobody's business.
#[test]
fn d18_a_worker_that_dies_with_the_daemon_comes_back() {
    let home = Home::new();
    home.start([declared("tick", "ticker.sh", json!({}))]).succeeded();
    let worker = home.online("tick", 1).remove(0);
    kill(home.daemon());
    kill(worker.pid);
    wait_for("a new worker", || {
        let rows = home.rows("tick");
        rows.iter().any(|it| it.state == "online" && it.pid != worker.pid).then_some(())
    });
    assert_eq!(home.pids_of("tick").len(), 1);
}

/// Nothing was restored after a reboot.
#[test]
fn d18_what_ran_runs_again_after_a_reboot() {
    let home = Home::new();
    home.start([
        declared("tick", "ticker.sh", json!({})),
        declared("idle", "ticker.sh", json!({})),
    ])
    .succeeded();
    home.online("tick", 1);
    home.ok(["stop", "idle"]);
    // everything at once, as a power cut does it
    wait_for("the machine to be off", || {
        let pids = home.pids("");
        for pid in &pids {
            kill(*pid);
        }
        pids.is_empty().then_some(())
    });
    home.ok(["resurrect"]);
    home.online("tick", 1);
    assert!(home.rows("idle").iter().all(|it| it.state == "stopped"));
    assert_eq!((home.pids_of("tick").len(), home.pids_of("idle").len()), (1, 0));
}

/// Always showed 0 % CPU, and memory only of workers that reported it themselves.
#[test]
fn d22_cpu_and_memory_are_measured() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([declared("busy", "busy.py", json!({ "metrics": { "collectInterval": 1000 } }))])
        .succeeded();
    wait_for("a busy worker", || {
        let answer = home.control().ask("status", &json!({ "name": "busy" }));
        let worker = &answer["data"]["workers"][0];
        let (cpu, rss) = (worker["cpu"]["percentage"].as_f64()?, worker["memory"]["rss"].as_f64()?);
        (cpu > 5.0 && rss > 1_000_000.0).then_some(())
    });
}

/// A second daemon died on the HTTP port and left no word.
#[test]
fn d25_a_taken_http_port_does_not_stop_a_daemon() {
    let first = Home::with_http();
    first.ok(["daemon", "start"]);
    wait_for("the HTTP server", || get(first.http_port(), "/metrics").ok());
    let second = Home::new();
    let mut command = second.command(["daemon", "start"]);
    command.env("BUNPILOT_HTTP_PORT", first.http_port().to_string());
    second.finish(command).succeeded();
    assert!(second.ok(["ping"]).contains("pong"));
    assert_eq!(get(first.http_port(), "/metrics").unwrap().status, 200);
    // and one that already runs is not started twice
    let daemon = first.daemon();
    first.ok(["daemon", "start"]);
    assert_eq!(first.daemon(), daemon);
}

/// `status --json` printed a table, and `metrics <name>` showed every app.
#[test]
fn d27_json_and_names_are_not_ignored() {
    let home = Home::new();
    home.start([declared("one", "ticker.sh", json!({})), declared("two", "ticker.sh", json!({}))])
        .succeeded();
    home.online("two", 1);
    for args in [["status", "one", "--json"], ["metrics", "one", "--json"]] {
        let told = home.ok(args);
        serde_json::from_str::<Value>(&told).expect("`--json` is JSON");
        assert!(told.contains("\"one\"") && !told.contains("\"two\""), "{told}");
    }
}

/// Gave up on any answer after 5 s, while the daemon went on.
#[test]
fn d33_the_client_waits_as_long_as_it_takes() {
    let home = Home::new();
    home.start([declared("stubborn", "stubborn.sh", json!({ "killTimeout": 7000 }))]).succeeded();
    home.online("stubborn", 1);
    home.ok(["stop", "stubborn"]);
    assert!(home.pids("stubborn.sh").is_empty());
}

/// Left lines that are not JSON without an answer, and could be talked to death.
#[test]
fn hostile_clients_are_harmless() {
    let home = Home::new();
    home.ok(["daemon", "start"]);
    let daemon = home.daemon();
    let mut idle = home.control();
    idle.write(b"{\"id\":");
    for bytes in [&b"\n"[..], b"not json\n", b"{}\n", b"[1,2]\n", b"\xff\xfe\n", b"{\"id\":1}\n"] {
        home.control().write(bytes);
    }
    let answer = home.control().ask("no-such-command", &json!({}));
    assert_eq!(answer["error"], "Unknown command: no-such-command");
    assert_eq!(home.control().ask("ping", &json!({}))["data"]["pong"], true);
    assert_eq!(home.daemon(), daemon);
}

/// The exposition is what Prometheus' own checker calls clean, and has the original's names.
#[test]
fn metrics_are_clean() {
    let promtool = need!(Tool::Promtool);
    let home = Home::with_http();
    home.start([declared("tick", "ticker.sh", json!({ "port": free_port() }))]);
    let text = wait_for("a worker's metrics", || {
        let answer = get(home.http_port(), "/metrics").ok()?;
        answer.body.contains("bunpilot_worker_memory_rss_bytes{").then_some(answer.body)
    });
    let page = home.write("metrics", &text);
    let mut check = std::process::Command::new(promtool);
    check.args(["check", "metrics"]).stdin(std::fs::File::open(page).unwrap());
    home.finish(check).succeeded();
}

/// The daemon is nobody's child but its guard's: closing the terminal does not reach it.
#[test]
fn the_daemon_leaves_its_terminal() {
    let home = Home::new();
    home.ok(["daemon", "start"]);
    let daemon = home.daemon();
    let guard = parent(daemon).unwrap();
    assert_ne!(guard, std::process::id());
    assert!(home.pids("").contains(&guard), "the daemon's parent is its guard");
    home.ok(["daemon", "stop"]);
    wait_for("both to be gone", || home.pids("").is_empty().then_some(()));
}
