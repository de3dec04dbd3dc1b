//! Whatever happened to the file: the state before, or a note that says what is missing.

use std::{collections::BTreeMap, fs};

use super::*;

/// A home with four apps, and the bytes of its database once nothing is in the log.
fn full(test: &str) -> (Home, Saved, Vec<u8>) {
    let home = Home::new(test);
    let of = |id| {
        let long = "x".repeat(600);
        [app(id, &long), instance(id, 0, id), ended(id, 0, 1), sample(id, 0, 1)]
    };
    home.write((1..5).flat_map(of));
    let saved = home.saved();
    let bytes = fs::read(home.db()).unwrap();
    (home, saved, bytes)
}

/// Opens what `damaged` left behind: nothing may be missing or different without a note.
#[track_caller]
fn check(home: &Home, before: &Saved, what: &str) -> Vec<OpenNote> {
    let (store, saved, notes) = match home.try_open() {
        Ok(opened) => opened,
        Err(StoreError::Newer { .. }) => return Vec::new(), // a flip in `user_version`
        Err(error) => panic!("{what}: {error}"),
    };
    if records(&saved) != records(before) {
        assert!(!notes.is_empty(), "{what}: silently {saved:?}");
    }
    store.write(app(9, "later"));
    store.close().unwrap();
    let again = home.open().1;
    assert!(again.apps.iter().any(|app| app.id == AppId(9)), "{what}: not writable");
    for app in &saved.apps {
        assert!(again.apps.contains(app), "{what}: {} lost afterwards", app.name);
    }
    notes
}

/// Puts the files of a home back to `bytes`.
fn reset(home: &Home, bytes: &[u8]) {
    fs::remove_dir_all(&home.folder).unwrap();
    fs::create_dir(&home.folder).unwrap();
    fs::write(home.db(), bytes).unwrap();
}

#[test]
fn cut_anywhere() {
    let (home, saved, bytes) = full("cut");
    let mut salvaged = BTreeMap::new();
    for length in (0..bytes.len()).step_by(512) {
        reset(&home, &bytes[..length]);
        let notes = check(&home, &saved, &format!("cut at {length}"));
        assert!(!notes.is_empty(), "cut at {length}");
        if let Some(OpenNote::MovedAside { to, apps, .. }) = notes.last() {
            assert_eq!(fs::read(to).unwrap(), &bytes[..length], "the evidence is kept");
            salvaged.insert(length, *apps);
        }
    }
    let first_pages = salvaged.range(12288..).map(|(_, apps)| *apps);
    assert!(
        first_pages.clone().count() > 50 && first_pages.clone().all(|apps| apps == 4),
        "the apps lie at the front: {salvaged:?}"
    );
}

#[test]
fn flipped_anywhere() {
    let (home, saved, bytes) = full("flip");
    let mut noticed = 0;
    // The header, then a sample; an app's own text, where SQLite itself would see no fault.
    let text = bytes.windows(6).position(|window| window == b"script").unwrap();
    for at in (0..200).chain((200..bytes.len()).step_by(211)).chain(text..text + 4) {
        let mut damaged = bytes.clone();
        damaged[at] ^= if at % 2 == 0 { 0x01 } else { 0xff }; // 0x01 leaves text what it is
        reset(&home, &damaged);
        noticed += usize::from(!check(&home, &saved, &format!("flipped at {at}")).is_empty());
    }
    assert!(noticed > 20, "{noticed}");
}

#[test]
fn no_number_is_given_twice_after_a_rescue() {
    let (home, saved, _) = full("numbers");
    home.write([app(7, "a"), gone(7)]);
    let bytes = fs::read(home.db()).unwrap();
    reset(&home, &bytes[..bytes.len() - 512]);
    let (_store, rescued, notes) = home.open();
    assert!(matches!(notes.last(), Some(OpenNote::MovedAside { .. })), "{notes:?}");
    assert_eq!((records(&rescued), rescued.last_app), (records(&saved), 7));
}

#[test]
fn overwritten_by_something_else() {
    let (home, saved, bytes) = full("noise");
    for content in [vec![0; bytes.len()], b"hello\n".to_vec(), b"SQLite format 3\0".to_vec()] {
        reset(&home, &content);
        let notes = check(&home, &saved, "noise");
        assert!(matches!(notes[..], [OpenNote::MovedAside { apps: 0, .. }]), "{notes:?}");
    }
}

#[test]
fn a_log_cut_anywhere_leaves_an_earlier_state() {
    let (home, after) = (Home::new("log"), Home::new("log-cut"));
    let (store, _, _) = home.open();
    for generation in 1..20 {
        store.write(app(1, "a"));
        store.write(instance(1, 0, generation));
        store.barrier(0);
        home.notice();
    }
    let bytes = fs::read(home.db()).unwrap();
    let log = fs::read(disk::beside(&home.db(), "-wal")).unwrap();
    fs::create_dir(&after.folder).unwrap();
    let mut newest = 0;
    for length in (0..=log.len()).step_by(512) {
        reset(&after, &bytes);
        fs::write(disk::beside(&after.db(), "-wal"), &log[..length]).unwrap();
        let (_store, saved, notes) = after.open();
        let generation = saved.instances.first().map_or(0, |place| place.worker.generation);
        assert!(generation >= newest || !notes.is_empty(), "{length}: {saved:?} {notes:?}");
        newest = generation;
    }
    assert!(newest >= 18, "{newest}");
}

#[test]
fn a_log_without_its_file_is_kept_and_told_of() {
    let home = Home::new("headless");
    for make_empty in [true, false] {
        let (store, _, _) = home.open();
        store.write(app(1, "a"));
        store.barrier(0);
        home.notice();
        let log = fs::read(disk::beside(&home.db(), "-wal")).unwrap();
        drop(store);
        fs::remove_dir_all(&home.folder).unwrap();
        fs::create_dir(&home.folder).unwrap();
        fs::write(disk::beside(&home.db(), "-wal"), &log).unwrap();
        if make_empty {
            fs::write(home.db(), b"").unwrap();
        }
        let (_store, _, notes) = home.open();
        let [OpenNote::MovedAside { to, .. }] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!(fs::read(disk::beside(to, "-wal")).unwrap(), log);
    }
}

#[test]
fn a_rescue_may_be_interrupted() {
    let (home, saved, bytes) = full("interrupted");
    // Complete, but not yet in place: the damaged file is already aside.
    reset(&home, b"");
    fs::rename(home.db(), disk::beside(&home.db(), ".corrupt-1")).unwrap();
    fs::write(disk::beside(&home.db(), ".new"), &bytes).unwrap();
    fs::write(disk::beside(&home.db(), "-wal"), b"leftover").unwrap();
    assert_eq!(home.saved(), saved);
    let log = fs::read_dir(&home.folder).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.to_string_lossy().ends_with("-wal")).collect::<Vec<_>>();
    assert_eq!(log.len(), 1, "kept, and out of the way of the new file: {log:?}");
    assert_eq!(fs::read(&log[0]).unwrap(), b"leftover");
    // Not complete: the damaged file is still in place.
    reset(&home, &bytes[..bytes.len() - 4096]);
    fs::write(disk::beside(&home.db(), ".new"), b"half").unwrap();
    assert!(!check(&home, &saved, "half a rescue").is_empty());
    assert!(!disk::beside(&home.db(), ".new").exists());
}

#[test]
fn two_rescues_in_one_second_keep_both_files() {
    let home = Home::new("twice");
    for content in ["one", "two", "three"] {
        fs::create_dir_all(&home.folder).unwrap();
        fs::write(home.db(), content).unwrap();
        let (_, _, notes) = home.open();
        let [OpenNote::MovedAside { to, .. }] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!(fs::read_to_string(to).unwrap(), content);
    }
    let kept = fs::read_dir(&home.folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("corrupt"));
    assert_eq!(kept.count(), 3);
}
