//! What time it is, and waiting.

use std::time::Duration;

use rustix::{
    thread::{ClockId, nanosleep},
    time::{Timespec, clock_gettime},
};

/// Time since boot, on `CLOCK_MONOTONIC`.
pub(crate) fn now() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> u64 {
    let unix = duration(clock_gettime(ClockId::Realtime));
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for `pause`; a signal may cut it short.
pub(crate) fn sleep(pause: Duration) {
    let request = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    let _cut_short = nanosleep(&request);
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
