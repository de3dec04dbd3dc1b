//! The harness: a [`Home`] of its own for every test, and what it takes to watch one.
//!
//! The binary runs as a user runs it. What it claims is read over the control socket; what is true
//! is read from `/proc`, from files and from connections. Nothing outlives its [`Home`].

mod control;
mod declare;
mod http;
mod load;
mod luck;
mod processes;
mod tools;
mod wait;

pub(crate) use control::{Control, Row};
pub(crate) use declare::{declared, inherited, merge};
pub(crate) use http::get;
pub(crate) use load::{Clients, Crowd, Load, Tally};
pub(crate) use luck::{Luck, rounds};
pub(crate) use processes::{alive, kill, parent, poke, stop};
pub(crate) use tools::{Tool, need, say, skip, tool};
pub(crate) use wait::{Stopwatch, holds_for, wait_for};

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

/// Longest wait for a daemon that was asked to stop at the end of a test.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// A fresh `BUNPILOT_HOME` with a folder to work in; dropping it ends every process that has it in
/// its environment.
pub(crate) struct Home {
    folder: PathBuf,
    /// Port of the daemon's HTTP server, 0 if it has none.
    http_port: u16,
    /// What runs the binary, if it is not run directly: a program and its arguments.
    runner: Vec<OsString>,
    env: Vec<(&'static str, &'static str)>,
}

/// What one run of the binary came to.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code, -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Asserts a refusal: a failure that was meant, told in words.
    #[track_caller]
    pub(crate) fn refused(self, word: &str) -> Self {
        assert!(self.code > 0 && self.code != 101, "no clean refusal: {self:?}");
        assert!(self.stderr.contains(word), "stderr does not mention `{word}`: {self:?}");
        self
    }

    /// Asserts success and gives what it wrote on stdout.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // short: a socket's path holds 107 bytes
        let folder = std::env::temp_dir().join(format!("bp-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("home")).unwrap();
        fs::create_dir_all(folder.join("work")).unwrap();
        let folder = folder.canonicalize().unwrap();
        Self { folder, http_port: 0, runner: Vec::new(), env: Vec::new() }
    }

    /// Every command of this home has this variable.
    pub(crate) fn with_env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// Every command of this home is run by another program: it is appended to `words`.
    pub(crate) fn run_by<A: Into<OsString>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.runner.extend(words.into_iter().map(Into::into));
        self
    }

    /// Gives the home, and what is in it, to another user, who runs every command.
    pub(crate) fn owned_by(self, user: u32) -> Self {
        for path in [self.folder.clone(), self.root(), self.path("")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
        }
        let number = user.to_string();
        self.run_by(["setpriv", "--reuid", &number, "--regid", &number, "--clear-groups"])
    }

    /// A home whose daemon serves HTTP.
    pub(crate) fn with_http() -> Self {
        let mut home = Self::new();
        home.http_port = free_port();
        home
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// `BUNPILOT_HOME`.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// A file in the folder commands run in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The text of a file in the work folder, empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A log file of an app, by the original's naming.
    pub(crate) fn log(&self, app: &str, file: &str) -> PathBuf {
        self.root().join("logs").join(app).join(file)
    }

    /// A command in the work folder, ready to run.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut words = self.runner.iter().map(OsString::as_os_str);
        let binary = OsStr::new(env!("CARGO_BIN_EXE_bunpilot"));
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words).args((!self.runner.is_empty()).then_some(binary));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BUNPILOT_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(self.folder.join("work"))
            .env("BUNPILOT_HOME", self.root())
            .env("BUNPILOT_HTTP_PORT", self.http_port.to_string())
            .env("NO_COLOR", "1")
            .env("PATH", tools::path())
            .envs(self.env.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.finish(self.command(args))
    }

    /// Runs the binary and asserts success.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        self.run(args).succeeded()
    }

    /// Runs a prepared command to its end. Its output goes through files: a daemon that keeps
    /// them open cannot keep us waiting.
    #[track_caller]
    pub(crate) fn finish(&self, command: Command) -> Output {
        let mut running = self.spawn(command);
        let status = wait_for("the command to end", || running.child.try_wait().unwrap());
        Output { code: status.code().unwrap_or(-1), ..running.so_far() }
    }

    /// Starts a prepared command and leaves it running.
    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|it| self.folder.join(format!("{number}.{it}")));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    /// Starts apps from a JSON config, each an object as in `apps: […]`.
    #[track_caller]
    pub(crate) fn start<const N: usize>(&self, apps: [Value; N]) -> Output {
        let text = serde_json::to_string_pretty(&json!({ "apps": Vec::from(apps) })).unwrap();
        let file = self.write("bunpilot.json", &text);
        self.run([OsStr::new("start"), OsStr::new("--config"), file.as_os_str()])
    }

    /// A fresh connection to the control socket.
    #[track_caller]
    pub(crate) fn control(&self) -> Control {
        Control::connect(&self.root().join("bunpilot.sock"))
    }

    /// The workers of `app` as the daemon tells of them.
    #[track_caller]
    pub(crate) fn rows(&self, app: &str) -> Vec<Row> {
        self.control().rows(app)
    }

    /// The workers of `app`, if none of them is on its way anywhere; none if there is no such app.
    #[track_caller]
    pub(crate) fn at_rest(&self, app: &str) -> Option<Vec<Row>> {
        self.control().at_rest(app)
    }

    /// Waits until exactly `count` workers of `app` are listed and all of them are online.
    #[track_caller]
    pub(crate) fn online(&self, app: &str, count: usize) -> Vec<Row> {
        wait_for(&format!("{count} workers of `{app}` to be online"), || {
            let rows = self.rows(app);
            (rows.len() == count && rows.iter().all(|it| it.state == "online")).then_some(rows)
        })
    }

    /// Waits until a worker of `app` is in `state`.
    #[track_caller]
    pub(crate) fn in_state(&self, app: &str, state: &str) -> Row {
        wait_for(&format!("a worker of `{app}` to be {state}"), || {
            self.rows(app).into_iter().find(|it| it.state == state)
        })
    }

    /// Pids of this home's processes whose command line contains `word`, whatever the daemon says.
    pub(crate) fn pids(&self, word: &str) -> Vec<u32> {
        let all = processes::with_home(&self.root()).into_iter();
        all.filter(|pid| processes::command_line(*pid).contains(word)).collect()
    }

    /// Pids of the workers of `app`, their leaders alone, whatever the daemon says.
    pub(crate) fn pids_of(&self, app: &str) -> Vec<u32> {
        let all = processes::with_home(&self.root()).into_iter();
        all.filter(|pid| processes::leads(*pid, app)).collect()
    }

    /// Pid of the daemon, from its pid file.
    #[track_caller]
    pub(crate) fn daemon(&self) -> u32 {
        wait_for("the pid file", || {
            let text = fs::read_to_string(self.root().join("bunpilot.pid")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.root().join("bunpilot.sock").exists() {
            let mut asking = self.spawn(self.command(["daemon", "stop"]));
            wait::poll(GOODBYE_MAX, || asking.child.try_wait().unwrap_or_default());
        }
        processes::kill_all_with_home(&self.root());
        if std::thread::panicking() {
            say(&format!("left for reading: {}", self.folder.display()));
        } else {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// A command that has not ended; dropping it kills it.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// What it wrote until now.
    pub(crate) fn so_far(&self) -> Output {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Output { code: -1, stdout: read(&self.out), stderr: read(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program from `tests/cli/apps`.
pub(crate) fn app(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/apps").join(name);
    assert!(path.is_file(), "no such app: {}", path.display());
    path
}

/// A port nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A port nobody listens on right now, below those the kernel gives to clients: a client that
/// waits out the end of its connection would keep a server from it.
pub(crate) fn serving_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    let begin = std::process::id().wrapping_mul(61);
    let free = (0..PORTS).find_map(|_| {
        let number = begin.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = u16::try_from(FIRST + number).unwrap();
        TcpListener::bind(("0.0.0.0", port)).is_ok().then_some(port)
    });
    free.expect("a free port")
}
