//! Every default and every bound of the configuration, in one table.
//!
//! `resolve` enforces it, `schema` publishes it. Where the original has a key, the numbers are its
//! own, but for one bound that is ours: [`BACKOFF_INITIAL`] may be 0.

use std::{fmt, time::Duration};

use Unit::{Bytes, Count, Millis, Percent};

/// A number the user may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands within an app.
    pub path: &'static [&'static str],
    /// What it counts.
    pub unit: Unit,
    /// What it is when the user says nothing; `None` if that depends on other settings.
    pub default: Option<u64>,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
}

/// What a [`Setting`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Millis,
    /// Bytes.
    Bytes,
    /// Hundredths of a factor, which the file writes as a factor: 150 is `1.5`.
    Percent,
}

const MIB: u64 = 1024 * 1024;
const MINUTE: u64 = 60_000;
const DAY: u64 = 1440 * MINUTE;

const fn setting(
    path: &'static [&'static str],
    unit: Unit,
    default: u64,
    min: u64,
    max: u64,
) -> Setting {
    Setting { path, unit, default: Some(default), min, max }
}

const fn open(path: &'static [&'static str], unit: Unit, min: u64, max: u64) -> Setting {
    Setting { path, unit, default: None, min, max }
}

/// Workers; `max` is one per CPU.
pub const INSTANCES: Setting = setting(&["instances"], Count, 1, 1, 65_535);
/// The port the app serves.
pub const PORT: Setting = open(&["port"], Count, 1, 65_535);
/// Crashes tolerated within [`MAX_RESTART_WINDOW`].
pub const MAX_RESTARTS: Setting = setting(&["maxRestarts"], Count, 15, 0, 10_000);
/// Length of the sliding window of [`MAX_RESTARTS`].
pub const MAX_RESTART_WINDOW: Setting =
    setting(&["maxRestartWindow"], Millis, 15 * MINUTE, 0, 1440 * MINUTE);
/// Online time after which a crash no longer counts as one in a row.
pub const MIN_UPTIME: Setting = setting(&["minUptime"], Millis, 30_000, 0, 10 * MINUTE);
/// Longest wait for a worker to exit.
pub const KILL_TIMEOUT: Setting = setting(&["killTimeout"], Millis, 5_000, 1_000, 2 * MINUTE);
/// Longest wait for a worker to be ready.
pub const READY_TIMEOUT: Setting = setting(&["readyTimeout"], Millis, 30_000, 1_000, 5 * MINUTE);
/// First delay after a crash. 0, which the original refused, brings a worker back at once; only
/// [`MAX_RESTARTS`] ends such a row.
pub const BACKOFF_INITIAL: Setting = setting(&["backoff", "initial"], Millis, 1_000, 0, 5 * MINUTE);
/// Growth of the delay per crash in a row.
pub const BACKOFF_MULTIPLIER: Setting =
    setting(&["backoff", "multiplier"], Percent, 200, 100, 1_000);
/// Longest delay after a crash.
pub const BACKOFF_MAX: Setting = setting(&["backoff", "max"], Millis, 30_000, 1_000, 10 * MINUTE);
/// Time between two probes.
pub const HEALTH_INTERVAL: Setting =
    setting(&["healthCheck", "interval"], Millis, 30_000, 1_000, 10 * MINUTE);
/// Longest wait for the answer to a probe.
pub const HEALTH_TIMEOUT: Setting =
    setting(&["healthCheck", "timeout"], Millis, 5_000, 500, MINUTE);
/// Failed probes in a row.
pub const UNHEALTHY_THRESHOLD: Setting =
    setting(&["healthCheck", "unhealthyThreshold"], Count, 3, 1, 100);
/// Size at which a log file is rotated.
pub const LOG_MAX_SIZE: Setting = setting(&["logs", "maxSize"], Bytes, 10 * MIB, 1024, 1024 * MIB);
/// Rotated log files kept.
pub const LOG_MAX_FILES: Setting = setting(&["logs", "maxFiles"], Count, 5, 1, 100);
/// Time after which a log file is rotated, if it is not a word.
pub const LOG_ROTATE_EVERY: Setting = open(&["logs", "rotateEvery"], Millis, 1_000, 366 * DAY);
/// Age after which a rotated log file is removed.
pub const LOG_MAX_AGE: Setting = open(&["logs", "maxAge"], Millis, 1_000, 3660 * DAY);
/// What the rotated files of one stream may take on disk together.
pub const LOG_MAX_TOTAL_SIZE: Setting =
    open(&["logs", "maxTotalSize"], Bytes, 1024, 1024 * 1024 * MIB);
/// Port of the metrics server.
pub const METRICS_PORT: Setting = setting(&["metrics", "httpPort"], Count, 9615, 1, 65_535);
/// Time between two measurements.
pub const COLLECT_INTERVAL: Setting =
    setting(&["metrics", "collectInterval"], Millis, 5_000, 1_000, 5 * MINUTE);
/// How much of all connections one instance is to get.
pub const WEIGHT: Setting = setting(&["clustering", "weights"], Count, 1, 1, 1_000);
/// Workers a reload replaces at a time.
pub const BATCH_SIZE: Setting =
    setting(&["clustering", "rollingRestart", "batchSize"], Count, 1, 1, 100);
/// Rest between two batches of a reload.
pub const BATCH_DELAY: Setting =
    setting(&["clustering", "rollingRestart", "batchDelay"], Millis, 1_000, 0, 5 * MINUTE);

/// All of them, for the schema.
pub const ALL: &[Setting] = &[
    INSTANCES,
    PORT,
    MAX_RESTARTS,
    MAX_RESTART_WINDOW,
    MIN_UPTIME,
    KILL_TIMEOUT,
    READY_TIMEOUT,
    BACKOFF_INITIAL,
    BACKOFF_MULTIPLIER,
    BACKOFF_MAX,
    HEALTH_INTERVAL,
    HEALTH_TIMEOUT,
    UNHEALTHY_THRESHOLD,
    LOG_MAX_SIZE,
    LOG_MAX_FILES,
    LOG_ROTATE_EVERY,
    LOG_MAX_AGE,
    LOG_MAX_TOTAL_SIZE,
    METRICS_PORT,
    COLLECT_INTERVAL,
    BATCH_SIZE,
    BATCH_DELAY,
];

/// Path of the probe's request, unless the user says otherwise.
pub const HEALTH_PATH: &str = "/health";
/// Signal that asks a worker to exit, unless the user says otherwise.
pub const SHUTDOWN_SIGNAL: crate::domain::Signal = crate::domain::Signal::TERM;

impl Setting {
    /// Writes `value` in the setting's unit, as a person would.
    #[must_use]
    pub fn show(self, value: u64) -> Shown {
        Shown { value, unit: self.unit }
    }
}

/// A number in its unit.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    value: u64,
    unit: Unit,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        let (size, name) = match self.unit {
            Count => return write!(f, "{value}"),
            Percent if value.is_multiple_of(100) => return write!(f, "{}", value / 100),
            Percent => return write!(f, "{}.{:02}", value / 100, value % 100),
            Millis => largest(
                value,
                &[(DAY, "d"), (60 * MINUTE, "h"), (MINUTE, "min"), (1000, "s")],
                "ms",
            ),
            Bytes => largest(
                value,
                &[(1024 * 1024 * MIB, "TiB"), (1024 * MIB, "GiB"), (MIB, "MiB"), (1024, "KiB")],
                "bytes",
            ),
        };
        write!(f, "{} {name}", value / size)
    }
}

/// The largest unit that `value` is a whole number of.
fn largest(
    value: u64,
    units: &[(u64, &'static str)],
    smallest: &'static str,
) -> (u64, &'static str) {
    let fits = |(size, _): &&(u64, &str)| value >= *size && value.is_multiple_of(*size);
    units.iter().find(fits).copied().unwrap_or((1, smallest))
}

/// Reads a duration like `30s`, `1h30m` or `250ms`, in milliseconds.
#[must_use]
pub fn parse_millis(text: &str) -> Option<u64> {
    sum(text, |unit| match unit {
        "ms" => Some(1),
        "s" | "sec" => Some(1000),
        "m" | "min" => Some(MINUTE),
        "h" => Some(60 * MINUTE),
        "d" => Some(1440 * MINUTE),
        _ => None,
    })
}

/// Reads a size like `10MB`, `512MiB` or `1G`, in bytes. Units are powers of 1024, as everywhere
/// in bunpilot.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    sum(&text.to_ascii_lowercase(), |unit| match unit {
        "b" => Some(1),
        "k" | "kb" | "kib" => Some(1024),
        "m" | "mb" | "mib" => Some(MIB),
        "g" | "gb" | "gib" => Some(1024 * MIB),
        "t" | "tb" | "tib" => Some(1024 * 1024 * MIB),
        _ => None,
    })
}

/// Adds up numbers, each followed by its unit.
fn sum(text: &str, size: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (digits, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
        let value: u64 = digits.parse().ok()?;
        total = total.checked_add(value.checked_mul(size(unit)?)?)?;
        rest = after.trim_start();
    }
    Some(total)
}

fn split(text: &str, mut inside: impl FnMut(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()))
}

/// Milliseconds of `duration`.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(read: fn(&str) -> Option<u64>, text: &str, expected: Option<u64>) {
        assert_eq!(read(text), expected, "{text:?}");
    }

    #[test]
    fn durations() {
        check(parse_millis, "250ms", Some(250));
        check(parse_millis, "30s", Some(30_000));
        check(parse_millis, " 1h 30m ", Some(5_400_000));
        check(parse_millis, "2 min", Some(120_000));
        for text in
            ["", "s", "5", "5x", "-5s", "1.5s", "99999999999999999999s", "9999999999999999d"]
        {
            check(parse_millis, text, None);
        }
    }

    #[test]
    fn sizes() {
        check(parse_bytes, "512b", Some(512));
        check(parse_bytes, "10MB", Some(10 * MIB));
        check(parse_bytes, "10MiB", Some(10 * MIB));
        check(parse_bytes, "1g", Some(1024 * MIB));
        for text in ["", "MB", "10", "10XB", "10 M B"] {
            check(parse_bytes, text, None);
        }
    }

    #[test]
    fn defaults_lie_within_their_bounds() {
        for setting in ALL {
            assert!(setting.min <= setting.max, "{setting:?}");
            let default = setting.default.unwrap_or(setting.min);
            assert!((setting.min..=setting.max).contains(&default), "{setting:?}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        for (setting, value, expected) in [
            (MAX_RESTARTS, 15, "15"),
            (KILL_TIMEOUT, 500, "500 ms"),
            (KILL_TIMEOUT, 5_000, "5 s"),
            (KILL_TIMEOUT, 120_000, "2 min"),
            (MAX_RESTART_WINDOW, 0, "0 ms"),
            (MAX_RESTART_WINDOW, 86_400_000, "1 d"),
            (LOG_MAX_AGE, 90_000_000, "25 h"),
            (LOG_MAX_TOTAL_SIZE, 1 << 40, "1 TiB"),
            (LOG_MAX_SIZE, 1_073_741_824, "1 GiB"),
            (LOG_MAX_SIZE, 1_025, "1025 bytes"),
            (BACKOFF_MULTIPLIER, 200, "2"),
            (BACKOFF_MULTIPLIER, 150, "1.50"),
        ] {
            assert_eq!(setting.show(value).to_string(), expected);
        }
    }
}
