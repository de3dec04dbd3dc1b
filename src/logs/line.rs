//! What a line of a log file says about itself: in files written with `logs.mode` `timestamps` or
//! `json` each carries its time.
//!
//! The form is seen from the line alone, so that a file may hold several. An app that writes the
//! very same form of its own accord is believed.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::logs::Stream;

use super::stamp;

/// What every record begins with.
pub const RECORD_START: &[u8] = b"{\"time\":\"";

/// A line, without its end, and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// Nothing but an app's bytes.
    Bare,
    /// An app's bytes after the time they came.
    Stamped {
        /// Microseconds since the Unix epoch.
        unix_micros: u64,
        /// The app's bytes.
        text: &'a [u8],
    },
    /// A JSON object of ours.
    Record(Record<'a>),
}

/// One line of a file in `json` mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Microseconds since the Unix epoch.
    pub unix_micros: u64,
    /// Which place wrote it.
    pub worker: u16,
    /// Which life of the place.
    pub generation: u32,
    /// Where to.
    pub stream: Stream,
    /// The inside of a JSON string.
    message: &'a [u8],
    /// Whether the line has not ended yet.
    pub is_open: bool,
}

/// How far a line's own time may be from the one kept beside the file: an app that writes the time
/// of something else into our form is not taken at its word.
const OWN_TIME_OFF_MAX_MICROS: u64 = 1_000_000;

impl<'a> Form<'a> {
    /// Looks at a line without its end, of which a time may be known from elsewhere; tells when it
    /// was written, in microseconds since the Unix epoch, if either knows.
    #[must_use]
    pub fn dated(line: &'a [u8], known: Option<u64>) -> (Self, Option<u64>) {
        let form = Self::of(line);
        match (form.unix_micros(), known) {
            (Some(own), Some(known)) if own.abs_diff(known) > OWN_TIME_OFF_MAX_MICROS => {
                (Self::Bare, Some(known))
            }
            (own, known) => (form, own.or(known)),
        }
    }

    /// Looks at a line without its end.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Self {
        match line.first() {
            Some(b'{') => Record::parse(line).map_or(Self::Bare, Self::Record),
            Some(byte) if byte.is_ascii_digit() => match stamped(line) {
                Some((unix_micros, text)) => Self::Stamped { unix_micros, text },
                None => Self::Bare,
            },
            Some(_) | None => Self::Bare,
        }
    }

    /// The time it carries.
    #[must_use]
    pub fn unix_micros(&self) -> Option<u64> {
        match self {
            Self::Bare => None,
            Self::Stamped { unix_micros, .. } => Some(*unix_micros),
            Self::Record(record) => Some(record.unix_micros),
        }
    }
}

fn stamped(line: &[u8]) -> Option<(u64, &[u8])> {
    let (time, rest) = line.split_at_checked(stamp::BYTES)?;
    // The stamp of an empty line may have lost its blank.
    let text = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
    Some((stamp::parse(time)?, text))
}

impl<'a> Record<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = line.strip_prefix(RECORD_START)?.split_at_checked(stamp::BYTES)?;
        let rest = rest.strip_prefix(b"\",\"app\":\"")?;
        // Names of apps hold nothing that must be escaped.
        let (_, rest) = rest.split_at_checked(memchr2(b'"', b'\\', rest)?)?;
        let (worker, rest) = number(rest.strip_prefix(b"\",\"worker\":")?)?;
        let (generation, rest) = number(rest.strip_prefix(b",\"generation\":")?)?;
        let rest = rest.strip_prefix(b",\"stream\":\"")?;
        let (stream, rest) = rest.split_at_checked(3)?;
        let stream = Stream::BOTH.into_iter().find(|one| one.name().as_bytes() == stream)?;
        let rest = rest.strip_prefix(b"\",\"message\":\"")?;
        let closed = rest.strip_suffix(b"\"}");
        let message = closed.unwrap_or(rest);
        Some(Self {
            unix_micros: stamp::parse(time)?,
            worker: worker.try_into().ok()?,
            generation: generation.try_into().ok()?,
            stream,
            message,
            is_open: closed.is_none(),
        })
    }

    /// The app's bytes.
    #[must_use]
    pub fn message(&self) -> Cow<'a, [u8]> {
        if memchr(b'\\', self.message).is_none() {
            return Cow::Borrowed(self.message);
        }
        let string = [b"\"", self.message, b"\""].concat();
        match serde_json::from_slice::<String>(&string) {
            Ok(text) => Cow::Owned(text.into_bytes()),
            Err(_) => Cow::Borrowed(self.message),
        }
    }
}

/// Finds where in `lines`, which begin with a line, the first one begins that may be more than an
/// app's bytes.
#[must_use]
pub fn first_formed(lines: &[u8]) -> Option<usize> {
    let stamp_like =
        |line: &[u8]| line.get(10) == Some(&b'T') && line.get(stamp::BYTES - 1) == Some(&b'Z');
    if lines.starts_with(RECORD_START) || stamp_like(lines) {
        return Some(0);
    }
    let record = memchr::memmem::find(lines, b"\n{\"time\":\"").map(|newline| newline + 1);
    // All years with four digits that files will be written in begin so.
    let stamped = memchr::memmem::find_iter(&lines[..record.unwrap_or(lines.len())], b"\n2")
        .map(|newline| newline + 1)
        .find(|start| stamp_like(&lines[*start..]));
    stamped.or(record)
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().take(20).position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_line_knows_its_time() {
        let expected = Form::Stamped { unix_micros: 1_795_534_880_123_000, text: b"hi there" };
        assert_eq!(Form::of(b"2026-11-24T15:41:20.123Z hi there"), expected);
        let empty = Form::Stamped { unix_micros: 1_795_534_880_123_000, text: b"" };
        assert_eq!(Form::of(b"2026-11-24T15:41:20.123Z "), empty);
        assert_eq!(Form::of(b"2026-11-24T15:41:20.123Z"), empty);
    }

    #[test]
    fn a_record_knows_who_wrote_it() {
        let line = br#"{"time":"2026-11-24T15:41:20.123Z","app":"api","worker":2,"generation":3,"stream":"err","message":"a \"b\"\tc"}"#;
        let Form::Record(record) = Form::of(line) else { panic!("no record") };
        let Record { unix_micros, worker, generation, stream, .. } = record;
        let expected = (1_795_534_880_123_000, 2, 3, Stream::Err);
        assert_eq!((unix_micros, worker, generation, stream), expected);
        assert_eq!(&*record.message(), b"a \"b\"\tc");
        assert!(!record.is_open);
        let Form::Record(record) = Form::of(&line[..line.len() - 5]) else { panic!("no record") };
        assert_eq!(&*record.message(), b"a \"b\"");
        assert!(record.is_open);
    }

    #[test]
    fn a_time_in_a_raw_line_may_be_of_something_else() {
        let line = b"2026-11-24T15:41:20.123Z replayed";
        let own = 1_795_534_880_123_000;
        let stamped = Form::Stamped { unix_micros: own, text: b"replayed" };
        assert_eq!(Form::dated(line, None), (stamped, Some(own)));
        assert_eq!(Form::dated(line, Some(own + 9_000)), (stamped, Some(own)));
        assert_eq!(Form::dated(line, Some(own + 9_000_000)), (Form::Bare, Some(own + 9_000_000)));
        assert_eq!(Form::dated(b"bare", Some(5)), (Form::Bare, Some(5)));
        assert_eq!(Form::dated(b"bare", None), (Form::Bare, None));
    }

    #[test]
    fn formed_lines_are_found_among_others() {
        for (lines, expected) in [
            ("", None),
            ("a\n2026-11-24 15:41:20.123Z x\n{}\n", None),
            ("2026-11-24T15:41:20.123Z x\n", Some(0)),
            ("{\"time\":\"", Some(0)),
            ("a\n2\n2026-11-24T15:41:20.123Z x\n{\"time\":\"", Some(4)),
            ("a\n{\"time\":\"2026\n2026-11-24T15:41:20.123Z x\n", Some(2)),
        ] {
            assert_eq!(first_formed(lines.as_bytes()), expected, "{lines:?}");
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in [
            &b""[..],
            b"hello",
            b"2026-11-24 15:41:20 hello",
            b"2026-11-24T15:41:20.123Zhello",
            b"2026-13-24T15:41:20.123Z hello",
            b"{}",
            br#"{"level":30,"time":1795534880123,"msg":"pino"}"#,
            br#"{"time":"2026-11-24T15:41:20.123Z","app":"api","message":"x"}"#,
            br#"{"time":"2026-11-24T15:41:20.123Z","app":"api","worker":70000,"generation":3,"stream":"out","message":"x"}"#,
            br#"{"time":"2026-11-24T15:41:20.123Z","app":"api","worker":1,"generation":3,"stream":"out","msg"#,
        ] {
            assert_eq!(Form::of(line), Form::Bare, "{}", String::from_utf8_lossy(line));
        }
    }
}
