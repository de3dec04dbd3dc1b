//! Durations and sizes as the original prints them.

/// `45s`, `2m 3s`, `2h 15m`, `3d 2h`.
pub(crate) fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// `27µs`, `1.2ms`, `3.4s`, then as [`uptime`].
pub(crate) fn time(micros: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = micros / (unit / 10);
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    };
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => tenths(1_000, "ms"),
        1_000_000..60_000_000 => tenths(1_000_000, "s"),
        60_000_000.. => uptime(micros / 1_000_000),
    }
}

/// `512 B`, `28.1 MB`: steps of 1024, one decimal.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut name, mut unit) = ("KB", 1_u128 << 10);
    for (larger, shift) in [("MB", 20), ("GB", 30), ("TB", 40)] {
        if u128::from(bytes) >= 1 << shift {
            (name, unit) = (larger, 1 << shift);
        }
    }
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// `2.5%`.
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (123, "2m 3s"),
            (8_100, "2h 15m"),
            (266_400, "3d 2h"),
            (u64::MAX, "213503982334601d 7h"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }

    #[test]
    fn short_durations() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1.0ms"),
            (999_999, "999.9ms"),
            (3_456_789, "3.4s"),
            (60_000_000, "1m 0s"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KB"),
            (1536, "1.5 KB"),
            (1024 * 1024 - 1, "1024.0 KB"),
            (29_465_000, "28.1 MB"),
            (3 << 30, "3.0 GB"),
            (5 << 40, "5.0 TB"),
            (u64::MAX, "16777216.0 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
