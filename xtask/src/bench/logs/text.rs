//! The text all writers write: numbered lines of one length, so that every byte is known.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
};

/// Digits of a line's number, at its head.
const DIGITS: usize = 12;

/// Bytes compared at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The endless text, from some line on.
#[derive(Clone, Debug)]
pub(super) struct Text {
    line: Vec<u8>,
    /// Where in the line the next byte is.
    offset: usize,
}

impl Text {
    /// Lines of `line_bytes`, their newline included, from line `number` on.
    pub(super) fn new(line_bytes: usize, number: u64) -> Self {
        let mut line = format!("{number:0DIGITS$} ").into_bytes();
        let filler = (b'a'..=b'z').cycle().take(line_bytes.saturating_sub(line.len() + 1));
        line.extend(filler);
        line.push(b'\n');
        Self { line, offset: 0 }
    }

    /// Writes the next bytes of the text over `chunk`.
    pub(super) fn fill(&mut self, chunk: &mut [u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let left = &self.line[self.offset..];
            let take = left.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(&left[..take]);
            rest = later;
            self.offset += take;
            if self.offset == self.line.len() {
                self.offset = 0;
                self.count();
            }
        }
    }

    fn count(&mut self) {
        for digit in self.line[..DIGITS].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}

/// What a row of files holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Number of the first line that is still there.
    pub(super) first: u64,
    /// Bytes from there to the end.
    pub(super) bytes: u64,
    /// Files that end within a line, the last one left out.
    pub(super) torn_files: u64,
}

/// Where a row of files is not the text.
#[derive(Debug)]
pub(super) struct Wrong {
    path: PathBuf,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl Wrong {
    fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into() }
    }
}

/// Compares every byte of `files`, the oldest first, with the text: from whatever line they begin
/// at, without a gap, to the end of line `lines - 1`.
pub(super) fn verify(files: &[PathBuf], line_bytes: usize, lines: u64) -> Result<Kept, Wrong> {
    let Some(oldest) = files.first() else { return Err(Wrong::new(Path::new(""), "no file")) };
    let first = first_number(oldest)?;
    let mut kept = Kept { first, bytes: 0, torn_files: 0 };
    let mut text = Text::new(line_bytes, first);
    for path in files {
        kept.torn_files += u64::from(text.offset != 0);
        kept.bytes += compare(path, &mut text)?;
    }
    let wide = u64::try_from(line_bytes).unwrap_or(u64::MAX);
    if first * wide + kept.bytes == lines * wide {
        return Ok(kept);
    }
    let what = format!("{} bytes from line {first} on; {lines} lines were written", kept.bytes);
    Err(Wrong::new(files.last().unwrap_or(oldest), what))
}

fn first_number(path: &Path) -> Result<u64, Wrong> {
    let mut digits = [0; DIGITS];
    let read = File::open(path).and_then(|mut it| it.read_exact(&mut digits));
    read.map_err(|error| Wrong::new(path, error.to_string()))?;
    let number = std::str::from_utf8(&digits).ok().and_then(|it| it.parse().ok());
    number.ok_or_else(|| Wrong::new(path, "does not begin with a line"))
}

/// Compares one file with what comes next of `text`; returns its size.
fn compare(path: &Path, text: &mut Text) -> Result<u64, Wrong> {
    let failed = |error: io::Error| Wrong::new(path, error.to_string());
    let mut file = File::open(path).map_err(failed)?;
    let (mut found, mut expected) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut bytes = 0;
    loop {
        let read = file.read(&mut found).map_err(failed)?;
        if read == 0 {
            return Ok(bytes);
        }
        text.fill(&mut expected[..read]);
        if found[..read] != expected[..read] {
            let at = found.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(0);
            return Err(difference(path, &mut file, bytes + u64::try_from(at).unwrap_or(0)));
        }
        bytes += u64::try_from(read).unwrap_or(0);
    }
}

/// Says what stands around byte `at`, which is the first wrong one.
fn difference(path: &Path, file: &mut File, at: u64) -> Wrong {
    let mut around = [0; 300];
    let read = file
        .seek(io::SeekFrom::Start(at.saturating_sub(150)))
        .and_then(|_| file.read(&mut around))
        .unwrap_or(0);
    let around = String::from_utf8_lossy(&around[..read]).into_owned();
    Wrong::new(path, format!("byte {at} is wrong, amid {around:?}"))
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    fn written(text: &mut Text, bytes: usize) -> Vec<u8> {
        let mut chunk = vec![0; bytes];
        text.fill(&mut chunk);
        chunk
    }

    #[test]
    fn text_is_the_same_whatever_the_chunks() {
        let mut text = Text::new(20, 8);
        assert_eq!(
            String::from_utf8(written(&mut text, 60)).unwrap(),
            "000000000008 abcdef\n000000000009 abcdef\n000000000010 abcdef\n"
        );
        let (mut pieces, mut whole) = (Text::new(100, 0), Text::new(100, 0));
        let many: Vec<u8> = (0..1_000).flat_map(|_| written(&mut pieces, 333)).collect();
        assert!(many == written(&mut whole, 333_000));
    }

    #[test]
    fn every_wrong_byte_is_found() {
        let folder = env::temp_dir().join(format!("bunpilot-text-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = ["a", "b"].map(|it| folder.join(it));
        let put = |at: usize, bytes: &[u8]| fs::write(&files[at], bytes).unwrap();
        let mut text = Text::new(50, 3);
        let (head, tail) = (written(&mut text, 500), written(&mut text, 4_980));
        let tail = [tail, written(&mut text, 20)].concat();
        put(0, &head);
        put(1, &tail);
        let kept = verify(&files, 50, 113).unwrap();
        assert_eq!(kept, Kept { first: 3, bytes: 5_500, torn_files: 0 });
        assert!(verify(&files, 50, 114).is_err(), "a missing line at the end");
        for at in [0, 49, 4_000, 4_999] {
            let mut bad = tail.clone();
            bad[at] ^= 1;
            put(1, &bad);
            let wrong = verify(&files, 50, 113).unwrap_err();
            assert!(wrong.to_string().contains(&format!("byte {at} is wrong")), "{wrong}");
        }
        put(0, &head[..490]);
        put(1, &[&head[490..], &tail[..]].concat());
        assert_eq!(verify(&files, 50, 113).unwrap().torn_files, 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
