//! One buffer, two dialects: names, escapes and numbers.

use std::time::Duration;

use crate::{metrics::Histogram, world::Dialect};

/// What a family is, and is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Without the suffix its kind brings (`_total`, `_info`).
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its name ends with it; `""` for none.
    pub(super) unit: &'static str,
    /// One sentence without quotes, backslashes or line ends.
    pub(super) help: &'static str,
}

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    /// Always 1; the labels are the news.
    Info,
    Histogram,
    /// Says nothing of its values: for old names that break the rules of their kind.
    Unknown,
}

impl Kind {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram | Self::Unknown => "",
        }
    }

    const fn word(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Gauge, _) | (Self::Info, Dialect::Text) => "gauge",
            (Self::Counter, _) => "counter",
            (Self::Info, Dialect::OpenMetrics) => "info",
            (Self::Histogram, _) => "histogram",
            (Self::Unknown, Dialect::Text) => "untyped",
            (Self::Unknown, Dialect::OpenMetrics) => "unknown",
        }
    }
}

/// A value of a sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Count(u64),
    Seconds(Duration),
    /// Thousandths of a percent.
    Millipercent(u32),
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u16> for Value {
    fn from(count: u16) -> Self {
        Self::Count(count.into())
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Seconds(time)
    }
}

/// Labels as they stand in the text, without braces: `app="api",worker="0"`.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(String);

impl Labels {
    /// These labels and one more.
    #[must_use]
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut all = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        all.push_str(&self.0);
        push_label(&mut all, if self.0.is_empty() { "" } else { "," }, name, value);
        Self(all)
    }
}

fn push_label(text: &mut String, comma: &str, name: &str, value: &str) {
    text.push_str(comma);
    text.push_str(name);
    text.push_str("=\"");
    push_escaped(text, value);
    text.push('"');
}

/// Escapes a label's value; the rule is the same in both dialects.
fn push_escaped(text: &mut String, value: &str) {
    if memchr::memchr3(b'\\', b'"', b'\n', value.as_bytes()).is_none() {
        text.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// Writes families one after the other.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    dialect: Dialect,
    /// The family being written, and whether its head is out: one without samples is left out.
    family: Option<(Family, bool)>,
}

impl Writer {
    pub(super) fn new(dialect: Dialect, capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), dialect, family: None }
    }

    /// Begins a family; its samples follow.
    pub(super) const fn family(&mut self, family: Family) {
        self.family = Some((family, false));
    }

    /// Writes a sample of the family begun last.
    pub(super) fn sample(&mut self, labels: &Labels, value: impl Into<Value>) {
        let Some(family) = self.head() else { return };
        self.line(&[family.name, family.kind.suffix()], labels, None, value.into());
    }

    /// Writes a sample with one more label.
    pub(super) fn sample_of(
        &mut self,
        labels: &Labels,
        name: &str,
        word: &str,
        value: impl Into<Value>,
    ) {
        let Some(family) = self.head() else { return };
        self.line(&[family.name, family.kind.suffix()], labels, Some((name, word)), value.into());
    }

    /// Writes all samples of one histogram of the family begun last.
    pub(super) fn histogram(&mut self, labels: &Labels, histogram: &Histogram) {
        let Some(Family { name, .. }) = self.head() else { return };
        for (bound, count) in histogram.buckets() {
            self.line(&[name, "_bucket"], labels, Some(("le", bound)), count.into());
        }
        self.line(&[name, "_count"], labels, None, histogram.count().into());
        self.line(&[name, "_sum"], labels, None, histogram.sum().into());
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.dialect == Dialect::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text.into_bytes()
    }

    /// The family being written, once its head is out.
    fn head(&mut self) -> Option<Family> {
        let (family, written) = self.family?;
        if !written {
            self.family = Some((family, true));
            self.comment("# HELP ", family, family.help);
            self.comment("# TYPE ", family, family.kind.word(self.dialect));
            if self.dialect == Dialect::OpenMetrics && !family.unit.is_empty() {
                self.comment("# UNIT ", family, family.unit);
            }
        }
        Some(family)
    }

    fn comment(&mut self, what: &str, family: Family, text: &str) {
        let suffix = match self.dialect {
            Dialect::Text => family.kind.suffix(),
            Dialect::OpenMetrics => "",
        };
        for part in [what, family.name, suffix, " ", text, "\n"] {
            self.text.push_str(part);
        }
    }

    fn line(
        &mut self,
        name: &[&str],
        Labels(labels): &Labels,
        more: Option<(&str, &str)>,
        value: Value,
    ) {
        for part in name {
            self.text.push_str(part);
        }
        if !labels.is_empty() || more.is_some() {
            self.text.push('{');
            self.text.push_str(labels);
            if let Some((name, word)) = more {
                let comma = if labels.is_empty() { "" } else { "," };
                push_label(&mut self.text, comma, name, word);
            }
            self.text.push('}');
        }
        self.text.push(' ');
        push_value(&mut self.text, value);
        self.text.push('\n');
    }
}

fn push_value(text: &mut String, value: Value) {
    match value {
        Value::Count(count) => text.push_str(itoa::Buffer::new().format(count)),
        Value::Seconds(time) => {
            push_decimal(text, time.as_secs(), time.subsec_nanos(), 100_000_000);
        }
        Value::Millipercent(value) => {
            push_decimal(text, u64::from(value / 1000), value % 1000, 100);
        }
        Value::Real(real) if real.is_finite() => {
            text.push_str(ryu::Buffer::new().format_finite(real));
        }
        Value::Real(real) if real.is_nan() => text.push_str("NaN"),
        Value::Real(real) => text.push_str(if real > 0.0 { "+Inf" } else { "-Inf" }),
    }
}

/// Writes `whole` and a fraction whose first digit counts `place`s, exactly and without trailing
/// zeroes.
fn push_decimal(text: &mut String, whole: u64, mut fraction: u32, mut place: u32) {
    text.push_str(itoa::Buffer::new().format(whole));
    if fraction == 0 {
        return;
    }
    text.push('.');
    while fraction > 0 {
        text.push(char::from_digit(fraction / place, 10).unwrap_or('0'));
        fraction %= place;
        place /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: impl Into<Value>, expected: &str) {
        let mut text = String::new();
        push_value(&mut text, value.into());
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_are_exact() {
        check(u64::MAX, "18446744073709551615");
        check(Duration::ZERO, "0");
        check(Duration::from_secs(1_795_378_000), "1795378000");
        check(Duration::from_nanos(1), "0.000000001");
        check(Duration::new(3, 120_000_000), "3.12");
        check(Duration::new(3, 999_999_999), "3.999999999");
        check(Value::Millipercent(2_500), "2.5");
        check(Value::Millipercent(100_007), "100.007");
        check(Value::Real(-0.25), "-0.25");
        check(Value::Real(1e300), "1e300");
        check(Value::Real(f64::NAN), "NaN");
        check(Value::Real(f64::INFINITY), "+Inf");
        check(Value::Real(f64::NEG_INFINITY), "-Inf");
    }

    /// Reads an escaped value back as Prometheus does, up to the closing quote.
    fn unescape(text: &str) -> Option<(String, &str)> {
        let mut value = String::new();
        let mut rest = text.chars();
        loop {
            match rest.next()? {
                '"' => return Some((value, rest.as_str())),
                '\n' => return None,
                '\\' => value.push(match rest.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
    }

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_quotes(first in "(?s).{0,20}", second in "[\\\\\"\n,{}= a]{0,20}") {
            let Labels(text) = Labels::default().with("a", &first).with("b", &second);
            let (read, rest) = unescape(text.strip_prefix("a=\"").unwrap()).unwrap();
            prop_assert_eq!(read, first);
            let (read, rest) = unescape(rest.strip_prefix(",b=\"").unwrap()).unwrap();
            prop_assert_eq!(read, second);
            prop_assert_eq!(rest, "");
        }

        #[test]
        fn seconds_read_back(nanos in any::<u32>()) {
            let time = Duration::from_nanos(u64::from(nanos));
            let mut text = String::new();
            push_value(&mut text, time.into());
            let read: f64 = text.parse().unwrap();
            prop_assert_eq!(read.to_bits(), (f64::from(nanos) / 1e9).to_bits());
        }
    }
}
