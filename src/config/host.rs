//! The door of this room: all that reading a configuration asks of the machine.
//!
//! Decides nothing. [`Host`] is opened by `platform::host`; [`Trust`] is the wall painted like a
//! door, for configurations that were resolved before.

use std::{
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::domain::User;

/// What the configuration room may ask of the machine.
pub trait Host {
    /// Counts the CPUs this process may run on.
    fn cpus(&self) -> NonZeroU16;

    /// Finds an executable file called `name` in the folders of `path`, a `PATH` variable.
    fn find_program(&self, name: &str, path: &str) -> Option<PathBuf>;

    /// Tells what is at `path`, following links.
    fn file_kind(&self, path: &Path) -> FileKind;

    /// Tells whether `path` leads to a folder.
    fn is_folder(&self, path: &Path) -> bool {
        self.file_kind(path) == FileKind::Folder
    }

    /// Reads a whole text file.
    ///
    /// # Errors
    ///
    /// Those of the file system; [`io::ErrorKind::InvalidData`] if it is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Looks up a user by name.
    fn user(&self, name: &str) -> Option<User>;

    /// Runs a program to its end in the folder `cwd`; its standard error is ours.
    ///
    /// # Errors
    ///
    /// Only if it cannot be started; a program that fails is a [`Ran`].
    fn run(&self, argv: &[String], cwd: &Path) -> io::Result<Ran>;

    /// Measures the time since some fixed moment, monotonically.
    fn elapsed(&self) -> Duration;

    /// Shows a line that a configuration file printed.
    fn say(&self, text: &str);
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing, or nothing we may see.
    Missing,
    /// A folder.
    Folder,
    /// A file that cannot be executed.
    File,
    /// A file that can.
    Executable,
}

impl FileKind {
    /// Tells whether there is a file to read or run.
    #[must_use]
    pub const fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Executable)
    }
}

/// How a program of [`Host::run`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Whether it exited with status 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
}

/// A machine on which everything is where it should be.
///
/// With it, [`resolve`](super::resolve) turns a configuration written by
/// [`RawApp::of`](super::raw::RawApp::of) back into the very same spec, also while its script or
/// interpreter is missing: that is for the spawn to find out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust;

impl Host for Trust {
    fn cpus(&self) -> NonZeroU16 {
        NonZeroU16::MIN
    }

    fn find_program(&self, name: &str, _path: &str) -> Option<PathBuf> {
        Some(PathBuf::from(name))
    }

    fn file_kind(&self, _path: &Path) -> FileKind {
        FileKind::Executable
    }

    fn is_folder(&self, _path: &Path) -> bool {
        true
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn user(&self, _name: &str) -> Option<User> {
        None
    }

    fn run(&self, _argv: &[String], _cwd: &Path) -> io::Result<Ran> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn say(&self, _text: &str) {}
}
