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
    let time = clock_gettime(ClockId::Realtime);
    let unix = Duration::try_from(time).unwrap_or_default();
    Clock { boot: unix.saturating_sub(monotonic_now()) }
}
