//! Times as files carry them: `2026-11-24T15:41:20.123Z`.

use jiff::{Timestamp, tz::TimeZone};

/// Length of a stamp: RFC 3339 in UTC, to the millisecond.
pub const BYTES: usize = 24;

/// Length of a time as [`Face`] shows it, without its milliseconds.
const SECONDS_BYTES: usize = 19;

/// Digits before the year, month, day, hour, minute, second and millisecond end, and what follows.
const FIELDS: [(usize, usize, u8); 7] = [
    (0, 4, b'-'),
    (5, 7, b'-'),
    (8, 10, b'T'),
    (11, 13, b':'),
    (14, 16, b':'),
    (17, 19, b'.'),
    (20, 23, b'Z'),
];

/// Reads a stamp, in microseconds since the Unix epoch; `None` if it is none, or before 1970.
#[must_use]
pub fn parse(text: &[u8]) -> Option<u64> {
    let text: &[u8; BYTES] = text.try_into().ok()?;
    let mut values = [0_u64; FIELDS.len()];
    for (value, (from, to, after)) in values.iter_mut().zip(FIELDS) {
        for digit in &text[from..to] {
            *value = *value * 10 + u64::from(digit.checked_sub(b'0').filter(|it| *it <= 9)?);
        }
        if text[to] != after {
            return None;
        }
    }
    let [year, month, day, hour, minute, second, milli] = values;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    // A leap second is a second like any other.
    if !in_range || hour > 23 || minute > 59 || second > 60 || year < 1970 {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some((seconds * 1000 + milli) * 1000)
}

/// Days from 1970-01-01, by counting from the first of March of the year 0.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_era = 719_468;
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - before_era
}

/// How times are shown.
#[derive(Clone, Debug)]
pub struct Face {
    zone: TimeZone,
    /// What stands between day and time, and at the end.
    marks: (char, &'static str),
    second: Option<u64>,
    /// The last second shown.
    text: String,
}

impl Face {
    /// As in files: `2026-11-24T15:41:20.123Z`.
    #[must_use]
    pub fn utc() -> Self {
        Self::new(TimeZone::UTC, ('T', "Z"))
    }

    /// For people, in their own time: `2026-11-24 16:41:20.123`.
    #[must_use]
    pub fn local(zone: TimeZone) -> Self {
        Self::new(zone, (' ', ""))
    }

    fn new(zone: TimeZone, marks: (char, &'static str)) -> Self {
        Self { zone, marks, second: None, text: String::new() }
    }

    /// Adds a time to `line`.
    pub fn write(&mut self, unix_micros: u64, line: &mut Vec<u8>) {
        let second = unix_micros / 1_000_000;
        if self.second != Some(second) {
            self.turn(second);
        }
        line.extend_from_slice(self.text.as_bytes());
        let milli = unix_micros / 1000 % 1000;
        let digits = [milli / 100, milli / 10 % 10, milli % 10];
        line.push(b'.');
        line.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
        line.extend_from_slice(self.marks.1.as_bytes());
    }

    /// Adds as many blanks as a time is long, and a hyphen, for a line whose time is not known.
    pub fn write_unknown(&self, line: &mut Vec<u8>) {
        line.push(b'-');
        line.resize(line.len() + SECONDS_BYTES + ".123".len() + self.marks.1.len() - 1, b' ');
    }

    fn turn(&mut self, second: u64) {
        let at = i64::try_from(second).ok().and_then(|it| Timestamp::from_second(it).ok());
        let time = at.unwrap_or(Timestamp::MAX).to_zoned(self.zone.clone()).datetime();
        let mark = self.marks.0;
        self.text = format!("{}{mark}{}", time.date(), time.time());
        self.second = Some(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_as_a_calendar_reads_them() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "1999-12-31T23:59:59.999Z",
            "2000-02-29T12:00:00.001Z",
            "2026-11-24T15:41:20.123Z",
            "2100-03-01T00:00:00.000Z",
            "9999-12-30T21:59:59.999Z",
        ] {
            let expected: Timestamp = text.parse().unwrap();
            let micros = u64::try_from(expected.as_microsecond()).unwrap();
            assert_eq!(parse(text.as_bytes()), Some(micros), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0_u64..253_402_000_000_000) {
            let mut line = Vec::new();
            Face::utc().write(millis * 1000 + 999, &mut line);
            proptest::prop_assert_eq!(parse(&line), Some(millis * 1000));
        }
    }

    #[test]
    fn all_else_is_no_stamp() {
        for text in [
            "",
            "2026-11-24T15:41:20.123",
            "2026-11-24 15:41:20.123Z",
            "2026-11-24T15:41:20,123Z",
            "2026-00-24T15:41:20.123Z",
            "2026-11-32T15:41:20.123Z",
            "2026-11-24T24:41:20.123Z",
            "2026-11-24T15:60:20.123Z",
            "1969-11-24T15:41:20.123Z",
            "2026-11-24T15:41:20.12:Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn people_see_their_own_time() {
        let mut face = Face::local(TimeZone::get("Europe/Berlin").unwrap());
        let mut line = Vec::new();
        for micros in [1_795_534_880_123_456, 1_795_534_880_999_999, 1_795_534_881_000_000] {
            face.write(micros, &mut line);
            line.push(b'|');
        }
        let width = line.len();
        face.write_unknown(&mut line);
        let text = String::from_utf8(line).unwrap();
        let shown = "2026-11-24 16:41:20.123|2026-11-24 16:41:20.999|2026-11-24 16:41:21.000|";
        assert_eq!(text[..width], *shown);
        assert_eq!(text[width..].len() * 3 + 3, width);
    }
}
