//! What many samples of one figure come to.

use serde_json::{Value, json};

use super::proc;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) value: f64,
    /// The machine's load when it was taken.
    pub(super) load: f64,
}

impl Sample {
    /// A measurement just taken.
    pub(super) fn now(value: f64) -> Self {
        Self { value, load: proc::load() }
    }
}

/// What many samples come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    /// Median, too.
    pub(super) load: f64,
}

impl Summary {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let values = sorted(samples.iter().map(|it| it.value));
        let loads = sorted(samples.iter().map(|it| it.load));
        let (least, most) = (values.first(), values.last());
        Self {
            median: median(&values),
            least: least.copied().unwrap_or(f64::NAN),
            most: most.copied().unwrap_or(f64::NAN),
            load: median(&loads),
        }
    }

    /// With the `samples` it was made of, for programs.
    pub(super) fn json(self, samples: &[Sample]) -> Value {
        let Self { median, least, most, load } = self;
        let values: Vec<_> = samples.iter().map(|it| it.value).collect();
        json!({ "median": median, "min": least, "max": most, "load": load, "samples": values })
    }
}

/// Three digits, more or less.
pub(super) fn rounded(value: f64) -> String {
    if value < 0.1 {
        format!("{value:.4}")
    } else if value < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values; of two middles their mean.
fn median(values: &[f64]) -> f64 {
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        (_, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, expected) in [(&[1.0][..], 1.0), (&[1.0, 3.0], 2.0), (&[1.0, 2.0, 9.0], 2.0)] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }
}
