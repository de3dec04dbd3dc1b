//! What a user means by a time: `10m`, `2h30m ago`, `yesterday 22:00`, `2026-11-24 10:00`.
//!
//! Knows no clock and no time zone of its own: the caller says what time it is, and where.

use jiff::{Timestamp, ToSpan as _, Zoned, civil, fmt::strtime};

/// What times may look like, for error texts and help.
pub const FORMS: &str = "`10m`, `2h30m`, `10 minutes ago`, `10:00`, `today`, `yesterday 22:00`, \
                         `2026-11-24 10:00` or `2026-11-24T10:00:00Z`";

/// Forms of a time of day, without and with seconds; a fraction may follow those.
const CLOCK_FORMS: [&str; 2] = ["%H:%M", "%H:%M:%S%.f"];

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// It has none of the forms.
    #[error("this is no time; write {FORMS}")]
    Unknown,
    /// A number, and nothing that says of what.
    #[error("a number needs a unit: `10s`, `10m`, `10h` or `10d`")]
    NoUnit,
    /// A time no calendar has, or far beyond all that is counted.
    #[error("there is no such time in the calendar")]
    Impossible,
}

/// Reads a time, in microseconds since the Unix epoch.
///
/// A duration counts back from `now`; with a `+` before it, forward. Days, and times without a
/// zone, are those of `now`'s time zone; a day without a time is its first moment, a time without
/// a day is today's. Where clocks were changed, a time that came twice is the earlier one.
///
/// # Errors
///
/// If the text is none of that.
pub fn parse(text: &str, now: &Zoned) -> Result<u64, WhenError> {
    let text = text.trim();
    let at = match text {
        "now" => now.timestamp(),
        _ => day_and_time(text, now)
            .or_else(|| absolute(text, now))
            .map_or_else(|| distance(text, now), Ok)?,
    };
    u64::try_from(at.as_microsecond()).or(Err(WhenError::Impossible))
}

/// `today`, `yesterday`, `10:00`, `yesterday 10:00`.
fn day_and_time(text: &str, now: &Zoned) -> Option<Timestamp> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let day = match word {
        "today" => now.date(),
        "yesterday" => now.date().yesterday().ok()?,
        _ => return local(now.date().to_datetime(time_of_day(text)?), now),
    };
    let time = if rest.is_empty() { civil::Time::midnight() } else { time_of_day(rest.trim())? };
    local(day.to_datetime(time), now)
}

fn time_of_day(text: &str) -> Option<civil::Time> {
    let read = |form| strtime::parse(form, text).and_then(|it| it.to_time());
    CLOCK_FORMS.iter().find_map(|form| read(form).ok())
}

/// RFC 3339, with or without a zone; `@` and seconds since the Unix epoch.
fn absolute(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Some(seconds) = text.strip_prefix('@') {
        return Timestamp::from_second(seconds.parse().ok()?).ok();
    }
    // These forms begin with the year; everything else that jiff reads is left to the others.
    if text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let instant = text.parse::<Timestamp>().ok();
    let zoned = || text.parse::<Zoned>().ok().map(|it| it.timestamp());
    let civil = || text.parse::<civil::DateTime>().ok();
    instant.or_else(zoned).or_else(|| local(civil()?, now))
}

fn local(time: civil::DateTime, now: &Zoned) -> Option<Timestamp> {
    now.time_zone().to_timestamp(time).ok()
}

/// `10m`, `2h30m`, `10 minutes ago`, `-10m`, `+10m`.
fn distance(text: &str, now: &Zoned) -> Result<Timestamp, WhenError> {
    let (forward, text) = match text.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('-').unwrap_or(text)),
    };
    let text = text.strip_suffix("ago").filter(|_| !forward).unwrap_or(text).trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WhenError::NoUnit);
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(WhenError::Unknown);
    }
    let span: jiff::Span = text.parse().or(Err(WhenError::Unknown))?;
    let span = if forward { span } else { 0.seconds().checked_sub(span).unwrap_or(-span) };
    let at = now.checked_add(span).or(Err(WhenError::Impossible))?;
    Ok(at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half past four in the afternoon of a Tuesday in Berlin.
    const NOW: &str = "2026-11-24T16:30:15.5+01:00[Europe/Berlin]";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let now: Zoned = NOW.parse().unwrap();
        let micros = parse(text, &now).unwrap_or_else(|error| panic!("`{text}`: {error}"));
        let at = Timestamp::from_microsecond(i64::try_from(micros).unwrap()).unwrap();
        assert_eq!(at.to_string(), expected, "`{text}`");
    }

    #[test]
    fn durations_count_back() {
        check("now", "2026-11-24T15:30:15.5Z");
        check("10m", "2026-11-24T15:20:15.5Z");
        check("-10m", "2026-11-24T15:20:15.5Z");
        check("10 minutes ago", "2026-11-24T15:20:15.5Z");
        check("10m ago", "2026-11-24T15:20:15.5Z");
        check("2h30m", "2026-11-24T13:00:15.5Z");
        check("2h 30m", "2026-11-24T13:00:15.5Z");
        check("1.5h", "2026-11-24T14:00:15.5Z");
        check("1d", "2026-11-23T15:30:15.5Z");
        check("1 week", "2026-11-17T15:30:15.5Z");
        check("500ms", "2026-11-24T15:30:15Z");
        check("+10m", "2026-11-24T15:40:15.5Z");
        // to the same time of day, though clocks were changed in between
        check("31d", "2026-10-24T14:30:15.5Z");
    }

    #[test]
    fn days_and_times_are_local() {
        check("today", "2026-11-23T23:00:00Z");
        check("yesterday", "2026-11-22T23:00:00Z");
        check("yesterday 22:00", "2026-11-23T21:00:00Z");
        check("10:00", "2026-11-24T09:00:00Z");
        check("9:05", "2026-11-24T08:05:00Z");
        check("10:00:05.25", "2026-11-24T09:00:05.25Z");
        check("2026-11-24", "2026-11-23T23:00:00Z");
        check("2026-11-24 10:00", "2026-11-24T09:00:00Z");
        check("2026-11-24 10:00:30", "2026-11-24T09:00:30Z");
        check("2026-11-24T10:00", "2026-11-24T09:00:00Z");
        check("2026-07-01 10:00", "2026-07-01T08:00:00Z");
        // the hour that came twice, and the one that did not come
        check("2026-10-25 02:30", "2026-10-25T00:30:00Z");
        check("2026-03-29 02:30", "2026-03-29T01:30:00Z");
    }

    #[test]
    fn zones_are_heeded() {
        check("2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z");
        check("2026-11-24 10:00:00Z", "2026-11-24T10:00:00Z");
        check("2026-11-24T10:00:00.123456-05:00", "2026-11-24T15:00:00.123456Z");
        check("2026-11-24T10:00[Asia/Tokyo]", "2026-11-24T01:00:00Z");
        check("@1764000000", "2025-11-24T16:00:00Z");
    }

    #[track_caller]
    fn refuse(text: &str, expected: WhenError) {
        assert_eq!(parse(text, &NOW.parse().unwrap()), Err(expected), "`{text}`");
    }

    #[test]
    fn all_else_is_refused_with_a_reason() {
        for text in ["", "soon", "25:00", "10:0x", "2026-13-01", "@x", "ago", "10q", "m", "P1D"] {
            refuse(text, WhenError::Unknown);
        }
        for text in ["10", "-5", "007"] {
            refuse(text, WhenError::NoUnit);
        }
        for text in ["19000y", "1960-01-01"] {
            refuse(text, WhenError::Impossible);
        }
    }
}
