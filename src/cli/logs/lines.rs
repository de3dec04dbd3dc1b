//! Bytes that were read, and the lines in them that are asked for.

use std::ops::Range;

use memchr::{memchr, memrchr};

use crate::logs::{
    line::{Form, first_formed},
    query::{DISORDER_MICROS, Query},
};

/// A longer line is taken in pieces of this size, so that memory stays bounded.
pub(super) const LINE_MAX_BYTES: usize = 16 << 20;

/// When a line was written, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Then.
    At(u64),
    /// Nobody kept it; not later than that.
    NotAfter(u64),
}

impl When {
    pub(super) fn unix_micros(self) -> u64 {
        match self {
            Self::At(at) | Self::NotAfter(at) => at,
        }
    }

    pub(super) fn known(self) -> Option<u64> {
        match self {
            Self::At(at) => Some(at),
            Self::NotAfter(_) => None,
        }
    }
}

/// Tells when bytes were written that do not say so themselves.
pub(super) trait Dates {
    /// When the byte at this offset of the file was written, if that is known.
    fn at(&mut self, offset: u64) -> Option<u64>;
    /// The time it was not written after.
    fn bound(&self) -> u64;
}

/// A line as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Its bytes, its end included if it has one.
    pub(super) bytes: &'a [u8],
    pub(super) when: When,
    /// Whether what it says of itself is believed.
    pub(super) formed: bool,
}

impl<'a> Line<'a> {
    /// Its bytes without their end.
    pub(super) fn text(&self) -> &'a [u8] {
        self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes)
    }

    /// What it says of itself.
    pub(super) fn form(&self) -> Form<'a> {
        if self.formed { Form::of(self.text()) } else { Form::Bare }
    }
}

/// What a look for the next line came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is one, written then.
    Line(When),
    /// More must be read first.
    Read,
    /// What comes is later than all that is asked for.
    Over,
}

/// The bytes read from a file and not yet shown.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Bytes taken.
    taken: usize,
    /// End of the last whole line.
    whole: usize,
    /// Offset in the file of the first byte, modulo 2⁶⁴: a line may have begun in the file before.
    base: u64,
    /// The line that stands first, if it was found.
    front: Option<(Range<usize>, When, bool)>,
    /// When the line at `taken` was written, if it began in the file before.
    carried: Option<When>,
    /// Up to here no line says anything of itself.
    bare: usize,
}

impl Lines {
    /// Lines at the offset of a file.
    pub(super) fn at(offset: u64) -> Self {
        Self { base: offset, ..Self::default() }
    }

    /// Lets `read` add bytes to those held; what it returns is passed on.
    pub(super) fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.base = self.base.wrapping_add(self.taken.try_into().unwrap_or(u64::MAX));
            self.whole = self.whole.saturating_sub(self.taken);
            self.bare = self.bare.saturating_sub(self.taken);
            self.taken = 0;
        }
        let old = self.bytes.len();
        let result = read(&mut self.bytes);
        if let Some(newline) = memrchr(b'\n', &self.bytes[old..]) {
            self.whole = old + newline + 1;
        } else if self.bytes.len() >= LINE_MAX_BYTES && self.whole == 0 {
            self.whole = self.bytes.len();
        }
        result
    }

    /// Goes on with another file, at this offset: a line begun may end there.
    pub(super) fn go_to(&mut self, offset: u64, dates: &mut dyn Dates) {
        if self.taken < self.bytes.len() && self.carried.is_none() {
            self.carried = Some(self.when(self.taken..self.bytes.len(), dates).1);
        }
        self.base = offset.wrapping_sub(self.bytes.len().try_into().unwrap_or(u64::MAX));
    }

    /// Takes what is there for whole lines.
    pub(super) fn close(&mut self) {
        self.whole = self.bytes.len();
    }

    /// Looks for the next line that is asked for.
    pub(super) fn next(&mut self, query: &Query, dates: &mut dyn Dates) -> Next {
        if let Some((_, when, _)) = &self.front {
            return Next::Line(*when);
        }
        let everything = query.is_everything();
        while self.taken < self.whole {
            let Some(range) = self.candidate(query) else { continue };
            let carried = self.carried.take().filter(|_| range.start == self.taken);
            let (formed, when) = match carried {
                Some(when) => (true, when),
                None => self.when(range.clone(), dates),
            };
            self.taken = range.start;
            let line = Line { bytes: &self.bytes[range.clone()], when, formed };
            if everything || query.keeps(line.text(), line.form(), when.unix_micros()) {
                self.front = Some((range, when, formed));
                return Next::Line(when);
            }
            if when.unix_micros() >= query.window.until.saturating_add(DISORDER_MICROS) {
                return Next::Over;
            }
            self.taken = range.end;
        }
        Next::Read
    }

    /// The next line that may be asked for; `None` if there was none in what was looked at.
    fn candidate(&mut self, query: &Query) -> Option<Range<usize>> {
        let text = &self.bytes[self.taken..self.whole];
        if let Some(sieve) = &query.sieve {
            if self.bare <= self.taken {
                self.bare = self.taken + first_formed(text).unwrap_or(text.len());
            }
            if self.bare > self.taken {
                let found = sieve.next(&text[..self.bare - self.taken]);
                let Some(found) = found else {
                    self.taken = self.bare;
                    self.carried = None;
                    return None;
                };
                return Some(self.taken + found.start..self.taken + found.end);
            }
        }
        let end = memchr(b'\n', text).map_or(text.len(), |newline| newline + 1);
        Some(self.taken..self.taken + end)
    }

    /// Whether a line is believed what it says, and when it was written.
    fn when(&self, range: Range<usize>, dates: &mut dyn Dates) -> (bool, When) {
        let offset = self.base.wrapping_add(range.start.try_into().unwrap_or(u64::MAX));
        let line = Line { bytes: &self.bytes[range], when: When::NotAfter(0), formed: false };
        let (form, at) = Form::dated(line.text(), dates.at(offset));
        (form != Form::Bare, at.map_or_else(|| When::NotAfter(dates.bound()), When::At))
    }

    /// The line [`Lines::next`] found.
    pub(super) fn front(&self) -> Option<Line<'_>> {
        let (range, when, formed) = self.front.clone()?;
        Some(Line { bytes: &self.bytes[range], when, formed })
    }

    /// Offset of that line in the file.
    pub(super) fn offset(&self) -> u64 {
        self.base.wrapping_add(self.taken.try_into().unwrap_or(u64::MAX))
    }

    /// Goes on after that line.
    pub(super) fn pop(&mut self) {
        if let Some((range, ..)) = self.front.take() {
            self.taken = range.end;
        }
    }

    /// Takes all that was read, whether or not it ends a line.
    pub(super) fn rest(&mut self) -> &[u8] {
        let rest = &self.bytes[self.taken..];
        (self.taken, self.whole) = (self.bytes.len(), self.bytes.len());
        (self.front, self.carried) = (None, None);
        rest
    }
}
