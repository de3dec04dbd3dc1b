//! A file system too small for what a worker prints.

use super::*;

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    /// Mounts one, or says why that is not possible here.
    fn mount(path: &Path, options: &str) -> Result<Self, String> {
        fs::create_dir(path).map_err(|error| error.to_string())?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .output()
            .map_err(|error| format!("no `mount`: {error}"))?;
        if mount.status.success() {
            Ok(Self(path.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

/// Says that a test could not run; with `BUNPILOT_REQUIRE` set, that is a failure.
fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("BUNPILOT_REQUIRE").is_none(), "{test}: {reason}");
    writeln!(io::stderr(), "skipped {test}: {reason}").unwrap();
}

#[test]
fn a_full_disk_blocks_the_writer_and_loses_nothing() {
    for engine in BOTH {
        let folder = Folder::new();
        let disk = match Small::mount(&folder.0.join("disk"), "size=1m") {
            Ok(disk) => disk,
            Err(reason) => return skip("a_full_disk", &reason),
        };
        let ballast = disk.0.join("ballast");
        fs::write(&ballast, vec![0; 700 << 10]).unwrap();
        let path = disk.0.join("app.log");
        let mut rig = Rig::new(engine);
        let mut writer = rig.capture(0, target(&path, 100 << 10, 50));
        let sent = lines("a", 12_000);
        let written = sent.clone();
        let writing = thread::spawn(move || write_in_pieces(&mut writer, &written));
        let full = rig.next();
        let PumpNotice::Blocked { reason, .. } = &full else { panic!("{full:?}") };
        assert!(reason.contains("No space left"), "{reason}");
        until("blocked time", || rig.counters(0).blocked > Duration::from_millis(300));
        fs::remove_file(&ballast).unwrap();
        let resumed = rig.next();
        assert!(matches!(resumed, PumpNotice::Resumed { .. }), "{resumed:?}");
        writing.join().unwrap();
        rig.closed(0);
        assert!(row(&path).concat() == sent, "{engine}: bytes differ");
        assert_eq!(rig.lines(0), Some(12_000), "{engine}");
        drop(rig);
    }
}

#[test]
fn a_full_disk_is_relieved_of_the_oldest_files_where_that_is_asked_for() {
    for (engine, mode) in [(Engine::IoUring, LogMode::Raw), (Engine::Epoll, LogMode::Json)] {
        let folder = Folder::new();
        let disk = match Small::mount(&folder.0.join("disk"), "size=1m") {
            Ok(disk) => disk,
            Err(reason) => return skip("a_full_disk_is_relieved", &reason),
        };
        let path = disk.0.join("app.log");
        let mut rig = Rig::new(engine);
        let evicting = Target { on_full: OnFull::Evict, mode, ..target(&path, 100 << 10, 50) };
        let mut writer = rig.capture(0, evicting);
        let sent = lines("a", 60_000);
        write_in_pieces(&mut writer, &sent);
        drop(writer);
        let mut evicted = 0;
        let end = loop {
            let notice = rig.next();
            if !matches!(notice, PumpNotice::Evicted { .. }) {
                break notice;
            }
            evicted += 1;
        };
        assert!(matches!(end, PumpNotice::Closed(..)), "{end:?}");
        assert!(evicted > 10, "{engine}: {evicted}");
        let kept = row(&path).concat();
        let last = sent.lines().last().unwrap();
        assert!(kept.len() > 500 << 10 && kept.contains(last), "{engine}: {}", kept.len());
        if mode == LogMode::Raw {
            assert!(sent.ends_with(&kept), "{engine}: what is kept is the end of it");
        }
        drop(rig);
    }
}

#[test]
fn what_a_full_disk_makes_us_drop_is_counted_to_the_byte_and_said() {
    for (engine, mode) in BOTH.into_iter().flat_map(|engine| {
        [LogMode::Raw, LogMode::Timestamps, LogMode::Json].map(|mode| (engine, mode))
    }) {
        let folder = Folder::new();
        let disk = match Small::mount(&folder.0.join("disk"), "size=1m") {
            Ok(disk) => disk,
            Err(reason) => return skip("what_a_full_disk_makes_us_drop", &reason),
        };
        let ballast = disk.0.join("ballast");
        fs::write(&ballast, vec![0; 700 << 10]).unwrap();
        let path = disk.0.join("app.log");
        let mut rig = Rig::new(engine);
        let dropping = Target { on_full: OnFull::Drop, mode, ..target(&path, 10 << 20, 50) };
        let mut writer = rig.capture(0, dropping);
        let sent = lines("a", 20_000);
        write_in_pieces(&mut writer, &sent);
        let full = rig.next();
        assert!(matches!(&full, PumpNotice::Dropping { .. }), "{full:?}");
        let sent_bytes = u64::try_from(sent.len()).unwrap();
        let counted = |rig: &Rig| rig.counters(0).bytes + rig.counters(0).dropped_bytes;
        until("all is written or dropped", || counted(&rig) == sent_bytes);
        fs::remove_file(&ballast).unwrap();
        let resumed = rig.next();
        let PumpNotice::Resumed { dropped_bytes, .. } = resumed else { panic!("{resumed:?}") };
        writer.write_all(b"after\n").unwrap();
        drop(writer);
        rig.closed(0);
        assert_eq!(dropped_bytes, rig.counters(0).dropped_bytes, "{engine} {mode:?}");
        let told = text(&path);
        let marker = format!("[bunpilot] {dropped_bytes} bytes of output dropped here: No space");
        let (kept, rest) = told.split_once(&marker).expect("the file says what is missing");
        assert!(rest.contains("after") && rest.ends_with('\n'), "{rest}");
        if mode == LogMode::Raw {
            let kept = kept.strip_suffix('\n').unwrap();
            assert!(sent.starts_with(kept), "{engine}: what is kept is the beginning");
            let whole = kept.len() + usize::try_from(dropped_bytes).unwrap();
            assert!((whole == sent.len()) || (whole + 1 == sent.len()), "{engine}: {whole}");
        }
        drop(rig);
    }
}
