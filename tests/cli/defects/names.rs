//! Defects of what a user may type: names, files and flags that were taken as they came.

use serde_json::json;

use super::declared;
use crate::test::{Home, app, wait_for};

/// A name such as `../../evil` wrote logs outside the home.
#[test]
fn d26_a_name_is_not_a_path() {
    let home = Home::new();
    let script = app("ticker.sh");
    for name in ["../../evil", "a/b", "", ".", "all"] {
        let output = home.run(["start", script.to_str().unwrap(), "--name", name]);
        assert!(output.code > 0, "{name:?}: {output:?}");
        home.start([declared(name, "ticker.sh", json!({}))]).refused("name");
    }
    assert!(home.pids("ticker.sh").is_empty());
}

/// Deleted an app that did not exist, and said OK.
#[test]
fn d29_an_unknown_name_is_an_error() {
    let home = Home::new();
    home.start([declared("known", "ticker.sh", json!({}))]).succeeded();
    for verb in ["stop", "restart", "reload", "status", "logs"] {
        home.run([verb, "unknown"]).refused("unknown");
    }
    home.run(["delete", "unknown", "--force"]).refused("unknown");
    let hint = home.run(["stop", "knwon"]).refused("knwon");
    assert!(hint.stderr.contains("`known`"), "no did-you-mean: {hint:?}");
    home.online("known", 1);
}

/// Said OK to a script that is not there, and then tried to start it again and again.
#[test]
fn d31_a_missing_script_is_an_error() {
    let home = Home::new();
    home.run(["start", "./not-there.sh", "--name", "api"]).refused("not-there.sh");
    let app = declared("api", "ticker.sh", json!({ "script": "./not-there.sh" }));
    home.start([app]).refused("not-there.sh");
    home.ok(["daemon", "start"]);
    let answer = home.control().ask("list", &json!({}));
    assert_eq!(answer["data"], json!([]));
}

fn a_proxied_app_is_refused(name: &str) {
    let home = Home::new();
    let proxied = json!({ "port": 4000, "instances": 2, "clustering": { "strategy": "proxy" } });
    let output = home.start([declared(name, "ticker.sh", proxied)]).refused("proxy");
    assert!(output.stderr.contains("`inherit`"), "no way out: {output:?}");
    assert!(home.pids("ticker.sh").is_empty());
}

/// A second proxied app got port 40001 of the first. Until there is a proxy, none is promised.
#[test]
fn d13_no_two_apps_share_an_internal_port() {
    a_proxied_app_is_refused("first");
}

/// The proxy lost bytes. Until there is a proxy, nothing goes through one.
#[test]
fn d14_no_bytes_go_through_a_broken_proxy() {
    a_proxied_app_is_refused("second");
}

/// Did not look for a config unless told to.
#[test]
fn a_bare_start_finds_the_config() {
    let home = Home::new();
    let apps = json!({ "apps": [declared("found", "ticker.sh", json!({}))] });
    home.write("bunpilot.json", &apps.to_string());
    home.ok(["start"]);
    home.online("found", 1);
}

/// Printed a raw stack trace.
#[test]
fn a_malformed_env_is_a_usage_error() {
    let home = Home::new();
    let script = app("ticker.sh");
    let output = home.run(["start", script.to_str().unwrap(), "--env", "NOVALUE"]);
    assert_eq!(output.refused("NOVALUE").code, 2);
}

/// Claimed `<name|id|all>` and knew no id.
#[test]
fn one_instance_can_be_named() {
    let home = Home::new();
    home.start([declared("tick", "ticker.sh", json!({ "instances": 2 }))]).succeeded();
    let before = home.online("tick", 2);
    home.ok(["signal", "tick:1", "SIGKILL"]);
    let after = wait_for("another worker in its place", || {
        let rows = home.online("tick", 2);
        (rows[1].pid != before[1].pid).then_some(rows)
    });
    assert_eq!(after[0], before[0]);
}
