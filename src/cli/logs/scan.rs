//! Finds log files where the daemon cannot be asked.
//!
//! Sees only files with default names in the home's log folder.

use std::{fs, path::Path};

use crate::logs::{
    Stream,
    files::{Writer, identify},
};

use super::Source;

/// Lists the sources in `home_logs`, those of `app` or of every app, ordered by app, worker and
/// stream. A folder that is missing or cannot be read has none.
#[must_use]
pub fn scan(home_logs: &Path, app: Option<&str>) -> Vec<Source> {
    let mut apps = match app {
        Some(app) => vec![app.to_owned()],
        None => names(home_logs),
    };
    apps.sort_unstable();
    apps.iter().flat_map(|app| scan_app(&home_logs.join(app), app)).collect()
}

fn scan_app(folder: &Path, app: &str) -> Vec<Source> {
    let mut found: Vec<(Writer, Stream, String)> = names(folder)
        .into_iter()
        .filter_map(|name| identify(app, &name).map(|(writer, stream)| (writer, stream, name)))
        .collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|(writer, stream, name)| Source::of(app, writer, stream, folder.join(name)))
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
