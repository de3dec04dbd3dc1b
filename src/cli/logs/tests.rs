//! Real files, and followers on threads of their own.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::fd::AsFd as _,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use super::*;
use crate::logs::{rotation::Slot, stamp::Face};

/// A home's log folder that goes with the test.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bunpilot-logs-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("api")).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("api").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let file = self.file(name);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Puts the current file aside as the pump does, keeping every full one.
    fn rotate(&self, name: &str) {
        let path = self.file(name);
        let slot = |number| Slot::Rotated(number).path(&path);
        let full = (1..1_000).take_while(|number| slot(*number).exists()).count();
        for number in (1..=u16::try_from(full).unwrap()).rev() {
            fs::rename(slot(number), slot(number + 1)).unwrap();
        }
        fs::write(Slot::Fresh.path(&path), "").unwrap();
        fs::hard_link(&path, slot(1)).unwrap();
        fs::rename(Slot::Fresh.path(&path), &path).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The last lines of both streams, as they are.
fn last(lines: u64) -> Options<'static> {
    Options {
        lines: Lines::Last(lines),
        mode: Mode::Once,
        streams: Streams::Both,
        window: Window::ALWAYS,
        sieve: None,
        shape: Shape::Raw,
        times: PathBuf::new(),
        hangup: None,
    }
}

/// The same under their labels.
fn labelled(lines: u64) -> Options<'static> {
    Options { shape: text(Label::Shown, None), ..last(lines) }
}

fn text(label: Label, face: Option<Face>) -> Shape {
    Shape::Text(Text { label, colour: Colour::Never, face, highlight: None })
}

#[track_caller]
fn check(home: &Home, options: &Options<'_>, expected: &str) {
    let (shown, notes) = told(home, options);
    assert_eq!(shown, expected);
    assert_eq!(notes, "");
}

/// What is shown of `api`, and what is remarked.
fn told(home: &Home, options: &Options<'_>) -> (String, String) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let sources = scan(&home.0, Some("api"));
    run(sources, &mut |_| Vec::new(), options, &mut out, &mut notes).unwrap();
    (String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
}

#[test]
fn the_last_lines_reach_into_rotated_files() {
    let home = Home::new();
    home.write("api-0-out.log.2", "1\n2\n");
    home.write("api-0-out.log.1", "3\n4\n");
    home.write("api-0-out.log", "5\nend");
    let ask = last;
    check(&home, &ask(0), "");
    check(&home, &ask(1), "end");
    check(&home, &ask(2), "5\nend");
    check(&home, &ask(4), "3\n4\n5\nend");
    check(&home, &ask(50), "1\n2\n3\n4\n5\nend");
    home.write("api-0-out.log", "");
    check(&home, &ask(3), "2\n3\n4\n");
}

#[test]
fn all_workers_and_streams_are_shown_under_their_labels() {
    let home = Home::new();
    home.write("api-10-out.log", "ten\n");
    home.write("api-2-err.log", "two, wrong\n");
    home.write("api-2-out.log", "two\n");
    home.write("unrelated.log", "x\n");
    let age = |name: &str, seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(home.file(name)).unwrap().set_modified(time).unwrap();
    };
    age("api-2-out.log", 20);
    age("api-2-err.log", 30);
    age("api-10-out.log", 10);
    let all = "api:10 │ ten\napi:2  │ two\napi:2  ┃ two, wrong\n";
    check(&home, &labelled(50), all);
    let errors = Options { streams: Streams::Only(Stream::Err), ..labelled(50) };
    check(&home, &errors, "api:2 ┃ two, wrong\n");
}

/// A follower whose output is read through a pipe, as by `| grep`.
struct Follower {
    lines: BufReader<io::PipeReader>,
    thread: JoinHandle<Result<Shown, LogsError>>,
}

impl Follower {
    fn start(home: &Home, options: Options<'static>) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let home = home.0.clone();
        let thread = thread::spawn(move || {
            let hangup = writer.try_clone().unwrap();
            let hangup = Some(hangup.as_fd());
            let options = Options { mode: Mode::Follow, hangup, ..options };
            let mut rescan = |_| scan(&home, None);
            let sources = scan(&home, None);
            run(sources, &mut rescan, &options, &mut { writer }, &mut io::stderr())
        });
        Self { lines: BufReader::new(reader), thread }
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }

    /// Stops reading; the follower must end well, though no line comes.
    fn hang_up(self) {
        drop(self.lines);
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_follower_loses_and_repeats_nothing_over_fifty_rotations() {
    let home = Home::new();
    home.write("api-0-out.log", "");
    let mut follower = Follower::start(&home, last(u64::MAX));
    let mut sent = String::new();
    for rotation in 0..50 {
        for part in 0..20 {
            let mut text = String::new();
            for line in 0..100 {
                writeln!(text, "{rotation} {part} {line}").unwrap();
            }
            home.append("api-0-out.log", &text);
            sent.push_str(&text);
        }
        home.rotate("api-0-out.log");
    }
    let mut got = vec![0; sent.len()];
    follower.lines.read_exact(&mut got).unwrap();
    assert!(got == sent.as_bytes(), "bytes differ");
    follower.hang_up();
}

#[test]
fn a_follower_begins_where_its_backlog_ends() {
    let home = Home::new();
    home.write("api-0-out.log", "1\n2\n3\nfo");
    let mut follower = Follower::start(&home, labelled(2));
    follower.expect("api:0 │ 3\n");
    home.append("api-0-out.log", "ur\n5\n");
    follower.expect("api:0 │ four\n");
    follower.expect("api:0 │ 5\n");
    follower.hang_up();
}

#[test]
fn workers_and_apps_that_appear_later_are_followed_from_their_first_line() {
    let home = Home::new();
    home.write("api-0-out.log", "old\n");
    let mut follower = Follower::start(&home, labelled(1));
    follower.expect("api:0 │ old\n");
    home.append("api-1-err.log", "first\nsecond\n");
    follower.expect("api:1 ┃ first\n");
    follower.expect("api:1 ┃ second\n");
    fs::create_dir(home.0.join("later")).unwrap();
    fs::write(home.0.join("later/later-0-out.log"), "a\nb\n").unwrap();
    follower.expect("later:0 │ a\n");
    follower.expect("later:0 │ b\n");
    home.append("api-0-out.log", "new\n");
    follower.expect("api:0   │ new\n");
    follower.hang_up();
}

#[test]
fn a_truncated_and_a_recreated_file_are_read_from_their_start() {
    let home = Home::new();
    home.write("api-0-out.log", "a long line to be cut\n");
    let mut follower = Follower::start(&home, labelled(1));
    follower.expect("api:0 │ a long line to be cut\n");
    home.write("api-0-out.log", "short\n");
    follower.expect("api:0 │ short\n");
    fs::remove_file(home.file("api-0-out.log")).unwrap();
    home.write("api-0-out.log", "new\n");
    follower.expect("api:0 │ new\n");
    follower.hang_up();
}

#[test]
fn output_nobody_reads_ends_well() {
    let home = Home::new();
    home.write("api-0-out.log", &"x\n".repeat(100_000));
    let (reader, mut writer) = io::pipe().unwrap();
    drop(reader);
    let sources = scan(&home.0, None);
    let options = labelled(u64::MAX);
    run(sources, &mut |_| Vec::new(), &options, &mut writer, &mut io::sink()).unwrap();
}

#[test]
fn a_line_of_megabytes_stays_one_line() {
    let home = Home::new();
    let long = "x".repeat(3 << 20);
    home.write("api-0-out.log", &format!("{long}\nend\n"));
    let expected = format!("api:0 │ {long}\napi:0 │ end\n");
    check(&home, &labelled(2), &expected);
}
