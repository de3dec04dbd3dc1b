//! What a round started and must not leave behind: processes and a folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{clock, proc};
use crate::shell::{Failure, say};

/// How long a manager that was told to end may take.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// How long a killed process may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);

/// A folder and processes; when dropped, the processes are killed by pid and the folder removed.
#[derive(Debug)]
pub(super) struct Ward {
    folder: PathBuf,
    /// Pids with the times they were born, so that a number used again is nobody we know.
    processes: Vec<(i32, Duration)>,
}

impl Ward {
    /// Makes a fresh folder.
    pub(super) fn new(name: &str) -> Result<Self, Failure> {
        let folder = env::temp_dir().join(format!("bunpilot-bench-{}-{name}", std::process::id()));
        let made = fs::create_dir(&folder);
        made.map_err(|source| Failure::File { what: "make", path: folder.clone(), source })?;
        Ok(Self { folder, processes: Vec::new() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes responsibility for these, managers first.
    pub(super) fn watch(&mut self, pids: &[i32]) {
        let born = pids.iter().filter_map(|pid| Some((*pid, proc::born(*pid)?)));
        self.processes.extend(born);
    }

    fn lives((pid, born): &(i32, Duration)) -> bool {
        proc::born(*pid) == Some(*born)
    }
}

/// Sends SIGKILL; a process that is gone already is fine.
pub(super) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone_already = kill_process(pid, Signal::KILL);
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let pause = Duration::from_millis(10);
        let nobody = || (!self.processes.iter().any(Self::lives)).then_some(());
        let _stuck = clock::await_some(LEAVE_MAX, pause, nobody);
        let left: Vec<_> = self.processes.iter().filter(|it| Self::lives(it)).collect();
        if !left.is_empty() {
            say(format_args!("{} processes were left over and are killed", left.len()));
        }
        for (pid, _) in &left {
            kill(*pid);
        }
        let gone = || left.iter().all(|it| !Self::lives(it)).then_some(());
        let _stuck = clock::await_some(GONE_MAX, pause, gone);
        drop(fs::remove_dir_all(&self.folder));
    }
}
