//! Where to cut a worker's output so that no rotated file ends within a line.
//!
//! Looks at bytes, moves none.

use memchr::{memchr, memrchr};

/// How the current file ends before the bytes in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It holds nothing: rotating it would gain nothing.
    Nothing,
    /// Its last line is complete.
    WholeLine,
    /// Its last line goes on in the bytes in question.
    HalfLine,
}

impl Before {
    /// How a file ends whose last byte is `last`; `None`: it has none.
    #[must_use]
    pub const fn after(last: Option<u8>) -> Self {
        match last {
            None => Self::Nothing,
            Some(b'\n') => Self::WholeLine,
            Some(_) => Self::HalfLine,
        }
    }
}

/// What to do with bytes that wait in a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of those seen belong to the current file.
    All,
    /// This many of them, possibly none, belong to the current file; then it is rotated.
    At(usize),
}

/// Decides how many of the bytes `seen` at the head of a pipe go to the current file, which may
/// take `room_bytes` more.
///
/// A file passes its limit only for a line that is longer than the limit: that line is never
/// split over two files.
#[must_use]
pub fn cut(seen: &[u8], room_bytes: u64, before: Before) -> Cut {
    let room = usize::try_from(room_bytes).unwrap_or(usize::MAX);
    if seen.len() <= room {
        return Cut::All;
    }
    let (fits, beyond) = seen.split_at(room);
    if let Some(last) = memrchr(b'\n', fits) {
        return Cut::At(last + 1);
    }
    if before == Before::WholeLine {
        return Cut::At(0);
    }
    memchr(b'\n', beyond).map_or(Cut::All, |first| Cut::At(room + first + 1))
}

/// Counts the bytes of the complete lines at the head of `seen`.
#[must_use]
pub fn whole_lines(seen: &[u8]) -> usize {
    memrchr(b'\n', seen).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: &str, room: u64, before: Before, expected: Cut) {
        assert_eq!(cut(seen.as_bytes(), room, before), expected, "{seen:?} {room} {before:?}");
    }

    #[test]
    fn cuts_at_the_last_line_that_fits() {
        check("ab\ncd\n", 6, Before::Nothing, Cut::All);
        check("ab\ncd\n", 5, Before::Nothing, Cut::At(3));
        check("ab\ncd\n", 3, Before::HalfLine, Cut::At(3));
        check("ab\ncd\nef", 7, Before::WholeLine, Cut::At(6));
        check("", 0, Before::WholeLine, Cut::All);
    }

    #[test]
    fn a_line_that_fits_a_file_but_not_the_room_opens_the_next() {
        check("abcd\n", 4, Before::WholeLine, Cut::At(0));
        check("abcd", 0, Before::WholeLine, Cut::At(0));
    }

    #[test]
    fn a_line_longer_than_a_file_overshoots_to_its_end() {
        check("abcdef\ng\n", 4, Before::Nothing, Cut::At(7));
        check("abcdef\ng\n", 4, Before::HalfLine, Cut::At(7));
        check("abcdef", 4, Before::Nothing, Cut::All);
        check("abcdef", 0, Before::HalfLine, Cut::All);
        check("\nab", 0, Before::HalfLine, Cut::At(1));
    }

    #[test]
    fn counts_whole_lines() {
        for (seen, expected) in [("", 0), ("ab", 0), ("ab\n", 3), ("a\nb\nc", 4), ("\n", 1)] {
            assert_eq!(whole_lines(seen.as_bytes()), expected, "{seen:?}");
        }
    }

    proptest::proptest! {
        /// Cutting any text again and again keeps every byte, and only a single line, complete
        /// and alone, ever makes a file pass the limit.
        #[test]
        fn files_are_whole_lines_within_the_limit(text in "[ab\n]{0,200}", limit in 1_usize..40) {
            let mut files = vec![Vec::new()];
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let file = files.last_mut().unwrap();
                let before = Before::after(file.last().copied());
                let room = u64::try_from(limit.saturating_sub(file.len())).unwrap();
                let (taken, full) = match cut(rest, room, before) {
                    Cut::All => (rest.len(), false),
                    Cut::At(n) => (n, true),
                };
                file.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
                if full {
                    proptest::prop_assert_eq!(file.last(), Some(&b'\n'));
                    files.push(Vec::new());
                }
            }
            proptest::prop_assert_eq!(files.concat(), text.as_bytes());
            for file in &files {
                let lines = file.split_inclusive(|byte| *byte == b'\n').count();
                proptest::prop_assert!(file.len() <= limit || lines == 1);
            }
        }
    }
}
