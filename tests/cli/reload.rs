//! Reload under load: nobody who connects notices it.
//!
//! `BUNPILOT_ROUNDS=10 cargo test --test cli reload:: -- --nocapture` reloads each cluster ten times.

use serde_json::json;

use crate::test::{
    Clients, Home, Load, Row, Tally, Tool, declared, free_port, get, inherited, kill, need, rounds,
    say, wait_for,
};

/// Clients at once, each question over a connection of its own.
const CLIENTS: usize = 16;

/// Answers before and after a reload that make sure it happened under load.
const ANSWERS: u64 = 100;

fn pids(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|it| it.pid).collect()
}

/// Reloads `web` under load: every worker is another one afterwards. What became of the questions.
#[track_caller]
pub(crate) fn reload_under_load(home: &Home, port: u16, count: usize) -> Tally {
    let before = pids(&home.online("web", count));
    let load = Load::start(port, Clients::Fresh, CLIENTS);
    load.flows(ANSWERS);
    home.ok(["reload", "web"]);
    load.flows(ANSWERS);
    let after = pids(&home.online("web", count));
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    load.finish()
}

#[track_caller]
fn loses_nothing(what: &str, app: serde_json::Value, port: u16, count: usize) {
    let home = Home::new();
    home.start([app]).succeeded();
    let rounds = rounds(1);
    let tallies: Vec<Tally> = (0..rounds).map(|_| reload_under_load(&home, port, count)).collect();
    let answered: u64 = tallies.iter().map(|it| it.answered).sum();
    let broken = tallies.iter().filter(|it| !it.failed.is_empty()).count();
    say(&format!(
        "reload of {what}: {rounds} runs, {answered} answered, {broken} runs with losses"
    ));
    assert_eq!(broken, 0, "{tallies:#?}");
}

#[test]
fn python_times_four() {
    need!(Tool::Python);
    let port = free_port();
    loses_nothing("4 python", inherited("server.py", port, 4, json!({})), port, 4);
}

#[test]
fn python_alone() {
    need!(Tool::Python);
    let port = free_port();
    loses_nothing("1 python", inherited("server.py", port, 1, json!({})), port, 1);
}

#[test]
fn node_times_four() {
    let node = need!(Tool::Node);
    let port = free_port();
    let more = json!({ "interpreter": node });
    loses_nothing("4 node", inherited("server.mjs", port, 4, more), port, 4);
}

#[test]
fn node_alone() {
    let node = need!(Tool::Node);
    let port = free_port();
    let more = json!({ "interpreter": node });
    loses_nothing("1 node", inherited("server.mjs", port, 1, more), port, 1);
}

/// Nobody may wait at a port nobody serves: once an app is stopped, connections are refused.
#[test]
fn a_stopped_app_refuses() {
    need!(Tool::Python);
    let (home, port) = (Home::new(), free_port());
    home.start([inherited("server.py", port, 2, json!({}))]).succeeded();
    home.online("web", 2);
    home.ok(["stop", "web"]);
    refuses(port);
    // also under a daemon that finds it stopped
    let before = home.daemon();
    kill(before);
    wait_for("another daemon", || (home.daemon() != before).then_some(()));
    refuses(port);
    home.ok(["start", "web"]);
    assert_eq!(get(port, "/").unwrap().status, 200);
    home.ok(["delete", "web"]);
    refuses(port);
}

/// The answer to the command and the close of the port are not one moment.
#[track_caller]
fn refuses(port: u16) {
    wait_for("a refusal", || {
        let error = get(port, "/").expect_err("nobody is there");
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody answers");
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

/// A worker that owns its socket takes along what waits there when it closes it: with this
/// strategy some may be lost, at most one for each client and worker. Nobody may be left waiting
/// or be given a wrong answer.
#[test]
fn bun_by_reuse_port_loses_no_more_than_its_queues() {
    need!(Tool::Bun);
    let (home, port, count) = (Home::new(), free_port(), 4);
    let cluster = json!({ "strategy": "reusePort", "rollingRestart": { "batchDelay": 0 } });
    let more = json!({ "port": port, "instances": count, "clustering": cluster });
    home.start([declared("web", "server.ts", more)]).succeeded();
    let rounds = rounds(1);
    let mut losses = Vec::new();
    for _ in 0..rounds {
        let tally = reload_under_load(&home, port, count);
        let lost: u64 = tally.failed.values().sum();
        let kinds = ["refused", "reset", "closed"];
        assert!(tally.failed.keys().all(|it| kinds.contains(&it.as_str())), "{tally:?}");
        assert!(lost <= u64::try_from(CLIENTS * count).unwrap(), "{tally:?}");
        losses.push(lost);
    }
    say(&format!("reload of 4 bun by reusePort: lost per run {losses:?}"));
}
