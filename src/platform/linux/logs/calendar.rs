//! The wall clock, for files that are kept by time.

use std::time::Duration;

use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    domain::{Moment, Period},
    logs::period,
};

/// What the clock on the wall shows, in microseconds since the Unix epoch.
pub(super) fn unix_micros() -> u64 {
    let time = Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// When, as far as is known `now`, the period ends that a file begun then belongs to.
pub(super) fn end(period: Period, begun_unix_micros: u64, now: Moment) -> Moment {
    let end = period::end(period, begun_unix_micros, &TimeZone::system());
    now.after(Duration::from_micros(end.saturating_sub(unix_micros())))
}
