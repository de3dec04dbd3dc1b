//! The order of renames that makes room for new output, and how to mend a half-done one.
//!
//! Plans only; whoever carries a plan out may die after any step. Every step leaves either the
//! state before, or one that [`recover`] or the next [`plan`] completes, and the current name
//! always names a file.

use std::{
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
    /// Names the file in this slot of the row whose current file is `current`.
    #[must_use]
    pub fn path(self, current: &Path) -> PathBuf {
        let suffix = match self {
            Self::Current => return current.to_owned(),
            Self::Fresh => FRESH_SUFFIX.to_owned(),
            Self::Rotated(number) => format!(".{number}"),
            Self::Packed(number, how) => format!(".{number}.{}", how.extension()),
            Self::Packing(how) => format!(".packing.{}", how.extension()),
        };
        let mut path = current.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
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

/// Plans one rotation that keeps `max_files` full files.
///
/// `present` says whether there is a file in a [`Slot::Rotated`]. Files are shifted only up to the
/// first free slot, so a shift that was cut short goes on where it ended. The new file is created
/// first: if that fails, nothing has changed yet.
#[must_use]
pub fn plan(max_files: NonZeroU16, mut present: impl FnMut(u16) -> bool) -> Vec<Step> {
    let last = max_files.get();
    let free = (1..last).find(|slot| !present(*slot)).unwrap_or(last);
    let mut steps = vec![Step::Create];
    if free == last {
        let surplus = (last..=u16::MAX).take_while(|slot| present(*slot));
        steps.extend(surplus.map(|slot| Step::Remove(Slot::Rotated(slot))));
    }
    let shifts = (1..free).rev();
    steps.extend(shifts.map(|slot| Step::Rename(Slot::Rotated(slot), Slot::Rotated(slot + 1))));
    steps.push(Step::Link(Slot::Current, Slot::Rotated(1)));
    steps.push(Step::Rename(Slot::Fresh, Slot::Current));
    steps
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

    #[track_caller]
    fn check_plan(max_files: u16, present: &[u16], expected: &str) {
        let steps = plan(NonZeroU16::new(max_files).unwrap(), |slot| present.contains(&slot));
        assert_eq!(story(&steps), expected);
    }

    #[test]
    fn shifts_up_to_the_first_free_slot() {
        check_plan(3, &[], "create, log = log.1, log.rotating > log");
        check_plan(3, &[1], "create, log.1 > log.2, log = log.1, log.rotating > log");
        check_plan(4, &[1, 3], "create, log.1 > log.2, log = log.1, log.rotating > log");
        check_plan(3, &[2, 3], "create, log = log.1, log.rotating > log");
    }

    #[test]
    fn drops_the_oldest_and_what_is_beyond_the_limit() {
        check_plan(1, &[1], "create, remove log.1, log = log.1, log.rotating > log");
        check_plan(
            2,
            &[1, 2, 3, 5],
            "create, remove log.2, remove log.3, log.1 > log.2, log = log.1, log.rotating > log",
        );
    }

    /// A folder: which content each slot names.
    type Folder = BTreeMap<Slot, u64>;

    fn apply(folder: &mut Folder, step: Step) {
        match step {
            Step::Create => drop(folder.insert(Slot::Fresh, 1_000)),
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

    fn rotate(folder: &mut Folder, steps: usize) {
        let full = folder.clone();
        let present = |slot| full.contains_key(&Slot::Rotated(slot));
        for step in plan(NonZeroU16::new(3).unwrap(), present).into_iter().take(steps) {
            apply(folder, step);
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
                let mut kept: Vec<u64> = folder.values().copied().filter(|f| *f < 1_000).collect();
                kept.dedup();
                let expected: Vec<u64> = (0..=u64::from(full).min(2)).collect();
                let kept_oldest = (0..=u64::from(full)).collect::<Vec<_>>();
                assert!(kept == expected || kept == kept_oldest, "{full} {died_after} {folder:?}");
                rotate(&mut folder, usize::MAX);
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
