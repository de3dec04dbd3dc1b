//! The pid file: exactly one daemon for each home, however many are started at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon lives; the kernel lets go of it when the daemon dies (`flock(2)`).
#[derive(Debug)]
pub(super) struct PidFile {
    _file: File,
}

/// Why this daemon may not begin.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon holds the file.
    #[error("another daemon (pid {pid}) serves this home already")]
    Held {
        /// Its process, as it wrote it.
        pid: String,
    },
    /// The file cannot be opened or written.
    #[error("cannot write `{path}`")]
    Io {
        /// The file.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl PidFile {
    /// Takes the file and writes our pid into it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another daemon lives.
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let broken = |source| LockError::Io { path: path.display().to_string(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(broken)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = io::read_to_string(&file).map_err(broken)?;
            return Err(LockError::Held { pid: pid.trim().to_owned() });
        }
        write_pid(&mut file).map_err(broken)?;
        Ok(Self { _file: file })
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it_and_a_stale_one_does_no_harm() {
        let folder = std::env::temp_dir().join(format!("bunpilot-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("bunpilot.pid");
        std::fs::write(&path, "999999999\n").unwrap();
        let held = PidFile::take(&path).unwrap();
        let refused = PidFile::take(&path).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(matches!(refused, LockError::Held { pid: holder } if holder == pid));
        drop(held);
        assert!(PidFile::take(&path).is_ok());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
