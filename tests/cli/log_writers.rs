//! Programs that write in every way there is, unmodified: their files hold what they wrote, byte
//! for byte.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::test::{Home, Tool, declared, need, wait_for};

/// `maxFiles`, its maximum, and a size that makes files of everything that is written.
const FILES_MAX: u32 = 100;
const MAX_SIZE: u32 = 1 << 20;

/// All that is kept of a stream, oldest first.
fn kept(home: &Home, stream: &str) -> Vec<u8> {
    let current = home.log("w", &format!("w-0-{stream}.log"));
    let rotated = |number: u32| PathBuf::from(format!("{}.{number}", current.display()));
    let older = (1..=FILES_MAX).rev().map(rotated).filter(|it| it.exists());
    older.chain([current.clone()]).flat_map(|it| fs::read(it).unwrap_or_default()).collect()
}

/// Letters; the programs in `apps/writer.*` make the same.
fn text(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// Starts `script` by `program` to write as `how` says; it tells in a file when it has.
fn written(program: &Path, script: &str, how: &str) -> Home {
    let home = Home::new();
    let more = json!({
        "interpreter": program,
        "env": { "HOW": how, "DONE": home.path("done") },
        "logs": { "maxSize": MAX_SIZE, "maxFiles": FILES_MAX },
    });
    home.start([declared("w", script, more)]).succeeded();
    wait_for("all to be written", || home.path("done").exists().then_some(()));
    home
}

#[track_caller]
fn same(found: &[u8], expected: &[u8], what: &str) {
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    let at = differs.unwrap_or(found.len().min(expected.len()));
    let around = |all: &[u8]| {
        let part = all.get(at.saturating_sub(20)..(at + 20).min(all.len())).unwrap_or_default();
        String::from_utf8_lossy(part).into_owned()
    };
    assert!(
        found == expected,
        "{what}: {} bytes instead of {}; at {at} {:?} instead of {:?}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}

/// All ways but those that end the program.
#[track_caller]
fn every_way(program: &Path, script: &str) {
    let eight = text(8 << 20);
    let long = [text(1 << 20), b"\n".to_vec()].concat().repeat(3);
    let nul = b"a\0b\0\0\nc\0\n".repeat(1_000);
    let ways: [(&str, &[u8]); 4] =
        [("eight", &eight), ("long", &long), ("nul", &nul), ("tail", b"one\ntwo\nno newline")];
    for (how, expected) in ways {
        let home = written(program, script, how);
        home.ok(["stop", "w", "--force"]);
        home.ok(["daemon", "stop"]);
        same(&kept(&home, "out"), expected, how);
    }
    threads(program, script);
    closed(program, script);
    last_words(program, script);
}

/// Many threads write lines at once: each is whole, and those of a thread are in order.
#[track_caller]
fn threads(program: &Path, script: &str) {
    const THREADS: usize = 4;
    const LINES: usize = 2_000;
    let home = written(program, script, "threads");
    home.ok(["stop", "w", "--force"]);
    home.ok(["daemon", "stop"]);
    let all = String::from_utf8(kept(&home, "out")).unwrap();
    let mut next = [0; THREADS];
    for line in all.split_terminator('\n') {
        let words: Vec<_> = line.split(' ').collect();
        let [thread, number, "a", "line"] = words[..] else { panic!("a torn line: {line}") };
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(number, next.to_string(), "of thread {thread}");
        *next += 1;
    }
    assert_eq!(next, [LINES; THREADS]);
}

/// A program that closes its standard output lives on, and is heard on its standard error.
#[track_caller]
fn closed(program: &Path, script: &str) {
    let home = written(program, script, "closed");
    wait_for("what is written to the open one", || {
        (kept(&home, "err") == b"still here\n").then_some(())
    });
    assert_eq!(kept(&home, "out"), b"before\n");
    assert_eq!(home.online("w", 1)[0].restarts, 0);
    home.ok(["stop", "w", "--force"]);
}

/// What a program wrote before SIGKILL is kept, though it had no time to end its line. Its next
/// life writes nothing.
#[track_caller]
fn last_words(program: &Path, script: &str) {
    let home = written(program, script, "killed");
    home.write("done.go", "");
    wait_for("the next life", || {
        home.rows("w").iter().any(|it| it.restarts == 1 && it.state == "online").then_some(())
    });
    home.ok(["stop", "w", "--force"]);
    home.ok(["daemon", "stop"]);
    let expected = [b"last words\n".repeat(3_000), b"and no".to_vec()].concat();
    same(&kept(&home, "out"), &expected, "last words");
}

#[test]
fn python_is_kept_byte_for_byte() {
    every_way(&need!(Tool::Python), "writer.py");
}

#[test]
fn node_is_kept_byte_for_byte() {
    every_way(&need!(Tool::Node), "writer.mjs");
}

#[test]
fn bun_is_kept_byte_for_byte() {
    every_way(&need!(Tool::Bun), "writer.mjs");
}
