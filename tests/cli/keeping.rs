//! Log files that are full, old or unwanted: packed, rotated, removed, and no line lost over it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::test::{Home, Luck, Tool, declared, kill, merge, need, rounds, wait_for};

/// An app that writes numbered lines, two thousand a second.
fn scribe(logs: &Value) -> Value {
    let mut app = declared("scribe", "scribe.py", json!({ "env": { "EVERY": "0.0005" } }));
    merge(&mut app, json!({ "logs": logs }));
    app
}

/// The text of a log file, however it is packed.
fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path).unwrap();
    match path.extension().and_then(|it| it.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text),
        Some("zst") => zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text),
        _ => (&file).read_to_string(&mut text),
    }
    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}

/// The files of a row by number, the oldest first; 0 is the current one.
fn row(home: &Home) -> Vec<(u32, PathBuf)> {
    let current = home.log("scribe", "scribe-0-out.log");
    let Ok(folder) = fs::read_dir(current.parent().unwrap()) else { return Vec::new() };
    let mut files: Vec<(u32, PathBuf)> = folder
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let rest = name.strip_prefix("scribe-0-out.log")?;
            let number = rest.trim_start_matches('.').split('.').next()?;
            let number = if rest.is_empty() { 0 } else { number.parse().ok()? };
            Some((number, current.with_file_name(name)))
        })
        .collect();
    files.sort();
    files.reverse();
    files
}

fn text(home: &Home) -> String {
    row(home).iter().map(|(_, path)| unpacked(path)).collect()
}

/// The numbers of the lines of each worker, by pid, and the count it ended with.
fn written(text: &str) -> BTreeMap<u32, (Vec<u64>, Option<u64>)> {
    let mut all = BTreeMap::<u32, (Vec<u64>, Option<u64>)>::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [pid, "end", count] => {
                all.entry(pid.parse().unwrap()).or_default().1 = Some(count.parse().unwrap());
            }
            [pid, number] => {
                all.entry(pid.parse().unwrap()).or_default().0.push(number.parse().unwrap());
            }
            _ => panic!("a torn line: {line:?}"),
        }
    }
    all
}

/// Whether nothing of the row is left to pack.
fn is_packed(home: &Home) -> bool {
    let packing = home.log("scribe", "scribe-0-out.log.packing.zst");
    let rotated = row(home).into_iter().filter(|(number, _)| *number > 0);
    !packing.exists() && rotated.into_iter().all(|(_, it)| it.extension().unwrap() == "zst")
}

/// Daemons are killed while files are rotated and packed; the second app packs in another way.
#[test]
fn every_line_is_in_the_row_once_however_it_is_packed_and_whoever_dies() {
    need!(Tool::Python);
    let mut luck = Luck::new("every line is in the row once");
    let home = Home::new();
    for how in ["gzip", "zstd"] {
        let logs = json!({ "maxSize": 3072, "maxFiles": 100, "compress": how });
        home.start([scribe(&logs)]).succeeded();
        for _ in 0..rounds(6) {
            luck.dawdle(Duration::from_millis(300));
            kill(home.daemon());
            home.online("scribe", 1);
        }
        home.ok(["delete", "scribe", "--yes"]);
    }
    let logs = json!({ "maxSize": 3072, "maxFiles": 100, "compress": "zstd" });
    home.start([scribe(&logs)]).succeeded();
    let third = home.online("scribe", 1)[0].pid;
    wait_for("the third worker's first line", || {
        let current = fs::read_to_string(home.log("scribe", "scribe-0-out.log"));
        current.is_ok_and(|it| it.contains(&format!("{third} "))).then_some(())
    });
    wait_for("what the dead left to be packed", || {
        let plain = row(&home).into_iter().filter(|(number, it)| {
            *number > 0 && it.extension().is_some_and(|it| it != "gz" && it != "zst")
        });
        (plain.count() == 0).then_some(())
    });
    home.ok(["stop", "scribe"]);
    wait_for("the rest to be packed", || {
        let packing = ["gz", "zst"].map(|it| format!("scribe-0-out.log.packing.{it}"));
        let half = packing.iter().any(|it| home.log("scribe", it).exists());
        let all = row(&home).into_iter().filter(|(number, _)| *number > 0);
        let packed = |it: PathBuf| it.extension().is_some_and(|it| it == "gz" || it == "zst");
        (!half && all.into_iter().all(|(_, it)| packed(it))).then_some(())
    });
    let files = row(&home);
    let numbers: Vec<u32> = files.iter().rev().map(|(number, _)| *number).collect();
    let count = u32::try_from(files.len()).unwrap();
    assert!(numbers.iter().copied().eq(0..count) && count > 10 && count < 100, "{numbers:?}");
    let both = ["gz", "zst"].map(|how| files.iter().any(|(_, it)| it.extension().unwrap() == how));
    assert_eq!(both, [true, true], "{files:?}");
    let written = written(&text(&home));
    assert_eq!(written.len(), 3);
    for (pid, (numbers, end)) in written {
        assert!((0..).zip(&numbers).all(|(at, it)| at == *it), "{pid}: lost, doubled or swapped");
        assert_eq!(end, Some(u64::try_from(numbers.len()).unwrap()), "{pid}: its last line");
    }
}

/// A second is a day here.
#[test]
fn files_end_with_their_period_and_go_with_their_age() {
    need!(Tool::Python);
    let home = Home::new();
    let logs = json!({ "rotateEvery": "1s", "maxAge": "3s", "maxFiles": 100 });
    home.start([scribe(&logs)]).succeeded();
    // Found by name, for numbers change.
    let first = || unpacked(&row(&home).first().unwrap().1);
    wait_for("three periods", || (row(&home).len() > 3).then_some(()));
    assert!(first().contains(" 0\n"), "the first line is gone already");
    kill(home.daemon());
    wait_for("the first file to be too old", || {
        let begin = row(&home).first().map(|(_, path)| fs::read_to_string(path))?.ok()?;
        (!begin.lines().next()?.ends_with(" 0")).then_some(())
    });
    home.ok(["stop", "scribe"]);
    let count = row(&home).len();
    assert!((3..=7).contains(&count), "{count} files");
    for (pid, (numbers, _)) in written(&text(&home)) {
        assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{pid}: lost, doubled or swapped");
    }
}

#[test]
fn flush_and_rotate_lose_nothing_that_comes_later() {
    need!(Tool::Python);
    let home = Home::new();
    let logs = json!({ "maxSize": 4096, "maxFiles": 100, "compress": "zstd" });
    home.start([scribe(&logs)]).succeeded();
    wait_for("rotations", || (row(&home).len() > 3).then_some(()));
    let flushed: Value = serde_json::from_str(&home.ok(["flush", "scribe", "--json"])).unwrap();
    assert_eq!((&flushed["action"], &flushed["apps"]), (&json!("flushed"), &json!(["scribe"])));
    assert!(flushed["files"].as_u64() > Some(3) && flushed["freedBytes"].as_u64() > Some(300));
    let before = row(&home).len();
    wait_for("a line to rotate", || {
        let rotated: Value =
            serde_json::from_str(&home.ok(["rotate", "scribe:0", "--json"])).unwrap();
        (rotated["files"] == 1).then_some(())
    });
    assert!(row(&home).len() > before);
    home.run(["flush", "scribe:3"]).refused("no instance 3");
    home.run(["rotate", "nobody"]).refused("not found");
    home.ok(["stop", "scribe"]);
    // The pump may still write its last words when the worker is gone already.
    let (numbers, end) = wait_for("its last line, and all to be packed", || {
        let (_, scribe) = written(&text(&home)).pop_first()?;
        (scribe.1.is_some() && is_packed(&home)).then_some(scribe)
    });
    assert!(numbers[0] > 100, "nothing was flushed");
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "a line that came later is lost");
    assert_eq!(end, numbers.last().map(|it| it + 1));
    // The app is stopped, and its files can be rotated and emptied all the same.
    home.ok(["rotate", "all"]);
    assert_eq!(fs::read_to_string(home.log("scribe", "scribe-0-out.log")).unwrap(), "");
    let told = home.ok(["flush"]);
    assert!(told.contains("\"all\" flushed: "), "{told}");
    wait_for("nothing but an empty file", || (text(&home).is_empty()).then_some(()));
    assert_eq!(row(&home).len(), 1);
}
