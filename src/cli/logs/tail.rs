//! Reads one stream forward, from file to file, losing and repeating nothing.
//!
//! A file is known by its inode, not by its name: while it is read it may be renamed any number of
//! times. Once it is read to its end and has been rotated away, the next one is the file that was
//! opened after it.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use memchr::memchr;

use crate::logs::{
    query::Search,
    rotation::{FileId, Slot},
};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// A longer line is shown in pieces of this size, so that memory stays bounded.
const LINE_MAX_BYTES: usize = 16 << 20;

/// Free slots in a row of files after which there are no more: a rotation in progress leaves one.
const GAP_MAX: u16 = 2;

/// Looks at a row of files while it is being shifted before it is taken as it is.
const LOOKS_MAX: usize = 1_000;

/// What reading on brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Something; ask again.
    More,
    /// Nothing, for now.
    End,
    /// The file was removed before its successor was found: lines may be missing here.
    Missed,
}

/// A stream and how far it was read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    current: Option<Part>,
    /// Files already open that follow the current one.
    ahead: VecDeque<Part>,
    /// Where the backlog ends: reading stops there until [`Tail::go_live`].
    stop: Option<Stop>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already taken.
    taken: usize,
    /// Bytes of `buffer` known to hold no end of a line.
    searched: usize,
}

#[derive(Debug)]
struct Part {
    file: File,
    id: FileId,
    offset: u64,
    unix_micros: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    id: Option<FileId>,
    offset: u64,
}

impl Tail {
    /// Opens the stream whose current file is `path` at its last `lines` lines, rotated files
    /// included. A stream that does not exist yet begins with its first byte.
    pub(super) fn open(path: &Path, lines: u64) -> io::Result<Self> {
        let mut parts = VecDeque::new();
        let mut search = Search::new(lines);
        let mut stop = Stop { id: None, offset: 0 };
        let mut missing = 0;
        for slot in slots() {
            let Some(mut part) = part_in(slot, path)? else {
                missing += 1;
                if missing > GAP_MAX {
                    break;
                }
                continue;
            };
            missing = 0;
            if parts.iter().any(|known: &Part| known.id == part.id) {
                continue;
            }
            let len = part.file.metadata()?.len();
            if parts.is_empty() {
                stop = Stop { id: Some(part.id), offset: len };
            }
            let start = find_start(&part.file, len, &mut search)?;
            part.offset = start.unwrap_or(0);
            parts.push_front(part);
            if start.is_some() {
                break;
            }
        }
        let current = parts.pop_front();
        let path = path.to_owned();
        let (buffer, stop) = (Vec::new(), Some(stop));
        Ok(Self { path, current, ahead: parts, stop, buffer, taken: 0, searched: 0 })
    }

    /// Goes on beyond what was there when the stream was opened.
    pub(super) fn go_live(&mut self) {
        self.stop = None;
    }

    /// When the file being read was last written, in microseconds since the Unix epoch.
    pub(super) fn unix_micros(&self) -> u64 {
        self.current.as_ref().map_or(0, |part| part.unix_micros)
    }

    /// Reads one block more.
    pub(super) fn fill(&mut self) -> io::Result<Filled> {
        loop {
            let Some(part) = &mut self.current else {
                if self.stop.is_some() {
                    return Ok(Filled::End);
                }
                self.current = part_in(Slot::Current, &self.path)?;
                if self.current.is_none() {
                    return Ok(Filled::End);
                }
                continue;
            };
            let stop = self.stop.filter(|stop| stop.id == Some(part.id));
            let room = stop.map_or(u64::MAX, |stop| stop.offset.saturating_sub(part.offset));
            self.buffer.drain(..self.taken);
            self.searched = self.searched.saturating_sub(self.taken);
            self.taken = 0;
            let got = part.read(&mut self.buffer, room)?;
            if got > 0 {
                return Ok(Filled::More);
            }
            if stop.is_some() {
                return Ok(Filled::End);
            }
            if let Some(next) = self.ahead.pop_front() {
                self.current = Some(next);
                continue;
            }
            match self.advance()? {
                Advance::Again => {}
                Advance::End => return Ok(Filled::End),
                Advance::Missed => return Ok(Filled::Missed),
            }
        }
    }

    /// Looks, at the end of the current file, where the stream goes on.
    fn advance(&mut self) -> io::Result<Advance> {
        let Some(part) = &mut self.current else { return Ok(Advance::End) };
        let live = id_of(&self.path)?;
        // The length is asked for after the name: a file that lost its name has all its bytes.
        let len = part.file.metadata()?.len();
        if len > part.offset {
            return Ok(Advance::Again);
        }
        if live.is_none() || live == Some(part.id) {
            if len == part.offset {
                return Ok(Advance::End);
            }
            part.offset = 0;
            return Ok(Advance::Again);
        }
        let (next, missed) = successor(&self.path, part.id)?;
        let Some(next) = next else { return Ok(Advance::End) };
        self.current = Some(next);
        Ok(if missed { Advance::Missed } else { Advance::Again })
    }

    /// Whether a whole line, or a piece of a very long one, can be taken.
    pub(super) fn has_line(&mut self) -> bool {
        let from = self.searched.max(self.taken);
        self.searched = match memchr(b'\n', &self.buffer[from..]) {
            Some(found) => from + found,
            None => self.buffer.len(),
        };
        self.searched < self.buffer.len() || self.buffer.len() - self.taken >= LINE_MAX_BYTES
    }

    /// Takes the line [`Tail::has_line`] saw, with its end.
    pub(super) fn line(&mut self) -> &[u8] {
        let end = self.buffer.len().min(self.searched + 1);
        let line = &self.buffer[self.taken..end];
        self.taken = end;
        line
    }

    /// Takes all that was read, whether or not it ends a line.
    pub(super) fn rest(&mut self) -> &[u8] {
        let rest = &self.buffer[self.taken..];
        self.taken = self.buffer.len();
        rest
    }
}

enum Advance {
    Again,
    End,
    Missed,
}

impl Part {
    fn read(&mut self, buffer: &mut Vec<u8>, room: u64) -> io::Result<usize> {
        let len = BLOCK_BYTES.min(usize::try_from(room).unwrap_or(usize::MAX));
        let old = buffer.len();
        buffer.resize(old + len, 0);
        let got = self.file.read_at(&mut buffer[old..], self.offset);
        buffer.truncate(old + *got.as_ref().unwrap_or(&0));
        let got = got?;
        self.offset += u64::try_from(got).unwrap_or(0);
        Ok(got)
    }
}

/// Finds where the last lines begin, reading `file` backwards; `None` if before its start.
fn find_start(file: &File, len: u64, search: &mut Search) -> io::Result<Option<u64>> {
    let block = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut end = len;
    loop {
        let begin = end.saturating_sub(block);
        let size = usize::try_from(end - begin).unwrap_or(BLOCK_BYTES);
        file.read_exact_at(&mut buffer[..size], begin)?;
        if let Some(found) = search.feed(&buffer[..size]) {
            return Ok(Some(begin + u64::try_from(found).unwrap_or(0)));
        }
        if begin == 0 {
            return Ok(None);
        }
        end = begin;
    }
}

/// Opens the file that was begun after the file `id` of the row at `path` was full. If `id` is no
/// longer there, that is the oldest file, and lines may be missing if there are several.
fn successor(path: &Path, id: FileId) -> io::Result<(Option<Part>, bool)> {
    for _ in 0..LOOKS_MAX {
        let before = row(path)?;
        let position = before.iter().position(|(_, known)| *known == id);
        let next = match position {
            Some(position) => position.checked_sub(1),
            None => before.len().checked_sub(1),
        };
        let Some((slot, expected)) = next.map(|next| before[next]) else {
            return Ok((None, false));
        };
        // Unless nothing moved between the two looks, the neighbour may not be the successor.
        if let Some(part) = part_in(slot, path)?
            && part.id == expected
            && row(path)? == before
        {
            return Ok((Some(part), position.is_none() && before.len() > 1));
        }
    }
    Ok((None, false))
}

/// Lists the files of a row, the youngest first. A file that moves up meanwhile is seen, once.
fn row(path: &Path) -> io::Result<Vec<(Slot, FileId)>> {
    let mut row: Vec<(Slot, FileId)> = Vec::new();
    let mut missing = 0;
    for slot in slots() {
        match id_of(&slot.path(path))? {
            Some(id) => {
                missing = 0;
                row.retain(|(_, known)| *known != id);
                row.push((slot, id));
            }
            None => missing += 1,
        }
        if missing > GAP_MAX {
            break;
        }
    }
    Ok(row)
}

/// The slots of a row in the order in which files move through them.
fn slots() -> impl Iterator<Item = Slot> {
    std::iter::once(Slot::Current).chain((1..).map(Slot::Rotated))
}

fn part_in(slot: Slot, path: &Path) -> io::Result<Option<Part>> {
    let Some(file) = existing(File::open(slot.path(path)))? else { return Ok(None) };
    let facts = file.metadata()?;
    let micros = facts.mtime().saturating_mul(1_000_000).saturating_add(facts.mtime_nsec() / 1_000);
    let unix_micros = u64::try_from(micros).unwrap_or(0);
    Ok(Some(Part { file, id: id(&facts), offset: 0, unix_micros }))
}

fn id_of(path: &Path) -> io::Result<Option<FileId>> {
    Ok(existing(fs::metadata(path))?.map(|facts| id(&facts)))
}

fn id(facts: &fs::Metadata) -> FileId {
    FileId { device: facts.dev(), inode: facts.ino() }
}

fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    match found {
        Err(error) if absent.contains(&error.kind()) => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of files that goes with the test.
    struct Row(PathBuf);

    impl Row {
        fn new(name: &str) -> Self {
            let name = format!("bunpilot-tail-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(folder.join("log"))
        }

        fn write(&self, slot: Slot, text: &str) {
            fs::write(slot.path(&self.0), text).unwrap();
        }

        fn shift(&self, from: Slot, to: Slot) {
            fs::rename(from.path(&self.0), to.path(&self.0)).unwrap();
        }
    }

    impl Drop for Row {
        fn drop(&mut self) {
            fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    /// Reads on to the end; returns what came.
    fn read(tail: &mut Tail) -> String {
        while tail.fill().unwrap() != Filled::End {}
        String::from_utf8(tail.rest().to_vec()).unwrap()
    }

    #[test]
    fn bytes_written_just_before_a_rotation_are_read_before_the_next_file() {
        let row = Row::new("late");
        row.write(Slot::Current, "1\n");
        let mut tail = Tail::open(&row.0, u64::MAX).unwrap();
        tail.go_live();
        assert_eq!(read(&mut tail), "1\n");
        // As if all this happened between the last read and the look around after it.
        row.write(Slot::Current, "1\n2\n");
        row.shift(Slot::Current, Slot::Rotated(1));
        row.write(Slot::Current, "3\n");
        assert!(matches!(tail.advance().unwrap(), Advance::Again));
        assert_eq!(read(&mut tail), "2\n3\n");
    }

    #[test]
    fn a_file_is_found_in_a_row_that_is_being_shifted() {
        let row = Row::new("gap");
        row.write(Slot::Current, "1\n");
        let mut tail = Tail::open(&row.0, u64::MAX).unwrap();
        tail.go_live();
        assert_eq!(read(&mut tail), "1\n");
        row.shift(Slot::Current, Slot::Rotated(4));
        row.write(Slot::Rotated(3), "2\n");
        row.write(Slot::Current, "3\n");
        assert_eq!(read(&mut tail), "2\n3\n");
    }

    #[test]
    fn a_reader_that_was_overtaken_says_so_and_goes_on_with_the_oldest() {
        let row = Row::new("overtaken");
        row.write(Slot::Current, "1\n");
        let mut tail = Tail::open(&row.0, u64::MAX).unwrap();
        tail.go_live();
        assert_eq!(read(&mut tail), "1\n");
        fs::remove_file(&row.0).unwrap();
        row.write(Slot::Rotated(1), "8\n");
        row.write(Slot::Current, "9\n");
        assert_eq!(tail.fill().unwrap(), Filled::Missed);
        assert_eq!(read(&mut tail), "8\n9\n");
    }
}
