//! What an operator runs into: full disks, wrong paths, logs nobody watches, ports that moved.

use std::{ffi::OsStr, fs, os::unix::fs::symlink, time::Duration};

use serde_json::{Value, json};

use crate::test::{Home, app, free_port, get, holds_for, wait_for};

/// An app that is alive and says nothing.
fn quiet(name: &str, more: &[(&str, Value)]) -> Value {
    let mut app = json!({ "name": name, "script": "sleep", "args": ["1000"] });
    for (key, value) in more {
        app[*key] = value.clone();
    }
    app
}

/// Whether words of this home's processes are gone for good.
#[track_caller]
fn nobody_left(home: &Home, word: &str) {
    wait_for(&format!("`{word}` to be gone"), || home.pids(word).is_empty().then_some(()));
    holds_for(Duration::from_secs(1), "nobody comes back", || home.pids(word).is_empty());
}

/// A log line that could not be written was told on the log itself, and that panicked: the store
/// was dead and every later command hung.
#[test]
fn a_daemon_that_cannot_log_works_on() {
    let home = Home::new();
    symlink("/dev/full", home.root().join("bunpilot-daemon.log")).unwrap();
    home.start([quiet("nap", &[])]).succeeded();
    let before = home.online("nap", 1).remove(0);
    home.ok(["restart", "nap", "--force"]);
    assert_ne!(home.online("nap", 1).remove(0).pid, before.pid);
    home.ok(["scale", "nap", "2"]);
    home.ok(["stop", "nap", "--force"]);
    home.ok(["delete", "nap", "--force"]);
    home.ok(["daemon", "stop"]);
    nobody_left(&home, "");
}

/// An app of long ago, stopped, kept the foreground from seeing that nothing would ever run.
#[test]
fn the_foreground_ends_when_its_apps_have_errored_whatever_is_stopped() {
    let home = Home::new();
    home.start([quiet("nap", &[])]).succeeded();
    home.ok(["stop", "nap", "--force"]);
    home.ok(["daemon", "stop"]);
    let config = json!({
        "name": "die", "script": "false", "maxRestarts": 0, "backoff": { "initial": 100 },
    });
    let file = home.write("die.json", &config.to_string());
    let output = home.run([OsStr::new("run"), file.as_os_str()]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("all have errored"), "{output:?}");
}

#[test]
fn a_socket_path_no_socket_can_have_is_refused_at_once() {
    let home = Home::new();
    let long = format!("/tmp/{}", "x".repeat(103));
    for args in [&["list"][..], &["daemon", "start"]] {
        let mut command = home.command(args);
        command.env("BUNPILOT_SOCKET", &long);
        let output = home.finish(command).refused("BUNPILOT_SOCKET");
        assert_eq!(output.code, 69);
    }
    assert!(home.pids("__guard").is_empty());
}

/// The guard tried for ever, and the next `daemon start` ran into it.
#[test]
fn a_daemon_that_cannot_start_leaves_no_guard() {
    let home = Home::new();
    let mut command = home.command(["daemon", "start"]);
    command.env("BUNPILOT_SOCKET", home.path("no-such-folder/s"));
    let output = home.finish(command).refused("cannot listen on");
    assert_eq!(output.code, 69);
    assert_eq!(output.stderr.matches("[bunpilot] ERROR").count(), 1, "{output:?}");
    nobody_left(&home, "__guard");
    home.ok(["daemon", "start"]);
}

#[test]
fn a_home_that_cannot_be_made_is_no_daemon() {
    let home = Home::new();
    let mut command = home.command(["daemon", "start"]);
    command.env("BUNPILOT_HOME", "/proc/nowhere");
    assert_eq!(home.finish(command).refused("set `BUNPILOT_HOME`").code, 69);
}

#[test]
fn json_is_json_even_for_a_line_nobody_understands() {
    let home = Home::new();
    for args in [&["frobnicate", "--json"][..], &["--json", "scale", "x", "0"]] {
        let output = home.run(args);
        let told: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((output.code, &told["code"]), (2, &json!("usage")), "{output:?}");
        assert_eq!(output.stderr, "");
    }
    // what follows `--` is the script's
    let output = home.run(["scale", "x", "0", "--", "--json"]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new();
    assert_eq!(home.run(["list"]).refused("`bunpilot daemon start` starts it").code, 69);
    home.start([quiet("nap", &[]), quiet("doze", &[])]).succeeded();
    home.run(["start", "--config", "bunpilot.json"]).refused("bunpilot reload nap --config");
    home.ok(["stop", "nap", "--force"]);
    assert_eq!(home.run(["reload", "nap"]).refused("`bunpilot start nap` starts it").code, 3);
    assert_eq!(home.run(["stop", "zzz"]).refused("there is `doze`, `nap`").code, 4);
    let told = home.run(["start", "./nope.py", "--name", "nope"]).refused("cannot start \"nope\"");
    assert_eq!(told.code, 78);
    home.ok(["stop", "all", "--force"]);
    assert!(home.ok(["restart", "all"]).contains("no app runs"));
}

/// Cron and CI keep every line.
#[test]
fn a_log_gets_only_the_steps_that_matter() {
    let home = Home::new();
    home.start([quiet("nap", &[])]).succeeded();
    for (verb, steps) in [("restart", 1), ("reload", 1), ("stop", 0)] {
        let output = home.run([verb, "nap"]);
        assert_eq!(output.stderr.lines().count(), steps, "`{verb}`: {output:?}");
        assert!(output.stderr.lines().all(|it| it.contains("online")), "{output:?}");
    }
}

#[test]
fn logs_of_a_deleted_app_are_shown_only_by_name() {
    let home = Home::new();
    let ticker = app("ticker.sh");
    home.start([
        json!({ "name": "old", "script": ticker }),
        json!({ "name": "new", "script": ticker }),
    ])
    .succeeded();
    wait_for("both to have said something", || {
        let all = home.ok(["logs"]);
        (all.contains("old:0") && all.contains("new:0")).then_some(())
    });
    home.ok(["delete", "old", "--force"]);
    let all = home.ok(["logs"]);
    assert!(!all.contains("old:0") && all.contains("new:0"), "{all}");
    assert!(home.ok(["logs", "old"]).contains("old:0"));
}

/// The original ignored all of `metrics`.
#[test]
fn the_metrics_section_is_heeded() {
    let (home, port) = (Home::new(), free_port());
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.env_remove("BUNPILOT_HTTP_PORT");
        home.finish(command).succeeded()
    };
    let seen = quiet("seen", &[("metrics", json!({ "httpPort": port }))]);
    let hidden = quiet("hidden", &[("metrics", json!({ "prometheus": false }))]);
    let modern = quiet("modern", &[("metrics", json!({ "compatNames": false }))]);
    let config = json!({ "apps": [seen, hidden, modern] });
    fs::write(home.path("m.json"), config.to_string()).unwrap();
    run(&["start", "m.json"]);
    let check = || {
        let text = get(port, "/metrics").unwrap().body;
        assert!(text.contains("bunpilot_worker_uptime_seconds{app=\"seen\""), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("bunpilot_app_workers_desired{app=\"modern\"}"), "{text}");
        assert!(!text.contains("bunpilot_worker_uptime_seconds{app=\"modern\""), "{text}");
    };
    check();
    let elsewhere = quiet("late", &[("metrics", json!({ "httpPort": free_port() }))]);
    fs::write(home.path("late.json"), elsewhere.to_string()).unwrap();
    let told = run(&["start", "late.json"]);
    assert!(told.contains("metrics.httpPort") && told.contains(&port.to_string()), "{told}");
    // the next daemon remembers
    run(&["daemon", "stop"]);
    run(&["resurrect"]);
    check();
}

#[test]
fn what_a_config_file_says_in_vain_is_told() {
    let home = Home::new();
    let config = json!({ "apps": [quiet("nap", &[])], "daemon": { "socketFile": "./x.sock" } });
    home.write("d.json", &config.to_string());
    let told = home.ok(["start", "d.json"]);
    assert!(told.contains("`daemon` section") && told.contains("BUNPILOT_SOCKET"), "{told}");
}
