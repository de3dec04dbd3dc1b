//! The disk refuses, and nobody notices but the log.

use std::{fs, process::Command};

use super::*;

/// A disk of its own, two pages larger than it must be.
struct Disk(PathBuf);

impl Disk {
    /// A tmpfs of `size`; `None`, with the reason printed by the test, where nobody may mount.
    fn new(test: &str, size: &str) -> Option<Self> {
        let at = std::env::temp_dir().join(format!("bunpilot-disk-{test}-{}", std::process::id()));
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={size},mode=700");
        let options = ["-t", "tmpfs", "-o", &size, "none"];
        let mount = Command::new("mount").args(options).arg(&at).output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Some(Self(at));
        }
        fs::remove_dir(&at).unwrap();
        None
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let mount = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(mount.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
        drop(fs::remove_dir(&self.0));
    }
}

/// Says why a test did not run; the harness has no other way.
fn skip(why: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
}

const NO_MOUNT: &str = "mounting a tmpfs needs root";

fn fill(home: &Home) -> PathBuf {
    let filler = home.folder.join("filler");
    let mut size = 64 << 10;
    while size > 0 {
        let mut all = fs::read(&filler).unwrap_or_default();
        all.resize(all.len() + size, 0);
        match fs::write(&filler, &all) {
            Ok(()) => (),
            Err(_) => size /= 2,
        }
    }
    filler
}

#[test]
fn a_full_disk_is_told_once_and_forgiven() {
    let Some(disk) = Disk::new("full", "1m") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    let (store, _, _) = home.open();
    store.write(app(1, "a"));
    store.barrier(1);
    assert_eq!(home.notice(), StoreNotice::Flushed(1));
    let filler = fill(&home);
    for token in 2..20 {
        store.write(app(1, &format!("{token}{}", "x".repeat(100_000))));
        store.write(instance(1, 0, 5));
        store.write(ended(1, 0, 4));
        store.barrier(token);
    }
    let StoreNotice::Failed { reason } = home.notice() else { panic!("nothing failed") };
    assert!(reason.contains("full"), "{reason}");
    for token in 2..20 {
        assert_eq!(home.notice(), StoreNotice::Flushed(token), "said once");
    }
    fs::remove_file(filler).unwrap();
    assert_eq!(home.notice(), StoreNotice::Recovered { dropped: 0, notes: vec![] });
    store.close().unwrap();
    let expected = [app(1, &format!("19{}", "x".repeat(100_000))), instance(1, 0, 5)];
    assert_eq!(records(&home.saved()), expected);
    assert_eq!(home.count("restart_history"), 1);
}

#[test]
fn what_a_full_disk_never_took_is_said_to_be_lost() {
    let Some(disk) = Disk::new("lost", "1m") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    let (store, _, _) = home.open();
    store.write(app(1, "a"));
    store.barrier(1);
    home.notice();
    fill(&home);
    store.write(app(1, &"x".repeat(100_000)));
    assert!(matches!(store.close(), Err(StoreError::Unwritten { .. })));
}

#[test]
fn a_full_disk_can_be_opened() {
    let Some(disk) = Disk::new("open-full", "1m") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    home.write([app(1, "a"), instance(1, 0, 1)]);
    let filler = fill(&home);
    let (store, saved, notes) = home.open();
    assert_eq!(records(&saved), [app(1, "a"), instance(1, 0, 1)]);
    assert!(matches!(notes[..], [OpenNote::Unwritable { .. }]), "{notes:?}");
    store.write(instance(1, 0, 2));
    fs::remove_file(filler).unwrap();
    store.close().unwrap();
    assert_eq!(records(&home.saved()), [app(1, "a"), instance(1, 0, 2)]);
}

#[test]
fn a_disk_that_is_full_from_the_start_can_be_opened() {
    let Some(disk) = Disk::new("born-full", "64k") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    fs::create_dir(&home.folder).unwrap();
    let filler = fill(&home);
    let (store, saved, notes) = home.open();
    assert_eq!(saved, Saved::default());
    assert!(matches!(notes[..], [OpenNote::Unwritable { .. }]), "{notes:?}");
    store.write(app(1, "a"));
    fs::remove_file(filler).unwrap();
    disk.remount("size=1m");
    store.close().unwrap();
    assert_eq!(records(&home.saved()), [app(1, "a")]);
}

#[test]
fn a_damaged_file_on_a_full_disk_is_still_read() {
    let Some(disk) = Disk::new("damaged-full", "1m") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    home.write([app(1, "a"), sample(1, 0, 1)]);
    let mut bytes = fs::read(home.db()).unwrap();
    let end = bytes.len() - 6000;
    bytes.truncate(end);
    fs::write(home.db(), bytes).unwrap();
    let filler = fill(&home);
    let (store, saved, notes) = home.open();
    assert_eq!(records(&saved), [app(1, "a")]);
    let [OpenNote::Damaged { .. }, OpenNote::Unwritable { .. }] = &notes[..] else {
        panic!("{notes:?}")
    };
    store.write(instance(1, 0, 2));
    fs::remove_file(filler).unwrap();
    store.close().unwrap();
    let notices: Vec<_> = home.notices.1.try_iter().collect();
    let Some(StoreNotice::Recovered { notes, .. }) = notices.last() else { panic!("{notices:?}") };
    assert!(matches!(notes.last(), Some(OpenNote::MovedAside { .. })), "{notes:?}");
    assert_eq!(records(&home.saved()), [app(1, "a"), instance(1, 0, 2)]);
}

#[test]
fn a_read_only_disk_can_be_opened() {
    let Some(disk) = Disk::new("ro", "1m") else { return skip(NO_MOUNT) };
    let home = Home::at(disk.0.join("home"));
    home.write([app(1, "a")]);
    disk.remount("ro");
    let (store, saved, notes) = home.open();
    assert_eq!(records(&saved), [app(1, "a")]);
    assert!(matches!(notes[..], [OpenNote::Unwritable { .. }]), "{notes:?}");
    store.write(instance(1, 0, 2));
    store.barrier(1);
    assert!(matches!(home.notice(), StoreNotice::Failed { .. }));
    assert_eq!(home.notice(), StoreNotice::Flushed(1));
    disk.remount("rw");
    store.close().unwrap();
    assert_eq!(records(&home.saved()), [app(1, "a"), instance(1, 0, 2)]);
}

#[test]
fn a_file_that_was_removed_or_replaced_is_written_anew() {
    let home = Home::new("removed");
    let (store, _, _) = home.open();
    store.write(app(1, "a"));
    store.barrier(1);
    home.notice();
    fs::remove_dir_all(&home.folder).unwrap();
    store.write(instance(1, 0, 2));
    store.barrier(2);
    assert_eq!(home.notice(), StoreNotice::Flushed(2));
    assert_eq!(home.count("apps"), 1);
    disk::remove(&home.db()).unwrap();
    fs::write(home.folder.join("other"), "no database").unwrap();
    fs::rename(home.folder.join("other"), home.db()).unwrap();
    store.write(instance(1, 0, 3));
    store.barrier(3);
    let notice = home.notice();
    let StoreNotice::Recovered { notes, .. } = &notice else { panic!("{notice:?}") };
    assert!(matches!(notes[..], [OpenNote::MovedAside { .. }]), "{notes:?}");
    store.close().unwrap();
    assert_eq!(records(&home.saved()), [app(1, "a"), instance(1, 0, 3)]);
}

#[test]
fn somebody_elses_lock_is_an_outage_like_any_other() {
    let home = Home::new("locked");
    let (store, _, _) = home.open();
    let other = home.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.write(app(1, "a"));
    store.barrier(1);
    let StoreNotice::Failed { reason } = home.notice() else { panic!("nothing failed") };
    assert!(reason.contains("locked"), "{reason}");
    assert_eq!(home.notice(), StoreNotice::Flushed(1));
    other.execute_batch("ROLLBACK").unwrap();
    store.barrier(2);
    assert_eq!(home.notice(), StoreNotice::Recovered { dropped: 0, notes: vec![] });
    assert_eq!(home.count("apps"), 1);
}
