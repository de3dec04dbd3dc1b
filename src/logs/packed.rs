//! How a packed file names the file it was made from, so that a reader who was in the middle of
//! that one finds where to go on.
//!
//! The name stands before the packed bytes where `gzip(1)` and `zstd(1)` read past it: in an extra
//! field (RFC 1952 §2.3.1.1), in a skippable frame (RFC 8878 §3.1.2).

use crate::{domain::Compression, logs::rotation::FileId};

/// Bytes at the start of a packed file within which its origin is found.
pub const HEAD_BYTES: usize = 64;

/// Our sub-field of the gzip extra field: two letters, then the length.
const GZIP_FIELD: [u8; 4] = [b'b', b'p', 16, 0];

/// Start of a gzip member with an extra field, up to the flags.
const GZIP_MAGIC: [u8; 4] = [0x1f, 0x8b, 8, 4];

/// Where the extra field of a gzip member stands, its length included.
const GZIP_EXTRA_AT: usize = 10;

/// Start of a skippable zstd frame of 18 bytes, and our two letters.
const ZSTD_FRAME: [u8; 10] = [0x50, 0x2a, 0x4d, 0x18, 18, 0, 0, 0, b'b', b'p'];

/// The extra field for a gzip member, without its length.
#[must_use]
pub fn gzip_extra(origin: FileId) -> Vec<u8> {
    [&GZIP_FIELD[..], &number(origin)].concat()
}

/// The frame to put before the first one of a zstd file.
#[must_use]
pub fn zstd_frame(origin: FileId) -> Vec<u8> {
    [&ZSTD_FRAME[..], &number(origin)].concat()
}

/// Finds out from the first [`HEAD_BYTES`] of a packed file which file it was made from; `None`
/// if it was packed by somebody else.
#[must_use]
pub fn origin(head: &[u8], how: Compression) -> Option<FileId> {
    let number = match how {
        Compression::Gzip => {
            head.strip_prefix(&GZIP_MAGIC)?;
            head.get(GZIP_EXTRA_AT + 2..)?.strip_prefix(&GZIP_FIELD)?
        }
        Compression::Zstd => head.strip_prefix(&ZSTD_FRAME)?,
    };
    let (device, rest) = number.split_first_chunk()?;
    let (inode, _) = rest.split_first_chunk()?;
    Some(FileId { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) })
}

fn number(origin: FileId) -> [u8; 16] {
    let FileId { device, inode } = origin;
    let both = u128::from(inode) << 64 | u128::from(device);
    both.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: FileId = FileId { device: 0xfe01, inode: 1_234_567_890_123 };

    #[test]
    fn both_formats_name_their_origin() {
        let extra = gzip_extra(ORIGIN);
        let mut head = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
        head.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
        head.extend(extra);
        assert_eq!(origin(&head, Compression::Gzip), Some(ORIGIN));
        assert_eq!(origin(&zstd_frame(ORIGIN), Compression::Zstd), Some(ORIGIN));
    }

    #[test]
    fn files_packed_by_others_name_none() {
        for how in Compression::ALL {
            for head in [&b""[..], b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", &[0; HEAD_BYTES]] {
                assert_eq!(origin(head, how), None);
            }
        }
        let short = zstd_frame(ORIGIN);
        assert_eq!(origin(&short[..short.len() - 1], Compression::Zstd), None);
    }
}
