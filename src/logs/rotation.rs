//! The order of renames that makes room for new output, and how to mend a half-done one.
//!
//! Plans only; whoever carries a plan out may die after any step. Every step leaves either the
//! state before, or one that [`recover`] or the next [`plan`] completes, and the current name
//! always names a file.

use std::{
    ffi::OsStr,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use crate::domain::Compression;

/// A place in the row of files that keep one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The file being written, under the name users know.
    Current,
    /// The file that is about to become current; exists only while rotating.
    Fresh,
    /// A full file: `.1` is the youngest.
    Rotated(u16),
    /// A full file, packed.
    Packed(u16, Compression),
    /// What is being packed; renamed to [`Slot::Packed`] once it is whole.
    Packing(Compression),
}

/// What [`Slot::Fresh`] adds to the current file's name.
const FRESH_SUFFIX: &str = ".rotating";

impl Slot {
    /// The slots of full files with this number.
    #[must_use]
    pub const fn full(number: u16) -> [Self; 3] {
        let [gzip, zstd] = Compression::ALL;
        [Self::Rotated(number), Self::Packed(number, gzip), Self::Packed(number, zstd)]
    }

    /// The number of a full file; the higher, the older.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self {
            Self::Rotated(number) | Self::Packed(number, _) => Some(number),
            Self::Current | Self::Fresh | Self::Packing(_) => None,
        }
    }

    /// Where a full file goes when a younger one comes.
    const fn older(self) -> Self {
        match self {
            Self::Rotated(number) => Self::Rotated(number + 1),
            Self::Packed(number, how) => Self::Packed(number + 1, how),
            Self::Current | Self::Fresh | Self::Packing(_) => self,
        }
    }

    /// Reads back which slot of the row whose current file is called `current` a file is in; `None`
    /// if it belongs to no row of that name.
    #[must_use]
    pub fn identify(current: &OsStr, file_name: &OsStr) -> Option<Self> {
        let suffix = file_name.as_encoded_bytes().strip_prefix(current.as_encoded_bytes())?;
        let suffix = str::from_utf8(suffix).ok()?;
        let number = suffix.strip_prefix('.').and_then(|it| it.split('.').next()?.parse().ok());
        let full = number.filter(|it| *it > 0).map(Self::full).into_iter().flatten();
        let others = Compression::ALL.map(Self::Packing).into_iter();
        full.chain(others).chain([Self::Current, Self::Fresh]).find(|slot| slot.suffix() == suffix)
    }

    /// Names the file in this slot of the row whose current file is `current`.
    #[must_use]
    pub fn path(self, current: &Path) -> PathBuf {
        let mut path = current.as_os_str().to_owned();
        path.push(self.suffix());
        PathBuf::from(path)
    }

    /// What the file's name has after the current one's.
    fn suffix(self) -> String {
        match self {
            Self::Current => String::new(),
            Self::Fresh => FRESH_SUFFIX.to_owned(),
            Self::Rotated(number) => format!(".{number}"),
            Self::Packed(number, how) => format!(".{number}.{}", how.extension()),
            Self::Packing(how) => format!(".packing.{}", how.extension()),
        }
    }
}

/// One change to the names in a folder. Each is atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create [`Slot::Fresh`], empty.
    Create,
    /// Remove the file in this slot.
    Remove(Slot),
    /// Give the file in the first slot the name of the second, which is free or is replaced.
    Rename(Slot, Slot),
    /// Give the file in the first slot the name of the second as well. Where a file system
    /// has no hard links, renaming serves too; then the current name is free for a moment.
    Link(Slot, Slot),
}

/// The full files of a row, the youngest first, up to the first number no file has. `present`
/// says whether there is a file in a slot.
///
/// A number has one file, or two where somebody died packing; see [`adopt`].
#[must_use]
pub fn row(mut present: impl FnMut(Slot) -> bool) -> Vec<Slot> {
    let mut files = Vec::new();
    for number in 1..=u16::MAX {
        let before = files.len();
        files.extend(Slot::full(number).into_iter().filter(|slot| present(*slot)));
        if files.len() == before {
            break;
        }
    }
    files
}

/// Plans one rotation of the [`row`] `files` that keeps the files of `max_files` numbers.
///
/// As a row ends at the first free number, a shift that was cut short goes on where it ended. The
/// new file is created first: if that fails, nothing has changed yet.
#[must_use]
pub fn plan(max_files: NonZeroU16, files: &[Slot]) -> Vec<Step> {
    let is_kept = |slot: &&Slot| slot.number().is_some_and(|number| number < max_files.get());
    let mut steps = vec![Step::Create];
    steps.extend(files.iter().filter(|slot| !is_kept(slot)).map(|slot| Step::Remove(*slot)));
    let shifted = files.iter().rev().filter(is_kept);
    steps.extend(shifted.map(|slot| Step::Rename(*slot, slot.older())));
    steps.push(Step::Link(Slot::Current, Slot::Rotated(1)));
    steps.push(Step::Rename(Slot::Fresh, Slot::Current));
    steps
}

/// The number of the file in the [`row`] `files` that is packed next: the youngest that is not.
#[must_use]
pub fn unpacked(files: &[Slot]) -> Option<u16> {
    let is_packed = |number| {
        let packed = Compression::ALL.map(|how| Slot::Packed(number, how));
        packed.iter().any(|slot| files.contains(slot))
    };
    files.iter().find_map(|slot| match slot {
        Slot::Rotated(number) if !is_packed(*number) => Some(*number),
        Slot::Rotated(_) | Slot::Packed(..) | Slot::Packing(_) | Slot::Current | Slot::Fresh => {
            None
        }
    })
}

/// Plans how the packed file, which is whole, takes the place of the plain file `number`.
///
/// After the first step both are there; whoever finds them, and finds that the one was made from
/// the other, carries out the second.
#[must_use]
pub const fn adopt(number: u16, how: Compression) -> [Step; 2] {
    let packed = Step::Rename(Slot::Packing(how), Slot::Packed(number, how));
    [packed, Step::Remove(Slot::Rotated(number))]
}

/// Identity of a file whatever its name: device and inode number (`stat(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device the file lives on.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
}

/// The files found where one stream is kept, before anything is written there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The file in [`Slot::Current`].
    pub current: Option<FileId>,
    /// The file in slot 1.
    pub first: Option<FileId>,
    /// The file in [`Slot::Fresh`].
    pub fresh: Option<FileId>,
}

/// Plans how to end a rotation somebody began and did not live to finish; empty if there is none.
#[must_use]
pub fn recover(found: Found) -> Vec<Step> {
    let Found { current, first, fresh } = found;
    let linked = current.is_some() && current == first;
    match fresh {
        Some(_) if linked || current.is_none() => vec![Step::Rename(Slot::Fresh, Slot::Current)],
        Some(_) => vec![Step::Remove(Slot::Fresh)],
        None if linked => vec![Step::Create, Step::Rename(Slot::Fresh, Slot::Current)],
        None => Vec::new(),
    }
}

/// Plans how to clear away what somebody left who died packing: files half packed, and plain files
/// that are also there packed.
///
/// `files` is the [`row`], `present` says whether there is a file in a slot, and `same` whether the
/// second was made from the first. A number's two files that have nothing to do with each other
/// are both kept.
#[must_use]
pub fn leavings(
    files: &[Slot],
    mut present: impl FnMut(Slot) -> bool,
    mut same: impl FnMut(Slot, Slot) -> bool,
) -> Vec<Step> {
    let half = Compression::ALL.map(Slot::Packing).into_iter().filter(|slot| present(*slot));
    let mut steps: Vec<Step> = half.map(Step::Remove).collect();
    let numbers = files.iter().filter_map(|slot| slot.number());
    for (slot, number) in files.iter().zip(numbers) {
        let plain = Slot::Rotated(number);
        if *slot != plain && files.contains(&plain) && same(plain, *slot) {
            steps.push(Step::Remove(plain));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn story(steps: &[Step]) -> String {
        let name = |slot: &Slot| slot.path(Path::new("log")).display().to_string();
        let tell = |step: &Step| match step {
            Step::Create => "create".to_owned(),
            Step::Remove(slot) => format!("remove {}", name(slot)),
            Step::Rename(from, to) => format!("{} > {}", name(from), name(to)),
            Step::Link(from, to) => format!("{} = {}", name(from), name(to)),
        };
        steps.iter().map(tell).collect::<Vec<_>>().join(", ")
    }

    /// Slots by their names: `1`, `2.gz`.
    fn slots(names: &str) -> Vec<Slot> {
        let log = OsStr::new("log");
        let slot = |name| Slot::identify(log, OsStr::new(&format!("log.{name}"))).unwrap();
        names.split_whitespace().map(slot).collect()
    }

    #[track_caller]
    fn check_plan(max_files: u16, present: &str, expected: &str) {
        let present = slots(present);
        let files = row(|slot| present.contains(&slot));
        assert_eq!(story(&plan(NonZeroU16::new(max_files).unwrap(), &files)), expected);
    }

    #[test]
    fn shifts_up_to_the_first_free_slot() {
        check_plan(3, "", "create, log = log.1, log.rotating > log");
        check_plan(3, "1", "create, log.1 > log.2, log = log.1, log.rotating > log");
        check_plan(4, "1 3", "create, log.1 > log.2, log = log.1, log.rotating > log");
        check_plan(3, "2 3", "create, log = log.1, log.rotating > log");
        check_plan(
            4,
            "1 2.gz 3.zst",
            "create, log.3.zst > log.4.zst, log.2.gz > log.3.gz, log.1 > log.2, log = log.1, \
             log.rotating > log",
        );
    }

    #[test]
    fn drops_the_oldest_and_what_is_beyond_the_limit() {
        check_plan(1, "1", "create, remove log.1, log = log.1, log.rotating > log");
        check_plan(
            2,
            "1 2 3.gz 5",
            "create, remove log.2, remove log.3.gz, log.1 > log.2, log = log.1, \
             log.rotating > log",
        );
    }

    #[test]
    fn the_youngest_plain_file_is_packed_next() {
        for (files, expected) in [
            ("", None),
            ("1.gz 2.zst", None),
            ("1 2", Some(1)),
            ("1.gz 2 3", Some(2)),
            ("1 1.gz 2", Some(2)),
        ] {
            assert_eq!(unpacked(&slots(files)), expected, "{files}");
        }
    }

    #[test]
    fn slots_are_read_back_from_names() {
        let log = OsStr::new("a.log");
        for slot in [
            Slot::Current,
            Slot::Fresh,
            Slot::Rotated(1),
            Slot::Rotated(u16::MAX),
            Slot::Packed(12, Compression::Gzip),
            Slot::Packed(3, Compression::Zstd),
            Slot::Packing(Compression::Gzip),
        ] {
            let name = slot.path(Path::new("a.log"));
            assert_eq!(Slot::identify(log, name.as_os_str()), Some(slot));
        }
        for other in ["a.log.0", "a.log.01", "a.log.65536", "a.log.1.xz", "a.log-1", "b.log.1", ""]
        {
            assert_eq!(Slot::identify(log, OsStr::new(other)), None, "{other}");
        }
    }

    /// A folder: which content each slot names. A packed file has the content of its origin.
    type Folder = BTreeMap<Slot, u64>;

    /// Content of files that were created and not written.
    const EMPTY: u64 = 1_000_000;

    /// Files kept in these tests.
    const KEPT: u16 = 3;

    fn apply(folder: &mut Folder, step: Step) {
        match step {
            Step::Create => drop(folder.insert(Slot::Fresh, EMPTY)),
            Step::Remove(slot) => drop(folder.remove(&slot)),
            Step::Rename(from, to) => {
                let file = folder.remove(&from).expect("renames a file that exists");
                assert!(to == Slot::Current || !folder.contains_key(&to), "would lose {to:?}");
                folder.insert(to, file);
            }
            Step::Link(from, to) => {
                assert!(!folder.contains_key(&to), "links onto a free name");
                folder.insert(to, folder[&from]);
            }
        }
        assert!(folder.contains_key(&Slot::Current), "the current name is always there");
    }

    fn full(folder: &Folder) -> Vec<Slot> {
        row(|slot| folder.contains_key(&slot))
    }

    /// Rotates, but dies after so many steps.
    fn rotate(folder: &mut Folder, steps: usize) {
        let plan = plan(NonZeroU16::new(KEPT).unwrap(), &full(folder));
        for step in plan.into_iter().take(steps) {
            apply(folder, step);
        }
    }

    /// Packs the next file, but dies after so many steps, the first of which is to pack.
    fn pack(folder: &mut Folder, how: Compression, steps: usize) {
        let Some(number) = unpacked(&full(folder)) else { return };
        if steps > 0 {
            folder.insert(Slot::Packing(how), folder[&Slot::Rotated(number)]);
            for step in adopt(number, how).into_iter().take(steps - 1) {
                apply(folder, step);
            }
        }
    }

    fn mend(folder: &mut Folder) {
        let id = |slot| folder.get(&slot).map(|inode| FileId { device: 0, inode: *inode });
        let found = Found {
            current: id(Slot::Current),
            first: id(Slot::Rotated(1)),
            fresh: id(Slot::Fresh),
        };
        for step in recover(found) {
            apply(folder, step);
        }
        let origin = |slot: Slot| folder.get(&slot).map(|it| FileId { device: 0, inode: *it });
        let steps = leavings(
            &full(folder),
            |slot| folder.contains_key(&slot),
            |plain, packed| origin(plain) == origin(packed),
        );
        for step in steps {
            apply(folder, step);
        }
    }

    #[test]
    fn a_death_after_any_step_loses_at_most_the_oldest_file() {
        for full in 0..=3 {
            for died_after in 0..=9 {
                let mut folder = Folder::from([(Slot::Current, 0)]);
                folder.extend((1..=full).map(|slot| (Slot::Rotated(slot), u64::from(slot))));
                rotate(&mut folder, died_after);
                mend(&mut folder);
                assert!(!folder.contains_key(&Slot::Fresh), "{full} {died_after} {folder:?}");
                let mut kept: Vec<u64> = folder.values().copied().filter(|f| *f < EMPTY).collect();
                kept.dedup();
                let expected: Vec<u64> = (0..=u64::from(full).min(2)).collect();
                let kept_oldest = (0..=u64::from(full)).collect::<Vec<_>>();
                assert!(kept == expected || kept == kept_oldest, "{full} {died_after} {folder:?}");
                rotate(&mut folder, usize::MAX);
            }
        }
    }

    proptest::proptest! {
        /// Daemons fill files, rotate and pack, each the way it is told, and most die over it. What
        /// is there afterwards is there once, in order and without a gap, and only rotations ever
        /// lose anything: the oldest.
        #[test]
        fn whoever_dies_rotating_or_packing_loses_nothing_but_the_oldest(
            deeds in proptest::collection::vec((0..3, 0..9_usize), 1..60),
        ) {
            let mut folder = Folder::from([(Slot::Current, 0)]);
            let mut written = 0;
            for (deed, steps) in deeds {
                match deed {
                    0 => rotate(&mut folder, steps),
                    1 => pack(&mut folder, Compression::Gzip, steps),
                    _ => pack(&mut folder, Compression::Zstd, steps),
                }
                mend(&mut folder);
                if folder[&Slot::Current] == EMPTY {
                    written += 1;
                    folder.insert(Slot::Current, written);
                }
                let mut contents = vec![folder[&Slot::Current]];
                let slots = (1..=KEPT).flat_map(Slot::full);
                contents.extend(slots.filter_map(|slot| folder.get(&slot)));
                let oldest = written.saturating_sub(u64::from(KEPT));
                let expected: Vec<u64> = (oldest..=written).rev().collect();
                // A rotation that was cut short has removed the oldest and put nothing aside.
                let shorter = &expected[..expected.len() - 1];
                proptest::prop_assert!(contents == expected || contents == shorter, "{:?}", folder);
                proptest::prop_assert_eq!(contents.len(), folder.len(), "{:?}", folder);
            }
        }
    }

    #[test]
    fn a_missing_file_is_no_half_rotation() {
        assert_eq!(recover(Found::default()), []);
        let first = Some(FileId { device: 1, inode: 7 });
        assert_eq!(recover(Found { first, ..Found::default() }), []);
        assert_eq!(
            recover(Found { first, fresh: first, current: None }),
            [Step::Rename(Slot::Fresh, Slot::Current)]
        );
    }
}
