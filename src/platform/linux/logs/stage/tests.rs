//! A daemon that dies at each step in turn, and the next one.

use std::{
    fs,
    io::{PipeReader, PipeWriter, Write as _},
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::domain::AppId;

const NOW: Moment = Moment::START;

/// A worker's pipe, a file, and a stage of which a copy is kept.
struct Scene {
    folder: PathBuf,
    source: PipeReader,
    worker: PipeWriter,
    stage: Stage,
    sink: Sink,
    peek: Peek,
}

impl Scene {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bunpilot-stage-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let (source, worker) = io::pipe().unwrap();
        let mut sink = Sink::new(folder.join("log"), Keep::new(NonZeroU64::MAX, NonZeroU16::MIN));
        sink.prepare(NOW).unwrap();
        sink.append(b"before\n").unwrap();
        let (stage, peek) = (Stage::new().unwrap(), Peek::new().unwrap());
        Self { folder, source, worker, stage, sink, peek }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Another daemon takes over what the guard kept of the first one's stage.
    fn next_daemon(&mut self) {
        let [pipe, journal] =
            self.stage.keepsakes().map(|(_, fd)| fd.try_clone_to_owned().unwrap());
        self.stage = Stage::kept(pipe, journal).unwrap();
        self.stage.recover(&mut self.peek, NOW).unwrap();
        self.sink.reopen();
        self.sink.prepare(NOW).unwrap();
    }

    /// What the daemon does with what waits, in its order, as far as `steps`.
    fn write(&mut self, form: &Form, steps: usize) {
        let Seen::Bytes(seen) = self.peek.look(self.source.as_fd(), 4096).unwrap() else { return };
        let (taken, mut bytes) = (seen.len(), Vec::new());
        let before = self.sink.before().unwrap();
        form.transcribe(seen, before, u64::MAX, Tail::More, "T", &mut bytes);
        let (path, form) = (self.sink.path().to_owned(), form.clone());
        let (file, offset) = self.sink.position().unwrap();
        let batch = Batch { path, form, tail: Tail::More, file, offset };
        let half = taken / 2;
        for step in 0..steps {
            match step {
                0 => self.stage.describe(&batch).unwrap(),
                1 => self.sink.append(&bytes[..bytes.len() / 2]).unwrap(),
                2 => self.sink.append(&bytes[bytes.len() / 2..]).unwrap(),
                3 => self.take(half),
                4 => self.take(taken - half),
                5 => self.stage.mark(Phase::Written).unwrap(),
                6 => drop(splice_some(self.stage.pipe.as_fd(), self.stage.null.as_fd(), half)),
                _ => self.stage.drain().unwrap(),
            }
        }
    }

    fn take(&self, bytes: usize) {
        let taken = splice_some(self.source.as_fd(), self.stage.pipe.as_fd(), bytes).unwrap();
        assert_eq!(taken, bytes);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn json() -> Form {
    let (app, worker) = ("api".parse().unwrap(), WorkerId::new(AppId(1), 0, 1));
    Form::Json(Label { app, worker, stream: Stream::Err })
}

/// The lines of a text without what stands around them.
fn bare(text: &str) -> Vec<String> {
    let bare = |line: &str| match line.split_once(r#""message":""#) {
        Some((_, message)) => message.trim_end_matches("\"}").to_owned(),
        None => line.rsplit_once(' ').map_or(line, |(_, line)| line).to_owned(),
    };
    text.lines().map(bare).collect()
}

#[test]
fn whoever_dies_after_any_step_every_line_is_written_once() {
    for form in [Form::Plain, Form::Timestamps, json()] {
        for steps in 0..=8 {
            let mut scene = Scene::new();
            scene.worker.write_all(b"one\ntwo\nthree\n").unwrap();
            scene.write(&form, steps);
            scene.next_daemon();
            scene.worker.write_all(b"four\n").unwrap();
            scene.write(&form, 8);
            let expected = ["before", "one", "two", "three", "four"];
            assert_eq!(bare(&scene.text()), expected, "died after step {steps} of {form:?}");
            scene.next_daemon();
            assert_eq!(bare(&scene.text()), expected, "a second death after step {steps}");
        }
    }
}

#[test]
fn a_batch_whose_file_cannot_be_written_waits_for_it() {
    let mut scene = Scene::new();
    scene.worker.write_all(b"one\n").unwrap();
    scene.write(&json(), 5);
    let log = scene.folder.join("log");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let [pipe, journal] = scene.stage.keepsakes().map(|(_, fd)| fd.try_clone_to_owned().unwrap());
    let mut stage = Stage::kept(pipe, journal).unwrap();
    assert!(stage.recover(&mut scene.peek, NOW).is_err());
    assert!(stage.is_taken());
    fs::remove_dir(&log).unwrap();
    stage.recover(&mut scene.peek, NOW).unwrap();
    assert!(!stage.is_taken());
    assert_eq!(bare(&scene.text()), ["one"]);
}

#[test]
fn a_journal_reads_as_it_was_written() {
    let stage = &mut Scene::new().stage;
    for (form, tail) in
        [(Form::Plain, Tail::More), (Form::Timestamps, Tail::More), (json(), Tail::Last)]
    {
        let file = FileId { device: 3, inode: 1 << 40 };
        let batch = Batch { path: "/a b/ü.log".into(), form, tail, file, offset: 77 };
        stage.describe(&batch).unwrap();
        assert_eq!(stage.read().unwrap(), Some(batch));
    }
    stage.mark(Phase::Written).unwrap();
    assert_eq!(stage.read().unwrap(), None);
    assert_eq!(read(&[1; 20]), None);
}
