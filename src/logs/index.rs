//! When the lines of a raw log file were written, kept beside it so that the file itself holds
//! nothing but the app's bytes.
//!
//! An index is a file of blocks. The first block says which file is meant; each other block holds
//! [`Entry`]s, the first in full, the others as differences: four to six bytes each. Somebody who
//! looks for a time finds the block by its first entry. Losing an index, or its end, loses times
//! and nothing else.

use std::path::{Path, PathBuf};

use crate::logs::rotation::FileId;

/// Size of a block.
pub const BLOCK_BYTES: usize = 512;

/// First bytes of an index.
const MAGIC: [u8; 8] = *b"bplogix1";

/// Bytes of a number at full length.
const WORD_BYTES: usize = 8;

/// Most bytes of an entry that is written as two differences (LEB128).
const ENTRY_BYTES_MAX: usize = 20;

/// What an entry says: bytes from `offset` on were written at `unix_micros` or later, up to the
/// next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Position in the log file.
    pub offset: u64,
    /// Microseconds since the Unix epoch.
    pub unix_micros: u64,
}

/// Names the index of the log file `file` within `folder`. A file keeps its index under whatever
/// name it is rotated to; a packed one has the index of the packed file's own identity.
#[must_use]
pub fn path(folder: &Path, file: FileId) -> PathBuf {
    folder.join(format!("{:x}-{:x}.idx", file.device, file.inode))
}

/// Reads back which file an index in that folder is named after.
#[must_use]
pub fn identify(file_name: &str) -> Option<FileId> {
    let (device, inode) = file_name.strip_suffix(".idx")?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(FileId { device: number(device)?, inode: number(inode)? })
}

/// The first block of an index: which log file it belongs to.
///
/// Inode numbers are used again; the time of birth tells a file from a later one of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the log file was created (`stx_btime`), in microseconds since the Unix epoch; 0 where
    /// the file system does not say.
    pub born_unix_micros: u64,
}

impl Header {
    /// Writes it.
    #[must_use]
    pub fn block(self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..WORD_BYTES].copy_from_slice(&MAGIC);
        block[WORD_BYTES..2 * WORD_BYTES].copy_from_slice(&self.born_unix_micros.to_le_bytes());
        block
    }

    /// Reads it; `None` if this is no index.
    #[must_use]
    pub fn parse(block: &[u8]) -> Option<Self> {
        let (born, _) = block.strip_prefix(&MAGIC)?.split_first_chunk()?;
        Some(Self { born_unix_micros: u64::from_le_bytes(*born) })
    }
}

/// Adds entries to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Length of the index so far.
    len: u64,
    last: Option<Entry>,
}

/// Bytes to write at a position of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub at: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Goes on after the first `len` bytes of an index, its header included. What its last block
    /// holds need not be known: a new one is begun.
    #[must_use]
    pub fn new(len: u64) -> Self {
        Self { len, last: None }
    }

    /// Adds an entry, later than all before in offset and time.
    pub fn push(&mut self, entry: Entry) -> Piece {
        let block = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
        let used = usize::try_from(self.len % block).unwrap_or(0);
        let mut bytes = Vec::with_capacity(2 * WORD_BYTES);
        match self.last {
            Some(last) if used > 0 && used + ENTRY_BYTES_MAX <= BLOCK_BYTES => {
                leb128(&mut bytes, entry.offset.saturating_sub(last.offset));
                leb128(&mut bytes, entry.unix_micros.saturating_sub(last.unix_micros));
            }
            Some(_) | None => {
                self.len = self.len.next_multiple_of(block).max(block);
                bytes.extend(entry.offset.to_le_bytes());
                bytes.extend(entry.unix_micros.to_le_bytes());
            }
        }
        let at = self.len;
        self.len += u64::try_from(bytes.len()).unwrap_or(0);
        self.last = Some(entry);
        Piece { at, bytes }
    }
}

/// Reads the entries of a block that is not the first, possibly cut short.
#[must_use]
pub fn entries(block: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let Some((offset, rest)) = block.split_first_chunk() else { return entries };
    let Some((unix_micros, mut rest)) = rest.split_first_chunk() else { return entries };
    let (offset, unix_micros) = (u64::from_le_bytes(*offset), u64::from_le_bytes(*unix_micros));
    if unix_micros == 0 {
        return entries;
    }
    let mut last = Entry { offset, unix_micros };
    entries.push(last);
    // A difference of nothing at all is the unused rest of the block.
    while let Some((offset, after)) = read_leb128(rest)
        && let Some((micros, after)) = read_leb128(after)
        && (offset, micros) != (0, 0)
    {
        last.offset = last.offset.saturating_add(offset);
        last.unix_micros = last.unix_micros.saturating_add(micros);
        entries.push(last);
        rest = after;
    }
    entries
}

fn leb128(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn read_leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(ENTRY_BYTES_MAX / 2).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(end + 1);
    let digits = number.iter().rev();
    Some((digits.fold(0, |sum: u64, byte| sum << 7 | u64::from(byte & 0x7f)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(pieces: &[Piece]) -> Vec<u8> {
        let mut file = vec![0; BLOCK_BYTES];
        for piece in pieces {
            let at = usize::try_from(piece.at).unwrap();
            file.resize(file.len().max(at + piece.bytes.len()), 0);
            file[at..at + piece.bytes.len()].copy_from_slice(&piece.bytes);
        }
        file
    }

    fn read(file: &[u8]) -> Vec<Entry> {
        file.chunks(BLOCK_BYTES).skip(1).flat_map(entries).collect()
    }

    proptest::proptest! {
        /// What is written is read back, whatever was lost of the end and wherever the writer was
        /// replaced by another.
        #[test]
        fn entries_survive_a_round_trip(
            steps in proptest::collection::vec((1_u64..1 << 40, 1_u64..1 << 40, 0..20), 1..300),
        ) {
            let mut writer = Writer::new(0);
            let (mut written, mut pieces) = (Vec::new(), Vec::new());
            let mut entry = Entry { offset: 0, unix_micros: 1 };
            for (offset, micros, again) in steps {
                if again == 0 {
                    writer = Writer::new(writer.len);
                }
                entry.offset = entry.offset.saturating_add(offset >> (offset % 40));
                entry.unix_micros = entry.unix_micros.saturating_add(micros >> (micros % 40));
                if written.last() == Some(&entry) {
                    continue;
                }
                pieces.push(writer.push(entry));
                written.push(entry);
            }
            let file = file_of(&pieces);
            proptest::prop_assert_eq!(&read(&file), &written);
            let cut = read(&file[..file.len() - 1]);
            proptest::prop_assert_eq!(&cut[..], &written[..cut.len()]);
            proptest::prop_assert!(cut.len() + 1 == written.len());
        }
    }

    #[test]
    fn a_steady_stream_costs_few_bytes_an_entry() {
        let mut writer = Writer::new(0);
        let pieces: Vec<Piece> = (0..1_000)
            .map(|i| writer.push(Entry { offset: i * 100, unix_micros: (1 << 50) + i * 10_000 }))
            .collect();
        let bytes = file_of(&pieces).len();
        assert!(bytes < 4_000, "{bytes}");
    }

    #[test]
    fn garbage_is_no_entry() {
        assert_eq!(Header::parse(&[0; BLOCK_BYTES]), None);
        assert_eq!(Header::parse(b"bplogix"), None);
        let header = Header { born_unix_micros: 77 };
        assert_eq!(Header::parse(&header.block()), Some(header));
        assert_eq!(entries(&[0; BLOCK_BYTES]), []);
        assert_eq!(entries(&[7; 3]), []);
        assert!(entries(&[0xff; BLOCK_BYTES]).len() == 1);
    }

    #[test]
    fn an_index_is_named_after_its_file() {
        let file = FileId { device: 0xfe01, inode: 0x00ab_cdef };
        let path = path(Path::new("/x"), file);
        assert_eq!(path, Path::new("/x/fe01-abcdef.idx"));
        assert_eq!(identify("fe01-abcdef.idx"), Some(file));
        for other in ["fe01.idx", "x-1.idx", "1-1", ""] {
            assert_eq!(identify(other), None);
        }
    }
}
