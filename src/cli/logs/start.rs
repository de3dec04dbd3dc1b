//! Finds where in a file the lines begin that are asked for.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use memchr::memchr;

use crate::logs::{
    line::Form,
    query::{DISORDER_MICROS, Query, Search},
};

use super::{
    lines::{Dates, LINE_MAX_BYTES, Lines, Next},
    part::{BLOCK_BYTES, Part},
    times::Times,
};

/// Bytes looked at together on the way back through a file.
const CHUNK_BYTES: u64 = 256 << 10;

/// Every how many lines a place in a packed file is remembered.
const STEP: u64 = 1024;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where its first line begins; 0 where lines before this file may be meant as well.
    pub(super) from: u64,
    /// Where its last line ends.
    pub(super) to: u64,
}

/// Bounds those lines of a plain file of `len` bytes that were written within the query's window.
/// Some more may be within the bounds.
pub(super) fn bounds(
    file: &File,
    len: u64,
    query: &Query,
    times: &mut Times,
) -> io::Result<Stretch> {
    let window = query.window;
    let mut whole = Stretch { from: 0, to: len };
    if times.first().is_some() {
        if window.since > 0 {
            let from = times.offset_at(window.since).unwrap_or(len);
            whole.from = line_start(file, from, len)?;
        }
        if window.until < u64::MAX {
            let to = times.offset_at(window.until).unwrap_or(len);
            whole.to = line_start(file, to, len)?;
        }
    } else {
        if window.since > 0 {
            whole.from = bisect(file, len, window.since.saturating_sub(DISORDER_MICROS))?;
        }
        if window.until < u64::MAX {
            let until = window.until.saturating_add(DISORDER_MICROS);
            whole.to = bisect(file, len, until)?;
        }
    }
    whole.to = whole.to.max(whole.from);
    Ok(whole)
}

/// Start of the first line at `offset` or later.
fn line_start(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let Some(mut at) = offset.checked_sub(1) else { return Ok(0) };
    let mut block = vec![0; BLOCK_BYTES];
    while at < len {
        let got = file.read_at(&mut block, at)?;
        if got == 0 {
            break;
        }
        if let Some(newline) = memchr(b'\n', &block[..got]) {
            return Ok((at + number(newline) + 1).min(len));
        }
        at += number(got);
    }
    Ok(len)
}

/// Start of the first line whose own time is `unix_micros` or later, if lines carry times and in
/// order; 0 if they do not.
fn bisect(file: &File, len: u64, unix_micros: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        let start = line_start(file, middle, len)?;
        let got = if start < high { file.read_at(&mut block, start)? } else { 0 };
        let first = block[..got].split(|byte| *byte == b'\n').next().unwrap_or_default();
        match Form::of(first).unix_micros() {
            Some(time) if time < unix_micros => low = start + number(first.len()) + 1,
            Some(_) => high = middle,
            // No line begins here; or one that says nothing, and then nothing is sure.
            None if start >= high => high = middle,
            None => return Ok(0),
        }
    }
    line_start(file, low.min(len), len)
}

/// Where the last lines of a plain file begin, going back from the end of `within`; `None` if
/// before it. Lines that are found are no longer `missing`.
pub(super) fn last_lines(
    file: &File,
    within: Stretch,
    query: &Query,
    dates: &mut dyn Dates,
    missing: &mut u64,
) -> io::Result<Option<u64>> {
    let mut chunk = Vec::new();
    let (mut end, mut size) = (within.to, CHUNK_BYTES);
    while *missing > 0 && end > within.from {
        let mut begin = end.saturating_sub(size).max(within.from);
        chunk.resize(usize::try_from(end - begin).unwrap_or(0), 0);
        file.read_exact_at(&mut chunk, begin)?;
        let mut text = &chunk[..];
        if begin > within.from {
            match memchr(b'\n', text).filter(|newline| newline + 1 < text.len()) {
                Some(newline) => {
                    begin += number(newline) + 1;
                    text = &text[newline + 1..];
                }
                None if size < number(LINE_MAX_BYTES) => {
                    size *= 2;
                    continue;
                }
                None => {}
            }
        }
        let mut starts = Vec::new();
        let mut lines = Lines::at(begin);
        lines.fill(|bytes| bytes.extend_from_slice(text));
        lines.close();
        while let Next::Line(_) = lines.next(query, dates) {
            starts.push(lines.offset());
            lines.pop();
        }
        if let Some(first) = number(starts.len()).checked_sub(*missing) {
            *missing = 0;
            return Ok(starts.get(usize::try_from(first).unwrap_or(0)).copied());
        }
        *missing -= number(starts.len());
        (end, size) = (begin, CHUNK_BYTES);
    }
    Ok((*missing == 0).then_some(end))
}

/// The same for a query that asks for every line: only ends of lines are looked for.
pub(super) fn last_any(file: &File, len: u64, missing: &mut u64) -> io::Result<Option<u64>> {
    let mut search = Search::new(*missing);
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut end = len;
    while end > 0 {
        let begin = end.saturating_sub(number(BLOCK_BYTES));
        let size = usize::try_from(end - begin).unwrap_or(BLOCK_BYTES);
        file.read_exact_at(&mut buffer[..size], begin)?;
        if let Some(found) = search.feed(&buffer[..size]) {
            *missing = 0;
            return Ok(Some(begin + number(found)));
        }
        end = begin;
    }
    *missing = search.missing_before();
    Ok((*missing == 0).then_some(0))
}

/// The lines of a packed file that are asked for: how many, and where some of them begin.
#[derive(Debug, Default)]
pub(super) struct Count {
    lines: u64,
    /// Where every [`STEP`]th begins.
    steps: Vec<u64>,
}

impl Count {
    /// Reads the file to its end, or as far as it can be read.
    pub(super) fn of(part: &mut Part, query: &Query, dates: &mut dyn Dates) -> Self {
        let mut count = Self::default();
        let mut lines = Lines::at(part.offset());
        loop {
            let got = lines.fill(|bytes| part.read(bytes, u64::MAX)).unwrap_or(0);
            if got == 0 {
                lines.close();
            }
            loop {
                match lines.next(query, dates) {
                    Next::Line(_) => count.add(lines.offset()),
                    Next::Read if got > 0 => break,
                    Next::Read | Next::Over => return count,
                }
                lines.pop();
            }
        }
    }

    fn add(&mut self, offset: u64) {
        if self.lines.is_multiple_of(STEP) {
            self.steps.push(offset);
        }
        self.lines += 1;
    }

    /// Where the last of them begin: an offset, and how many of the lines from there to leave out.
    /// `None` if not in this file; what is found is no longer `missing`.
    pub(super) fn last(&self, missing: &mut u64) -> Option<(u64, u64)> {
        let Some(first) = self.lines.checked_sub(*missing) else {
            *missing -= self.lines;
            return None;
        };
        *missing = 0;
        let step = usize::try_from(first / STEP).unwrap_or(usize::MAX);
        // None of them: reading begins at the end.
        let offset = self.steps.get(step).copied().unwrap_or(u64::MAX);
        Some((offset, first % STEP))
    }
}

pub(super) fn number(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
