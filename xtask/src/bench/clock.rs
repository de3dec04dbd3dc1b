//! The clock of a bench: a build tool may look at it, and wait.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Time since the machine started, as `starttime` of `proc_pid_stat(5)` counts it.
pub(super) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Time this very process was on a CPU, threads that have ended included.
pub(super) fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a bench lets others work")]
pub(super) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Looks every `pause` until `look` sees something; `None` after `patience`.
pub(super) fn await_some<T>(
    patience: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if start.elapsed() > patience {
            return None;
        }
        sleep(pause);
    }
}
