//! Which lines match a pattern, and what in them does.
//!
//! A pattern never matches beyond the end of a line; `^` and `$` are its ends.

use std::ops::Range;

use memchr::{memchr, memrchr};
use regex::bytes::{Regex, RegexBuilder};

/// Largest a compiled pattern may be, in bytes.
const PATTERN_BYTES_MAX: usize = 10 << 20;

/// Whether `a` and `A` are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// Unless a pattern holds a capital letter.
    #[default]
    Smart,
    /// In any pattern.
    Ignored,
}

/// Text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern: {reason}; put `\\` before what is meant literally")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// One or more regular expressions, in the syntax of the `regex` crate.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whatever any of `patterns` matches.
    ///
    /// # Errors
    ///
    /// Names the first one that is no regular expression.
    pub fn any_of(patterns: &[String], case: Case) -> Result<Self, PatternError> {
        for pattern in patterns {
            compile(&alternative(pattern, case)).map_err(|error| PatternError {
                pattern: pattern.clone(),
                reason: reason(&error),
            })?;
        }
        let all: Vec<String> = patterns.iter().map(|one| alternative(one, case)).collect();
        let all = all.join("|");
        let too_large = |error| PatternError { pattern: all.clone(), reason: reason(&error) };
        compile(&all).map(Self).map_err(too_large)
    }

    /// Finds what matches in a line, from left to right; nothing empty.
    pub fn matches(&self, line: &[u8]) -> impl Iterator<Item = Range<usize>> {
        self.0.find_iter(line).map(|found| found.range()).filter(|range| !range.is_empty())
    }
}

fn alternative(pattern: &str, case: Case) -> String {
    match case {
        Case::Smart if has_capital(pattern) => format!("(?:{pattern})"),
        Case::Smart | Case::Ignored => format!("(?i:{pattern})"),
    }
}

/// Whether a pattern holds a capital letter that means itself: that of `\W` does not.
fn has_capital(pattern: &str) -> bool {
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            let _escaped = letters.next();
        } else if letter.is_uppercase() {
            return true;
        }
    }
    false
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).multi_line(true).crlf(true).size_limit(PATTERN_BYTES_MAX).build()
}

/// The last words of a message that draws a picture of the place.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Which lines are kept.
#[derive(Clone, Debug)]
pub struct Sieve {
    pattern: Pattern,
    kept: Kept,
}

/// Which lines a [`Sieve`] keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// Those that match.
    #[default]
    Matching,
    /// Those that do not.
    Others,
}

impl Sieve {
    /// Keeps the lines that match `pattern`, or the others.
    #[must_use]
    pub const fn new(pattern: Pattern, kept: Kept) -> Self {
        Self { pattern, kept }
    }

    /// Whether a line, without its end, is kept.
    #[must_use]
    pub fn keeps(&self, line: &[u8]) -> bool {
        self.pattern.0.is_match(line) == (self.kept == Kept::Matching)
    }

    /// Finds the first line of `text` that may be kept, its end included; those before it are not.
    /// Looks at many lines at once where it can, and then at more than one line's end: whether the
    /// line is kept, [`Sieve::keeps`] says.
    #[must_use]
    pub fn next(&self, text: &[u8]) -> Option<Range<usize>> {
        let found = match self.kept {
            Kept::Matching => self.pattern.0.find(text)?.start(),
            Kept::Others => 0,
        };
        // After the end of the last line nothing begins.
        if text.is_empty() || found == text.len() && text.ends_with(b"\n") {
            return None;
        }
        let start = memrchr(b'\n', &text[..found]).map_or(0, |newline| newline + 1);
        let end = memchr(b'\n', &text[found..]).map_or(text.len(), |newline| found + newline + 1);
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(patterns: &[&str], case: Case) -> Pattern {
        let patterns: Vec<String> = patterns.iter().map(|&it| it.to_owned()).collect();
        Pattern::any_of(&patterns, case).unwrap()
    }

    /// The kept lines of `text`, looked for in the whole of it.
    fn sift(sieve: &Sieve, text: &str) -> Vec<String> {
        let (mut kept, mut rest) = (Vec::new(), text.as_bytes());
        while let Some(range) = sieve.next(rest) {
            let line = std::str::from_utf8(&rest[range.clone()]).unwrap();
            if sieve.keeps(line.trim_end_matches('\n').as_bytes()) {
                kept.push(line.to_owned());
            }
            rest = &rest[range.end..];
        }
        kept
    }

    #[track_caller]
    fn check(patterns: &[&str], kept: Kept, text: &str, expected: &[&str]) {
        let sieve = Sieve::new(pattern(patterns, Case::Smart), kept);
        assert_eq!(sift(&sieve, text), expected, "{patterns:?} in {text:?}");
    }

    #[test]
    fn lines_are_kept_whole() {
        let text = "GET /a\npost /b\nGET /c\nget";
        check(&["/b"], Kept::Matching, text, &["post /b\n"]);
        check(&["get"], Kept::Matching, text, &["GET /a\n", "GET /c\n", "get"]);
        check(&["GET"], Kept::Matching, text, &["GET /a\n", "GET /c\n"]);
        check(&["post", "c$"], Kept::Matching, text, &["post /b\n", "GET /c\n"]);
        check(&["^get$"], Kept::Matching, text, &["get"]);
        check(&["GET"], Kept::Others, text, &["post /b\n", "get"]);
        check(&["x"], Kept::Matching, "", &[]);
        check(&["^$"], Kept::Matching, "a\n\nb\n", &["\n"]);
    }

    #[test]
    fn no_match_crosses_the_end_of_a_line() {
        check(&["a\\sb"], Kept::Matching, "a\nb\na b\n", &["a b\n"]);
        check(&["[^x]y"], Kept::Matching, "a\ny\nby\n", &["by\n"]);
        check(&["^b$"], Kept::Matching, "a\r\nb\r\n", &["b\r\n"]);
        check(&["(?s)a.b"], Kept::Matching, "a\nb\n", &[]);
    }

    #[test]
    fn capitals_make_a_pattern_particular() {
        let text = "error\nError\n";
        check(&["Error"], Kept::Matching, text, &["Error\n"]);
        check(&["\\Werror|error"], Kept::Matching, text, &["error\n", "Error\n"]);
        let ignoring = Sieve::new(pattern(&["ERROR"], Case::Ignored), Kept::Matching);
        assert_eq!(sift(&ignoring, text), ["error\n", "Error\n"]);
    }

    const PARTS: &[&str] = &["a", "b", "^", "$", " ", "\\s", "[^a]", "a*", "\\b", "|"];

    proptest::proptest! {
        /// Looking at all lines at once keeps the very lines that one look each keeps.
        #[test]
        fn many_lines_at_once_are_as_one_by_one(
            text in "[ab \n]{0,60}",
            parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..5),
            others in proptest::bool::ANY,
        ) {
            let kept = if others { Kept::Others } else { Kept::Matching };
            let sieve = Sieve::new(pattern(&[&parts.concat()], Case::Smart), kept);
            let lines = text.split_inclusive('\n');
            let keeps = |line: &&str| sieve.keeps(line.trim_end_matches('\n').as_bytes());
            let expected: Vec<&str> = lines.filter(keeps).collect();
            proptest::prop_assert_eq!(sift(&sieve, &text), expected);
        }
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let wrong = Pattern::any_of(&["ok".into(), "a(b".into()], Case::Smart).unwrap_err();
        assert!(wrong.to_string().starts_with("`a(b` is no pattern: unclosed group"), "{wrong}");
    }

    #[test]
    fn what_matches_in_a_line_is_found() {
        let found: Vec<_> = pattern(&["b+", "x*"], Case::Smart).matches(b"abba b").collect();
        assert_eq!(found, [1..3, 5..6]);
    }
}
