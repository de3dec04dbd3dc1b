//! One file of a row, read forward, packed or not.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::{domain::Compression, logs::rotation::Slot};

use super::row::{Identity, existing, identify, packing, written};

/// Bytes read at a time.
pub(super) const BLOCK_BYTES: usize = 64 << 10;

/// A file and how far it was read. Positions are those of the unpacked bytes.
pub(super) struct Part {
    pub(super) identity: Identity,
    /// When it was last written, in microseconds since the Unix epoch.
    pub(super) written: u64,
    offset: u64,
    body: Body,
}

enum Body {
    Plain(File),
    Packed {
        file: File,
        how: Compression,
        /// Once it was begun.
        unpacked: Option<Box<dyn Read + Send>>,
    },
    /// It cannot be read any further.
    Broken(io::Empty),
}

impl Part {
    /// Opens the file in a slot of the row at `path`, if there is one.
    pub(super) fn open(slot: Slot, path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = existing(File::open(slot.path(path)))? else { return Ok(None) };
        let facts = file.metadata()?;
        let how = packing(slot);
        let identity = identify(&file, &facts, how)?;
        let body = match how {
            None => Body::Plain(file),
            Some(how) => Body::Packed { file, how, unpacked: None },
        };
        Ok(Some(Self { identity, written: written(&facts), offset: 0, body }))
    }

    /// The file itself, unless it is packed.
    pub(super) fn plain(&self) -> Option<&File> {
        match &self.body {
            Body::Plain(file) => Some(file),
            Body::Packed { .. } | Body::Broken(_) => None,
        }
    }

    /// Length, unless it is packed.
    pub(super) fn len(&self) -> io::Result<Option<u64>> {
        self.plain().map(|file| file.metadata().map(|facts| facts.len())).transpose()
    }

    /// Where it is read next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads on from there.
    pub(super) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if let Body::Packed { unpacked, .. } = &mut self.body {
            if offset < self.offset {
                (*unpacked, self.offset) = (None, 0);
            }
            // What cannot be unpacked is told when it is read.
            let behind = offset - self.offset;
            let _damaged = io::copy(&mut self.unpacked()?.take(behind), &mut io::sink());
        }
        self.offset = offset;
        Ok(())
    }

    /// Takes what was read for all there is.
    pub(super) fn give_up(&mut self) {
        self.body = Body::Broken(io::empty());
    }

    /// Adds at most a block, and at most `room` bytes, to `buffer`.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, room: u64) -> io::Result<usize> {
        let len = BLOCK_BYTES.min(usize::try_from(room).unwrap_or(usize::MAX));
        let old = buffer.len();
        buffer.resize(old + len, 0);
        let got = match &self.body {
            Body::Plain(file) => file.read_at(&mut buffer[old..], self.offset),
            Body::Packed { .. } | Body::Broken(_) => self.unpack(&mut buffer[old..]),
        };
        buffer.truncate(old + *got.as_ref().unwrap_or(&0));
        let got = got?;
        self.offset += u64::try_from(got).unwrap_or(0);
        Ok(got)
    }

    /// Unpackers give what they have: asks until the block is full.
    fn unpack(&mut self, mut block: &mut [u8]) -> io::Result<usize> {
        let unpacked = self.unpacked()?;
        let mut sum = 0;
        while !block.is_empty() {
            let got = match unpacked.read(block) {
                Ok(0) => break,
                Ok(got) => got,
                // What was unpacked is shown first; the error comes again.
                Err(_) if sum > 0 => break,
                Err(error) => return Err(error),
            };
            sum += got;
            block = &mut block[got..];
        }
        Ok(sum)
    }

    fn unpacked(&mut self) -> io::Result<&mut dyn Read> {
        match &mut self.body {
            Body::Packed { file, how, unpacked } => {
                if unpacked.is_none() {
                    file.rewind()?;
                    *unpacked = Some(begin(file.try_clone()?, *how)?);
                }
                Ok(unpacked.get_or_insert_with(|| Box::new(io::empty())))
            }
            Body::Plain(file) => Ok(file),
            Body::Broken(nothing) => Ok(nothing),
        }
    }
}

fn begin(file: File, how: Compression) -> io::Result<Box<dyn Read + Send>> {
    Ok(match how {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    })
}
