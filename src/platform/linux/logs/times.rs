//! Keeps the index of a file up to date: when which of its bytes were written.
//!
//! An index is a convenience: where it cannot be written, times are lost and nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::logs::{
    index::{self, BLOCK_BYTES, Entry, Header, Writer},
    rotation::FileId,
};

use super::sink::Sink;

/// Shortest time between two entries, in microseconds: a line's time is as exact as this.
const INTERVAL_MICROS: u64 = 10_000;

/// The index of the file that is open.
#[derive(Debug, Default)]
pub(super) struct Times {
    open: Option<Open>,
    last: Option<Entry>,
}

#[derive(Debug)]
struct Open {
    of: FileId,
    /// `None` if it cannot be had.
    index: Option<(File, Writer)>,
}

impl Times {
    /// Notes that the bytes of the open file from `offset` on are written now. Indexes are in
    /// `folder`.
    pub(super) fn note(&mut self, folder: &Path, sink: &Sink, offset: u64, unix_micros: u64) {
        let Some((file, _)) = sink.position() else { return };
        let known = self.open.as_ref().is_some_and(|open| open.of == file);
        let last = self.last.filter(|last| known && last.offset < offset);
        if last.is_some_and(|last| unix_micros < last.unix_micros + INTERVAL_MICROS) {
            return;
        }
        if last.is_none() {
            let born_unix_micros = sink.born_unix_micros();
            let index = open(folder, file, Header { born_unix_micros }, offset);
            self.open = Some(Open { of: file, index: index.ok() });
        }
        let entry = Entry { offset, unix_micros };
        self.last = Some(entry);
        let Some(open) = &mut self.open else { return };
        let Some((index, writer)) = &mut open.index else { return };
        let piece = writer.push(entry);
        if index.write_all_at(&piece.bytes, piece.at).is_err() {
            open.index = None;
        }
    }
}

/// Opens the index of a log file of `size` bytes, or begins it anew if what is there speaks of
/// another file, or of bytes that are gone.
fn open(folder: &Path, log: FileId, header: Header, size: u64) -> io::Result<(File, Writer)> {
    let path = index::path(folder, log);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            options.open(&path)?
        }
        opened => opened?,
    };
    let mut block = [0; BLOCK_BYTES];
    let goes_on = file.read_exact_at(&mut block, 0).is_ok()
        && Header::parse(&block) == Some(header)
        && last_offset(&file)?.is_none_or(|last| last < size);
    if goes_on {
        let writer = Writer::new(file.metadata()?.len());
        return Ok((file, writer));
    }
    file.set_len(0)?;
    file.write_all_at(&header.block(), 0)?;
    Ok((file, Writer::new(0)))
}

/// The highest offset an index knows of.
fn last_offset(index: &File) -> io::Result<Option<u64>> {
    let block = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
    let blocks = index.metadata()?.len().div_ceil(block);
    let Some(last) = blocks.checked_sub(1).filter(|last| *last > 0) else { return Ok(None) };
    let mut bytes = vec![0; BLOCK_BYTES];
    let len = index.read_at(&mut bytes, last * block)?;
    Ok(index::entries(&bytes[..len]).last().map(|entry| entry.offset))
}
