//! When a file has taken output long enough.
//!
//! Knows no clock: both the time and the time zone come in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use crate::domain::Period;

/// An hour, whatever the clocks show.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Longest period of days, in case the calendar has no answer.
const DAY: Duration = Duration::from_hours(24);

/// When the period ends in which `begun` lies, or begins; both in microseconds since the Unix
/// epoch. Always later than `begun`.
///
/// An hour ends when the clocks of `zone` show the next full hour, a day when they show the next
/// date: when they are set back or forward, it is as much longer or shorter.
#[must_use]
pub fn end(period: Period, begun_unix_micros: u64, zone: &TimeZone) -> u64 {
    let after = |span: Duration| {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        begun_unix_micros.saturating_add(micros.max(1))
    };
    let next = match period {
        Period::Span(span) => return after(span),
        Period::Hour => local(begun_unix_micros, zone).and_then(|it| next_hour(&it)),
        Period::Day => local(begun_unix_micros, zone).and_then(|it| next_day(&it)),
    };
    let next = next.and_then(|it| u64::try_from(it.as_microsecond()).ok());
    next.filter(|it| *it > begun_unix_micros).unwrap_or_else(|| after(DAY))
}

fn local(unix_micros: u64, zone: &TimeZone) -> Option<Zoned> {
    let time = Timestamp::from_microsecond(i64::try_from(unix_micros).ok()?).ok()?;
    Some(time.to_zoned(zone.clone()))
}

fn next_hour(time: &Zoned) -> Option<Timestamp> {
    let past = SignedDuration::from_mins(time.minute().into())
        + SignedDuration::from_secs(time.second().into())
        + SignedDuration::from_nanos(time.subsec_nanosecond().into());
    time.timestamp().checked_add(HOUR - past).ok()
}

fn next_day(time: &Zoned) -> Option<Timestamp> {
    let next = time.date().tomorrow().ok()?.to_zoned(time.time_zone().clone()).ok()?;
    Some(next.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(period: Period, zone: &str, begun: &str, expected: &str) {
        let zone = TimeZone::get(zone).unwrap();
        let begun: Timestamp = begun.parse().unwrap();
        let micros = u64::try_from(begun.as_microsecond()).unwrap();
        let end = Timestamp::from_microsecond(end(period, micros, &zone).try_into().unwrap());
        assert_eq!(end.unwrap().to_string(), expected, "{period:?} from {begun}");
    }

    #[test]
    fn an_hour_ends_at_the_full_hour_of_local_time() {
        let check = |zone, begun, expected| check(Period::Hour, zone, begun, expected);
        check("UTC", "2026-11-24T15:41:20Z", "2026-11-24T16:00:00Z");
        check("UTC", "2026-11-24T15:00:00Z", "2026-11-24T16:00:00Z");
        check("UTC", "2026-11-24T23:59:59.999999Z", "2026-11-25T00:00:00Z");
        check("Asia/Kolkata", "2026-11-24T15:41:20Z", "2026-11-24T16:30:00Z");
        // Clocks go back from 3:00 to 2:00: there are two hours from 2 to 3.
        check("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z");
        check("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z");
        // Clocks go forward from 2:00 to 3:00.
        check("Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z");
        // Clocks go back from 2:00 to 1:30.
        check("Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T15:30:00Z");
    }

    #[test]
    fn a_day_ends_at_local_midnight_however_long_it_is() {
        let check = |zone, begun, expected| check(Period::Day, zone, begun, expected);
        check("UTC", "2026-11-24T15:41:20Z", "2026-11-25T00:00:00Z");
        check("UTC", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z");
        check("America/New_York", "2026-11-24T04:59:59Z", "2026-11-24T05:00:00Z");
        check("America/New_York", "2026-11-24T05:00:00Z", "2026-11-25T05:00:00Z");
        // 25 hours, 23 hours.
        check("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        check("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        // A midnight that does not exist, a date that does not.
        check("America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z");
        check("Pacific/Apia", "2011-12-29T20:00:00Z", "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_span_counts_from_the_first_byte() {
        let span = Period::Span(Duration::from_secs(90));
        check(span, "UTC", "2026-11-24T15:41:20Z", "2026-11-24T15:42:50Z");
        assert_eq!(end(Period::Span(Duration::MAX), 5, &TimeZone::UTC), u64::MAX);
    }

    proptest::proptest! {
        /// Whatever the clock says, a period ends later than it begins, and within two days.
        #[test]
        fn every_period_ends_later(
            begun in 0_u64..4_102_444_800_000_000,
            zone in 0..5_usize,
            hourly in proptest::bool::ANY,
        ) {
            let zones =
                ["Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia", "Africa/Cairo", "UTC"];
            let zone = TimeZone::get(zones[zone]).unwrap();
            let period = if hourly { Period::Hour } else { Period::Day };
            let end = end(period, begun, &zone);
            proptest::prop_assert!(end > begun && end - begun <= 48 * 3_600_000_000);
        }

        /// A daemon that finds the file within its period agrees about the end.
        #[test]
        fn every_moment_of_a_period_has_the_same_end(
            begun in 0_u64..4_102_444_800_000_000,
            share in 0.0..1.0_f64,
        ) {
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            for period in [Period::Hour, Period::Day] {
                let first = end(period, begun, &zone);
                let later = begun + Duration::from_micros(first - begun - 1).mul_f64(share)
                    .as_micros().try_into().unwrap_or(0);
                proptest::prop_assert_eq!(end(period, later, &zone), first);
            }
        }
    }
}
