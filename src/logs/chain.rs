//! The files a stream went through, remembered beyond their removal, so that a reader who comes
//! too late can be told how much it missed.
//!
//! Knows only what it is shown: whoever looks too seldom learns too little, and is told so.

use std::collections::VecDeque;

/// Files remembered; beyond that the oldest are forgotten.
const FILES_MAX: usize = 4096;

/// Tells files apart.
pub trait Identity: Copy {
    /// Whether both are one file, whatever its name and whether or not it was packed meanwhile.
    fn is_same(&self, other: &Self) -> bool;
}

/// One file of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<I> {
    /// Who it is.
    pub id: I,
    /// How many bytes of the stream it holds; `None` if that cannot be seen.
    pub bytes: Option<u64>,
}

/// The files of one stream, from the oldest to the one being written.
#[derive(Clone, Debug)]
pub struct Chain<I> {
    files: VecDeque<Seen<I>>,
}

impl<I> Default for Chain<I> {
    fn default() -> Self {
        Self { files: VecDeque::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen<I> {
    id: I,
    /// How many bytes it held when it was last seen.
    bytes: u64,
    /// Whether these are all: it was seen after it was full.
    full: bool,
    /// Whether the file before it may be another than the one remembered.
    after_gap: bool,
}

/// How much lies between two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// So many bytes.
    Exactly(u64),
    /// So many, or more.
    AtLeast(u64),
}

impl<I: Identity> Chain<I> {
    /// Takes in the files as they are now, from the oldest to the one being written.
    pub fn look(&mut self, row: &[Link<I>]) {
        let newest = self.newest();
        let meets = newest.is_none_or(|newest| row.iter().any(|link| link.id.is_same(&newest)));
        for (at, Link { id, bytes }) in row.iter().enumerate() {
            let is_full = at + 1 < row.len();
            match (self.files.iter_mut().rfind(|seen| seen.id.is_same(id)), bytes) {
                (Some(seen), Some(bytes)) => (seen.bytes, seen.full) = (*bytes, is_full),
                (Some(_), None) => {}
                (None, bytes) => self.files.push_back(Seen {
                    id: *id,
                    bytes: bytes.unwrap_or(0),
                    full: is_full && bytes.is_some(),
                    after_gap: !meets && at == 0,
                }),
            }
        }
        let surplus = self.files.len().saturating_sub(FILES_MAX);
        self.files.drain(..surplus);
    }

    /// The last file that was begun.
    #[must_use]
    pub fn newest(&self) -> Option<I> {
        self.files.back().map(|seen| seen.id)
    }

    /// Counts the bytes of the files after `from` and before `to`.
    #[must_use]
    pub fn missed(&self, from: &I, to: &I) -> Missed {
        let position = |id: &I| self.files.iter().rposition(|seen| seen.id.is_same(id));
        let (Some(from), Some(to)) = (position(from), position(to)) else {
            return Missed::AtLeast(0);
        };
        let between = self.files.range((from + 1).min(to)..to);
        let bytes = between.clone().map(|seen| seen.bytes).sum();
        let sure = between.clone().all(|seen| seen.full && !seen.after_gap);
        let joined = self.files.get(to).is_some_and(|seen| !seen.after_gap);
        if sure && joined { Missed::Exactly(bytes) } else { Missed::AtLeast(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Identity for u64 {
        fn is_same(&self, other: &Self) -> bool {
            self == other
        }
    }

    impl Identity for char {
        fn is_same(&self, other: &Self) -> bool {
            self.eq_ignore_ascii_case(other)
        }
    }

    /// Rows as they were seen one after the other: `a5 b3` are two files, the older one first; `A`
    /// is `a`, packed.
    #[track_caller]
    fn check(rows: &[&str], from: char, to: char, expected: Missed) {
        let mut chain = Chain::default();
        for row in rows {
            let link = |word: &str| {
                let (id, bytes) = word.split_at(1);
                Link { id: id.chars().next().unwrap(), bytes: bytes.parse().ok() }
            };
            chain.look(&row.split_whitespace().map(link).collect::<Vec<_>>());
        }
        assert_eq!(chain.missed(&from, &to), expected, "{rows:?}");
    }

    #[test]
    fn what_was_seen_before_it_went_is_counted() {
        let rows = ["a5", "a9 b0", "a9 b8 c1", "b8 c7 d2", "c7 d9 e0", "d9 e1"];
        check(&rows, 'a', 'd', Missed::Exactly(15));
        check(&rows, 'b', 'd', Missed::Exactly(7));
        check(&rows, 'c', 'd', Missed::Exactly(0));
        check(&rows, 'd', 'd', Missed::Exactly(0));
    }

    #[test]
    fn a_packed_file_is_as_long_as_it_was() {
        let rows = ["a5", "a9 b0", "A b8 c1", "B c7 d2", "d9 e1"];
        check(&rows, 'A', 'd', Missed::Exactly(15));
        check(&["a5", "a9 B c1", "c7 d2"], 'a', 'd', Missed::AtLeast(7));
    }

    #[test]
    fn what_went_unseen_is_admitted() {
        // `b` was never seen full, `c` not at all.
        check(&["a5", "a9 b1", "d2 e0"], 'a', 'd', Missed::AtLeast(1));
        check(&["a5", "a9 b1", "b8 c2", "c2 d2"], 'a', 'd', Missed::Exactly(10));
        check(&["a5", "d2 e0"], 'a', 'd', Missed::AtLeast(0));
        check(&["a5", "d2 e0"], 'x', 'd', Missed::AtLeast(0));
        check(&[], 'x', 'd', Missed::AtLeast(0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut chain = Chain::default();
        for id in 0..10_000_u64 {
            chain.look(&[Link { id, bytes: Some(1) }, Link { id: id + 1, bytes: Some(0) }]);
        }
        assert_eq!(chain.files.len(), FILES_MAX);
        assert_eq!(chain.missed(&9_000, &9_010), Missed::Exactly(9));
        assert_eq!(chain.missed(&1, &9_010), Missed::AtLeast(0));
    }
}
