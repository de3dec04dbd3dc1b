//! What can go wrong for a user of the command line, and the exit status it comes to.

use std::{io, path::PathBuf};

use super::home::SOCKET_PATH_MAX;
use crate::control::wire::Code;

/// How a command ended, for the shell. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 1: it was tried and did not work.
    Failed,
    /// 2: the command makes no sense.
    Usage,
    /// 3: the app is known but does not run.
    NotRunning,
    /// 4: there is no such app.
    NoSuchApp,
    /// 69: no daemon answers (`EX_UNAVAILABLE` of `sysexits.h`).
    Unreachable,
    /// 75: no answer in time, or busy: worth trying again (`EX_TEMPFAIL`).
    TryAgain,
    /// 78: the configuration is wrong (`EX_CONFIG`).
    Config,
}

impl Verdict {
    /// The exit status.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NoSuchApp => 4,
            Self::Unreachable => 69,
            Self::TryAgain => 75,
            Self::Config => 78,
        }
    }

    /// The word in the `code` field of a failure in JSON.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotRunning => "not-running",
            Self::NoSuchApp => "no-such-app",
            Self::Unreachable => "unreachable",
            Self::TryAgain => "try-again",
            Self::Config => "config",
        }
    }
}

impl From<Code> for Verdict {
    fn from(code: Code) -> Self {
        match code {
            Code::Failed | Code::AlreadyRunning => Self::Failed,
            Code::Usage => Self::Usage,
            Code::NotRunning => Self::NotRunning,
            Code::NoSuchApp => Self::NoSuchApp,
            Code::Busy => Self::TryAgain,
            Code::Config => Self::Config,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody listens on the socket.
    #[error("bunpilot daemon is not running (socket not found at {})", socket.display())]
    Unreachable {
        /// Where it should be.
        socket: PathBuf,
    },
    /// No socket can have this path.
    #[error("the socket's path has {bytes} bytes and may have {SOCKET_PATH_MAX}: `{}`; set `BUNPILOT_SOCKET` or `BUNPILOT_HOME` to something shorter", socket.display())]
    SocketPath {
        /// Where it should be.
        socket: PathBuf,
        /// How long that is.
        bytes: usize,
    },
    /// There is no place for the daemon's files.
    #[error("cannot create `{}`: {source}; set `BUNPILOT_HOME` to a folder you can write to", folder.display())]
    Home {
        /// The folder that should be.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket is there, but cannot be used.
    #[error("cannot talk to the daemon on `{}`: {source}", socket.display())]
    Connect {
        /// Where it is.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon took the question and is silent.
    #[error("the daemon on `{}` did not answer within {seconds} s; it may be overloaded or stopped", socket.display())]
    Silent {
        /// Where it is.
        socket: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// The daemon went away while it was at work.
    #[error("the daemon ended before it answered")]
    Died,
    /// The daemon went away, and what we asked for has not come true.
    #[error("the daemon ended while it was at work, and {0}; run the command again")]
    Unfulfilled(String),
    /// The daemon said something we do not understand.
    #[error(
        "the daemon answered `{0}`, which this version does not understand; do both have the same version? try `bunpilot daemon status`"
    )]
    Garbled(String),
    /// The daemon could not be started.
    #[error("failed to start the daemon: {reason}{log}")]
    NoDaemon {
        /// Why not.
        reason: String,
        /// The end of its log, ready to print.
        log: String,
    },
    /// The daemon refused or failed.
    #[error("{message}")]
    Refused {
        /// What kind of failure.
        code: Code,
        /// In the daemon's words.
        message: String,
    },
    /// The configuration is wrong.
    #[error("{message}")]
    Config {
        /// What could not be done because of it.
        headline: String,
        /// What is wrong, on one line.
        message: String,
        /// The places, drawn; may be empty.
        picture: String,
    },
    /// The command makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Some other thing failed here, in this process.
    #[error("{0}")]
    Local(String),
    /// A file or the terminal failed.
    #[error("cannot {attempt}: {source}")]
    Io {
        /// What we tried, on what.
        attempt: String,
        /// Why not.
        source: io::Error,
    },
    /// Whoever read our output has gone. Not an error: `bunpilot list | head -1`.
    #[error("nobody reads the output")]
    Closed,
    /// A failure, and what may help.
    #[error("{failure}")]
    Hinted {
        /// What went wrong.
        failure: Box<Self>,
        /// What the user may have meant, or may do.
        hint: String,
    },
    /// Everything was said already.
    #[error("see above")]
    Told(Verdict),
}

impl Failure {
    /// For `map_err`: names what was tried.
    pub(crate) fn io(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        |source| Self::Io { attempt, source }
    }

    /// A configuration that is wrong, without a picture of the place.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        let headline = String::new();
        Self::Config { headline, message: message.into(), picture: String::new() }
    }

    /// The same failure with advice.
    pub(crate) fn hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => Self::Hinted { failure: Box::new(self), hint },
            None => self,
        }
    }

    /// What may help, if anything does.
    pub(crate) fn advice(&self) -> Option<&str> {
        match self {
            Self::Hinted { hint, .. } => Some(hint),
            Self::Unreachable { .. } => Some("`bunpilot daemon start` starts it, as `start` does"),
            Self::SocketPath { .. }
            | Self::Home { .. }
            | Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Died
            | Self::Unfulfilled(_)
            | Self::Garbled(_)
            | Self::NoDaemon { .. }
            | Self::Refused { .. }
            | Self::Config { .. }
            | Self::Usage(_)
            | Self::Local(_)
            | Self::Io { .. }
            | Self::Closed
            | Self::Told(_) => None,
        }
    }

    /// Whether the daemon knows no such app or instance.
    pub(crate) fn is_no_such_app(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NoSuchApp, .. })
    }

    /// The exit status, as a kind; `None` if it is no failure at all.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        Some(match self {
            Self::Unreachable { .. }
            | Self::SocketPath { .. }
            | Self::Home { .. }
            | Self::Connect { .. }
            | Self::NoDaemon { .. } => Verdict::Unreachable,
            Self::Silent { .. } | Self::Died | Self::Unfulfilled(_) => Verdict::TryAgain,
            Self::Garbled(_) | Self::Local(_) | Self::Io { .. } => Verdict::Failed,
            Self::Refused { code, .. } => (*code).into(),
            Self::Config { .. } => Verdict::Config,
            Self::Usage(_) => Verdict::Usage,
            Self::Told(verdict) => *verdict,
            Self::Hinted { failure, .. } => return failure.verdict(),
            Self::Closed => return None,
        })
    }
}

/// Writing fails only because the reader has gone, or the disk or terminal is broken.
impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Io { attempt: "write the output".to_owned(), source }
        }
    }
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_part_of_the_interface() {
        let status = |failure: Failure| failure.verdict().map(Verdict::status);
        let refused = |code| status(Failure::Refused { code, message: String::new() });
        assert_eq!(refused(Code::Failed), Some(1));
        assert_eq!(refused(Code::AlreadyRunning), Some(1));
        assert_eq!(refused(Code::Usage), Some(2));
        assert_eq!(refused(Code::NotRunning), Some(3));
        assert_eq!(refused(Code::NoSuchApp), Some(4));
        assert_eq!(refused(Code::Busy), Some(75));
        assert_eq!(refused(Code::Config), Some(78));
        assert_eq!(status(Failure::Unreachable { socket: PathBuf::new() }), Some(69));
        assert_eq!(status(Failure::Unfulfilled(String::new())), Some(75));
        assert_eq!(status(io::Error::from(io::ErrorKind::BrokenPipe).into()), None);
    }
}
