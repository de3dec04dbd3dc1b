//! What is written of a line where it is more than bytes: the time before it, a JSON object around
//! it, or nothing but its end where lines of several writers must not mix.
//!
//! A record is open while its line has not ended; the last byte of a file tells whether it is, as
//! no open record ends in a newline. Knows the time only as text.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memchr;

use crate::{
    domain::{AppName, WorkerId},
    logs::{Stream, cut::Before},
};

/// What stands around each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The line as it is.
    Plain,
    /// `2026-11-24T15:41:20.123Z <line>`
    Timestamps,
    /// `{"time":…,"app":…,"worker":…,"generation":…,"stream":…,"message":…}`
    Json(Label),
}

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The app's name.
    pub app: AppName,
    /// Place and generation.
    pub worker: WorkerId,
    /// Which of its streams.
    pub stream: Stream,
}

/// Whether more of the last line may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// It may.
    More,
    /// It may not: what stands there ends the line.
    Last,
}

/// Writes a time, in microseconds since the Unix epoch, as records carry it: RFC 3339, UTC, to the
/// millisecond.
#[must_use]
pub fn time(unix_micros: u64) -> String {
    let micros = i64::try_from(unix_micros).unwrap_or(i64::MAX);
    let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// How far [`Form::transcribe`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcribed {
    /// Bytes of the input whose records were written.
    pub taken: usize,
    /// Whether the file is to be rotated before the rest.
    pub full: bool,
}

impl Form {
    /// Writes the records of the lines in `seen` to `out`, for a file that ends as `before` says
    /// and may take `room_bytes` more.
    ///
    /// A file passes its limit only to hold a record that is longer, or that had begun before its
    /// length was known. An open record is closed by the newline of its line, or by [`Tail::Last`]. Of a line without an end, [`Tail::More`]
    /// leaves out the first bytes of a character whose others have not come.
    pub fn transcribe(
        &self,
        seen: &[u8],
        before: Before,
        room_bytes: u64,
        tail: Tail,
        time: &str,
        out: &mut Vec<u8>,
    ) -> Transcribed {
        let room = usize::try_from(room_bytes).unwrap_or(usize::MAX);
        let head = self.head(time);
        let start = out.len();
        let (mut taken, mut ends) = (0, before);
        while taken < seen.len() {
            let mark = out.len();
            if mark - start >= room && ends == Before::WholeLine {
                return Transcribed { taken, full: true };
            }
            if ends != Before::HalfLine {
                out.extend_from_slice(head.as_bytes());
            }
            let rest = &seen[taken..];
            let (line, len, end) = match memchr(b'\n', rest) {
                Some(newline) => (&rest[..newline], newline + 1, Before::WholeLine),
                None if tail == Tail::Last => (rest, rest.len(), Before::WholeLine),
                None => {
                    let whole = self.whole_characters(rest);
                    (&rest[..whole], whole, Before::HalfLine)
                }
            };
            self.content(line, out);
            if end == Before::WholeLine {
                self.close(out);
            }
            let overshoots = out.len() - start > room && ends == Before::WholeLine;
            if overshoots || len == 0 {
                out.truncate(mark);
                return Transcribed { taken, full: overshoots };
            }
            (taken, ends) = (taken + len, end);
        }
        Transcribed { taken, full: false }
    }

    /// Ends an open record whose line will not go on.
    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Plain | Self::Timestamps => b"\n",
            Self::Json(_) => b"\"}\n",
        });
    }

    fn head(&self, time: &str) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Timestamps => format!("{time} "),
            // A name holds nothing that must be escaped.
            Self::Json(Label { app, worker, stream }) => format!(
                r#"{{"time":"{time}","app":"{app}","worker":{place},"generation":{life},"stream":"{stream}","message":""#,
                place = worker.instance.index,
                life = worker.generation,
            ),
        }
    }

    fn content(&self, line: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Plain | Self::Timestamps => out.extend_from_slice(line),
            Self::Json(_) => escape(line, out),
        }
    }

    /// Counts the bytes at the head of `part` that do not belong to a character whose last bytes
    /// have not come.
    fn whole_characters(&self, part: &[u8]) -> usize {
        match self {
            Self::Plain | Self::Timestamps => part.len(),
            Self::Json(_) => part.len() - unfinished(part),
        }
    }
}

/// Counts the bytes at the end of `part` that begin a character (RFC 3629) and do not end it.
fn unfinished(part: &[u8]) -> usize {
    for back in 1..=part.len().min(3) {
        let byte = part[part.len() - back];
        let needed = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

/// Writes `text` as the inside of a JSON string (RFC 8259 §7). What is no UTF-8 becomes U+FFFD.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let mut clean = 0;
        let valid = chunk.valid().as_bytes();
        for (at, byte) in valid.iter().enumerate() {
            let Some(escaped) = escaped(*byte) else { continue };
            out.extend_from_slice(&valid[clean..at]);
            out.extend_from_slice(escaped.as_bytes());
            clean = at + 1;
        }
        out.extend_from_slice(&valid[clean..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escaped(byte: u8) -> Option<Cow<'static, str>> {
    Some(match byte {
        b'"' => "\\\"".into(),
        b'\\' => "\\\\".into(),
        b'\t' => "\\t".into(),
        b'\r' => "\\r".into(),
        b'\n' => "\\n".into(),
        0..0x20 => format!("\\u{byte:04x}").into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AppId;

    const TIME: &str = "2026-11-24T15:41:20.123Z";

    fn json() -> Form {
        let (app, worker) = ("api".parse().unwrap(), WorkerId::new(AppId(1), 2, 3));
        Form::Json(Label { app, worker, stream: Stream::Err })
    }

    /// Transcribes `seen`; a time is shown as `T`, the head of a JSON record as `H`.
    fn told(
        form: &Form,
        seen: &[u8],
        before: Before,
        room: u64,
        tail: Tail,
    ) -> (String, Transcribed) {
        let mut out = Vec::new();
        let done = form.transcribe(seen, before, room, tail, TIME, &mut out);
        let text = String::from_utf8(out).unwrap().replace(&json().head(TIME), "H");
        (text.replace(TIME, "T"), done)
    }

    #[track_caller]
    fn check(form: &Form, seen: &[u8], before: Before, tail: Tail, expected: &str) {
        let (text, done) = told(form, seen, before, u64::MAX, tail);
        assert_eq!(text, expected);
        assert_eq!(done, Transcribed { taken: seen.len(), full: false });
    }

    #[test]
    fn a_record_is_as_documented() {
        assert_eq!(
            json().head(TIME),
            r#"{"time":"2026-11-24T15:41:20.123Z","app":"api","worker":2,"generation":3,"stream":"err","message":""#
        );
        assert_eq!(time(1_795_534_880_123_999), TIME);
    }

    #[test]
    fn every_line_gets_a_record_of_its_own() {
        let (times, new, more) = (Form::Timestamps, Before::Nothing, Tail::More);
        check(&times, b"a\n\nb\n", new, more, "T a\nT \nT b\n");
        check(&times, b"a\nb", new, more, "T a\nT b");
        check(&times, b"c\nd\n", Before::HalfLine, more, "c\nT d\n");
        check(&times, b"a\nb", new, Tail::Last, "T a\nT b\n");
        check(&json(), b"a\n\nb\n", new, more, "Ha\"}\nH\"}\nHb\"}\n");
        check(&json(), b"b\nc", Before::HalfLine, more, "b\"}\nHc");
        check(&json(), b"c", new, Tail::Last, "Hc\"}\n");
    }

    #[test]
    fn what_json_cannot_hold_is_escaped() {
        let seen = b"\"q\" \\ \t\r\x00\x1f\x7f \xff \xc3\xa4 \xe2\x82\n";
        let expected = "H\\\"q\\\" \\\\ \\t\\r\\u0000\\u001f\u{7f} \u{fffd} ä \u{fffd}\"}\n";
        check(&json(), seen, Before::Nothing, Tail::More, expected);
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let euro = "€".as_bytes();
        for cut in 1..3 {
            let seen = [b"x", &euro[..cut]].concat();
            let (text, done) = told(&json(), &seen, Before::Nothing, u64::MAX, Tail::More);
            assert_eq!((text.as_str(), done.taken), ("Hx", 1));
            let (text, done) = told(&json(), &seen, Before::Nothing, u64::MAX, Tail::Last);
            assert_eq!((text.as_str(), done.taken), ("Hx\u{fffd}\"}\n", 1 + cut));
        }
        let (text, done) = told(&json(), &euro[..2], Before::HalfLine, u64::MAX, Tail::More);
        assert_eq!((text.as_str(), done), ("", Transcribed { taken: 0, full: false }));
    }

    proptest::proptest! {
        /// However the input is cut and the files are filled, the records of all files together
        /// hold every line once, each whole, and only the last record of a file passes the limit.
        #[test]
        fn records_are_whole_and_within_the_limit(
            text in "[aä\"\n]{0,120}",
            limit in 1_usize..400,
            sizes in proptest::collection::vec(1_usize..40, 1..40),
        ) {
            for form in [Form::Plain, Form::Timestamps, json()] {
                let (mut files, mut from) = (vec![Vec::new()], 0);
                let mut sizes = sizes.iter().cycle();
                let bytes = text.as_bytes();
                let mut to = 0;
                while from < bytes.len() {
                    to = bytes.len().min(to.max(from) + sizes.next().unwrap());
                    let tail = if to == bytes.len() { Tail::Last } else { Tail::More };
                    let file = files.last_mut().unwrap();
                    let before = Before::after(file.last().copied());
                    let room = u64::try_from(limit.saturating_sub(file.len())).unwrap();
                    let done = form.transcribe(&bytes[from..to], before, room, tail, TIME, file);
                    from += done.taken;
                    if done.full {
                        files.push(Vec::new());
                    }
                }
                let expected: Vec<&str> = text.lines().collect();
                let mut lines = Vec::new();
                for file in files {
                    let file = String::from_utf8(file).unwrap();
                    proptest::prop_assert!(file.is_empty() || file.ends_with('\n'));
                    let last = file.lines().last().map_or(0, |last| last.len() + 1);
                    proptest::prop_assert!(file.len() <= limit || file.len() - last < limit);
                    for record in file.lines() {
                        let line = match &form {
                            Form::Plain => record.to_owned(),
                            Form::Timestamps => record.strip_prefix(TIME).unwrap()[1..].to_owned(),
                            Form::Json(_) => {
                                let record: serde_json::Value = serde_json::from_str(record).unwrap();
                                record["message"].as_str().unwrap().to_owned()
                            }
                        };
                        lines.push(line);
                    }
                }
                proptest::prop_assert_eq!(&lines, &expected);
            }
        }
    }
}
