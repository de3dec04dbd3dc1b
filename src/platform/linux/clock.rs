//! The two clocks: one that only ever goes forward, and the one people read.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{
    domain::{Clock, Moment},
    platform::sys::monotonic_now,
};

/// Now, on the machine's monotonic clock.
pub(super) fn now() -> Moment {
    Moment::from_boot(monotonic_now())
}

/// How moments translate into wall-clock time, as of now.
pub(super) fn wall() -> Clock {
    Clock { boot: unix().saturating_sub(monotonic_now()) }
}

/// Now, on the clock people read, in microseconds since the Unix epoch.
pub(super) fn unix_micros() -> u64 {
    u64::try_from(unix().as_micros()).unwrap_or(u64::MAX)
}

fn unix() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default()
}
