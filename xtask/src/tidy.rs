//! `cargo xtask tidy`: checks the house, so that nobody has to in review.
//!
//! It reads files and never changes one. [`rooms`] holds who may use whom and which rooms are
//! quiet; [`files`] how files are named, placed and kept; [`source`] reads Rust well enough for
//! both.

mod files;
mod rooms;
mod source;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use crate::shell::{Failure, root, say};

/// One thing out of order: where, and what.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    /// Path inside the workspace, and line if the fault has one.
    place: String,
    what: String,
}

impl Fault {
    fn file(path: &str, what: impl Into<String>) -> Self {
        Self { place: path.to_owned(), what: what.into() }
    }

    fn line(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), what: what.into() }
    }
}

/// A file of the workspace: its path inside it, with `/`, and its text.
struct Page {
    path: String,
    text: String,
}

/// Folders that hold nothing anyone wrote here, at any depth.
const FOREIGN: &[&str] = &["target", ".git", "node_modules", "__pycache__"];

pub(crate) fn run() -> ExitCode {
    match faults(root()) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for Fault { place, what } in &faults {
                say(format_args!("{place}: {what}"));
            }
            say(format_args!("tidy: {} faults", faults.len()));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(format_args!("tidy: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn faults(root: &Path) -> Result<Vec<Fault>, Failure> {
    let pages = pages(root)?;
    let secrets = secrets(root);
    let mut faults = files::top_level(&names(root)?);
    faults.extend(files::orphans(&pages));
    faults.extend(files::stale_exceptions(&pages));
    for page in &pages {
        faults.extend(files::words(page, &secrets));
        if Path::new(&page.path).extension().is_some_and(|it| it == "rs") {
            faults.extend(files::shape(page));
            faults.extend(rooms::check(page));
        }
    }
    faults.sort();
    Ok(faults)
}

/// Every text file below `root`, in order. Files that are not UTF-8 are nobody's prose.
fn pages(root: &Path) -> Result<Vec<Page>, Failure> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let mut pages = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(reading(&path))?;
        if let Ok(text) = String::from_utf8(bytes) {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            pages.push(Page { path: inside.to_string_lossy().into_owned(), text });
        }
    }
    Ok(pages)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(reading(folder))? {
        let entry = entry.map_err(reading(folder))?;
        let kind = entry.file_type().map_err(reading(folder))?;
        let name = entry.file_name();
        if FOREIGN.iter().any(|it| name == *it) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// What lies at the top level.
fn names(root: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(root).map_err(reading(root))?;
    let names = entries.map(|it| it.map(|it| it.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(reading(root))
}

/// Words this checkout keeps to itself: one a line in git's `info/private-words`, which is never
/// committed. Without git or without the file there are none.
fn secrets(root: &Path) -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--git-path", "info/private-words"]).current_dir(root);
    let Ok(output) = git.stdin(Stdio::null()).stderr(Stdio::null()).output() else {
        return Vec::new();
    };
    let path = root.join(String::from_utf8_lossy(&output.stdout).trim());
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn reading(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::File { what: "read", path: path.to_owned(), source }
}
