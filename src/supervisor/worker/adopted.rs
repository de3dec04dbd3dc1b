//! A worker that an earlier daemon started: who it was, and how its life goes on.

use std::time::Duration;

use super::{Note, Outbox, Probes, Pulse, Version, Worker};
use crate::{
    domain::{Moment, Stage},
    supervisor::Cause,
    world::{Action, Survivor},
};

/// The least time a starting worker has left to become ready under a new daemon, which may have
/// to hear again what the old one heard.
const ADOPT_GRACE: Duration = Duration::from_secs(1);

impl Worker {
    /// Takes over a process an earlier daemon started.
    pub(in crate::supervisor) fn adopt(
        survivor: &Survivor,
        note: &Note,
        version: Version,
        now: Moment,
        out: &mut Outbox,
    ) -> Self {
        let mut worker = Self::new(survivor.worker, version, note.lane, now);
        worker.pid = Some(survivor.pid);
        worker.spawned = Some(survivor.spawned.min(now));
        worker.ready_at = note.ready_at.map(|at| at.min(now));
        worker.cause = note.cause;
        worker.stale = note.stale;
        worker.welcome = note.welcome;
        worker.says_stopping = note.says_stopping;
        worker.speech = note.speech;
        worker.pulse = note.pulse.map_or(Pulse::SILENT, |every| Pulse::resume(now, every));
        worker.noted = *note;
        out.act(Action::Adopt(worker.launch()));
        if survivor.exit.is_none() && !survivor.gone {
            worker.resume(note, now, out);
        } else {
            worker.stage = note.stage; // its end is told next
            worker.since = note.since.min(now);
        }
        worker
    }

    /// Goes on where the earlier daemon stopped; what it may not have done is done again.
    fn resume(&mut self, note: &Note, now: Moment, out: &mut Outbox) {
        match note.stage {
            Stage::Spawning | Stage::Starting => {
                self.started(self.spawned.unwrap_or(now), out);
                let patience = self.spec().ready_timeout.saturating_sub(ADOPT_GRACE);
                let least = Moment::from_boot(now.since_boot().saturating_sub(patience));
                self.since = self.since.max(least);
                self.consider(now, out);
            }
            Stage::Online => {
                self.enter_online(self.ready_at.unwrap_or(now), out);
                if self.health().is_some() {
                    self.probes = Probes::of_online(now);
                }
            }
            Stage::Draining => {
                self.retire(out);
                self.enter(note.since.min(now), Stage::Draining, out);
            }
            Stage::Stopping if matches!(note.cause, Some(Cause::Exit | Cause::Signal)) => {
                self.enter(now, Stage::Stopping, out);
                self.kill(now, out); // it crashed; these are its descendants
            }
            // Asked twice is better than never asked and killed.
            Stage::Stopping => self.ask(note.since.min(now), out),
        }
    }
}
