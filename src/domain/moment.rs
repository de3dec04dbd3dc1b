//! When something happened.

use std::{fmt, time::Duration};

/// A point on the machine's monotonic clock, counted from boot.
///
/// Not [`std::time::Instant`]: a `Moment` can be written down, replayed and compared across the
/// lives of several daemons. It does not survive a reboot (see `clock_gettime(2)`,
/// `CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment the machine booted.
    pub const START: Self = Self(Duration::ZERO);

    /// The moment `millis` milliseconds after boot.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The moment `since_boot` after boot.
    #[must_use]
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Time passed since boot.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Whole milliseconds passed since boot.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment `delay` after this one.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// Time passed since `earlier`, or zero if `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

/// Translates a [`Moment`] into wall-clock time, for people and for JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Unix time of [`Moment::START`], as measured when the daemon started.
    pub boot: Duration,
}

impl Clock {
    /// Milliseconds since the Unix epoch at `moment`.
    #[must_use]
    pub fn unix_millis(self, moment: Moment) -> u64 {
        let unix = self.boot.saturating_add(moment.since_boot());
        u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
    }
}
