//! What the census counts, and what it does not claim to know. Never sleeps: waits until all is counted.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::atomic::AtomicU32,
};

use super::*;

/// A file that is removed with the test, if it is not before.
struct Paper {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
}

impl Paper {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("bunpilot-census-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let file = Arc::new(open(&path));
        Self { path, file, size: 0 }
    }

    /// Writes `text`, and says so to `tally`.
    fn write(&mut self, tally: &Tally, text: &[u8]) -> Backlog {
        self.file.write_all_at(text, self.size).unwrap();
        let from = self.size;
        self.size += u64::try_from(text.len()).unwrap();
        tally.lines.wrote(&self.file, from, self.size)
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

/// Asks, waits until it is done, and tells what there is then.
fn counted(census: &Census, tally: &Arc<Tally>) -> Option<u64> {
    census.ask(tally);
    census.done().blocking_recv().unwrap();
    tally.lines.read()
}

#[test]
fn lines_are_counted_once_somebody_asks_and_each_once() {
    let (census, tally, mut paper) = (Census::default(), Arc::default(), Paper::new());
    assert!(!census.ask(&tally), "there is nothing to count");
    for _ in 0..1000 {
        // cut anywhere, over chunks too
        for piece in ["one\ntw", "o", "\n\nthr", &"x".repeat(1000), "ee\n"] {
            assert_eq!(paper.write(&tally, piece.as_bytes()), Backlog::Short);
        }
    }
    assert_eq!(tally.lines.read(), Some(0));
    assert_eq!(counted(&census, &tally), Some(4000));
    assert_eq!(counted(&census, &tally), Some(4000));
    tally.lines.seen(b"a\nb\nc");
    paper.write(&tally, b"\n");
    assert_eq!(counted(&census, &tally), Some(4003));
    assert_eq!(Arc::strong_count(&paper.file), 1, "the file is let go of");
}

#[test]
fn files_that_are_gone_are_counted_too() {
    let (census, tally) = (Census::default(), Arc::default());
    for round in 0..=SPANS_ENOUGH {
        let backlog = Paper::new().write(&tally, b"a\nb\n");
        let expected = if round < SPANS_ENOUGH { Backlog::Short } else { Backlog::Long };
        assert_eq!(backlog, expected, "{round}");
    }
    let files = u64::try_from(SPANS_ENOUGH).unwrap() + 1;
    assert_eq!(counted(&census, &tally), Some(2 * files));
}

/// Absent is honest, too few is not.
#[test]
fn what_cannot_be_counted_is_not_guessed() {
    let (census, cut, mut paper) = (Census::default(), Arc::default(), Paper::new());
    paper.write(&cut, b"a\nb\n");
    paper.file.set_len(1).unwrap();
    assert_eq!(counted(&census, &cut), None);
    assert!(cut.lines.is_counted(), "it is not tried for ever");

    let behind = Arc::default();
    for _ in 0..=SPANS_MAX {
        Paper::new().write(&behind, b"a\n");
    }
    assert_eq!(behind.lines.uncounted().len(), 1, "bounded");
    assert_eq!(counted(&census, &behind), None);
}

#[test]
fn a_stream_that_goes_on_is_counted_exactly_in_the_end() {
    let (census, tally) = (Census::default(), Arc::<Tally>::default());
    let mut paper = Paper::new();
    let writer = thread::spawn({
        let tally = Arc::clone(&tally);
        let census = census.clone();
        move || {
            for number in 0..20_000 {
                if paper.write(&tally, b"a line\n") == Backlog::Long {
                    census.ask(&tally);
                }
                if number % 1000 == 999 {
                    paper = Paper::new();
                }
            }
        }
    });
    let mut before = 0;
    while !writer.is_finished() {
        let now = counted(&census, &tally).unwrap();
        assert!(now >= before, "{now} after {before}");
        before = now;
    }
    writer.join().unwrap();
    assert_eq!(counted(&census, &tally), Some(20_000));
}
