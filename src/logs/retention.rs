//! Which full files of a row are no longer kept, by age and by what they take together.
//!
//! How many there may be is decided where they are rotated; removes nothing itself.

use std::num::NonZeroU64;

use crate::{domain::Keep, logs::rotation::Slot};

/// A full file as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub slot: Slot,
    /// What it takes; nothing, if that is about to be less because it is being packed.
    pub bytes: u64,
    /// When it was last written, in microseconds since the Unix epoch. A packed file has the time
    /// of the file it was made from.
    pub written_unix_micros: u64,
}

/// Which of `files`, the youngest first, are to be removed now.
///
/// A file is too old once `max_age` has passed since its last write. Of those that are left, the
/// youngest stay as long as they fit `max_total_bytes`; a file that does not fit goes, and so do
/// all older ones.
#[must_use]
pub fn surplus(keep: &Keep, files: &[Kept], now_unix_micros: u64) -> Vec<Slot> {
    let is_old = |file: &Kept| {
        let age_micros = now_unix_micros.saturating_sub(file.written_unix_micros);
        keep.max_age.is_some_and(|max| u128::from(age_micros) >= max.as_micros())
    };
    let max_bytes = keep.max_total_bytes.map_or(u64::MAX, NonZeroU64::get);
    let mut taken_bytes = 0_u64;
    let mut surplus = Vec::new();
    for file in files {
        if is_old(file) {
            surplus.push(file.slot);
            continue;
        }
        // What does not fit stays in the sum: older files must not fill the gap it leaves.
        taken_bytes = taken_bytes.saturating_add(file.bytes);
        if taken_bytes > max_bytes {
            surplus.push(file.slot);
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU16, time::Duration};

    use super::*;
    use crate::domain::Compression;

    const NOW: u64 = 1_000_000_000;

    /// Files of these sizes and ages in seconds; which numbers go.
    #[track_caller]
    fn check(max_age: Option<u64>, max_total: Option<u64>, files: &[(u64, u64)], gone: &[u16]) {
        let mut keep = Keep::new(NonZeroU64::MIN, NonZeroU16::MAX);
        keep.max_age = max_age.map(Duration::from_secs);
        keep.max_total_bytes = max_total.and_then(NonZeroU64::new);
        let files: Vec<Kept> = (1..)
            .zip(files)
            .map(|(number, (bytes, seconds))| Kept {
                slot: Slot::Packed(number, Compression::Gzip),
                bytes: *bytes,
                written_unix_micros: NOW - seconds * 1_000_000,
            })
            .collect();
        let found: Vec<u16> =
            surplus(&keep, &files, NOW).into_iter().filter_map(Slot::number).collect();
        assert_eq!(found, gone, "{files:?}");
    }

    #[test]
    fn nothing_goes_without_a_limit() {
        check(None, None, &[(u64::MAX, 0), (u64::MAX, 999)], &[]);
    }

    #[test]
    fn files_go_when_they_are_old() {
        check(Some(10), None, &[(1, 0), (1, 9), (1, 10), (1, 11)], &[3, 4]);
        check(Some(10), None, &[], &[]);
        // Somebody set the clock back: they come from the future.
        let mut keep = Keep::new(NonZeroU64::MIN, NonZeroU16::MAX);
        keep.max_age = Some(Duration::from_secs(1));
        let slot = Slot::Rotated(1);
        let file = Kept { slot, bytes: 1, written_unix_micros: NOW + 5_000_000 };
        assert_eq!(surplus(&keep, &[file], NOW), []);
    }

    #[test]
    fn the_oldest_go_when_all_take_too_much() {
        check(None, Some(100), &[(40, 0), (60, 1)], &[]);
        check(None, Some(100), &[(40, 0), (61, 1), (1, 2)], &[2, 3]);
        check(None, Some(100), &[(101, 0), (1, 1)], &[1, 2]);
        check(None, Some(100), &[(0, 0), (100, 1), (1, 2)], &[3]);
    }

    #[test]
    fn what_is_too_old_takes_no_room() {
        check(Some(10), Some(100), &[(60, 0), (60, 20), (40, 5)], &[2]);
    }
}
