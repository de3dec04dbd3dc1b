//! Lines of files that are larger than a pipe: most of their bytes are never seen.

use super::*;

#[test]
fn lines_nobody_saw_are_counted_all_and_once() {
    for engine in BOTH {
        let folder = Folder::new();
        let path = folder.0.join("app.log");
        let mut rig = Rig::new(engine);
        // Two files are kept: of the others only the census's descriptors are left.
        let mut writer = rig.capture(0, target(&path, 2 << 20, 1));
        let sent = lines("a", 300_000);
        let written = sent.clone();
        let writing = thread::spawn(move || write_in_pieces(&mut writer, &written));
        let mut before = 0;
        while !writing.is_finished() {
            let now = rig.lines(0).expect("nothing is lost");
            assert!(now >= before, "{engine}: {now} after {before}");
            before = now;
        }
        writing.join().unwrap();
        rig.closed(0);
        let counters = rig.counters(0);
        assert_eq!(counters.bytes, u64::try_from(sent.len()).unwrap(), "{engine}");
        assert!(counters.rotations > 4, "{engine}");
        assert_eq!(rig.lines(0), Some(300_000), "{engine}");
        // A second worker of the same place counts on.
        let mut writer = rig.capture(0, target(&path, 2 << 20, 1));
        writer.write_all(b"\nand more\n").unwrap();
        drop(writer);
        rig.closed(0);
        assert_eq!(rig.lines(0), Some(300_002), "{engine}");
    }
}
