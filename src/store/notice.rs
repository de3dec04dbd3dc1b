//! What the store tells: notices while it runs, notes about opening, errors.

use std::{fmt, io, path::PathBuf};

/// What became of queued writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreNotice {
    /// All that was queued before the barrier with this token is committed, or has just failed.
    Flushed(u64),
    /// The database cannot be written. Said once; [`StoreNotice::Recovered`] ends the outage.
    Failed {
        /// What we tried and what to do.
        reason: String,
    },
    /// The database can be written again, and all that was kept is in it.
    Recovered {
        /// Measurements and ends of workers given up meanwhile.
        dropped: u64,
        /// What was found when the file had to be opened anew.
        notes: Vec<OpenNote>,
    },
}

/// Something a person should know about how the database was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenNote {
    /// An older layout was brought up to date, the original's included.
    Migrated {
        /// `user_version` found.
        from: u32,
        /// Apps it holds.
        apps: usize,
    },
    /// The file was damaged. It was moved, and what was left of it copied into a new one.
    MovedAside {
        /// Where it is now; `-wal` and `-shm` lie beside it.
        to: PathBuf,
        /// What was wrong with it.
        reason: String,
        /// Apps salvaged.
        apps: usize,
        /// Instances salvaged.
        instances: usize,
    },
    /// The file was there, but empty: no byte in it.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file could be read but not written; it is tried again later.
    Unwritable {
        /// Why.
        reason: String,
    },
    /// A row is not as it was written, or makes no sense, and was left out if it cannot be read.
    Damaged {
        /// Which row, and what is wrong with it.
        what: String,
    },
}

impl fmt::Display for OpenNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Migrated { from, apps } => {
                write!(f, "database of version {from} migrated, {apps} apps kept")
            }
            Self::MovedAside { to, reason, apps, instances } => write!(
                f,
                "the database was damaged ({reason}): moved to `{}`, salvaged {apps} apps and \
                 {instances} instances; compare `bunpilot list` with what you expect",
                to.display()
            ),
            Self::Empty { path } => write!(
                f,
                "the database `{}` was empty, begun anew; if you had apps, start them again",
                path.display()
            ),
            Self::Unwritable { reason } => f.write_str(reason),
            Self::Damaged { what } => f.write_str(what),
        }
    }
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its folder is missing and cannot be made.
    #[error("cannot make the folder `{}`; set `BUNPILOT_HOME` to one you may write to", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be looked at, made or protected.
    #[error("cannot open the database `{}`; check who owns it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path leads to something else.
    #[error("the database `{}` is not a file; move it away", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A newer bunpilot wrote it.
    #[error(
        "the database `{}` has version {found}, this bunpilot knows up to {}; update bunpilot",
        path.display(), super::schema::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// `user_version` found.
        found: u32,
    },
    /// It can neither be read nor written, and nothing says it is damaged.
    #[error("cannot read the database `{}`: {reason}; free some space on its disk", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was said.
        reason: String,
    },
    /// It is damaged and cannot be replaced.
    #[error("cannot move the damaged database `{}` aside; move it by hand", path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was closed with changes that could not be written.
    #[error("the last changes are lost: {reason}")]
    Unwritten {
        /// What was tried last and why it failed.
        reason: String,
    },
    /// There is no thread for it.
    #[error("cannot start the thread of the database; look at `ulimit -u`")]
    Thread(#[source] io::Error),
    /// Its thread ended by a panic: a bug.
    #[error("the thread of the database `{}` panicked; please report it", path.display())]
    Died {
        /// The file.
        path: PathBuf,
    },
}
