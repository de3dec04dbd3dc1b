//! The two clocks: one that only ever goes forward, and the one people read.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::{Clock, Moment};

/// Now, on the machine's monotonic clock.
pub(super) fn now() -> Moment {
    Moment::from_boot(read(ClockId::Monotonic))
}

/// How moments translate into wall-clock time, as of now.
pub(super) fn wall() -> Clock {
    Clock { boot: read(ClockId::Realtime).saturating_sub(read(ClockId::Monotonic)) }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
