//! Lines written as records: nothing lost, nothing torn, each in an object of its own.

use super::*;

fn formed(path: &Path, mode: LogMode, max_size_bytes: u64) -> Target {
    Target { mode, ..target(path, max_size_bytes, 900) }
}

/// The lines in the records of `text`.
fn bare(mode: LogMode, text: &str) -> Vec<String> {
    let bare = |record: &str| match mode {
        LogMode::Json => {
            let record: serde_json::Value = serde_json::from_str(record).expect(record);
            record["message"].as_str().unwrap().to_owned()
        }
        LogMode::Timestamps => {
            let (time, line) = record.split_at("2026-11-24T15:41:20.123Z ".len());
            assert!(time.starts_with("20") && time.ends_with("Z "), "{record}");
            line.to_owned()
        }
        LogMode::Raw | LogMode::Off => record.to_owned(),
    };
    text.lines().map(bare).collect()
}

#[test]
fn every_line_has_one_record_whatever_the_writes_were() {
    for (engine, mode) in BOTH
        .into_iter()
        .flat_map(|engine| [LogMode::Timestamps, LogMode::Json].map(|mode| (engine, mode)))
    {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, formed(&path, mode, 100_000));
        let long = "\"ä".repeat(400_000);
        let sent = format!("{}{long}\n{}no newline", lines("a", 40_000), lines("b", 5_000));
        write_in_pieces(&mut writer, &sent);
        drop(writer);
        rig.closed(0);
        let files = row(&path);
        assert!(files.iter().all(|file| file.ends_with('\n')), "{engine} {mode:?}");
        let over = files.iter().filter(|file| file.len() > 100_000).count();
        assert!(over == 1 && files.len() > 20, "{engine} {mode:?}: {over} of {}", files.len());
        let told = bare(mode, &files.concat());
        assert!(told.iter().map(String::as_str).eq(sent.lines()), "{engine} {mode:?}");
        assert_eq!(rig.counters(0).bytes, u64::try_from(sent.len()).unwrap());
        assert_eq!(rig.lines(0), Some(45_001), "{engine} {mode:?}: of the worker's own");
    }
}

#[test]
fn writers_of_one_file_keep_their_records_apart() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut writers: Vec<_> =
        (0..3).map(|index| rig.capture(index, formed(&path, LogMode::Json, 1 << 30))).collect();
    let sent = ["a", "b", "c"].map(|name| {
        format!("{}{name} {}\n{}", lines(name, 5_000), "x".repeat(900_000), lines(name, 5_000))
    });
    thread::scope(|scope| {
        for (mut writer, text) in writers.drain(..).zip(&sent) {
            scope.spawn(move || write_in_pieces(&mut writer, text));
        }
    });
    for _ in &sent {
        assert!(matches!(rig.next(), PumpNotice::Closed(..)));
    }
    let told = bare(LogMode::Json, &text(&path));
    for (name, text) in ["a", "b", "c"].iter().zip(&sent) {
        let own = told.iter().filter(|line| line.starts_with(name)).map(String::as_str);
        assert!(own.eq(text.lines()), "lines of {name} differ");
    }
}

#[test]
fn half_a_line_is_no_record_before_its_end_or_the_workers() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, formed(&path, LogMode::Timestamps, 50_000));
    writer.write_all(b"one\ntw").unwrap();
    until("the whole line", || text(&path).ends_with(" one\n"));
    writer.write_all(b"o\nlast").unwrap();
    until("the other half", || text(&path).ends_with(" two\n"));
    rig.pump.retire(worker(0)).unwrap();
    rig.closed(0);
    assert_eq!(bare(LogMode::Timestamps, &text(&path)), ["one", "two", "last"]);
    assert!(text(&path).ends_with('\n'));
}

/// The next daemon does not know whose half line ends a file, so there must be none.
#[test]
fn a_merged_file_ends_with_whole_lines_whoever_was_there_first() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let merged = || Target { files: LogFiles::Merged, ..target(&path, 50_000, 2) };
        let mut rig = Rig::new(engine);
        let (reader, mut first) = io::pipe().unwrap();
        let kept = reader.try_clone().unwrap();
        rig.pump.capture(worker(0), Stream::Out, reader.into(), merged()).unwrap();
        first.write_all(b"one\ntw").unwrap();
        until_text(&path, "one\n");
        drop(rig);
        let mut rig = Rig::new(engine);
        let mut second = rig.capture(1, merged());
        second.write_all(b"other\n").unwrap();
        until_text(&path, "one\nother\n");
        rig.pump.capture(worker(0), Stream::Out, kept.into(), merged()).unwrap();
        first.write_all(b"o\nlast").unwrap();
        until_text(&path, "one\nother\ntwo\n");
        drop(first);
        rig.closed(0);
        second.write_all(b"end\n").unwrap();
        until_text(&path, "one\nother\ntwo\nlast\nend\n");
    }
}
