//! When a dead daemon comes back.
//!
//! Quiet. Decides the delay: none, unless the daemon kills itself again and again.

use std::time::Duration;

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Death {
    /// How long it ran.
    pub(super) uptime: Duration,
    /// Whose fault it was.
    pub(super) cause: Cause,
}

/// Whose fault a daemon's end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was in control, and somebody sent SIGKILL.
    Killed,
    /// It ended by itself, or never came into control.
    Own,
}

/// Counts the deaths in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    in_a_row: u32,
}

/// Second delay; the first is none.
const INITIAL: Duration = Duration::from_millis(100);
/// Longest delay.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Uptime after which all is forgiven.
const FORGIVEN: Duration = Duration::from_secs(10);
/// Shortest time from one start to the next after SIGKILL, so that no loop is ever tight.
const KILLED_MIN: Duration = Duration::from_millis(20);

impl Backoff {
    /// The delay before the next start.
    pub(super) fn after(&mut self, death: Death) -> Duration {
        if death.uptime >= FORGIVEN {
            self.in_a_row = 0;
        }
        if death.cause == Cause::Killed {
            return KILLED_MIN.saturating_sub(death.uptime);
        }
        let delay = match self.in_a_row {
            0 => Duration::ZERO,
            n => INITIAL.saturating_mul(1 << (n - 1).min(10)).min(DELAY_MAX),
        };
        self.in_a_row = self.in_a_row.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(backoff: &mut Backoff, cause: Cause, uptime_millis: u64, delay_millis: u64) {
        let death = Death { uptime: Duration::from_millis(uptime_millis), cause };
        assert_eq!(backoff.after(death), Duration::from_millis(delay_millis));
    }

    #[test]
    fn a_crash_loop_slows_down_and_is_forgiven() {
        let mut backoff = Backoff::default();
        for delay in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            check(&mut backoff, Cause::Own, 50, delay);
        }
        check(&mut backoff, Cause::Own, 10_000, 0);
        check(&mut backoff, Cause::Own, 50, 100);
    }

    #[test]
    fn kill_nine_is_not_the_daemons_fault() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            check(&mut backoff, Cause::Killed, 30, 0);
        }
        check(&mut backoff, Cause::Killed, 5, 15);
        check(&mut backoff, Cause::Killed, 5, 15);
    }
}
