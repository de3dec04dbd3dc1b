//! One worker and its parent's end of the channel.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bunpilot::{
    cli::sdk::{What, install},
    ipc::channel::{Decoder, Message, Request},
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
};

/// Longest wait for anything a worker should do at once, on a machine that is busy otherwise.
const LONG: Duration = Duration::from_mins(1);

/// A descriptor without `CLOEXEC` must not leak into a worker somebody else spawns meanwhile.
static SPAWN: Mutex<()> = Mutex::new(());

/// A folder with the SDK and one script in it.
pub(crate) struct Project(PathBuf);

impl Project {
    pub(crate) fn new(test: &str, what: What, script: &str, source: &str) -> Self {
        let name = format!("bunpilot-sdk-{test}-{}", std::process::id());
        let project = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&project.0).unwrap();
        install(&project.0, what, &mut Vec::new()).unwrap();
        fs::write(project.0.join(script), source).unwrap();
        project
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A command in this folder, without anything of whoever runs the tests.
    pub(crate) fn command(&self, program: &Path, arg: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.arg(arg).current_dir(&self.0).stdin(Stdio::null()).stdout(Stdio::piped());
        for name in ["BUNPILOT_WORKER_ID", "NODE_CHANNEL_FD", "NOTIFY_SOCKET", "LISTEN_FDS"] {
            command.env_remove(name);
        }
        command
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) struct Worker {
    child: Child,
    channel: UnixStream,
    decoder: Decoder,
    heard: VecDeque<Message>,
}

impl Worker {
    /// Spawns `command` as bunpilot does.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let (channel, theirs) = UnixStream::pair().unwrap();
        channel.set_read_timeout(Some(LONG)).unwrap();
        command.env("BUNPILOT_WORKER_ID", "0");
        command.env("NODE_CHANNEL_FD", theirs.as_raw_fd().to_string());
        command.env("NODE_CHANNEL_SERIALIZATION_MODE", "json");
        let guard = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
        fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let child = command.spawn().unwrap();
        drop(theirs);
        drop(guard);
        Self { child, channel, decoder: Decoder::default(), heard: VecDeque::new() }
    }

    pub(crate) fn say(&mut self, request: &Request) {
        self.channel.write_all(&request.line()).unwrap();
    }

    /// Asks it to shut down.
    pub(crate) fn shutdown(&mut self) {
        self.say(&Request::shutdown(Duration::from_secs(5)));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next message; `None` once the worker has hung up.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        let mut bytes = [0; 4096];
        while self.heard.is_empty() {
            match self.channel.read(&mut bytes).expect("no message in time") {
                0 => return None,
                read => {
                    let mut messages = Vec::new();
                    self.decoder.feed(&bytes[..read], &mut messages);
                    self.heard.extend(messages);
                }
            }
        }
        self.heard.pop_front()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, message: &Message) {
        assert_eq!(self.hear().as_ref(), Some(message));
    }

    #[track_caller]
    pub(crate) fn expect_heartbeat(&mut self) {
        let message = self.hear();
        assert!(matches!(message, Some(Message::Heartbeat(Some(_)))), "{message:?}");
    }

    /// Waits for its end: nothing more must be said; the status and what it printed must be these.
    #[track_caller]
    pub(crate) fn expect_end(mut self, code: i32, printed: &str) {
        assert_eq!(self.hear(), None);
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!((status.code(), output.as_str()), (Some(code), printed), "{status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
