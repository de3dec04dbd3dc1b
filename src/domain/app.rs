//! What the user declared, validated: no field can hold nonsense.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::LogSpec;

/// An app's name: unique, and safe as part of a file name, a label and a table cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(String);

/// Longest [`AppName`] in bytes: with suffixes it must fit a file name (255) and a table.
const NAME_MAX: usize = 64;

/// Why a text is not an [`AppName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppNameError {
    /// No text at all.
    #[error("an app needs a name")]
    Empty,
    /// Longer than 64 bytes.
    #[error("an app's name may have at most {NAME_MAX} characters")]
    TooLong,
    /// A character outside the allowed set, or a leading `.` or `-`.
    #[error(
        "an app's name may hold letters, digits, `.`, `_` and `-`, and begins with a letter, a digit or `_`"
    )]
    Character,
    /// `all` means every app.
    #[error("`all` stands for every app and cannot be the name of one")]
    Reserved,
}

impl AppName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = AppNameError;

    fn from_str(text: &str) -> Result<Self, AppNameError> {
        if text.is_empty() {
            return Err(AppNameError::Empty);
        }
        if text.len() > NAME_MAX {
            return Err(AppNameError::TooLong);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.starts_with(['.', '-']) || !text.chars().all(legal) {
            return Err(AppNameError::Character);
        }
        if text == "all" {
            return Err(AppNameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Everything there is to know about an app before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    /// Its name.
    pub name: AppName,
    /// The entry point, absolute.
    pub script: PathBuf,
    /// What runs the script, first the program, then its own arguments; empty if the script is
    /// itself executable. The program is absolute or found on the worker's `PATH`.
    pub interpreter: Vec<String>,
    /// Arguments after the script.
    pub args: Vec<String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// The whole environment, before bunpilot adds its own variables.
    pub env: BTreeMap<String, String>,
    /// How many workers should run.
    pub instances: NonZeroU16,
    /// The port the app serves.
    pub port: Option<NonZeroU16>,
    /// Whom to run as; `None`: as the daemon.
    pub user: Option<User>,
    /// Resource limits: name as in `prlimit(1)` (`nofile`, `core`, …) and soft = hard value;
    /// `None` is unlimited.
    pub limits: BTreeMap<String, Option<u64>>,
    /// Signal that asks a worker to exit.
    pub shutdown_signal: Signal,
    /// Longest wait for a worker to say it is ready.
    pub ready_timeout: Duration,
    /// Longest wait between asking a worker to exit and SIGKILL.
    pub kill_timeout: Duration,
    /// Online time after which a crash no longer counts as one in a row.
    pub min_uptime: Duration,
    /// When to come back after a crash.
    pub restart: Restart,
    /// HTTP probes.
    pub health: Option<Health>,
    /// Where output goes.
    pub logs: LogSpec,
    /// What is measured.
    pub metrics: MetricsSpec,
    /// How workers share the port and how a reload proceeds.
    pub cluster: Cluster,
}

impl AppSpec {
    /// Whether its workers inherit listening sockets that bunpilot opened.
    #[must_use]
    pub fn inherits(&self) -> bool {
        let Cluster { enabled, strategy, .. } = self.cluster;
        enabled && strategy == Strategy::Inherit && self.port.is_some()
    }

    /// Whether its workers open the port themselves, all of them the same one.
    #[must_use]
    pub fn shares(&self) -> bool {
        let own = matches!(self.cluster.strategy, Strategy::Auto | Strategy::ReusePort);
        self.cluster.enabled && own && self.port.is_some()
    }
}

/// The two signals the original lets a user choose, and the others `bunpilot signal` may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

impl Signal {
    /// Reload, by convention.
    pub const HUP: Self = Self(1);
    /// Interrupt, as Ctrl-C sends it.
    pub const INT: Self = Self(2);
    /// Kill at once.
    pub const KILL: Self = Self(9);
    /// Please exit.
    pub const TERM: Self = Self(15);

    const NAMES: &[(&str, i32)] = &[
        ("SIGHUP", 1),
        ("SIGINT", 2),
        ("SIGQUIT", 3),
        ("SIGABRT", 6),
        ("SIGKILL", 9),
        ("SIGUSR1", if cfg!(target_os = "macos") { 30 } else { 10 }),
        ("SIGSEGV", 11),
        ("SIGUSR2", if cfg!(target_os = "macos") { 31 } else { 12 }),
        ("SIGPIPE", 13),
        ("SIGALRM", 14),
        ("SIGTERM", 15),
        ("SIGCONT", if cfg!(target_os = "macos") { 19 } else { 18 }),
        ("SIGSTOP", if cfg!(target_os = "macos") { 17 } else { 19 }),
        ("SIGTSTP", if cfg!(target_os = "macos") { 18 } else { 20 }),
        ("SIGWINCH", 28),
        ("SIGBUS", if cfg!(target_os = "macos") { 10 } else { 7 }),
        ("SIGILL", 4),
        ("SIGFPE", 8),
        ("SIGTRAP", 5),
        ("SIGSYS", if cfg!(target_os = "macos") { 12 } else { 31 }),
    ];

    /// Its name, e.g. `SIGTERM`; `None` for a number without a name here.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// The text names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no signal; write a name as in `SIGUSR1` or `HUP`, or a number from 1 to 64")]
pub struct SignalError(String);

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=64).contains(&number) {
                Ok(Self(number))
            } else {
                Err(SignalError(text.to_owned()))
            };
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        Self::NAMES
            .iter()
            .find(|(name, _)| name.strip_prefix("SIG") == Some(bare))
            .map(|(_, number)| Self(*number))
            .ok_or_else(|| SignalError(text.to_owned()))
    }
}

/// Whom a worker runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// When, and whether, a crashed worker comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Crashes tolerated within `window` before giving up.
    pub max_restarts: u32,
    /// Length of the sliding window `max_restarts` counts in.
    pub window: Duration,
    /// First delay.
    pub initial: Duration,
    /// Growth per crash in a row, in percent: 200 doubles.
    pub growth_percent: u32,
    /// Longest delay.
    pub max: Duration,
}

/// HTTP probes of each worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path of the GET request, begins with `/`.
    pub path: String,
    /// Time from one probe to the next.
    pub interval: Duration,
    /// Longest wait for an answer, less than `interval`.
    pub timeout: Duration,
    /// Failures in a row after which a worker is replaced.
    pub unhealthy_threshold: NonZeroU32,
}

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSpec {
    /// Whether this app's workers are measured at all.
    pub enabled: bool,
    /// Whether this app appears in the Prometheus exposition.
    pub prometheus: bool,
    /// Port of the metrics server; the first app that names one decides.
    pub http_port: NonZeroU16,
    /// Time from one measurement to the next.
    pub collect_interval: Duration,
    /// Whether the exposition carries the original's metric names beside the conventional ones.
    pub compat_names: bool,
}

/// How workers share a port and how a reload proceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Whether workers share the port; only then is `strategy` used.
    pub enabled: bool,
    /// Who decides which worker gets the next connection.
    pub strategy: Strategy,
    /// In which way that is decided.
    pub balance: Balance,
    /// How much of all connections each instance is to get, in proportion to the others; 1 for
    /// those beyond the last.
    pub weights: Vec<NonZeroU16>,
    /// How many workers a reload replaces at a time.
    pub batch_size: NonZeroU16,
    /// Rest between two batches of a reload.
    pub batch_delay: Duration,
}

/// Who decides which worker gets the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The best this machine offers.
    Auto,
    /// Each worker opens the port itself with `SO_REUSEPORT`; the kernel spreads by hash.
    ReusePort,
    /// bunpilot opens the port and hands each worker a listening socket (`LISTEN_FDS`).
    Inherit,
    /// bunpilot accepts and forwards. Not built yet: refused by `config::resolve`.
    Proxy,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            enabled: false,
            strategy: Strategy::Auto,
            balance: Balance::LeastConnections,
            weights: Vec::new(),
            batch_size: NonZeroU16::MIN,
            batch_delay: Duration::ZERO,
        }
    }
}

impl Cluster {
    /// How much an instance is to get.
    #[must_use]
    pub fn weight(&self, index: u16) -> NonZeroU16 {
        self.weights.get(usize::from(index)).copied().unwrap_or(NonZeroU16::MIN)
    }
}

/// In which way the next connection is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// To whoever has the fewest open ones, for its weight.
    LeastConnections,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        for good in ["api", "api-server", "a.b_c", "_x", "9", &"x".repeat(64)] {
            assert!(good.parse::<AppName>().is_ok(), "{good:?}");
        }
        for (bad, why) in [
            ("", AppNameError::Empty),
            ("../../evil", AppNameError::Character),
            ("a/b", AppNameError::Character),
            ("-x", AppNameError::Character),
            (".x", AppNameError::Character),
            ("a b", AppNameError::Character),
            ("a:0", AppNameError::Character),
            ("ü", AppNameError::Character),
            ("all", AppNameError::Reserved),
            (&"x".repeat(65), AppNameError::TooLong),
        ] {
            assert_eq!(bad.parse::<AppName>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for text in ["SIGTERM", "term", "15", "Term"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        for text in ["", "SIG", "0", "65", "SIGNOPE"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
