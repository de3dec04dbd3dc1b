//! Real files, and followers on threads of their own.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

mod storm;
mod times;

use super::*;
use crate::{
    domain::Compression,
    logs::{
        index::{self, Entry, Header},
        packed,
        rotation::{self, FileId, Slot, Step},
        sieve::{Case, Kept, Pattern},
        stamp::Face,
    },
};

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
        self.rotate_keeping(name, u16::MAX);
    }

    /// Puts the current file aside, keeping so many full ones.
    fn rotate_keeping(&self, name: &str, max_files: u16) {
        let path = self.file(name);
        let files = rotation::row(|slot| slot.path(&path).exists());
        for step in rotation::plan(max_files.try_into().unwrap(), &files) {
            carry_out(step, &path);
        }
    }

    /// Packs a full file as the pump does.
    fn pack(&self, name: &str, number: u16, how: Compression) {
        let path = self.file(name);
        let plain = Slot::Rotated(number).path(&path);
        let text = fs::read(&plain).unwrap();
        let origin = id(&plain);
        let packing = Slot::Packing(how).path(&path);
        fs::write(&packing, packed_of(&text, origin, how)).unwrap();
        let written = fs::metadata(&plain).unwrap().modified().unwrap();
        fs::File::open(&packing).unwrap().set_modified(written).unwrap();
        let index = index::path(&self.index(), origin);
        if index.exists() {
            fs::rename(index, index::path(&self.index(), id(&packing))).unwrap();
        }
        // Packing takes longer than files' clocks need to tick; so short a test does not.
        let begun = tick();
        while tick() == begun {
            thread::yield_now();
        }
        for step in rotation::adopt(number, how) {
            carry_out(step, &path);
        }
    }

    fn index(&self) -> PathBuf {
        self.0.join(".index")
    }

    /// Says in the index of a file when its bytes from some offsets on were written.
    fn dated(&self, name: &str, entries: &[(u64, u64)]) {
        fs::create_dir_all(self.index()).unwrap();
        let file = fs::File::create(index::path(&self.index(), id(&self.file(name)))).unwrap();
        file.write_all_at(&Header { born_unix_micros: 0 }.block(), 0).unwrap();
        let mut writer = index::Writer::new(0);
        for (offset, unix_micros) in entries {
            let piece = writer.push(Entry { offset: *offset, unix_micros: *unix_micros });
            file.write_all_at(&piece.bytes, piece.at).unwrap();
        }
    }
}

fn id(path: &Path) -> FileId {
    let facts = fs::metadata(path).unwrap();
    FileId { device: facts.dev(), inode: facts.ino() }
}

fn carry_out(step: Step, current: &Path) {
    match step {
        Step::Create => fs::write(Slot::Fresh.path(current), ""),
        Step::Remove(slot) => fs::remove_file(slot.path(current)),
        Step::Rename(from, to) => fs::rename(from.path(current), to.path(current)),
        Step::Link(from, to) => fs::hard_link(from.path(current), to.path(current)),
    }
    .unwrap();
}

/// The clock that file systems stamp files with.
fn tick() -> rustix::time::Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse)
}

/// Two members, or frames, as `cat` makes of two packed files.
fn packed_of(text: &[u8], origin: FileId, how: Compression) -> Vec<u8> {
    let (first, second) = text.split_at(text.len() / 2);
    match how {
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let head = flate2::GzBuilder::new().extra(packed::gzip_extra(origin));
            let mut one = head.write(Vec::new(), level);
            one.write_all(first).unwrap();
            let mut two = flate2::write::GzEncoder::new(one.finish().unwrap(), level);
            two.write_all(second).unwrap();
            two.finish().unwrap()
        }
        Compression::Zstd => {
            let pack = |part| zstd::bulk::compress(part, 1).unwrap();
            [packed::zstd_frame(origin), pack(first), pack(second)].concat()
        }
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
    assert!(shown == expected, "{} of {}: {:.200}", shown.len(), expected.len(), shown);
    assert_eq!(notes, "");
}

/// What is shown of `api`, and what is remarked.
fn told(home: &Home, options: &Options<'_>) -> (String, String) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let sources = scan(&home.0, Some("api"));
    let options = &Options { times: home.index(), ..options.clone() };
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
    notes: BufReader<io::PipeReader>,
    thread: JoinHandle<Result<Shown, LogsError>>,
}

impl Follower {
    fn start(home: &Home, options: Options<'static>) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let (notes, mut remarks) = io::pipe().unwrap();
        let home = home.0.clone();
        let thread = thread::spawn(move || {
            let hangup = writer.try_clone().unwrap();
            let hangup = Some(hangup.as_fd());
            let options = Options { mode: Mode::Follow, hangup, ..options };
            let mut rescan = |_| scan(&home, None);
            let sources = scan(&home, None);
            run(sources, &mut rescan, &options, &mut { writer }, &mut remarks)
        });
        Self { lines: BufReader::new(reader), notes: BufReader::new(notes), thread }
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }

    /// Stops reading; the follower must end well, though no line comes, and have nothing to remark.
    fn hang_up(self) {
        assert_eq!(self.remarks(), "");
    }

    /// Stops reading; what was remarked.
    fn remarks(mut self) -> String {
        drop(self.lines);
        self.thread.join().unwrap().unwrap();
        let mut remarks = String::new();
        self.notes.read_to_string(&mut remarks).unwrap();
        remarks
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

#[test]
fn packed_files_are_read_as_others_are() {
    for how in Compression::ALL {
        let home = Home::new();
        let mut expected = String::new();
        for file in 0..4 {
            let lines: Vec<String> = (0..3000).map(|line| format!("{file} {line}\n")).collect();
            let lines = lines.concat();
            home.append("api-0-out.log", &lines);
            expected.push_str(&lines);
            home.rotate("api-0-out.log");
        }
        home.pack("api-0-out.log", 4, how);
        home.pack("api-0-out.log", 3, how);
        home.pack("api-0-out.log", 2, how);
        check(&home, &Options { lines: Lines::All, ..last(0) }, &expected);
        let lines: Vec<&str> = expected.split_inclusive('\n').collect();
        for count in [0, 1, 2999, 3000, 3001, 4321, 6000, 9000, 9001, 11_999, 12_000, 99_999] {
            let from = lines.len().saturating_sub(count);
            check(&home, &last(count.try_into().unwrap()), &lines[from..].concat());
        }
        let pattern = Pattern::any_of(&["[02] 1..7$".into()], Case::Smart).unwrap();
        let sieve = Some(Sieve::new(pattern, Kept::Matching));
        let found = lines.iter().copied().filter(|line| {
            let (file, number) = line.trim_end().split_once(' ').unwrap();
            ["0", "2"].contains(&file)
                && number.len() == 4
                && number.starts_with('1')
                && number.ends_with('7')
        });
        let found: Vec<&str> = found.collect();
        assert_eq!(found.len(), 200);
        check(&home, &Options { sieve: sieve.clone(), ..last(0) }, "");
        check(&home, &Options { sieve: sieve.clone(), ..last(113) }, &found[87..].concat());
        check(&home, &Options { sieve, ..last(u64::MAX) }, &found.concat());
    }
}

#[test]
fn a_damaged_packed_file_is_shown_as_far_as_it_goes_and_told() {
    for how in Compression::ALL {
        let home = Home::new();
        home.append("api-0-out.log", &"lost or not\n".repeat(100_000));
        home.rotate("api-0-out.log");
        home.append("api-0-out.log", "here\n");
        home.pack("api-0-out.log", 1, how);
        let packed = Slot::Packed(1, how).path(&home.file("api-0-out.log"));
        let bytes = fs::read(&packed).unwrap();
        fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
        let (shown, remarks) = told(&home, &last(u64::MAX));
        assert!(shown.starts_with("lost or not\n") && shown.ends_with("here\n"), "{how:?}");
        assert!(remarks.contains("the rest of a packed file is left out"), "{remarks}");
    }
}

#[test]
fn a_follower_that_is_overtaken_is_told_how_much_it_missed() {
    let home = Home::new();
    home.write("api-0-out.log", "first\n");
    let mut follower = Follower::start(&home, last(u64::MAX));
    follower.expect("first\n");
    // Nobody reads now: the follower waits with its output, and the files go by.
    let line = format!("{}\n", "x".repeat(999));
    let mut written = 0;
    for _ in 0..40 {
        home.append("api-0-out.log", &line.repeat(100));
        written += 100_000;
        home.rotate_keeping("api-0-out.log", 2);
    }
    home.append("api-0-out.log", "last\n");
    let mut read = 0;
    let mut text = String::new();
    while text != "last\n" {
        text.clear();
        read += follower.lines.read_line(&mut text).unwrap();
    }
    let remarks = follower.remarks();
    let (mut missed, mut exactly) = (0, true);
    for remark in remarks.lines() {
        let told = remark.strip_prefix("api:0 (out): fell behind; ").unwrap();
        let bytes = told.strip_prefix("at least ").unwrap_or(told).split(' ').next().unwrap();
        // Files that came and went between two looks are not counted, and that is told.
        exactly &= bytes.parse::<usize>().is_ok() && !told.starts_with("at least");
        missed += bytes.parse::<usize>().unwrap_or(0);
    }
    let (read, written) = ("first\n".len() + read, "first\n".len() + written + "last\n".len());
    assert!(!remarks.is_empty() && read < 2_000_000, "{read} of {written}");
    assert!(read + missed <= written, "{read} of {written}: {remarks}");
    assert!(!exactly || read + missed == written, "{read} of {written}: {remarks}");
}
