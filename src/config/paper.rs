//! A machine drawn on paper, for tests: its files, programs and clock are what the test says.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Base, FileKind, Host, Ran};
use crate::domain::User;

/// One step of the clock, taken whenever somebody looks.
const STEP: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Paper {
    files: BTreeMap<PathBuf, (FileKind, String)>,
    node_version: &'static str,
    /// What every other program prints; none is one that fails.
    printed: &'static str,
    steps: Cell<u32>,
    pub(super) said: RefCell<Vec<String>>,
}

impl Paper {
    pub(super) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), (FileKind::File, text.to_owned()));
        self
    }

    pub(super) fn executable(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), (FileKind::Executable, text.to_owned()));
        self
    }

    pub(super) fn printing(self, printed: &'static str) -> Self {
        Self { printed, ..self }
    }

    pub(super) fn node(self, version: &'static str) -> Self {
        Self { node_version: version, ..self.executable("/bin/node", "") }
    }
}

/// A caller in `/srv`, whose programs are in `/bin`.
pub(super) fn base() -> Base {
    let env = [("PATH", "/bin"), ("HOME", "/home/me"), ("BUNPILOT_WORKER_ID", "7")];
    Base {
        cwd: PathBuf::from("/srv"),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        profile: None,
    }
}

impl Host for Paper {
    fn cpus(&self) -> NonZeroU16 {
        NonZeroU16::new(6).unwrap()
    }

    fn find_program(&self, name: &str, path: &str) -> Option<PathBuf> {
        let file = Path::new(path).join(name);
        (self.file_kind(&file) == FileKind::Executable).then_some(file)
    }

    fn file_kind(&self, path: &Path) -> FileKind {
        match self.files.get(path) {
            Some((kind, _)) => *kind,
            None if self.files.keys().any(|file| file.starts_with(path)) => FileKind::Folder,
            None => FileKind::Missing,
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let (_, text) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone())
    }

    fn user(&self, name: &str) -> Option<User> {
        (name == "www").then_some(User { uid: 33, gid: 34 })
    }

    fn run(&self, argv: &[String], _cwd: &Path) -> io::Result<Ran> {
        let stdout = if argv == ["/bin/node", "--version"] {
            format!("{}\n", self.node_version)
        } else {
            self.printed.to_owned()
        };
        Ok(Ran { ok: !stdout.is_empty(), stdout })
    }

    fn elapsed(&self) -> Duration {
        self.steps.set(self.steps.get() + 1);
        STEP * self.steps.get()
    }

    fn say(&self, text: &str) {
        self.said.borrow_mut().push(text.to_owned());
    }
}
