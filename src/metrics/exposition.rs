//! The Prometheus exposition, in both of its dialects: text 0.0.4 and `OpenMetrics` 1.0.
//!
//! Decides which families there are and what they are called. Labels are `app`, `worker` (the
//! place, which outlives its workers) and small enums; the process id is in `bunpilot_worker_info`
//! alone, so that a restart makes no new series anywhere else. Of two workers in one place the
//! online one speaks for it: no series comes twice.

mod families;
mod writer;

use crate::{metrics::View, world::Dialect};

/// The media type of a dialect, charset included.
#[must_use]
pub const fn content_type(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Text => "text/plain; version=0.0.4; charset=utf-8",
        Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

/// Writes all of `view` as text.
#[must_use]
pub fn write(view: &View, dialect: Dialect) -> Vec<u8> {
    let mut writer = writer::Writer::new(dialect, families::length_hint(view));
    families::write(view, &mut writer);
    writer.finish()
}

#[cfg(test)]
mod tests;
