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
        drop(rig);
    }
}
