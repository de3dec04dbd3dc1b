//! Which lines are asked for, where they begin, and how they are labelled.
//!
//! Works on blocks of bytes somebody else read.

use memchr::memrchr_iter;

use crate::logs::Stream;

/// Looks backwards for the start of the last lines of a stream.
///
/// Feed it the stream's blocks from the last to the first, across files as if they were one. The
/// last line counts whether or not it is complete.
#[derive(Clone, Debug)]
pub struct Search {
    missing: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unseen,
    Seen,
}

impl Search {
    /// Looks for the last `lines` lines.
    #[must_use]
    pub const fn new(lines: u64) -> Self {
        Self { missing: lines, end: End::Unseen }
    }

    /// Takes the block before those already seen; returns where in it the lines begin, or `None`
    /// if they begin before it.
    pub fn feed(&mut self, block: &[u8]) -> Option<usize> {
        if self.missing == 0 {
            return Some(block.len());
        }
        let mut text = block;
        if self.end == End::Unseen
            && let Some((last, rest)) = block.split_last()
        {
            self.end = End::Seen;
            if *last == b'\n' {
                text = rest;
            }
        }
        for newline in memrchr_iter(b'\n', text) {
            self.missing -= 1;
            if self.missing == 0 {
                return Some(newline + 1);
            }
        }
        None
    }
}

/// Which streams are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Both.
    #[default]
    Both,
    /// Only this one.
    Only(Stream),
}

impl Streams {
    /// Whether lines of `stream` are asked for.
    #[must_use]
    pub fn include(self, stream: Stream) -> bool {
        match self {
            Self::Both => true,
            Self::Only(one) => one == stream,
        }
    }
}

/// What is known about the next line of a source, for [`first`] to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// When it was written, in microseconds since the Unix epoch; for a line whose time was not
    /// kept: when its file was last written.
    pub unix_micros: u64,
    /// Position of its source in the listing; decides between lines of one time.
    pub source: usize,
}

/// Chooses the source whose line comes next: the earliest, then the first listed.
#[must_use]
pub fn first(heads: impl IntoIterator<Item = Head>) -> Option<usize> {
    heads.into_iter().min().map(|head| head.source)
}

/// Writes the label before each line of a source, padded to `width` characters.
#[must_use]
pub fn prefix(label: &str, width: usize) -> String {
    format!("{label:width$} │ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in blocks of `size` and reports what the found lines are.
    #[track_caller]
    fn check(text: &str, lines: u64, expected: &str) {
        for size in 1..=text.len().max(1) {
            let mut search = Search::new(lines);
            let mut end = text.len();
            let mut start = 0;
            while end > 0 {
                let begin = end.saturating_sub(size);
                if let Some(found) = search.feed(&text.as_bytes()[begin..end]) {
                    start = begin + found;
                    break;
                }
                end = begin;
            }
            assert_eq!(&text[start..], expected, "{text:?} {lines} in blocks of {size}");
        }
    }

    #[test]
    fn finds_the_last_lines() {
        check("a\nb\nc\n", 0, "");
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc\n", 3, "a\nb\nc\n");
        check("a\nb\nc\n", 4, "a\nb\nc\n");
        check("a\nb\nc", 1, "c");
        check("a\nb\nc", 2, "b\nc");
        check("\n\n\n", 2, "\n\n");
        check("", 3, "");
    }

    #[test]
    fn the_earliest_line_comes_first_then_the_first_listed() {
        let head = |unix_micros, source| Head { unix_micros, source };
        assert_eq!(first([head(5, 0), head(3, 2), head(3, 1)]), Some(1));
        assert_eq!(first([]), None);
    }
}
