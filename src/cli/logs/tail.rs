//! Reads one stream forward, from file to file, losing and repeating nothing.
//!
//! A file is known by its inode, not by its name: while it is read it may be renamed any number of
//! times, and packed. Once it is read to its end and has been rotated away, the next one is the
//! file that was opened after it.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::logs::{
    query::{DISORDER_MICROS, Lines as Wanted, Query},
    rotation::{FileId, Slot},
};

use super::{
    lines::{Dates, Line, Lines, Next, When},
    part::Part,
    row::{self, Found, Identity, places, position, row},
    start::{self, Count, Stretch},
    times::Times,
};

/// Looks at a row of files while it is being shifted before it is taken as it is.
const LOOKS_MAX: usize = 1_000;

/// Files held open that follow the current one; those after them are opened when it is their turn.
const AHEAD_MAX: usize = 16;

/// What reading on brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Something; ask again.
    More,
    /// Nothing, for now.
    End,
    /// The file that was read to its end has no successor any more: reading goes on with this one,
    /// and what was between them was removed unread.
    Missed(Gap),
    /// The rest of a packed file cannot be read, and is left out.
    Damaged(String),
}

/// Two files between which others were removed, or may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The last one read.
    pub(super) from: Identity,
    /// The one reading goes on with.
    pub(super) to: Identity,
    /// Whether others follow it: a stream that begins anew has one file.
    pub(super) several: bool,
}

/// A stream and how far it was read.
pub(super) struct Tail {
    path: PathBuf,
    /// Where indexes are.
    times_folder: PathBuf,
    current: Option<Part>,
    clock: Clock,
    /// Files already open that follow the current one.
    ahead: VecDeque<Part>,
    /// Where the backlog ends: reading stops there until [`Tail::go_live`].
    stop: Option<Stop>,
    lines: Lines,
    /// Lines asked for that are left out at the start.
    skipped: u64,
    /// Whether nothing more can be asked for.
    over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    id: Option<FileId>,
    offset: u64,
}

/// What is known about the times of the current file.
#[derive(Debug)]
enum Clock {
    /// They are in its index; beyond that, the time it was last written is known.
    File { times: Times, written: u64 },
    /// They pass as we look.
    Live { now: u64 },
}

impl Dates for Clock {
    fn at(&mut self, offset: u64) -> Option<u64> {
        match self {
            Self::File { times, .. } => times.at(offset),
            Self::Live { .. } => None,
        }
    }

    fn bound(&self) -> u64 {
        match self {
            Self::File { times, written } => {
                times.first().map_or(*written, |first| first.unix_micros.min(*written))
            }
            Self::Live { now } => *now,
        }
    }
}

impl Tail {
    /// Opens the stream whose current file is `path` at the lines asked for, rotated files
    /// included. A stream that does not exist yet begins with its first byte.
    pub(super) fn open(
        path: &Path,
        times_folder: &Path,
        wanted: Wanted,
        query: &Query,
    ) -> io::Result<Self> {
        let mut opening = Opening { wanted, parts: VecDeque::new(), skipped: 0, stop: None };
        let mut missing = 0;
        'row: for slots in places() {
            let mut any = false;
            for slot in slots {
                let Some(part) = Part::open(slot, path)? else { continue };
                any = true;
                if !opening.knows(&part) && opening.add(part, times_folder, query)? {
                    break 'row;
                }
            }
            missing = if any { 0 } else { missing + 1 };
            if missing > row::GAP_MAX {
                break;
            }
        }
        let Opening { mut parts, skipped, stop, .. } = opening;
        let current = parts.pop_front();
        let stop = stop.unwrap_or(Stop { id: None, offset: 0 });
        parts.truncate(AHEAD_MAX);
        let mut tail = Self {
            path: path.to_owned(),
            times_folder: times_folder.to_owned(),
            current: None,
            clock: Clock::Live { now: 0 },
            ahead: parts,
            stop: Some(stop),
            lines: Lines::default(),
            skipped,
            over: false,
        };
        if let Some(part) = current {
            tail.take(part);
        }
        Ok(tail)
    }

    /// Goes on beyond what was there when the stream was opened; what comes is written now.
    pub(super) fn go_live(&mut self) {
        self.stop = None;
    }

    /// Tells what time it is: lines that are read from now on, and say nothing else, were written
    /// then.
    pub(super) fn set_clock(&mut self, now: u64) {
        if self.stop.is_none() {
            self.clock = Clock::Live { now };
        }
    }

    /// Looks for the next line that is asked for in what was read.
    pub(super) fn next(&mut self, query: &Query) -> Option<When> {
        while !self.over {
            match self.lines.next(query, &mut self.clock) {
                Next::Line(_) if self.skipped > 0 => {
                    self.skipped -= 1;
                    self.lines.pop();
                }
                Next::Line(when) => {
                    return Some(match self.clock {
                        // What was just read was just written.
                        Clock::Live { .. } => When::At(when.unix_micros()),
                        Clock::File { .. } => when,
                    });
                }
                Next::Read => return None,
                Next::Over => self.over = true,
            }
        }
        None
    }

    /// The line [`Tail::next`] found.
    pub(super) fn front(&self) -> Option<Line<'_>> {
        self.lines.front()
    }

    /// Goes on after that line.
    pub(super) fn pop(&mut self) {
        self.lines.pop();
    }

    /// Takes an unfinished last line for a whole one.
    pub(super) fn close(&mut self) {
        self.lines.close();
    }

    /// Takes all that was read, whether or not it ends a line.
    pub(super) fn rest(&mut self) -> &[u8] {
        self.lines.rest()
    }

    /// Reads one block more.
    pub(super) fn fill(&mut self) -> io::Result<Filled> {
        loop {
            if self.over {
                return Ok(Filled::End);
            }
            let Some(part) = &mut self.current else {
                if self.stop.is_some() {
                    return Ok(Filled::End);
                }
                let Some(part) = Part::open(Slot::Current, &self.path)? else {
                    return Ok(Filled::End);
                };
                self.take(part);
                continue;
            };
            let stop = self.stop.filter(|stop| stop.id == Some(part.identity.id));
            let room = stop.map_or(u64::MAX, |stop| stop.offset.saturating_sub(part.offset()));
            match self.lines.fill(|bytes| part.read(bytes, room)) {
                Ok(0) => {}
                Ok(_) => return Ok(Filled::More),
                Err(error) if part.plain().is_none() => {
                    part.give_up();
                    return Ok(Filled::Damaged(error.to_string()));
                }
                Err(error) => return Err(error),
            }
            if stop.is_some() {
                return Ok(Filled::End);
            }
            if let Some(next) = self.ahead.pop_front() {
                self.take(next);
                continue;
            }
            match self.advance()? {
                Advance::Again => {}
                Advance::End => return Ok(Filled::End),
                Advance::Missed(gap) => return Ok(Filled::Missed(gap)),
            }
        }
    }

    /// Looks, at the end of the current file, where the stream goes on.
    fn advance(&mut self) -> io::Result<Advance> {
        let Some(part) = &mut self.current else { return Ok(Advance::End) };
        let held = part.identity;
        if part.plain().is_some() {
            let live = row::current(&self.path)?;
            // The length is asked for after the name: a file that lost its name has all its bytes.
            let len = part.len()?.unwrap_or(0);
            if len > part.offset() {
                return Ok(Advance::Again);
            }
            if live.is_none() || live == Some(held.id) {
                if len == part.offset() {
                    return Ok(Advance::End);
                }
                part.go_to(0)?;
                self.lines.go_to(0, &mut self.clock);
                return Ok(Advance::Again);
            }
        }
        let (next, gap) = successor(&self.path, held)?;
        let Some(next) = next else { return Ok(Advance::End) };
        self.take(next);
        Ok(gap.map_or(Advance::Again, Advance::Missed))
    }

    /// Goes on with another file.
    fn take(&mut self, part: Part) {
        self.lines.go_to(part.offset(), &mut self.clock);
        if self.stop.is_some() {
            let times = Times::open(&self.times_folder, &part.identity);
            self.clock = Clock::File { times, written: part.written };
        }
        self.current = Some(part);
    }
}

enum Advance {
    Again,
    End,
    Missed(Gap),
}

/// The walk back through a row to where the lines begin.
struct Opening {
    wanted: Wanted,
    /// From the oldest to the youngest.
    parts: VecDeque<Part>,
    skipped: u64,
    stop: Option<Stop>,
}

impl Opening {
    /// Whether a file was met before under another name, or packed.
    fn knows(&self, part: &Part) -> bool {
        self.parts.iter().any(|known| part.identity.is_or_was(&known.identity))
    }

    /// Adds an older file; says whether the lines begin in it or after it.
    fn add(&mut self, mut part: Part, folder: &Path, query: &Query) -> io::Result<bool> {
        let since = query.window.since;
        // The youngest is kept in any case: what comes next is written to it.
        if self.stop.is_some() && part.written < since.saturating_sub(DISORDER_MICROS) {
            return Ok(true);
        }
        let times = Times::open(folder, &part.identity);
        let mut clock = Clock::File { times, written: part.written };
        if self.stop.is_none() {
            let offset = part.len()?.unwrap_or(u64::MAX);
            self.stop = Some(Stop { id: Some(part.identity.id), offset });
        }
        let (offset, begins) = match (part.plain(), part.len()?) {
            (Some(file), Some(len)) => self.begin_plain(file, len, query, &mut clock)?,
            (_, _) => self.begin_packed(&mut part, query, &mut clock),
        };
        part.go_to(offset)?;
        self.parts.push_front(part);
        Ok(begins)
    }

    /// Finds where the lines begin in a plain file, and whether older files hold none.
    fn begin_plain(
        &mut self,
        file: &File,
        len: u64,
        query: &Query,
        clock: &mut Clock,
    ) -> io::Result<(u64, bool)> {
        let within = match clock {
            Clock::File { times, .. } => start::bounds(file, len, query, times)?,
            Clock::Live { .. } => Stretch { from: 0, to: len },
        };
        if self.parts.is_empty()
            && let Some(stop) = &mut self.stop
        {
            stop.offset = within.to;
        }
        let begins = within.from > 0;
        let Wanted::Last(missing) = &mut self.wanted else { return Ok((within.from, begins)) };
        let start = if query.is_everything() {
            start::last_any(file, len, missing)?
        } else {
            start::last_lines(file, within, query, clock, missing)?
        };
        Ok((start.unwrap_or(within.from), begins || start.is_some()))
    }

    /// The same for a packed file, which is read once to count its lines.
    fn begin_packed(&mut self, part: &mut Part, query: &Query, clock: &mut Clock) -> (u64, bool) {
        let begins = match clock {
            Clock::File { times, .. } => {
                times.first().is_some_and(|first| first.unix_micros < query.window.since)
            }
            Clock::Live { .. } => false,
        };
        let Wanted::Last(missing) = &mut self.wanted else { return (0, begins) };
        // What cannot be unpacked is told when it is shown.
        let count = Count::of(part, query, clock);
        match count.last(missing) {
            Some((offset, skipped)) => {
                self.skipped = skipped;
                (offset, true)
            }
            None => (0, begins),
        }
    }
}

/// Opens the file that was begun after the one held was full. If that is no longer in the row at
/// `path`, it is the oldest file, and lines may be missing.
fn successor(path: &Path, held: Identity) -> io::Result<(Option<Part>, Option<Gap>)> {
    for _ in 0..LOOKS_MAX {
        let before = row(path)?;
        let position = position(&before, &held);
        let next = match position {
            Some(position) => position.checked_sub(1),
            None => before.len().checked_sub(1),
        };
        let Some(Found { slot, identity, .. }) = next.map(|next| before[next]) else {
            return Ok((None, None));
        };
        // Unless nothing moved between the two looks, the neighbour may not be the successor.
        if let Some(part) = Part::open(slot, path)?
            && part.identity.id == identity.id
            && identities(&row(path)?).eq(identities(&before))
        {
            let gap = Gap { from: held, to: identity, several: before.len() > 1 };
            return Ok((Some(part), position.is_none().then_some(gap)));
        }
    }
    Ok((None, None))
}

/// A row but for the lengths, which change all the time.
fn identities(row: &[Found]) -> impl Iterator<Item = (Slot, Identity)> {
    row.iter().map(|it| (it.slot, it.identity))
}
