//! Which dialect of the exposition a client wants, by its `Accept` header (RFC 9110 §12.5.1).

use crate::world::Dialect;

/// `OpenMetrics` only for a client that names it and likes it at least as well as plain text; text
/// for everyone else, such as curl, which accepts anything.
pub(super) fn dialect(accept: &str) -> Dialect {
    let ranges = || accept.split(',').filter_map(Range::read);
    let best =
        |wanted: fn(&Range<'_>) -> bool| ranges().filter(wanted).map(|range| range.weight).max();
    let open =
        best(|range| range.media == "application/openmetrics-text" && range.is_ours("1.0.0"));
    let text = best(|range| range.media == "text/plain" && range.is_ours("0.0.4"));
    match (open, text) {
        (Some(open), text) if open > 0 && Some(open) >= text => Dialect::OpenMetrics,
        (_, _) => Dialect::Text,
    }
}

/// One media range, e.g. `text/plain;version=0.0.4;q=0.5`.
struct Range<'a> {
    media: String,
    version: Option<&'a str>,
    /// In thousandths, 1000 if not given.
    weight: u32,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let (mut version, mut weight) = (None, 1000);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => version = Some(value),
                "q" => weight = thousandths(value)?,
                _ => {}
            }
        }
        Some(Self { media, version, weight })
    }

    fn is_ours(&self, version: &str) -> bool {
        self.version.is_none_or(|named| named == version)
    }
}

/// `0.25` as 250; `None` for what is no weight.
fn thousandths(weight: &str) -> Option<u32> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Dialect) {
        assert_eq!(dialect(accept), expected, "{accept}");
    }

    #[test]
    fn those_who_ask_for_openmetrics_get_it() {
        // Prometheus 2.42 and 3.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Dialect::OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            Dialect::OpenMetrics,
        );
        check("Application/OpenMetrics-Text; version=\"1.0.0\"", Dialect::OpenMetrics);
        check("application/openmetrics-text", Dialect::OpenMetrics);
    }

    #[test]
    fn everyone_else_gets_text() {
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.4,text/plain;q=0.5",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;q=1.5",
            ";;;=,=;q=,\u{fffd}",
        ] {
            check(accept, Dialect::Text);
        }
    }
}
