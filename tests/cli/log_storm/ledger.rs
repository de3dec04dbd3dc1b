//! Reads every line of every file of `storm.py`'s workers, and compares each with what it must be.

use std::{
    collections::VecDeque,
    fmt, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::APP;
use crate::test::Home;

/// What is written of each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Raw,
    Timestamps,
    Json,
}

/// Lines shown before the first bad one.
const NEIGHBOURS: usize = 3;

/// Bytes shown of a line.
const SHOWN_BYTES: usize = 160;

/// What was found, and the first thing that was wrong.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The next line of each worker.
    next: Vec<u64>,
    /// Lines each worker wrote.
    each: u64,
    bytes: u64,
    pub(super) files: usize,
    wrong: Option<String>,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: u64 = self.next.iter().sum();
        write!(f, "{lines} lines, {} bytes in {} files", self.bytes, self.files)
    }
}

impl Ledger {
    pub(super) fn read(home: &Home, form: Form, workers: u16, each: u64) -> Self {
        let next = vec![0; usize::from(workers)];
        let mut ledger = Self { next, each, bytes: 0, files: 0, wrong: None };
        for file in files(home) {
            ledger.files += 1;
            ledger.read_file(&file, form);
            if ledger.wrong.is_some() {
                break;
            }
        }
        ledger
    }

    /// Every line of every worker was there.
    #[track_caller]
    pub(super) fn is_complete(&self) {
        if let Some(wrong) = &self.wrong {
            panic!("{wrong}");
        }
        let missing = self.missing();
        assert!(missing.is_empty(), "the last lines are lost: (worker, line) {missing:?}");
    }

    /// Workers whose last lines are not there, with the first that is missing.
    fn missing(&self) -> Vec<(usize, u64)> {
        let next = self.next.iter().copied().enumerate();
        next.filter(|(_, next)| *next != self.each).collect()
    }

    fn read_file(&mut self, path: &Path, form: Form) {
        let mut file = BufReader::new(fs::File::open(path).unwrap());
        let mut before = VecDeque::<Vec<u8>>::new();
        for at in 1.. {
            let mut line = Vec::new();
            let size = file.read_until(b'\n', &mut line).unwrap();
            if size == 0 {
                return;
            }
            self.bytes += u64::try_from(size).unwrap();
            if let Err(why) = self.take(&line, form) {
                let mut after = Vec::new();
                file.read_until(b'\n', &mut after).unwrap();
                let before: String = before.iter().map(|it| shown(it)).collect();
                let (line, after) = (shown(&line), shown(&after));
                let path = path.display();
                self.wrong = Some(format!("{path}, line {at}: {why}\n{before}>{line}{after}"));
                return;
            }
            before.push_back(line);
            if before.len() > NEIGHBOURS {
                before.pop_front();
            }
        }
    }

    fn take(&mut self, line: &[u8], form: Form) -> Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|it| it.to_string())?;
        let text = text.strip_suffix('\n').ok_or("the file ends within it")?;
        let message = match form {
            Form::Raw => text.to_owned(),
            Form::Timestamps => timed(text).ok_or("it has no time")?.to_owned(),
            Form::Json => recorded(text)?,
        };
        let worker = message.split(' ').next().and_then(|it| it.parse::<u16>().ok());
        let worker = worker.filter(|it| usize::from(*it) < self.next.len());
        let worker = worker.ok_or("it is nobody's")?;
        let next = &mut self.next[usize::from(worker)];
        if message != expected(worker, *next) {
            return Err(format!("of worker {worker} line {next} was due"));
        }
        *next += 1;
        Ok(())
    }
}

/// A line of `storm.py`, without its end.
fn expected(worker: u16, number: u64) -> String {
    let mixed = number.wrapping_mul(2_654_435_761) + u64::from(worker) * 40_503;
    let mixed = (mixed & 0xffff_ffff) >> 8;
    let length = match mixed % 1024 {
        0 => 5_000,
        1..16 => 700,
        _ => usize::try_from(mixed / 1024 % 120).unwrap(),
    };
    let mut line = format!("{worker} {number} ");
    let alphabet = "abcdefghijklmnopqrstuvwxyz";
    line.extend(std::iter::repeat_n(alphabet, length / 26));
    line.push_str(&alphabet[..length % 26]);
    line
}

/// What stands after the time.
fn timed(text: &str) -> Option<&str> {
    let (time, line) = text.split_at_checked("2026-11-24T15:41:20.123Z ".len())?;
    let shape: String = time.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
    (shape == "0000-00-00T00:00:00.000Z ").then_some(line)
}

/// The message of a record that says of whom it is.
fn recorded(text: &str) -> Result<String, String> {
    let record: Value = serde_json::from_str(text).map_err(|it| it.to_string())?;
    let message = record["message"].as_str().ok_or("it has no message")?;
    let worker = record["worker"].as_u64().ok_or("it names no worker")?;
    let ours = record["app"] == APP && record["stream"] == "out" && record["generation"].is_u64();
    if !ours || !message.starts_with(&format!("{worker} ")) {
        return Err("it is not whose it says".to_owned());
    }
    Ok(message.to_owned())
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
    let more = if line.len() > SHOWN_BYTES { "…" } else { "" };
    format!("\t{:?}{more} ({} bytes)\n", text, line.len())
}

/// The app's files of standard output, each row oldest first.
fn files(home: &Home) -> Vec<PathBuf> {
    let mut rows: Vec<(String, u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(home.log(APP, "")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (row, rest) = name.split_once(".log").unwrap_or_else(|| panic!("a stray {name}"));
        let number = match rest.strip_prefix('.') {
            None => 0,
            Some(number) => number.parse().unwrap_or_else(|_| panic!("a stray {name}")),
        };
        if row.ends_with("-out") {
            rows.push((row.to_owned(), u32::MAX - number, path));
        }
    }
    rows.sort();
    rows.into_iter().map(|(_, _, path)| path).collect()
}

/// Bytes in all files; a rotation under way may hide some.
pub(super) fn bytes(home: &Home) -> u64 {
    let entries = fs::read_dir(home.log(APP, "")).unwrap();
    entries.filter_map(|it| Some(it.ok()?.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger { next: vec![0; 2], each: 2, bytes: 0, files: 0, wrong: None }
    }

    #[test]
    fn every_kind_of_damage_is_found() {
        let home = Home::new();
        let file = |text: String| home.write("log", &text);
        let [a, b, c] = [0, 1, 2].map(|it| expected(0, it) + "\n");
        let whole = |text: String| {
            let mut ledger = ledger();
            ledger.read_file(&file(text), Form::Raw);
            ledger
        };
        assert_eq!(whole(format!("{a}{b}")).next, [2, 0]);
        let torn = b[..b.len() - 2].to_owned();
        for bad in [
            format!("{a}{c}"),
            format!("{a}{a}"),
            format!("{b}{a}"),
            a.clone() + &torn,
            "\n".into(),
        ] {
            let ledger = whole(bad.clone());
            assert!(ledger.wrong.is_some(), "{bad:?}");
        }
        assert_eq!(whole(format!("{a}{b}")).missing(), [(1, 0)], "a worker that wrote nothing");
    }

    #[test]
    fn forms_are_read_back() {
        assert_eq!(timed("2026-11-24T15:41:20.123Z a b"), Some("a b"));
        assert_eq!(timed("2026-11-24T15:41:20.123 a b"), None);
        let record =
            r#"{"app":"storm","worker":1,"generation":2,"stream":"out","message":"1 7 x"}"#;
        assert_eq!(recorded(record).unwrap(), "1 7 x");
        assert!(recorded(&record.replace("\"1 7", "\"2 7")).is_err());
    }
}
