//! Full files: packed, removed, and rotated for other reasons than their size.

use std::{
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use super::*;
use crate::{
    domain::{Compression, Period, Syncing},
    logs::{packed, rotation::FileId},
};

/// The text of a file, however it is packed.
fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap();
    match path.extension().and_then(|it| it.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text),
        Some("zst") => zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text),
        _ => (&file).read_to_string(&mut text),
    }
    .unwrap();
    text
}

/// All files of a row, the oldest first; the folder holds no others.
fn files(path: &Path) -> Vec<PathBuf> {
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap());
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .map(|file| (Slot::identify(name, &file).unwrap().number(), folder.join(file)))
        .collect();
    files.sort();
    files.into_iter().rev().map(|(_, file)| file).collect()
}

fn names(path: &Path) -> Vec<String> {
    let name = |file: PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
    files(path).into_iter().map(name).collect()
}

/// Whether no full file is left to pack.
fn is_packed(path: &Path) -> bool {
    let name = path.file_name().unwrap();
    let slot = |file: &PathBuf| Slot::identify(name, file.file_name().unwrap()).unwrap();
    files(path).iter().all(|file| matches!(slot(file), Slot::Current | Slot::Packed(..)))
}

fn all(path: &Path) -> String {
    files(path).iter().map(|file| unpacked(file)).collect()
}

/// As [`target`], with some of what is kept changed.
fn kept(path: &Path, max_size_bytes: u64, max_files: u16, change: impl Fn(&mut Keep)) -> Target {
    let mut target = target(path, max_size_bytes, max_files);
    change(&mut target.keep);
    target
}

impl Rig {
    #[track_caller]
    fn tidied(&self, what: Tidying, path: &Path) -> Tidied {
        let (tell, told) = channel();
        let keep = target(path, 50_000, 5).keep;
        let done = move |it| tell.send(it).unwrap();
        self.pump.tidy(what, vec![(path.to_owned(), keep)], done).unwrap();
        told.recv_timeout(PATIENCE).unwrap()
    }
}

#[test]
fn full_files_are_packed_while_others_are_written() {
    for (engine, how) in BOTH.into_iter().zip(Compression::ALL) {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(
            0,
            kept(&path, 60_000, 500, |it| {
                it.compression = Some(how);
                it.syncing = Syncing::Rotated;
            }),
        );
        let sent = lines("a", 100_000);
        write_in_pieces(&mut writer, &sent);
        drop(writer);
        rig.closed(0);
        until("all packed", || is_packed(&path));
        let files: Vec<String> = files(&path).iter().map(|file| unpacked(file)).collect();
        assert!(files.concat() == sent, "{engine}: bytes differ");
        assert!(files.len() > 80, "{engine}: {} files", files.len());
        assert!(files.iter().all(|text| text.ends_with('\n') && text.len() <= 60_000));
    }
}

#[test]
fn a_packed_file_has_time_rights_and_origin_of_the_plain_one() {
    for how in Compression::ALL {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let plain = Slot::Rotated(1).path(&path);
        fs::write(&plain, lines("a", 1_000)).unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o640)).unwrap();
        let file = fs::File::options().write(true).open(&plain).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::new(1_234_567_890, 987_000)).unwrap();
        let before = file.metadata().unwrap();
        let mut rig = Rig::new(Engine::IoUring);
        let _writer = rig.capture(0, kept(&path, 60_000, 5, |it| it.compression = Some(how)));
        until("packed", || !plain.exists());
        let packed = Slot::Packed(1, how).path(&path);
        let after = fs::metadata(&packed).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(after.mode(), before.mode());
        let origin = FileId { device: before.dev(), inode: before.ino() };
        assert_eq!(packed::origin(&fs::read(&packed).unwrap(), how), Some(origin));
        assert_eq!(unpacked(&packed), lines("a", 1_000));
        assert!(after.len() < before.len() / 4);
        let tool = if how == Compression::Gzip { "gzip" } else { "zstd" };
        if let Ok(test) = Command::new(tool).arg("-t").arg(&packed).output() {
            assert!(test.status.success(), "{tool}: {test:?}");
        }
    }
}

/// What earlier daemons left, each with another configuration or dead at another moment.
#[test]
fn what_a_dead_daemon_left_is_put_in_order() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let gzip = Compression::Gzip;
    // Two daemons pack the same file; the first one's is put aside.
    let plain = Slot::Rotated(1).path(&path);
    fs::write(&plain, "three\n").unwrap();
    let aside = folder.0.join("app.log.aside");
    fs::hard_link(&plain, &aside).unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let writer = rig.capture(0, kept(&path, 60_000, 9, |it| it.compression = Some(gzip)));
    until("packed", || !plain.exists());
    drop(writer);
    rig.closed(0);
    rig.pump.shutdown();
    // It died between the two steps of its adoption, and began the next file.
    fs::rename(&aside, &plain).unwrap();
    fs::write(Slot::Packing(gzip).path(&path), "half").unwrap();
    fs::write(Slot::Packing(Compression::Zstd).path(&path), "half").unwrap();
    fs::write(Slot::Rotated(2).path(&path), "two\n").unwrap();
    fs::write(
        Slot::Packed(3, Compression::Zstd).path(&path),
        zstd::encode_all(&b"one\n"[..], 1).unwrap(),
    )
    .unwrap();
    // Nobody's business: a file and its namesake packed by hand.
    fs::write(Slot::Rotated(4).path(&path), "zero\n").unwrap();
    fs::write(
        Slot::Packed(4, gzip).path(&path),
        fs::read(Slot::Packed(1, gzip).path(&path)).unwrap(),
    )
    .unwrap();
    let mut rig = Rig::new(Engine::Epoll);
    let mut writer = rig.capture(0, kept(&path, 60_000, 9, |it| it.compression = Some(gzip)));
    writer.write_all(b"four\n").unwrap();
    until("order", || !Slot::Rotated(2).path(&path).exists());
    drop(writer);
    rig.closed(0);
    let mut names = names(&path);
    names.sort();
    let expected =
        ["app.log", "app.log.1.gz", "app.log.2.gz", "app.log.3.zst", "app.log.4", "app.log.4.gz"];
    assert_eq!(names, expected);
    assert!(all(&path).ends_with("one\ntwo\nthree\nfour\n"), "{}", all(&path));
}

#[test]
fn full_files_that_are_old_or_too_many_bytes_go() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    for number in 1..=4 {
        fs::write(Slot::Rotated(number).path(&path), "x".repeat(1_000)).unwrap();
    }
    let old = fs::File::options().write(true).open(Slot::Rotated(4).path(&path)).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let age = Some(Duration::from_hours(1));
    let mut writer = rig.capture(
        0,
        kept(&path, 500, 9, |it| {
            it.max_age = age;
            it.max_total_bytes = NonZeroU64::new(2_600);
        }),
    );
    until("what is there from before is looked at", || !Slot::Rotated(3).path(&path).exists());
    assert_eq!(names(&path), ["app.log.2", "app.log.1"]);
    writer.write_all("y\n".repeat(255).as_bytes()).unwrap();
    drop(writer);
    rig.closed(0);
    // 2 × 1000 + 500 fit.
    assert_eq!(names(&path), ["app.log.3", "app.log.2", "app.log.1", "app.log"]);
    let mut writer = rig.capture(
        1,
        kept(&path, 500, 9, |it| {
            it.max_total_bytes = NonZeroU64::new(2_600);
        }),
    );
    writer.write_all("y\n".repeat(255).as_bytes()).unwrap();
    drop(writer);
    rig.closed(1);
    assert_eq!(names(&path), ["app.log.3", "app.log.2", "app.log.1", "app.log"]);
}

#[test]
fn a_file_is_rotated_when_its_period_is_over_though_nobody_writes() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let every = Some(Period::Span(Duration::from_millis(300)));
        let mut writer = rig.capture(0, kept(&path, 50_000, 9, |it| it.every = every));
        writer.write_all(b"one\ntw").unwrap();
        until_text(&path, "one\ntw");
        let rotated = Slot::Rotated(1).path(&path);
        let begun = fs::metadata(&path).unwrap().created().unwrap();
        until("the period to be over", || begun.elapsed().unwrap() > Duration::from_millis(400));
        assert!(!rotated.exists(), "{engine}: rotated within a line");
        writer.write_all(b"o\nthree\n").unwrap();
        until_text(&rotated, "one\ntwo\n");
        until_text(&path, "three\n");
        until_text(&rotated, "three\n");
        until_text(&Slot::Rotated(2).path(&path), "one\ntwo\n");
        let fresh = fs::metadata(&path).unwrap().created().unwrap();
        until("another period", || fresh.elapsed().unwrap() > Duration::from_millis(700));
        assert_eq!(names(&path), ["app.log.2", "app.log.1", "app.log"], "rotated an empty file");
        writer.write_all(b"four\n").unwrap();
        until_text(&rotated, "four\n");
    }
}

#[test]
fn the_next_daemon_knows_when_a_file_was_begun() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    fs::write(&path, "old\n").unwrap();
    let begun = fs::metadata(&path).unwrap().created().unwrap();
    let mut rig = Rig::new(Engine::IoUring);
    let every = Some(Period::Span(Duration::from_millis(500)));
    let _silent = rig.capture(0, kept(&path, 50_000, 9, |it| it.every = every));
    until_text(&Slot::Rotated(1).path(&path), "old\n");
    let took = begun.elapsed().unwrap();
    assert!(took >= Duration::from_millis(500), "too early: {took:?}");
    assert_eq!(text(&path), "");
}

#[test]
fn what_is_written_after_a_flush_is_kept_in_whole_lines() {
    for (engine, compression) in
        [(BOTH[0], None), (BOTH[1], None), (BOTH[0], Some(Compression::Gzip))]
    {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writers: Vec<_> = (0..2)
            .map(|index| {
                rig.capture(index, kept(&path, 20_000, 500, |it| it.compression = compression))
            })
            .collect();
        let sent = [lines("a", 20_000), lines("b", 20_000)];
        let (mut freed, mut flushed) = (0, Vec::new());
        thread::scope(|scope| {
            let writing: Vec<_> = writers
                .drain(..)
                .zip(&sent)
                .map(|(mut writer, text)| scope.spawn(move || write_in_pieces(&mut writer, text)))
                .collect();
            while !writing.iter().all(thread::ScopedJoinHandle::is_finished) {
                let tidied = rig.tidied(Tidying::Flush, &path);
                assert_eq!(tidied.faults, Vec::<String>::new());
                freed += tidied.bytes;
                flushed.push(tidied.files);
                pause();
            }
        });
        for _ in 0..2 {
            assert!(matches!(rig.next(), PumpNotice::Closed(..)));
        }
        until("packing to be over", || compression.is_none() || is_packed(&path));
        let left = all(&path);
        let total: usize = sent.iter().map(String::len).sum();
        // Of a packed file, only what it took on disk is freed.
        if compression.is_none() {
            let freed = usize::try_from(freed).unwrap();
            assert_eq!(freed + left.len(), total, "{engine}: {flushed:?}");
        }
        for (name, text) in ["a", "b"].iter().zip(&sent) {
            let own: String = left.split_inclusive('\n').filter(|l| l.starts_with(name)).collect();
            assert!(text.ends_with(&own), "{engine}: lines of {name} are not the last ones");
        }
        assert!(left.lines().all(|line| line.starts_with("a ") || line.starts_with("b ")));
    }
}

#[test]
fn a_flush_leaves_the_beginning_of_a_line_that_goes_on() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 500_000, 5));
    let long = "x".repeat(100_000);
    writer.write_all(format!("one\ntwo\n{long}").as_bytes()).unwrap();
    until_text(&path, &format!("one\ntwo\n{long}"));
    for file in ["app.log.1", "app.log.7.gz", "app.log.40.zst"] {
        fs::write(folder.0.join(file), "full").unwrap();
    }
    let tidied = rig.tidied(Tidying::Flush, &path);
    assert_eq!(tidied, Tidied { files: 4, bytes: 20, ..Tidied::default() });
    writer.write_all(b"y\nthree\n").unwrap();
    until_text(&path, &format!("{long}y\nthree\n"));
    assert_eq!(names(&path), ["app.log"]);
    drop(writer);
    rig.closed(0);
    // Nobody writes any more.
    fs::write(&path, "half").unwrap();
    assert_eq!(rig.tidied(Tidying::Flush, &path).bytes, 4);
    assert_eq!(text(&path), "");
    assert_eq!(rig.tidied(Tidying::Flush, &path), Tidied::default());
    assert_eq!(rig.tidied(Tidying::Flush, &folder.0.join("none/app.log")), Tidied::default());
}

#[test]
fn files_are_rotated_on_order_between_lines() {
    let folder = Folder::new();
    let path = folder.0.join("app.log");
    let mut rig = Rig::new(Engine::IoUring);
    let mut writer = rig.capture(0, target(&path, 50_000, 5));
    assert_eq!(rig.tidied(Tidying::Rotate, &path), Tidied::default());
    assert!(!path.exists(), "made a file to rotate it");
    writer.write_all(b"one\n").unwrap();
    until_text(&path, "one\n");
    let one = Tidied { files: 1, ..Tidied::default() };
    assert_eq!(rig.tidied(Tidying::Rotate, &path), one);
    writer.write_all(b"tw").unwrap();
    until_text(&path, "tw");
    let waiting = Tidied { waiting: 1, ..Tidied::default() };
    assert_eq!(rig.tidied(Tidying::Rotate, &path), waiting);
    writer.write_all(b"o\nthree").unwrap();
    drop(writer);
    rig.closed(0);
    assert_eq!(row(&path), ["one\n", "two\n", "three"]);
    assert_eq!(rig.tidied(Tidying::Rotate, &path), one);
    assert_eq!(row(&path), ["one\n", "two\n", "three", ""]);
}
