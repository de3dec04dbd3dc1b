//! Real pipes, real files, both engines.

mod counted;
mod forms;
mod full_disk;
mod keeping;

use std::{
    fmt::Write as _,
    io::Write as _,
    num::{NonZeroU16, NonZeroU64},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use super::*;
use crate::logs::rotation::Slot;

/// How long a test waits for something that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

const BOTH: [Engine; 2] = [Engine::IoUring, Engine::Epoll];

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bunpilot-pump-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A pump on one engine and what it said.
struct Rig {
    pump: Pump,
    notices: Receiver<PumpNotice>,
}

impl Rig {
    fn new(engine: Engine) -> Self {
        let (tell, notices) = channel();
        let pump = Pump::start_on(engine, setup(), move |notice| drop(tell.send(notice))).unwrap();
        assert_eq!(pump.engine(), engine);
        Self { pump, notices }
    }

    /// Captures the output stream of worker `index` and returns its write end.
    fn capture(&mut self, index: u16, target: Target) -> io::PipeWriter {
        let (reader, writer) = io::pipe().unwrap();
        self.pump.capture(worker(index), Stream::Out, reader.into(), target).unwrap();
        writer
    }

    #[track_caller]
    fn next(&self) -> PumpNotice {
        self.notices.recv_timeout(PATIENCE).expect("the pump says something")
    }

    #[track_caller]
    fn closed(&self, index: u16) {
        assert_eq!(self.next(), PumpNotice::Closed(worker(index), Stream::Out));
    }

    /// Lines, once all are counted.
    fn lines(&self, index: u16) -> Option<u64> {
        if let Some(done) = self.pump.recount() {
            done.blocking_recv().unwrap();
        }
        self.counters(index).lines
    }

    fn counters(&self, index: u16) -> Counters {
        self.pump.counters(worker(index).instance, Stream::Out).unwrap()
    }
}

fn setup() -> Setup {
    let indexes = std::env::temp_dir().join(format!("bunpilot-pump-index-{}", std::process::id()));
    Setup { stage: Stage::new().unwrap(), indexes }
}

fn worker(index: u16) -> WorkerId {
    WorkerId::new(AppId(1), index, 1)
}

fn target(path: &Path, max_size_bytes: u64, max_files: u16) -> Target {
    Target {
        path: path.to_owned(),
        app: "app".parse().unwrap(),
        mode: LogMode::Raw,
        keep: Keep::new(
            NonZeroU64::new(max_size_bytes).unwrap(),
            NonZeroU16::new(max_files).unwrap(),
        ),
        files: LogFiles::Each,
        on_full: OnFull::Block,
        pipe_bytes: PIPE_BYTES,
    }
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 2 {
        if condition() {
            return;
        }
        pause();
    }
    panic!("waited in vain: {what}");
}

#[track_caller]
fn until_text(path: &Path, expected: &str) {
    let mut seen = String::new();
    for _ in 0..PATIENCE.as_millis() / 2 {
        seen = text(path);
        if seen == expected {
            return;
        }
        pause();
    }
    assert_eq!(seen, expected);
}

#[expect(clippy::disallowed_methods, reason = "looks again until a file is as expected")]
fn pause() {
    thread::sleep(Duration::from_millis(2));
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The files of a row, oldest first.
fn row(path: &Path) -> Vec<String> {
    let rotated = (1..).map(|slot| Slot::Rotated(slot).path(path)).take_while(|file| file.exists());
    let mut files: Vec<String> = rotated.map(|file| text(&file)).collect();
    files.reverse();
    files.push(text(path));
    files
}

/// Numbered lines of different lengths.
fn lines(name: &str, count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        writeln!(text, "{name} {i} {}", "x".repeat(i % 90)).unwrap();
    }
    text
}

/// Writes `text` in pieces of all sizes, most of which end within a line.
fn write_in_pieces(writer: &mut io::PipeWriter, text: &str) {
    let mut rest = text.as_bytes();
    let mut seed = 7_usize;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = if seed >> 62 == 0 { (seed >> 40) % 70_000 } else { (seed >> 40) % 200 };
        let (piece, later) = rest.split_at((size + 1).min(rest.len()));
        writer.write_all(piece).unwrap();
        rest = later;
    }
}

#[test]
fn every_line_arrives_once_and_files_are_cut_between_lines() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("deep/er/app.log");
        let mut rig = Rig::new(engine);
        let limit = 100_000;
        let mut writer = rig.capture(0, target(&path, limit, 500));
        let sent = lines("a", 300_000);
        write_in_pieces(&mut writer, &sent);
        drop(writer);
        rig.closed(0);
        let files = row(&path);
        assert!(files.concat() == sent, "{engine}: bytes differ");
        assert!(files.len() > 150, "{engine}: {} files", files.len());
        for file in &files {
            assert!(file.ends_with('\n') && file.len() <= 100_000, "{engine}: {}", file.len());
        }
        let counters = rig.counters(0);
        assert_eq!(counters.bytes, u64::try_from(sent.len()).unwrap());
        assert_eq!(rig.lines(0), Some(300_000));
        assert_eq!(counters.rotations, u64::try_from(files.len() - 1).unwrap());
    }
}

#[test]
fn the_smallest_limit_and_the_longest_lines_are_cut_right() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 1024, 2_000));
        let long = "y".repeat(1 << 20);
        let sent = format!("{}{long}\n{}no newline", lines("a", 2_000), lines("b", 2_000));
        write_in_pieces(&mut writer, &sent);
        drop(writer);
        rig.closed(0);
        let files = row(&path);
        assert!(files.concat() == sent, "{engine}: bytes differ");
        let (last, full) = files.split_last().unwrap();
        assert!(last.ends_with("no newline"));
        let is_long = |file: &&String| file.len() > 1024;
        assert_eq!(full.iter().filter(is_long).count(), 1, "{engine}");
        assert!(full.iter().all(|file| file.ends_with('\n')), "{engine}");
    }
}

#[test]
fn old_files_are_dropped_beyond_the_limit() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 2_000, 3));
    let sent = lines("a", 5_000);
    write_in_pieces(&mut writer, &sent);
    drop(writer);
    rig.closed(0);
    let files = row(&path);
    assert_eq!(files.len(), 4);
    assert!(sent.ends_with(&files.concat()));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 4);
}

#[test]
fn two_writers_of_one_file_never_tear_each_others_lines() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writers: Vec<_> =
            (0..2).map(|index| rig.capture(index, target(&path, 50_000, 500))).collect();
        let sent = [lines("a", 40_000), lines("b", 40_000)];
        thread::scope(|scope| {
            for (writer, text) in writers.drain(..).zip(&sent) {
                let mut writer = writer;
                scope.spawn(move || write_in_pieces(&mut writer, text));
            }
        });
        for _ in 0..2 {
            assert!(matches!(rig.next(), PumpNotice::Closed(..)));
        }
        let files = row(&path);
        assert!(files.iter().all(|file| file.ends_with('\n')), "{engine}");
        let all = files.concat();
        for (name, text) in ["a", "b"].iter().zip(&sent) {
            let own: String = all.split_inclusive('\n').filter(|l| l.starts_with(name)).collect();
            assert!(own == *text, "{engine}: lines of {name} differ");
        }
        assert_eq!(all.lines().count(), 80_000);
        assert_eq!([0, 1].map(|index| rig.lines(index)), [Some(40_000); 2], "{engine}");
    }
}

#[test]
fn half_a_line_waits_for_its_end_but_not_for_ever() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut first = rig.capture(0, target(&path, 50_000, 2));
    first.write_all(b"one, ").unwrap();
    until_text(&path, "one, ");
    let mut second = rig.capture(1, target(&path, 50_000, 2));
    second.write_all(b"three\nfo").unwrap();
    first.write_all(b"two\n").unwrap();
    until_text(&path, "one, two\nthree\n");
    until_text(&path, "one, two\nthree\nfo");
    second.write_all(b"ur\n").unwrap();
    until_text(&path, "one, two\nthree\nfour\n");
}

#[test]
fn what_others_do_to_the_file_is_noticed() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("sub/app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 50_000, 2));
        writer.write_all(b"one\n").unwrap();
        until_text(&path, "one\n");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        writer.write_all(b"two\n").unwrap();
        until_text(&path, "two\n");
        let moved = folder.0.join("moved");
        fs::rename(&path, &moved).unwrap();
        rig.pump.reopen().unwrap();
        writer.write_all(b"three\n").unwrap();
        until_text(&path, "three\n");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        writer.write_all(b"four\n").unwrap();
        until_text(&path, "four\n");
        fs::rename(&path, &moved).unwrap();
        let (mut count, mut expected) = (0, "four\n".to_owned());
        until("a rename is noticed by itself", || {
            count += 1;
            let line = format!("{count}\n");
            expected.push_str(&line);
            writer.write_all(line.as_bytes()).unwrap();
            path.exists()
        });
        drop(writer);
        rig.closed(0);
        assert_eq!(format!("{}{}", text(&moved), text(&path)), expected);
    }
}

#[test]
fn a_file_that_cannot_be_opened_blocks_and_resumes() {
    for engine in BOTH {
        let folder = Folder::new();
        let obstacle = folder.0.join("sub");
        fs::write(&obstacle, "").unwrap();
        let path = obstacle.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 50_000, 2));
        let sent = lines("a", 1_000);
        writer.write_all(sent.as_bytes()).unwrap();
        let PumpNotice::Blocked { path: blocked, reason } = rig.next() else { panic!() };
        assert_eq!(blocked, path);
        assert!(reason.contains("Not a directory"), "{reason}");
        until("blocked time", || rig.counters(0).blocked > Duration::from_millis(300));
        fs::remove_file(&obstacle).unwrap();
        assert!(matches!(rig.next(), PumpNotice::Resumed { .. }));
        drop(writer);
        rig.closed(0);
        assert_eq!(row(&path).concat(), sent);
    }
}

#[test]
fn a_rotation_that_fails_is_told_once_and_tried_again() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let obstacle = Slot::Rotated(1).path(&path);
    fs::create_dir(&obstacle).unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 5_000, 1));
    let sent = lines("a", 1_000);
    write_in_pieces(&mut writer, &sent);
    let failed = rig.next();
    assert!(matches!(failed, PumpNotice::RotationFailed { .. }), "{failed:?}");
    until("all in one file", || text(&path) == sent);
    fs::remove_dir(&obstacle).unwrap();
    until("a rotation", || {
        writer.write_all(b"later\n").unwrap();
        obstacle.exists()
    });
    drop(writer);
    rig.closed(0);
    assert!(row(&path).concat().starts_with(&sent));
}

#[test]
fn last_words_are_kept_though_a_stranger_holds_the_pipe() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 50_000, 2));
        writer.write_all(b"last words").unwrap();
        rig.pump.retire(worker(0)).unwrap();
        rig.closed(0);
        assert_eq!(text(&path), "last words");
        assert!(writer.write_all(b"x").is_err(), "the read end is closed");
    }
}

#[test]
fn ended_workers_before_a_closed_door_are_bounded_and_counted() {
    let folder = Folder::new();
    let path = folder.0.join("sub/app.log");
    fs::write(folder.0.join("sub"), "").unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let last = u16::try_from(STRANDED_MAX).unwrap();
    for index in 0..=last {
        let mut writer = rig.capture(index, target(&path, 50_000, 2));
        writer.write_all(b"help\n").unwrap();
        drop(writer);
        rig.pump.retire(worker(index)).unwrap();
    }
    assert!(matches!(rig.next(), PumpNotice::Blocked { .. }));
    let dropped = PumpNotice::Dropped { worker: worker(0), stream: Stream::Out, bytes: 5 };
    assert_eq!(rig.next(), dropped);
    rig.closed(0);
    assert_eq!(rig.counters(0).dropped_bytes, 5);
    fs::remove_file(folder.0.join("sub")).unwrap();
    until("the others' words", || text(&path) == "help\n".repeat(STRANDED_MAX));
}

#[test]
fn a_half_done_rotation_is_finished_before_writing() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    fs::write(&path, "old\n").unwrap();
    fs::hard_link(&path, Slot::Rotated(1).path(&path)).unwrap();
    fs::write(Slot::Fresh.path(&path), "").unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 50_000, 2));
    writer.write_all(b"new\n").unwrap();
    drop(writer);
    rig.closed(0);
    assert_eq!(row(&path), ["old\n", "new\n"]);
    assert!(!Slot::Fresh.path(&path).exists());
}

#[test]
fn a_device_takes_everything_and_is_never_rotated() {
    let folder = Folder::new();
    let path = folder.0.join("null");
    symlink("/dev/null", &path).unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 1_024, 2));
    let sent = lines("a", 20_000);
    write_in_pieces(&mut writer, &sent);
    drop(writer);
    rig.closed(0);
    assert_eq!(rig.counters(0).bytes, u64::try_from(sent.len()).unwrap());
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/null"));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn only_pipes_are_captured() {
    let mut rig = Rig::new(Engine::Epoll);
    let file = fs::File::open("/dev/null").unwrap();
    let refused =
        rig.pump.capture(worker(0), Stream::Out, file.into(), target(Path::new("/x"), 1, 1));
    assert!(matches!(refused, Err(PumpError::NotAPipe { .. })));
}

/// One signal after the other must reach the pump, also those given while nothing else happens.
#[test]
fn every_command_is_heard() {
    for engine in BOTH {
        let folder = Folder::new();
        let mut rig = Rig::new(engine);
        for index in 0..20 {
            let writer = rig.capture(index, target(&folder.0.join("out.log"), 1 << 20, 1));
            rig.pump.retire(worker(index)).unwrap();
            rig.closed(index);
            drop(writer);
        }
        rig.pump.shutdown();
    }
}

#[test]
fn shutdown_moves_what_waits() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 50_000, 2));
        writer.write_all(b"before the end\n").unwrap();
        rig.pump.shutdown();
        assert_eq!(text(&path), "before the end\n");
    }
}
