//! What the supervisor has to say to the daemon, beside actions.

use std::time::Duration;

use super::{Outcome, Ticket};
use crate::domain::{AppId, Exit, InstanceId, Moment, Pid, Stage, WorkerId};

/// Something others may want to know: clients, the database, the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This request is over. Said once for each accepted request.
    Finished(Ticket, Outcome),
    /// A step was made on the way to the end of a request.
    Progress(Ticket, WorkerId, Step),
    /// A life is over.
    Ended(Ending),
    /// Goal, spec or previous spec of this app changed: write it down.
    AppChanged(AppId),
    /// The app is forgotten: it was deleted and its last worker is gone.
    AppGone(AppId),
    /// A worker of this place, or what the place remembers, changed: write it down.
    InstanceChanged(InstanceId),
}

/// One step of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It entered this stage.
    Entered(Stage),
    /// Nothing is left of it.
    Ended(Cause),
}

/// The end of a life, for the restart history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whose.
    pub worker: WorkerId,
    /// Its process, if it ever had one.
    pub pid: Option<Pid>,
    /// How it ended; `None` if it never began.
    pub exit: Option<Exit>,
    /// How long it lived.
    pub uptime: Duration,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Moment,
}

/// Why a life ended, or is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It exited uninvited.
    Exit,
    /// A signal killed it, uninvited.
    Signal,
    /// It could not be started.
    Spawn,
    /// It never became ready.
    Ready,
    /// Its probes failed.
    Health,
    /// Its heartbeats ceased.
    Heartbeat,
    /// The app was stopped or deleted, or the daemon shut down.
    Stop,
    /// The app was restarted.
    Restart,
    /// A newer worker took its place.
    Reload,
    /// The app was scaled down.
    Scale,
    /// The reload it belonged to failed.
    Rollback,
}

impl Cause {
    pub(super) const ALL: [Self; 11] = [
        Self::Exit,
        Self::Signal,
        Self::Spawn,
        Self::Ready,
        Self::Health,
        Self::Heartbeat,
        Self::Stop,
        Self::Restart,
        Self::Reload,
        Self::Scale,
        Self::Rollback,
    ];

    /// The word the restart history uses.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Spawn => "spawn",
            Self::Ready => "ready",
            Self::Health => "health",
            Self::Heartbeat => "heartbeat",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Scale => "scale",
            Self::Rollback => "rollback",
        }
    }
}

/// Something a worker said of itself, on its channel or its `NOTIFY_SOCKET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is ready: `{"type":"ready"}`, the bare string `"ready"` or `READY=1`.
    Ready,
    /// It is shutting down: `STOPPING=1` or the SDK's acknowledgement.
    Stopping,
    /// A heartbeat: `{"type":"heartbeat"}` or `WATCHDOG=1`.
    Alive,
    /// It knows that it fails: `WATCHDOG=trigger`.
    Failing,
    /// Heartbeats come at least this often from now on: `WATCHDOG_USEC=`.
    Watchdog(Duration),
    /// How it speaks.
    Speaks(Speech),
}

/// How well a worker speaks; decides how it is asked to exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speech {
    /// Never said anything on its channel.
    #[default]
    Silent,
    /// PM2's bare strings.
    Bare,
    /// The SDK's objects.
    Sdk,
    /// The SDK's objects, and it wants to be asked to exit by a message.
    SdkHandlesShutdown,
}
