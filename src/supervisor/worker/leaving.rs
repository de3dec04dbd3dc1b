//! How a worker ends: invited, step by step up to SIGKILL, or by itself.

use std::{fmt, time::Duration};

use super::{Failure, Outbox, Welcome, Worker};
use crate::{
    domain::{Exit, Moment, Signal, Stage},
    supervisor::{Cause, Manner, Speech},
    world::{Action, Reach},
};

/// SIGKILL is repeated this often until nothing is left: a process forked while its tree was
/// being killed may have slipped through.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What was done so far to make a worker exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    None,
    Message,
    Signal,
    Kill { again: Moment },
}

impl Worker {
    /// Begins the end: drains first if traffic may be flowing.
    pub(in crate::supervisor) fn leave(
        &mut self,
        cause: Cause,
        manner: Manner,
        now: Moment,
        out: &mut Outbox,
    ) {
        if manner == Manner::Forcibly {
            return self.leave_forcibly(cause, now, out);
        }
        match self.stage {
            Stage::Online if self.welcome == Welcome::Admitted => {
                self.cause = Some(cause);
                self.enter(now, Stage::Draining, out);
                self.retire(out);
            }
            Stage::Spawning | Stage::Starting | Stage::Online => {
                self.cause = Some(cause);
                self.ask(now, out);
            }
            Stage::Draining | Stage::Stopping => (),
        }
    }

    fn leave_forcibly(&mut self, cause: Cause, now: Moment, out: &mut Outbox) {
        self.manner = Manner::Forcibly;
        self.cause.get_or_insert(cause);
        if self.stage == Stage::Online {
            self.retire(out);
        }
        if self.stage != Stage::Stopping {
            self.enter(now, Stage::Stopping, out);
        }
        if self.pid.is_some() && !matches!(self.pressure, Pressure::Kill { .. }) {
            self.kill(now, out);
        }
    }

    /// No connection waits for it, none is open.
    pub(super) fn drained(&mut self, now: Moment, out: &mut Outbox) {
        if self.stage == Stage::Draining {
            self.ask(now, out);
        }
    }

    /// It never came to be.
    pub(super) fn spawn_failed(&mut self, why: &str) -> Option<Failure> {
        if self.is_leaving() {
            return None;
        }
        self.cause = Some(Cause::Spawn);
        self.stage = Stage::Stopping;
        Some(self.failure(format_args!("could not be started: {why}")))
    }

    /// The leader ended; descendants may live on.
    pub(super) fn exited(&mut self, now: Moment, exit: Exit, out: &mut Outbox) -> Option<Failure> {
        if self.exit.is_some() {
            return None;
        }
        self.exit = Some((exit, now));
        match self.stage {
            Stage::Spawning | Stage::Starting | Stage::Online => {
                return Some(self.crashed(now, exit, out));
            }
            Stage::Draining => self.ask(now, out),
            Stage::Stopping => match self.pressure {
                // The message was for the leader alone.
                Pressure::None | Pressure::Message => self.signal(out),
                Pressure::Signal | Pressure::Kill { .. } => (),
            },
        }
        None
    }

    /// Nothing is left of it. If its end was not reported before, it was `exit`.
    pub(in crate::supervisor) fn gone(&mut self, now: Moment, exit: Exit) -> Option<Failure> {
        if self.exit.is_some() {
            return None;
        }
        self.exit = Some((exit, now));
        if self.is_leaving() {
            return None;
        }
        let failure = self.blame(exit);
        self.stage = Stage::Stopping;
        Some(failure)
    }

    fn crashed(&mut self, now: Moment, exit: Exit, out: &mut Outbox) -> Failure {
        let failure = self.blame(exit);
        if self.stage == Stage::Online {
            self.retire(out);
        }
        self.enter(now, Stage::Stopping, out);
        self.kill(now, out); // whatever it started must not live beside its successor
        failure
    }

    fn blame(&mut self, exit: Exit) -> Failure {
        self.cause = Some(match exit {
            Exit::Code(_) | Exit::Unknown => Cause::Exit,
            Exit::Signal(_) => Cause::Signal,
        });
        let when = if self.ready_at.is_some() { "" } else { " before it was ready" };
        self.failure(format_args!("{}{when}", Ended(exit)))
    }

    /// Asks it to exit: by message if it wants one, else by signal.
    pub(super) fn ask(&mut self, now: Moment, out: &mut Outbox) {
        self.enter(now, Stage::Stopping, out);
        if self.pid.is_none() {
            return; // there is nobody to ask yet; `spawned` comes back here
        }
        if self.manner == Manner::Forcibly {
            self.kill(now, out);
        } else if self.speech == Speech::SdkHandlesShutdown && self.exit.is_none() {
            let timeout = self.spec().kill_timeout.as_millis();
            let message = format!("{{\"type\":\"shutdown\",\"timeout\":{timeout}}}\n");
            out.act(Action::Channel(self.id, message.into_bytes()));
            self.pressure = Pressure::Message;
        } else {
            self.signal(out);
        }
    }

    pub(super) fn signal(&mut self, out: &mut Outbox) {
        out.act(Action::Signal(self.id, self.spec().shutdown_signal, Reach::Tree));
        self.pressure = Pressure::Signal;
    }

    pub(super) fn kill(&mut self, now: Moment, out: &mut Outbox) {
        out.act(Action::Signal(self.id, Signal::KILL, Reach::Tree));
        self.pressure = Pressure::Kill { again: now.after(KILL_AGAIN) };
    }
}

/// An [`Exit`] as the end of a sentence about a worker.
struct Ended(Exit);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(signal) => write!(f, "was killed by {}", Signal(signal)),
            Exit::Unknown => f.write_str("ended unseen"),
        }
    }
}
