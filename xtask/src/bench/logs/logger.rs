//! The loggers: which there are, how each is run, and where it puts what it is given.

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::super::contender;

/// Size at which files are rotated.
const ROTATE_BYTES: u32 = 10 << 20;

/// Rotated files that are kept, and so many that all are.
pub(super) const KEEP: u16 = 5;
pub(super) const KEEP_ALL: u16 = 100;

/// The app's name where a logger manages the writers, too.
pub(super) const APP: &str = "writer";

/// One of those that are measured.
#[derive(Clone, Debug)]
pub(super) struct Logger {
    pub(super) name: String,
    pub(super) how: How,
}

/// How a logger gets its input.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// One process for each writer, on its standard input.
    Piped(Piped, PathBuf),
    /// It starts the writers itself.
    Managed(contender::Kind),
}

/// Programs that read their standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piped {
    Splice,
    Cat,
    S6Log,
    Svlogd,
    Multilog,
}

impl Piped {
    pub(super) const ALL: [Self; 5] =
        [Self::Splice, Self::Cat, Self::S6Log, Self::Svlogd, Self::Multilog];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Splice => "splice limit",
            Self::Cat => "cat",
            Self::S6Log => "s6-log",
            Self::Svlogd => "svlogd",
            Self::Multilog => "multilog",
        }
    }

    /// A fresh one that writes into `folder`.
    pub(super) fn command(self, program: &Path, folder: &Path, keep: u16) -> io::Result<Command> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(program);
        match self {
            Self::Splice => drop(command.args(["bench", "log-splice"]).arg(folder.join("current"))),
            Self::Cat => drop(command.stdout(File::create(folder.join("current"))?)),
            Self::S6Log => {
                let rules = ["-b".to_owned(), format!("n{keep}"), format!("s{ROTATE_BYTES}")];
                command.args(rules).arg(folder);
            }
            Self::Multilog => {
                command.args([format!("s{ROTATE_BYTES}"), format!("n{keep}")]).arg(folder);
            }
            Self::Svlogd => {
                fs::write(folder.join("config"), format!("s{ROTATE_BYTES}\nn{keep}\n"))?;
                // its own buffer, of a line, costs it a third more
                command.args(["-b", "65536"]).arg(folder).stderr(Stdio::null());
            }
        }
        Ok(command)
    }
}

impl Logger {
    /// Rotates files, so that there is a limit to what it keeps.
    pub(super) fn rotates(&self) -> bool {
        match &self.how {
            How::Piped(piped, _) => !matches!(piped, Piped::Splice | Piped::Cat),
            How::Managed(kind) => matches!(kind, contender::Kind::Bunpilot { .. }),
        }
    }

    pub(super) fn is_bunpilot(&self) -> bool {
        matches!(&self.how, How::Managed(contender::Kind::Bunpilot { .. }))
    }
}

/// An app of `count` writers as `kind` wants it declared.
pub(super) fn app(
    kind: &contender::Kind,
    folder: &Path,
    words: &[String],
    count: u16,
    keep: u16,
) -> io::Result<Value> {
    let program = env::current_exe()?;
    Ok(match kind {
        contender::Kind::Bunpilot { .. } => json!({
            "name": APP, "script": program, "args": words, "instances": count,
            "logs": { "maxSize": ROTATE_BYTES, "maxFiles": keep },
        }),
        contender::Kind::Pm2 { .. } => json!({
            "name": APP, "script": program, "args": words, "instances": count,
            "interpreter": "none", "exec_mode": "fork", "pmx": false,
            "out_file": folder.join("out.log"), "error_file": "/dev/null",
        }),
    })
}

/// The files that keep what writer `index` wrote, oldest first.
pub(super) fn files(how: &How, folder: &Path, index: u16) -> Vec<PathBuf> {
    let kind = match how {
        How::Piped(_, _) => return row_of(&folder.join(index.to_string())),
        How::Managed(kind) => kind,
    };
    match kind {
        contender::Kind::Bunpilot { .. } => {
            let current = folder.join(format!("home/logs/{APP}/{APP}-{index}-out.log"));
            let numbered = |number| PathBuf::from(format!("{}.{number}", current.display()));
            let older = (1..=KEEP_ALL).map(numbered).take_while(|it| it.exists());
            let mut all: Vec<_> = older.collect();
            all.reverse();
            all.push(current);
            all
        }
        contender::Kind::Pm2 { .. } => vec![folder.join(format!("out-{index}.log"))],
    }
}

/// Rotated files are named after their times; `current` comes last.
fn row_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    let is_rotated =
        |it: &PathBuf| it.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"));
    let mut rotated: Vec<_> = entries.filter(is_rotated).collect();
    rotated.sort();
    rotated.push(folder.join("current"));
    rotated
}

/// What is written to `pipe` and not read yet.
pub(super) fn waiting_bytes(pipe: &OwnedFd) -> u64 {
    rustix::io::ioctl_fionread(pipe).unwrap_or(0)
}
