//! Defects of logs: lines that were not written, not found, or not shown.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::declared;
use crate::test::{Home, Tool, need, wait_for};

/// Length of a line of `flood.py`.
const LINE: usize = 55;

/// Starts an app that writes `count` numbered lines, and waits until the last is on
/// disk.
#[track_caller]
fn flooded(count: usize, logs: &Value) -> Home {
    let home = Home::new();
    let more = json!({ "env": { "LINES": count.to_string() }, "logs": logs });
    home.start([declared("flood", "flood.py", more)]).succeeded();
    let last = format!("line {:08}", count - 1);
    let current = home.log("flood", "flood-0-out.log");
    wait_for("the last line", || {
        let all = fs::read_to_string(&current).ok()?;
        all.contains(&last).then_some(())
    });
    home
}

/// The numbers of flood's lines in `text`, in order.
fn numbers(text: &str) -> Vec<usize> {
    let after = |line: &str| line.split_once("line ")?.1.get(..8)?.parse().ok();
    text.lines().filter_map(after).collect()
}

/// The numbers `tick <worker> <number>` in `text`, in order.
fn ticks(text: &str, worker: u32) -> Vec<usize> {
    let mark = format!("tick {worker} ");
    let after = |line: &str| line.split_once(&mark)?.1.trim_end().parse().ok();
    text.lines().filter_map(after).collect()
}

/// Whether a worker's lines follow each other without a gap, a repetition or a swap.
fn unbroken(ticks: &[usize]) -> bool {
    ticks.is_sorted_by(|a, b| a + 1 == *b)
}

/// The README's `./logs/api-out.log` named a folder that did not exist: nobody read worker 0's
/// output any more, and it slept in `write(2)` for good.
#[test]
fn d06_the_readmes_log_paths_work() {
    let home = Home::new();
    let more = json!({
        "instances": 2,
        "cwd": home.path(""),
        "env": { "EVERY": "0.02" },
        "logs": { "outFile": "./logs/api-out.log", "errFile": "./logs/api-err.log" },
    });
    home.start([declared("api", "ticker.sh", more)]).succeeded();
    wait_for("lines of both workers", || {
        let text = home.ok(["logs", "api", "--lines", "200"]);
        (0..2).all(|worker| ticks(&text, worker).contains(&20)).then_some(())
    });
}

/// Read the current file only: right after a rotation there were no logs.
#[test]
fn d07_logs_reads_on_in_rotated_files() {
    need!(Tool::Python);
    let home = flooded(1000, &json!({ "maxSize": 10_240, "maxFiles": 50 }));
    let shown = home.ok(["logs", "flood", "--lines", "500"]);
    assert!(numbers(&shown).into_iter().eq(500..1000), "{:?}", numbers(&shown));
}

/// Cut answers that did not fit the socket's buffer, and the CLI timed out.
#[test]
fn d08_twenty_thousand_lines_are_an_answer() {
    need!(Tool::Python);
    let home = flooded(20_000, &json!({}));
    let shown = home.ok(["logs", "flood", "--lines", "20000"]);
    assert!(numbers(&shown).into_iter().eq(0..20_000), "{} lines", numbers(&shown).len());
}

/// Followed one worker only, by asking for 200 lines every second, and dropped every line that
/// equalled one before.
#[test]
fn d09_follow_shows_every_line_of_every_worker() {
    let home = Home::new();
    let same = home.write("same.sh", "while :; do echo same; sleep 0.02; done\n");
    let ticker = json!({ "instances": 2, "env": { "EVERY": "0.02" } });
    let apps = [
        declared("tick", "ticker.sh", ticker),
        declared("same", "ticker.sh", json!({ "script": same })),
    ];
    home.start(apps).succeeded();
    let follow = home.spawn(home.command(["logs", "-f", "tick"]));
    let text = wait_for("lines of both workers", || {
        let text = follow.so_far().stdout;
        (0..2).all(|worker| ticks(&text, worker).len() >= 50).then_some(text)
    });
    for worker in 0..2 {
        assert!(unbroken(&ticks(&text, worker)), "{:?}", ticks(&text, worker));
    }
    let follow = home.spawn(home.command(["logs", "-f", "same", "--lines", "0"]));
    wait_for("equal lines", || {
        (follow.so_far().stdout.matches("same").count() >= 20).then_some(())
    });
}

/// Checked the size once per chunk: a limit of 100 KiB gave files of 146 to 180 KB.
#[test]
fn d10_files_are_rotated_at_the_line_that_fills_them() {
    need!(Tool::Python);
    let max = 10_240;
    let home = flooded(2000, &json!({ "maxSize": max, "maxFiles": 50 }));
    let mut all = String::new();
    let file = |number: usize| match number {
        0 => home.log("flood", "flood-0-out.log"),
        _ => home.log("flood", &format!("flood-0-out.log.{number}")),
    };
    let files: Vec<PathBuf> = (0..50).map(file).take_while(|it| it.exists()).collect();
    assert!(files.len() > 2000 * LINE / (max + LINE), "{files:?}");
    for path in files.iter().rev() {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.len() <= max + LINE, "{}: {} bytes", path.display(), text.len());
        assert!(text.is_empty() || text.ends_with('\n'), "{}: a torn line", path.display());
        all.push_str(&text);
    }
    assert!(numbers(&all).into_iter().eq(0..2000), "lines are missing, twice there or swapped");
}

/// A daemon that died took the pipes' reader with it: lines were lost and writers stuck.
#[test]
fn no_line_is_lost_when_the_daemon_dies() {
    let home = Home::new();
    home.start([declared("tick", "ticker.sh", json!({ "env": { "EVERY": "0.01" } }))]).succeeded();
    let file = home.log("tick", "tick-0-out.log");
    let reaches = |count: usize| {
        wait_for("more lines", || {
            let ticks = ticks(&fs::read_to_string(&file).ok()?, 0);
            (ticks.len() >= count).then_some(ticks)
        })
    };
    for round in 1..=3 {
        reaches(50 * round);
        crate::test::kill(home.daemon());
    }
    let ticks = reaches(200);
    assert!(ticks.first() == Some(&0) && unbroken(&ticks), "{ticks:?}");
}
