//! When the bytes of a raw log file were written, from the index beside it.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use crate::logs::index::{self, BLOCK_BYTES, Entry, Header};

use super::row::Identity;

/// Blocks read at a time.
const BLOCKS: u64 = 64;

/// The index of one file, of which a few blocks are held.
#[derive(Debug, Default)]
pub(super) struct Times {
    file: Option<File>,
    /// Blocks of entries; the header is none of them.
    blocks: u64,
    first: Option<Entry>,
    held: Vec<Entry>,
    /// First block not held.
    next: u64,
    /// Where what is held ends: the offset of the first entry that is not.
    end: u64,
    /// The entry last used.
    at: usize,
}

impl Times {
    /// Opens the index of a file; without one, or with one of another file, no time is known.
    pub(super) fn open(folder: &Path, identity: &Identity) -> Self {
        Self::read(folder, identity).unwrap_or_default()
    }

    fn read(folder: &Path, identity: &Identity) -> Option<Self> {
        let file = File::open(index::path(folder, identity.id)).ok()?;
        let mut header = [0; BLOCK_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let born = Header::parse(&header)?.born_unix_micros;
        // A packed file has the index of what it was made from, and was born later.
        if identity.origin.is_none() && born != 0 && identity.born != 0 && born != identity.born {
            return None;
        }
        let blocks = file.metadata().ok()?.len().div_ceil(block_bytes()).saturating_sub(1);
        let times = Self { file: Some(file), blocks, ..Self::default() };
        Some(Self { first: times.first_of(0), ..times })
    }

    /// The first time that is known.
    pub(super) fn first(&self) -> Option<Entry> {
        self.first
    }

    /// When the byte at `offset` was written, in microseconds since the Unix epoch.
    pub(super) fn at(&mut self, offset: u64) -> Option<u64> {
        self.first.filter(|first| first.offset <= offset)?;
        let begin = self.held.first().map_or(u64::MAX, |entry| entry.offset);
        if !(begin..self.end).contains(&offset) {
            let block = self.last_block(|entry| entry.offset <= offset)?;
            self.hold(block).ok()?;
        }
        let later = |at: usize| self.held.get(at).is_none_or(|entry| entry.offset > offset);
        if later(self.at) || !later(self.at + 1) {
            let after = self.held.partition_point(|entry| entry.offset <= offset);
            self.at = after.checked_sub(1)?;
        }
        self.held.get(self.at).map(|entry| entry.unix_micros)
    }

    /// Offset of the first byte known to be written at `unix_micros` or later; `None` if all that
    /// is known is earlier.
    pub(super) fn offset_at(&mut self, unix_micros: u64) -> Option<u64> {
        let Some(block) = self.last_block(|entry| entry.unix_micros < unix_micros) else {
            return self.first.map(|entry| entry.offset);
        };
        self.hold(block).ok()?;
        let later = |entry: &&Entry| entry.unix_micros >= unix_micros;
        let here = self.held.iter().find(later).map(|entry| entry.offset);
        here.or_else(|| self.first_of(self.next).map(|entry| entry.offset))
    }

    /// The last block whose first entry is one of the first, for which `early` holds.
    fn last_block(&self, early: impl Fn(&Entry) -> bool) -> Option<u64> {
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_of(middle).is_some_and(|entry| early(&entry)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    fn first_of(&self, block: u64) -> Option<Entry> {
        let mut bytes = [0; 16];
        let at = (block + 1).checked_mul(block_bytes())?;
        self.file.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
        index::entries(&bytes).first().copied()
    }

    fn hold(&mut self, block: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let count = BLOCKS.min(self.blocks - block);
        let len = usize::try_from(count * block_bytes()).unwrap_or(0);
        let mut bytes = vec![0; len];
        let mut got = 0;
        let at = (block + 1) * block_bytes();
        while got < len {
            match file.read_at(&mut bytes[got..], at + u64::try_from(got).unwrap_or(0))? {
                0 => break,
                more => got += more,
            }
        }
        self.held = bytes[..got].chunks(BLOCK_BYTES).flat_map(index::entries).collect();
        self.next = block + count;
        self.end = self.first_of(self.next).map_or(u64::MAX, |entry| entry.offset);
        self.at = 0;
        Ok(())
    }
}

fn block_bytes() -> u64 {
    u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;
    use crate::logs::{index::Writer, rotation::FileId};

    struct Folder(std::path::PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// An index of `count` entries: byte `10 i` was written at `1000 + 3 i`.
    fn written(name: &str, count: u64, born: u64) -> Folder {
        let folder = std::env::temp_dir().join(format!("bunpilot-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut file = File::create(index::path(&folder, ME.id)).unwrap();
        file.write_all(&Header { born_unix_micros: born }.block()).unwrap();
        let mut writer = Writer::new(0);
        for i in 0..count {
            let piece = writer.push(Entry { offset: 10 * i, unix_micros: 1000 + 3 * i });
            file.write_all_at(&piece.bytes, piece.at).unwrap();
        }
        Folder(folder)
    }

    const ME: Identity = Identity { id: FileId { device: 1, inode: 2 }, origin: None, born: 5 };

    #[test]
    fn every_byte_has_the_time_of_the_entry_before_it() {
        let count = 100_000;
        let folder = written("times", count, 5);
        let mut times = Times::open(&folder.0, &ME);
        assert_eq!(times.first(), Some(Entry { offset: 0, unix_micros: 1000 }));
        let forward = (0..count * 10).step_by(7);
        let back = (0..count * 10).rev().step_by(1009);
        for offset in forward.chain(back) {
            assert_eq!(times.at(offset), Some(1000 + offset / 10 * 3), "{offset}");
        }
        assert_eq!(times.at(u64::MAX), Some(1000 + (count - 1) * 3));
    }

    #[test]
    fn a_time_leads_to_its_first_byte() {
        let count = 50_000;
        let folder = written("offsets", count, 0);
        let mut times = Times::open(&folder.0, &ME);
        for i in (0..count).step_by(37) {
            assert_eq!(times.offset_at(1000 + 3 * i), Some(10 * i));
            assert_eq!(times.offset_at(999 + 3 * i), Some(10 * i));
        }
        assert_eq!(times.offset_at(0), Some(0));
        assert_eq!(times.offset_at(1000 + 3 * count), None);
    }

    #[test]
    fn an_index_of_another_file_tells_nothing() {
        let folder = written("foreign", 3, 6);
        assert_eq!(Times::open(&folder.0, &ME).first(), None);
        let packed = Identity { origin: Some(FileId { device: 1, inode: 1 }), ..ME };
        assert!(Times::open(&folder.0, &packed).first().is_some());
        let other = Identity { id: FileId { device: 1, inode: 3 }, ..ME };
        assert_eq!(Times::open(&folder.0, &other).at(0), None);
        assert_eq!(Times::open(&folder.0, &other).offset_at(0), None);
    }
}
