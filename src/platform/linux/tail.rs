//! The last lines of a log file and of the rotated ones before it, for clients that speak the
//! original's protocol. `bunpilot logs` reads the files itself.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Most lines one file answers with.
const LINES_MAX: usize = 100_000;

/// Most bytes read from one file for it.
const BYTES_MAX: u64 = 16 << 20;

/// The last `count` lines of `path` and of `path.1`, `path.2`, …, oldest first. What cannot be
/// read has no lines.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let count = count.min(LINES_MAX);
    let mut lines: Vec<String> = Vec::new();
    for file in std::iter::once(path.to_owned()).chain(rotated(path)) {
        let Some(text) = end_of(&file) else { break };
        let mut older: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        older.append(&mut lines);
        lines = older;
        if lines.len() >= count {
            break;
        }
    }
    lines.split_off(lines.len().saturating_sub(count))
}

fn rotated(path: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=100_u32).map(move |number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    })
}

/// The whole text, or whole lines of the end of a longer one.
fn end_of(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let skipped = size.saturating_sub(BYTES_MAX);
    file.seek(SeekFrom::Start(skipped)).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let begin = if skipped > 0 { memchr::memchr(b'\n', &bytes).map_or(0, |it| it + 1) } else { 0 };
    Some(String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_from_rotated_files_too() {
        let folder = std::env::temp_dir().join(format!("bunpilot-tail-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("out.log");
        std::fs::write(folder.join("out.log.2"), "1\n2\n").unwrap();
        std::fs::write(folder.join("out.log.1"), "3\n4\n").unwrap();
        std::fs::write(&path, "5\n").unwrap();
        assert_eq!(last_lines(&path, 3), ["3", "4", "5"]);
        assert_eq!(last_lines(&path, 9), ["1", "2", "3", "4", "5"]);
        assert_eq!(last_lines(&path, 0), Vec::<String>::new());
        assert_eq!(last_lines(&folder.join("none"), 3), Vec::<String>::new());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
