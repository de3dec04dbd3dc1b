//! What becomes of workers' output, as the configuration has it.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::PathBuf};

use serde_json::{Value, json};

use crate::test::{Home, declared, get, kill, wait_for};

/// Where a process's descriptor leads.
#[track_caller]
fn target(pid: u32, descriptor: u8) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap()
}

/// Names in the log folder of `app`; none if there is no folder.
fn files(home: &Home, app: &str) -> Vec<String> {
    let entries = fs::read_dir(home.log(app, "")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The ticks of each worker in one merged file and its rotated ones, oldest first. Every line must
/// be a whole one.
#[track_caller]
fn ticks(home: &Home, app: &str) -> BTreeMap<u32, Vec<usize>> {
    let current = home.log(app, &format!("{app}-out.log"));
    let rotated = |number: usize| home.log(app, &format!("{app}-out.log.{number}"));
    let older: Vec<_> = (1..100).map(rotated).take_while(|it| it.exists()).collect();
    let mut ticks: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for path in older.iter().rev().chain([&current]) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{}: a torn line", path.display());
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let ["tick", worker, number] = words[..] else { panic!("no whole line: `{line}`") };
            ticks.entry(worker.parse().unwrap()).or_default().push(number.parse().unwrap());
        }
    }
    ticks
}

/// Four workers share a file over rotations and the death of the daemon; a chosen file is taken as
/// it is by all.
#[test]
fn merged_workers_write_whole_lines_to_one_file() {
    let home = Home::new();
    let chosen = home.path("chosen.log");
    let more = json!({
        "instances": 4,
        "env": { "EVERY": "0.005" },
        "logs": { "merge": true, "maxSize": 2048, "maxFiles": 99, "errFile": chosen },
    });
    home.start([declared("tick", "ticker.sh", more)]).succeeded();
    let third = home.log("tick", "tick-out.log.3");
    wait_for("some rotations", || third.exists().then_some(()));
    kill(home.daemon());
    let seventh = home.log("tick", "tick-out.log.7");
    wait_for("more rotations", || seventh.exists().then_some(()));
    let shown = home.ok(["logs", "tick", "--lines", "10", "--out"]);
    assert!(shown.lines().count() == 10 && shown.lines().all(|it| it.starts_with("tick")));
    home.ok(["stop", "tick", "--force"]);

    let ticks = ticks(&home, "tick");
    assert_eq!(ticks.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (worker, numbers) in ticks {
        assert!(numbers.iter().copied().eq(0..numbers.len()), "worker {worker}: {numbers:?}");
    }
    assert!(files(&home, "tick").iter().all(|name| name.starts_with("tick-out.log")));
    let errors = fs::read_to_string(chosen).unwrap();
    let mut errors: Vec<_> = errors.lines().collect();
    errors.sort_unstable();
    assert_eq!(errors, [0, 1, 2, 3].map(|worker| format!("ticker {worker} begins")));
}

/// What nobody keeps needs no pipe, now and after the next daemon has taken over.
#[test]
fn output_that_is_not_kept_has_no_pipe() {
    let home = Home::new();
    let silent = json!({ "logs": { "mode": "off" } });
    let half = json!({ "instances": 2, "logs": { "outFile": "/dev/null" } });
    home.start([declared("silent", "ticker.sh", silent), declared("half", "ticker.sh", half)])
        .succeeded();
    let silent = home.online("silent", 1)[0].pid;
    let halves: Vec<_> = home.online("half", 2).iter().map(|it| it.pid).collect();
    let nowhere = PathBuf::from("/dev/null");
    assert!([1, 2].iter().all(|descriptor| target(silent, *descriptor) == nowhere));
    for pid in &halves {
        assert_eq!(target(*pid, 1), nowhere);
        assert!(target(*pid, 2).to_string_lossy().starts_with("pipe:["));
    }
    wait_for("errors", || {
        (files(&home, "half") == ["half-0-err.log", "half-1-err.log"]).then_some(())
    });
    assert_eq!(files(&home, "silent"), [""; 0]);

    let old = home.daemon();
    kill(old);
    wait_for("the next daemon", || (home.daemon() != old).then_some(()));
    assert_eq!(home.online("silent", 1)[0].pid, silent, "it was taken over");
    home.ok(["restart", "silent", "half"]);
    let next = home.online("silent", 1)[0].pid;
    assert_ne!(next, silent);
    assert_eq!(target(next, 1), nowhere);
    home.ok(["stop", "all", "--force"]);
}

/// A rate over them must see neither a restart of a worker nor what it wrote last.
#[test]
fn what_was_written_is_counted_by_place() {
    let home = Home::with_http();
    let script = home.write("say.sh", "echo one; echo two; echo three >&2; exec sleep 1000\n");
    let more = json!({ "script": script, "logs": { "mode": "raw" } });
    home.start([declared("say", "ticker.sh", more)]).succeeded();
    let counted = |line: &str, count: usize| {
        wait_for(&format!("{line} {count}"), || {
            let text = get(home.http_port(), "/metrics").ok()?.body;
            let wanted = format!("bunpilot_log_{line} {count}");
            text.lines().any(|line| line == wanted).then_some(())
        });
    };
    for life in 1..=3 {
        if life > 1 {
            home.ok(["restart", "say", "--force"]);
        }
        counted(r#"lines_total{app="say",worker="0",stream="out"}"#, 2 * life);
        counted(r#"bytes_total{app="say",worker="0",stream="out"}"#, 8 * life);
        counted(r#"lines_total{app="say",worker="0",stream="err"}"#, life);
    }
    home.ok(["stop", "say", "--force"]);
    counted(r#"lines_total{app="say",worker="0",stream="out"}"#, 6);
}

/// A worker slept in `write(2)`, and nothing but the daemon's log said why.
#[test]
fn a_log_that_cannot_be_written_is_told_until_it_is() {
    let home = Home::new();
    let file = home.path("out.log");
    symlink("/dev/full", &file).unwrap();
    let more = json!({ "env": { "EVERY": "0.02" }, "logs": { "outFile": file } });
    home.start([declared("tick", "ticker.sh", more), declared("other", "ticker.sh", json!({}))])
        .succeeded();
    let told = "out.log` cannot be written: ";
    let status = |args: [&str; 2]| {
        let output = home.run(args);
        output.stdout + &output.stderr
    };
    wait_for("the warning", || status(["daemon", "status"]).contains(told).then_some(()));
    assert!(status(["status", "tick"]).contains(told));
    assert!(!status(["status", "other"]).contains("cannot be written"));

    fs::remove_file(&file).unwrap();
    wait_for("its end", || (!status(["daemon", "status"]).contains(told)).then_some(()));
    assert!(!status(["status", "tick"]).contains("cannot be written"));
    home.ok(["stop", "tick", "--force"]);
    let text = fs::read_to_string(&file).unwrap();
    let ticks = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    assert!(text.lines().count() > 3 && ticks.eq(0..text.lines().count()), "{text}");
    wait_for("the time it was blocked", || {
        let data: Value = serde_json::from_str(&home.ok(["metrics", "tick", "--json"])).unwrap();
        let out = &data[0]["workers"][0]["out"];
        let all = out["bytes"] == text.len() && out["lastWriteAt"].is_u64();
        (all && out["blockedMillis"].as_u64() > Some(0)).then_some(())
    });
}

#[test]
fn words_nobody_knows_are_refused() {
    let home = Home::new();
    let more = json!({ "logs": { "mode": "timestamp", "maxAge": "0s" } });
    let output = home.start([declared("tick", "ticker.sh", more)]);
    let output = output.refused("did you mean `timestamps`?").refused("from 1 s to 3660 d");
    assert_eq!(output.code, 78);
}
