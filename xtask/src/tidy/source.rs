//! Reads Rust well enough to say which paths it names, without parsing it.

use std::ops::Range;

/// A path such as `std::fs::File`, its line, and whether it stands in test code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    pub(super) in_tests: bool,
}

impl Named {
    /// Whether `words` stand one after the other somewhere in the path.
    pub(super) fn holds(&self, words: &[&str]) -> bool {
        self.segments.windows(words.len()).any(|it| it.iter().eq(words))
    }

    pub(super) fn begins(&self, words: &[&str]) -> bool {
        self.segments.iter().take(words.len()).eq(words)
    }
}

/// Every path and every single word of `text`, `use` groups spread out, comments and literals
/// left out.
///
/// A group `use a::{b, c::d};` counts as `a::b` and `a::c::d`, each on its own line. What follows
/// a line `#[cfg(test)]` up to the end of the file is test code: tests come last here.
pub(super) fn names(text: &str) -> Vec<Named> {
    let code = code_only(text);
    let mut reader = Reader::default();
    let mut rest = code.as_str();
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("#[cfg(test)]") {
            reader.in_tests = true;
            "#[cfg(test)]".len()
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            reader.word(&rest[..end]);
            end
        } else if rest.starts_with("::") {
            reader.joined = true;
            2
        } else {
            reader.mark(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    reader.end_path();
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<Named>,
    /// Prefixes of the `use` groups we are in.
    groups: Vec<Vec<String>>,
    path: Vec<String>,
    /// Whether `::` was the last thing seen.
    joined: bool,
    lines_before: usize,
    in_tests: bool,
}

impl Reader {
    fn word(&mut self, word: &str) {
        if !self.joined {
            self.end_path();
            self.path = self.groups.last().cloned().unwrap_or_default();
        }
        self.joined = false;
        self.path.push(word.to_owned());
    }

    fn mark(&mut self, mark: char) {
        match mark {
            '{' if self.joined => {
                self.groups.push(std::mem::take(&mut self.path));
                self.joined = false;
            }
            '}' => {
                self.end_path();
                self.groups.pop();
            }
            '\n' => {
                self.end_path();
                self.lines_before += 1;
            }
            ' ' => {}
            _ => self.end_path(),
        }
    }

    fn end_path(&mut self) {
        self.joined = false;
        let segments = std::mem::take(&mut self.path);
        if !segments.is_empty() {
            let (line, in_tests) = (self.lines_before + 1, self.in_tests);
            self.found.push(Named { line, segments, in_tests });
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with comments and the insides of literals blanked; every line stays where it was.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let hidden = hidden(rest, text[..at].chars().next_back().is_some_and(is_word));
        let Range { start, end } = hidden.unwrap_or_else(|| {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            length..length
        });
        code.push_str(&rest[..start]);
        code.extend(rest[start..end].chars().filter(|c| *c == '\n'));
        at += end;
    }
    code
}

/// Which part of `rest` is hidden if a comment or literal begins it; plain literals keep
/// their opening mark.
fn hidden(rest: &str, after_word: bool) -> Option<Range<usize>> {
    if rest.starts_with("//") {
        return Some(0..rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(0..block_comment(rest));
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return Some(1..1 + quoted(inside, '"'));
    }
    if !after_word && let Some(raw) = raw_string(rest) {
        return Some(raw);
    }
    let mut letters = rest.strip_prefix('\'')?.chars();
    let (first, second) = (letters.next()?, letters.next()?);
    // 'a' and '\n' are characters; 'a without an end is a lifetime
    (first == '\\' || second == '\'').then(|| 1..1 + quoted(&rest[1..], '\''))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a literal's inside and its closing mark.
fn quoted(inside: &str, close: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == close => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

/// `r"…"`, `r#"…"#` and their byte and C kin.
fn raw_string(rest: &str) -> Option<Range<usize>> {
    let bare = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = bare.len() - bare.trim_start_matches('#').len();
    let inside = bare[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", &bare[..hashes]);
    let start = rest.len() - inside.len();
    let end = inside.find(&close).map_or(rest.len(), |it| start + it + close.len());
    Some(0..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<_> = names(text)
            .iter()
            .map(|it| format!("{} {}", it.line, it.segments.join("::")))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_spread_out() {
        check(
            "use std::{\n    fs::{self, File},\n    io,\n};\nuse a::b;\n",
            &["1 use", "2 std::fs::self", "2 std::fs::File", "3 std::io", "5 use", "5 a::b"],
        );
    }

    #[test]
    fn expressions_name_paths() {
        check(
            "let x = Instant::now();\nfoo::<Bar>();",
            &["1 let", "1 x", "1 Instant::now", "2 foo", "2 Bar"],
        );
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        check("// std::fs\n/* a /* b */ c */ d", &["2 d"]);
        check(r##"f("std::fs \" x", r#"tokio " "#, 'a', '\'', b"q")"##, &["1 f", "1 b"]);
        check("fn f<'a>(x: &'a str) {}", &["1 fn", "1 f", "1 a", "1 x", "1 a", "1 str"]);
    }

    #[test]
    fn tests_come_last() {
        let found = names("fn a() {}\n#[cfg(test)]\nmod tests {}\n");
        let flags: Vec<_> = found.iter().map(|it| it.in_tests).collect();
        assert_eq!(flags, [false, false, true, true]);
    }
}
