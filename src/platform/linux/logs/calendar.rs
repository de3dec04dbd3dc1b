//! When periods end, by the clock on the wall and the time zone it shows.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::super::clock::unix_micros;
use crate::{
    domain::{Moment, Period},
    logs::period,
};

/// When, as far as is known `now`, the period ends that a file begun then belongs to.
pub(super) fn end(period: Period, begun_unix_micros: u64, now: Moment) -> Moment {
    let end = period::end(period, begun_unix_micros, &TimeZone::system());
    now.after(Duration::from_micros(end.saturating_sub(unix_micros())))
}
