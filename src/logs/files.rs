//! Which file a worker's stream goes to, and back from a file's name to the worker.
//!
//! Never looks whether a file exists.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{
    domain::{AppSpec, LogFiles, LogMode, LogSpec},
    logs::Stream,
};

/// The file that keeps nothing.
const NOWHERE: &str = "/dev/null";

/// Folder of the [indexes](crate::logs::index) within the home's log folder. No app can have this
/// name.
pub const INDEX_FOLDER: &str = ".index";

/// Names the file that `stream` of the worker at place `index` of an app is written to.
///
/// Without a file of its own in `spec`, that is `<home_logs>/<app>/<app>-<index>-out.log` or
/// `-err.log`. A file the user chose is taken as it is by place 0; the others put their index
/// before the extension, in the same folder. Every life of a place writes the same file, and so
/// does every place if files are merged: `<app>-out.log`, or the very file the user chose.
#[must_use]
pub fn paths(home_logs: &Path, spec: &AppSpec, index: u16, stream: Stream) -> PathBuf {
    let app = spec.name.as_str();
    match (chosen(&spec.logs, stream), spec.logs.files) {
        (Some(file), LogFiles::Each) if index != 0 && file != Path::new(NOWHERE) => {
            file.with_file_name(indexed(file, index))
        }
        (Some(file), LogFiles::Each | LogFiles::Merged) => file.to_owned(),
        (None, LogFiles::Each) => home_logs.join(app).join(format!("{app}-{index}-{stream}.log")),
        (None, LogFiles::Merged) => home_logs.join(app).join(format!("{app}-{stream}.log")),
    }
}

/// Whose output the file of place `index` holds.
#[must_use]
pub fn writer(logs: &LogSpec, index: u16) -> Writer {
    match logs.files {
        LogFiles::Each => Writer::Place(index),
        LogFiles::Merged => Writer::Every,
    }
}

/// Whether nothing of `stream` is kept, so that nobody needs to read it.
#[must_use]
pub fn is_discarded(logs: &LogSpec, stream: Stream) -> bool {
    logs.mode == LogMode::Off || chosen(logs, stream) == Some(Path::new(NOWHERE))
}

fn chosen(logs: &LogSpec, stream: Stream) -> Option<&Path> {
    match stream {
        Stream::Out => logs.out_file.as_deref(),
        Stream::Err => logs.err_file.as_deref(),
    }
}

fn indexed(file: &Path, index: u16) -> OsString {
    let mut name = file.file_stem().unwrap_or(OsStr::new("log")).to_owned();
    name.push(format!("-{index}"));
    if let Some(extension) = file.extension() {
        name.push(".");
        name.push(extension);
    }
    name
}

/// Whose output a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// That of all places of the app.
    Every,
    /// That of one.
    Place(u16),
}

/// Reads back whose output, and which stream, of `app` a file in the app's own log folder holds.
///
/// `None` for rotated files and for anything not named as [`paths`] does.
#[must_use]
pub fn identify(app: &str, file_name: &str) -> Option<(Writer, Stream)> {
    let rest = file_name.strip_prefix(app)?.strip_prefix('-')?.strip_suffix(".log")?;
    let (index, stream) =
        rest.rsplit_once('-').map_or((None, rest), |(index, it)| (Some(index), it));
    let stream = Stream::BOTH.into_iter().find(|one| one.name() == stream)?;
    let Some(index) = index else { return Some((Writer::Every, stream)) };
    let number = index.parse::<u16>().ok()?;
    (number.to_string() == index).then_some((Writer::Place(number), stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_indexed(file: &str, index: u16, expected: &str) {
        let file = Path::new(file);
        assert_eq!(file.with_file_name(indexed(file, index)), Path::new(expected));
    }

    #[test]
    fn a_chosen_file_keeps_its_folder_and_extension() {
        check_indexed("/var/log/x.log", 3, "/var/log/x-3.log");
        check_indexed("/var/log/x.out.log", 12, "/var/log/x.out-12.log");
        check_indexed("/var/log/x", 1, "/var/log/x-1");
        check_indexed("/var/log/.hidden", 1, "/var/log/.hidden-1");
    }

    #[track_caller]
    fn check_identify(file_name: &str, expected: Option<(Writer, Stream)>) {
        assert_eq!(identify("a-1", file_name), expected, "{file_name}");
    }

    #[test]
    fn only_current_files_of_the_app_are_identified() {
        check_identify("a-1-0-out.log", Some((Writer::Place(0), Stream::Out)));
        check_identify("a-1-12-err.log", Some((Writer::Place(12), Stream::Err)));
        check_identify("a-1-out.log", Some((Writer::Every, Stream::Out)));
        for other in [
            "a-1-0-out.log.1",
            "a-1-0-out.log.rotating",
            "a-1-00-out.log",
            "a-1-+1-out.log",
            "a-1-70000-out.log",
            "a-1-0-log.log",
            "a-1-log.log",
            "a-1--out.log",
            "a-1-out.log.1",
            "a-2-0-out.log",
            "b-0-out.log",
            "",
        ] {
            check_identify(other, None);
        }
    }
}
