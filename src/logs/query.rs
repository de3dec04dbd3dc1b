//! Which lines are asked for, where they begin, and whose comes next.
//!
//! Works on blocks of bytes somebody else read.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use memchr::memrchr_iter;

use crate::logs::Stream;

use super::{
    line::{Form, Record},
    sieve::Sieve,
};

/// How far times in one file may be out of order: a line carries the time of its first byte, but
/// is written when it is complete; and clocks are set.
pub const DISORDER_MICROS: u64 = 60_000_000;

/// How many lines from before now are asked for, of each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Every one.
    All,
    /// So many of the last.
    Last(u64),
}

/// When the lines asked for were written, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// At this time or later.
    pub since: u64,
    /// Before this time.
    pub until: u64,
}

impl Window {
    /// All times.
    pub const ALWAYS: Self = Self { since: 0, until: u64::MAX };

    /// Whether it holds a time.
    #[must_use]
    pub fn holds(self, unix_micros: u64) -> bool {
        (self.since..self.until).contains(&unix_micros)
    }

    /// What both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { since: self.since.max(other.since), until: self.until.min(other.until) }
    }
}

/// Which workers' lines are asked for, where a file holds those of several and says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Only those of these places; `None`: of all.
    pub places: Option<BTreeSet<u16>>,
    /// Of a place that is named here, only those of lives before this generation.
    pub before: BTreeMap<u16, u32>,
}

impl Workers {
    /// All.
    pub const ANY: Self = Self { places: None, before: BTreeMap::new() };

    /// Whether a place is meant.
    #[must_use]
    pub fn include(&self, place: u16) -> bool {
        self.places.as_ref().is_none_or(|places| places.contains(&place))
    }

    /// Those of both.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.places = self.places.zip(other.places).map(|(some, more)| &some | &more);
        self.before.extend(other.before);
        self
    }

    fn keep(&self, form: Form<'_>) -> bool {
        *self == Self::ANY
            || match form {
                Form::Record(Record { worker, generation, .. }) => {
                    let before = self.before.get(&worker);
                    self.include(worker) && before.is_none_or(|before| generation < *before)
                }
                Form::Bare | Form::Stamped { .. } => false,
            }
    }
}

/// Which lines of one source are asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// When they were written.
    pub window: Window,
    /// Who wrote them.
    pub workers: Workers,
    /// What they say.
    pub sieve: Option<Sieve>,
}

impl Query {
    /// Every line.
    pub const EVERYTHING: Self =
        Self { window: Window::ALWAYS, workers: Workers::ANY, sieve: None };

    /// Whether every line is asked for, so that none need be looked at.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.window == Window::ALWAYS && self.workers == Workers::ANY && self.sieve.is_none()
    }

    /// Whether a line of this form, written at that time, is asked for; `line` is all of it but its
    /// end.
    #[must_use]
    pub fn keeps(&self, line: &[u8], form: Form<'_>, unix_micros: u64) -> bool {
        self.window.holds(unix_micros)
            && self.workers.keep(form)
            && self.sieve.as_ref().is_none_or(|sieve| match form {
                Form::Bare => sieve.keeps(line),
                Form::Stamped { text, .. } => sieve.keeps(text),
                Form::Record(record) => sieve.keeps(&record.message()),
            })
    }
}

/// Looks backwards for the start of the last lines of a file.
///
/// Feed it the file's blocks from the last to the first. The last line counts whether or not it is
/// complete.
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

impl Search {
    /// Lines still missing before the start of the file, all of which was fed.
    #[must_use]
    pub const fn missing_before(&self) -> u64 {
        match self.end {
            End::Unseen => self.missing,
            // The first line has no end before it.
            End::Seen => self.missing.saturating_sub(1),
        }
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

/// What is known about the next line of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// When it was written, in microseconds since the Unix epoch; for a line whose time was not
    /// kept: when its file was last written.
    pub unix_micros: u64,
    /// Position of its source in the listing; decides between lines of one time.
    pub source: usize,
}

/// The next lines of all sources, of which the earliest comes first, then the first listed.
#[derive(Clone, Debug, Default)]
pub struct Merge(BinaryHeap<Reverse<Head>>);

impl Merge {
    /// Adds the next line of a source that has none here.
    pub fn push(&mut self, head: Head) {
        self.0.push(Reverse(head));
    }

    /// Takes the line that comes first.
    pub fn pop(&mut self) -> Option<Head> {
        self.0.pop().map(|Reverse(head)| head)
    }

    /// Whether a line that is not here comes before all that are.
    #[must_use]
    pub fn is_before_all(&self, head: Head) -> bool {
        self.0.peek().is_none_or(|Reverse(first)| head < *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::sieve::{Case, Kept, Pattern};

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
            let found = u64::try_from(expected.lines().count()).unwrap();
            if start == 0 && found < lines {
                assert_eq!(search.missing_before(), lines - found, "{text:?} {lines}");
            }
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
        let mut merge = Merge::default();
        assert!(merge.is_before_all(head(9, 9)));
        for one in [head(5, 0), head(3, 2), head(3, 1)] {
            merge.push(one);
        }
        assert!(merge.is_before_all(head(3, 0)) && !merge.is_before_all(head(3, 2)));
        let order: Vec<Head> = std::iter::from_fn(|| merge.pop()).collect();
        assert_eq!(order, [head(3, 1), head(3, 2), head(5, 0)]);
    }

    fn record(worker: u16, message: &str) -> Vec<u8> {
        let time = "2026-11-24T15:41:20.123Z";
        let text = format!(
            r#"{{"time":"{time}","app":"api","worker":{worker},"generation":3,"stream":"out","message":"{message}"}}"#
        );
        text.into_bytes()
    }

    #[track_caller]
    fn keeps(query: &Query, line: &[u8], expected: bool) {
        let form = Form::of(line);
        let at = form.unix_micros().unwrap_or(7);
        assert_eq!(query.keeps(line, form, at), expected, "{}", String::from_utf8_lossy(line));
    }

    #[test]
    fn a_line_is_judged_by_what_the_app_wrote() {
        let pattern = Pattern::any_of(&["^out \"$".into()], Case::Smart).unwrap();
        let query = Query { sieve: Some(Sieve::new(pattern, Kept::Matching)), ..Query::EVERYTHING };
        keeps(&query, b"out \"", true);
        keeps(&query, b"2026-11-24T15:41:20.123Z out \"", true);
        keeps(&query, &record(1, "out \\\""), true);
        keeps(&query, &record(1, "in"), false);
    }

    #[test]
    fn a_line_nobody_signed_is_of_no_worker_in_particular() {
        let places = Some(BTreeSet::from([1]));
        let workers = Workers { places, ..Workers::ANY };
        let query = Query { workers, ..Query::EVERYTHING };
        keeps(&query, &record(1, ""), true);
        keeps(&query, &record(2, ""), false);
        keeps(&query, b"bare", false);
        keeps(&Query::EVERYTHING, b"bare", true);
    }

    #[test]
    fn earlier_lives_of_each_place_are_told_apart() {
        // These records are of generation 3.
        let workers = Workers { places: None, before: BTreeMap::from([(1, 3), (2, 4)]) };
        let query = Query { workers, ..Query::EVERYTHING };
        keeps(&query, &record(1, ""), false);
        keeps(&query, &record(2, ""), true);
        keeps(&query, &record(3, ""), true);
    }

    #[test]
    fn all_and_some_workers_are_all() {
        let some = |places: &[u16]| Workers {
            places: Some(places.iter().copied().collect()),
            ..Workers::ANY
        };
        assert_eq!(some(&[1]).or(some(&[2])), some(&[1, 2]));
        assert_eq!(some(&[1]).or(Workers::ANY), Workers::ANY);
    }

    #[test]
    fn a_window_holds_its_first_moment_and_not_its_end() {
        let window = Window { since: 5, until: 8 };
        let held: Vec<u64> = (0..10).filter(|at| window.holds(*at)).collect();
        assert_eq!(held, [5, 6, 7]);
        assert_eq!(window.and(Window { since: 6, until: u64::MAX }), Window { since: 6, until: 8 });
        assert_eq!(window.and(Window::ALWAYS), window);
    }
}
