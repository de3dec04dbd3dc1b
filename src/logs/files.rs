//! Which file a worker's stream goes to, and back from a file's name to the worker.
//!
//! Never looks whether a file exists.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{domain::AppSpec, logs::Stream};

/// Folder of the [indexes](crate::logs::index) within the home's log folder. No app can have this
/// name.
pub const INDEX_FOLDER: &str = ".index";

/// Names the file that `stream` of the worker at place `index` of an app is written to.
///
/// Without a file of its own in `spec`, that is `<home_logs>/<app>/<app>-<index>-out.log` or
/// `-err.log`. A file the user chose is taken as it is by place 0; the others put their index
/// before the extension, in the same folder. Every life of a place writes the same file.
#[must_use]
pub fn paths(home_logs: &Path, spec: &AppSpec, index: u16, stream: Stream) -> PathBuf {
    let chosen = match stream {
        Stream::Out => &spec.logs.out_file,
        Stream::Err => &spec.logs.err_file,
    };
    match chosen {
        Some(file) if index == 0 => file.clone(),
        Some(file) => file.with_file_name(indexed(file, index)),
        None => {
            let app = spec.name.as_str();
            home_logs.join(app).join(format!("{app}-{index}-{stream}.log"))
        }
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

/// Reads back which place and stream of `app` a file in the app's own log folder belongs to.
///
/// `None` for rotated files and for anything not named as [`paths`] does.
#[must_use]
pub fn identify(app: &str, file_name: &str) -> Option<(u16, Stream)> {
    let rest = file_name.strip_prefix(app)?.strip_prefix('-')?;
    let (index, stream) = rest.strip_suffix(".log")?.rsplit_once('-')?;
    let stream = Stream::BOTH.into_iter().find(|one| one.name() == stream)?;
    let number = index.parse::<u16>().ok()?;
    (number.to_string() == index).then_some((number, stream))
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
    fn check_identify(file_name: &str, expected: Option<(u16, Stream)>) {
        assert_eq!(identify("a-1", file_name), expected, "{file_name}");
    }

    #[test]
    fn only_current_files_of_the_app_are_identified() {
        check_identify("a-1-0-out.log", Some((0, Stream::Out)));
        check_identify("a-1-12-err.log", Some((12, Stream::Err)));
        for other in [
            "a-1-0-out.log.1",
            "a-1-0-out.log.rotating",
            "a-1-00-out.log",
            "a-1-+1-out.log",
            "a-1-70000-out.log",
            "a-1-0-log.log",
            "a-1-out.log",
            "a-2-0-out.log",
            "b-0-out.log",
            "",
        ] {
            check_identify(other, None);
        }
    }
}
