//! How often something took how long.

use std::time::Duration;

/// Upper bounds of the buckets in milliseconds, and as the text says them in seconds.
const BOUNDS: [(u64, &str); 11] = [
    (50, "0.05"),
    (100, "0.1"),
    (250, "0.25"),
    (500, "0.5"),
    (1_000, "1.0"),
    (2_500, "2.5"),
    (5_000, "5.0"),
    (10_000, "10.0"),
    (30_000, "30.0"),
    (60_000, "60.0"),
    (300_000, "300.0"),
];

/// Durations counted in buckets from 50 ms to 5 minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        for (count, (bound_millis, _)) in self.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(duration <= Duration::from_millis(bound_millis));
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// Durations counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the durations counted.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// How many were at most so long, for each bound in seconds; the last bound is `+Inf`.
    pub fn buckets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bounded = self.counts.iter().zip(BOUNDS).map(|(&count, (_, bound))| (bound, count));
        bounded.chain([("+Inf", self.count)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_below_them() {
        let mut histogram = Histogram::default();
        for millis in [10, 50, 51, 400_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[0], ("0.05", 2));
        assert_eq!(buckets[1], ("0.1", 3));
        assert_eq!(buckets[10], ("300.0", 3));
        assert_eq!(buckets[11], ("+Inf", 4));
        assert_eq!((histogram.count(), histogram.sum()), (4, Duration::from_millis(400_111)));
    }

    #[test]
    fn bounds_say_what_they_mean() {
        for (millis, text) in BOUNDS {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!(Duration::from_secs_f64(seconds), Duration::from_millis(millis));
        }
    }
}
