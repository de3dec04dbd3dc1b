//! One place of an app: the worker that fills it, its predecessor, and what crashes left behind.

use super::{
    Cause, Ending, Notice, Step,
    outbox::Outbox,
    restart::{History, Verdict},
    version::Version,
    worker::{Failure, Staleness, Worker},
};
use crate::domain::{Exit, InstanceId, Lane, Moment, Restart, Stage, WorkerId};

/// A place is never taken away, only left empty when the app is scaled down: its generations go
/// on counting, so no two workers ever share an id.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: InstanceId,
    /// That of the newest worker there ever was; 0 if there was none.
    pub(super) generation: u32,
    /// Oldest first: one when calm, two while being replaced.
    pub(super) workers: Vec<Worker>,
    pub(super) rest: Rest,
    pub(super) history: History,
    /// Restarts after a crash, ever.
    pub(super) restarts: u32,
    /// How the last worker to end did.
    pub(super) last_exit: Option<Exit>,
    /// What the last crash was, in words.
    pub(super) trouble: Option<String>,
    /// Of the last worker to end that ever lived.
    lane: Lane,
    /// Something changed that must be written down.
    changed: bool,
}

/// Why a place without a worker has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    None,
    /// Crashed; comes back then.
    Until(Moment),
    GaveUp,
}

impl Place {
    pub(super) fn new(id: InstanceId) -> Self {
        Self {
            id,
            generation: 0,
            workers: Vec::new(),
            rest: Rest::None,
            history: History::default(),
            restarts: 0,
            last_exit: None,
            trouble: None,
            lane: Lane::A,
            changed: false,
        }
    }

    /// The worker that is meant to stay, if any.
    pub(super) fn current(&self) -> Option<&Worker> {
        self.workers.iter().rfind(|it| !it.is_leaving())
    }

    /// Whether the worker meant to stay serves, and no reload is to replace it.
    pub(super) fn is_settled(&self) -> bool {
        self.current().is_some_and(|it| it.stage == Stage::Online && !it.stale)
    }

    /// Whether a worker stays that the reload under way is to replace.
    pub(super) fn is_stale(&self) -> bool {
        self.workers.iter().any(|it| it.stale && !it.is_leaving())
    }

    /// Whether a worker belongs here now. [`Self::retry`] must agree.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let rested = match self.rest {
            Rest::None => true,
            Rest::Until(moment) => moment <= now,
            Rest::GaveUp => false,
        };
        rested && self.workers.is_empty()
    }

    /// When the next worker comes, if the place waits for that.
    pub(super) fn retry(&self) -> Option<Moment> {
        match self.rest {
            Rest::Until(moment) if self.workers.is_empty() => Some(moment),
            Rest::Until(_) | Rest::None | Rest::GaveUp => None,
        }
    }

    /// When the worker will have been online for long enough to forget a row of crashes.
    pub(super) fn steadies(&self) -> Option<Moment> {
        let worker = self.current().filter(|it| it.stage == Stage::Online)?;
        let ready = worker.ready_at.filter(|_| self.history.in_a_row() > 0)?;
        Some(ready.after(worker.version.spec.min_uptime))
    }

    pub(super) fn tick(&mut self, now: Moment) {
        if self.steadies().is_some_and(|at| at <= now) {
            self.history.stable();
            self.changed = true;
        }
    }

    /// A user's word ends every sulk.
    pub(super) fn forgive(&mut self) {
        if self.rest != Rest::None || self.history.in_a_row() > 0 {
            self.rest = Rest::None;
            self.history = History::default();
            self.changed = true;
        }
    }

    /// Gives up until a user says otherwise.
    pub(super) fn give_up(&mut self, why: &str) {
        self.rest = Rest::GaveUp;
        self.trouble = Some(why.to_owned());
        self.changed = true;
    }

    /// Fills the place, or puts a worker beside the one to be replaced.
    pub(super) fn spawn(&mut self, version: &Version, now: Moment, out: &mut Outbox) {
        if matches!(self.rest, Rest::Until(_)) {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.rest = Rest::None;
        self.generation = self.generation.saturating_add(1);
        let id = WorkerId { instance: self.id, generation: self.generation };
        let lane = self.workers.last().map_or(self.lane, |it| it.lane.other());
        self.workers.push(Worker::spawn(id, version.clone(), lane, now, out));
        self.changed = true;
    }

    /// Lets something happen to one of its workers, and bears the consequences.
    pub(super) fn tend(
        &mut self,
        id: WorkerId,
        now: Moment,
        rule: &Restart,
        happen: impl FnOnce(&mut Worker) -> Option<Failure>,
    ) -> Option<Failure> {
        self.tick(now); // a crash just after `min_uptime` is not one in a row
        let worker = self.workers.iter_mut().find(|it| it.id == id)?;
        let before = (worker.stage, worker.pid);
        let failure = happen(worker);
        self.changed |= (worker.stage, worker.pid) != before;
        if let Some(failure) = &failure {
            self.failed(now, failure, rule);
        }
        failure
    }

    /// Notes that a worker failed. It is a crash of the place unless another worker stays here.
    fn failed(&mut self, now: Moment, failure: &Failure, rule: &Restart) {
        self.changed = true;
        if self.current().is_some() {
            return;
        }
        match self.history.crash(now, rule) {
            Verdict::ComeBack(moment) => {
                self.rest = Rest::Until(moment);
                self.trouble = Some(failure.text.clone());
            }
            Verdict::GiveUp => {
                let crashes = self.history.recent().len();
                self.give_up(&format!("{}; gave up after {crashes} crashes", failure.text));
            }
        }
    }

    /// Why it gave up, in words.
    pub(super) fn gave_up(&self) -> String {
        self.trouble.clone().unwrap_or_else(|| format!("worker {} gave up", self.id.index))
    }

    /// Lets go of a worker of which nothing is left.
    pub(super) fn bury(&mut self, id: WorkerId, now: Moment, out: &mut Outbox) {
        let Some(slot) = self.workers.iter().position(|it| it.id == id) else { return };
        let worker = self.workers.remove(slot);
        let ended = worker.exit.map_or(now, |(_, at)| at);
        let cause = worker.cause.unwrap_or(Cause::Exit);
        let exit = worker.exit.map(|(exit, _)| exit);
        out.step(worker.id, Step::Ended(cause));
        out.tell(Notice::Ended(Ending {
            worker: worker.id,
            pid: worker.pid,
            exit,
            uptime: worker.spawned.map_or_else(Default::default, |at| ended.since(at)),
            cause,
            at: ended,
        }));
        self.last_exit = exit.or(self.last_exit);
        if worker.spawned.is_some() {
            self.lane = worker.lane;
        }
        self.changed = true;
    }

    /// Something about a worker changed that must be written down.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Says once what [`Self::touch`] and all the others noted.
    pub(super) fn announce(&mut self, out: &mut Outbox) {
        if std::mem::take(&mut self.changed) {
            out.tell(Notice::InstanceChanged(self.id));
        }
    }

    /// Says of every worker that stays whether the reload is to replace it.
    pub(super) fn mark(&mut self, stale: Staleness, out: &mut Outbox) {
        for worker in self.workers.iter_mut().filter(|it| !it.is_leaving()) {
            worker.mark(stale, out);
        }
    }
}
