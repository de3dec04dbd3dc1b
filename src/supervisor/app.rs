//! One app: its places, and the request under way.
//!
//! After every input [`App::settle`] compares what is with what is wanted and takes the next
//! step. It never assumes which input came before, so lost or late events cannot wedge it.

use std::{num::NonZeroU16, sync::Arc};

use super::{
    Cause, Manner, Notice, Outcome, Refusal, Request, Ticket, Word,
    outbox::Outbox,
    place::{Place, Rest},
    reload::Reload,
    version::Version,
    worker::{Failure, Worker},
};
use crate::{
    domain::{AppId, AppSpec, Exit, InstanceId, Moment, WorkerId},
    world::{Action, Event, Goal},
};

#[derive(Debug)]
pub(super) struct App {
    pub(super) id: AppId,
    /// What new workers run.
    pub(super) version: Version,
    /// What to go back to if the reload under way fails.
    pub(super) previous: Option<Version>,
    pub(super) goal: Goal,
    pub(super) job: Option<Job>,
    pub(super) places: Vec<Place>,
}

/// The request under way.
#[derive(Debug)]
pub(super) struct Job {
    /// Who wants to know; nobody once it was answered, or if an earlier daemon accepted it.
    pub(super) ticket: Option<Ticket>,
    pub(super) task: Task,
}

#[derive(Debug)]
pub(super) enum Task {
    Start,
    Stop(Manner),
    /// Down first; becomes `Start` once nothing is left.
    Restart(Manner),
    Reload(Reload),
    /// Places from this index on are new.
    Scale {
        from: usize,
    },
    /// Down without a change of goal, for good: the daemon ends.
    Close(Manner),
}

impl Task {
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Reload(_) => "reload",
            Self::Scale { .. } => "scale",
            Self::Close(_) => "shutdown",
        }
    }
}

impl App {
    pub(super) fn new(id: AppId, spec: Arc<AppSpec>) -> Self {
        let mut app = Self {
            id,
            version: Version::new(spec),
            previous: None,
            goal: Goal::Rest,
            job: None,
            places: Vec::new(),
        };
        app.build(app.wanted());
        app
    }

    /// How many workers should run.
    pub(super) fn wanted(&self) -> usize {
        usize::from(self.version.spec.instances.get())
    }

    /// Makes sure there are at least `count` places.
    pub(super) fn build(&mut self, count: usize) {
        for index in self.places.len()..count {
            let Ok(index) = u16::try_from(index) else { return };
            self.places.push(Place::new(InstanceId { app: self.id, index }));
        }
    }

    pub(super) fn request(
        &mut self,
        now: Moment,
        ticket: Ticket,
        request: Request,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.check(&request)?;
        self.supersede(out);
        out.serve(Some(ticket));
        let task = match request {
            Request::Start(spec) => self.run(spec, Task::Start),
            Request::Restart(spec, manner) => self.run(spec, Task::Restart(manner)),
            Request::Stop(manner) => self.rest(Goal::Rest, manner),
            Request::Delete(manner) => self.rest(Goal::Gone, manner),
            Request::Reload(spec) => self.reload(spec, out),
            Request::Scale(instances) => self.scale(instances),
        };
        self.job = Some(Job { ticket: Some(ticket), task });
        out.tell(Notice::AppChanged(self.id));
        self.settle(now, out);
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let rests = self.places.iter().all(|it| it.workers.is_empty() && it.rest == Rest::GaveUp);
        match (&self.job, request) {
            (Some(Job { task: Task::Close(_), .. }), _) => Err(Refusal::ShuttingDown),
            (_, Request::Delete(_)) => Ok(()),
            _ if self.goal == Goal::Gone => Err(Refusal::Busy("delete")),
            (_, Request::Stop(_)) => Ok(()),
            (Some(job), _) => Err(Refusal::Busy(job.task.word())),
            (None, Request::Start(_)) if self.goal == Goal::Run && !rests => {
                Err(Refusal::AlreadyRunning)
            }
            (None, Request::Reload(_)) if self.goal != Goal::Run => Err(Refusal::NotRunning),
            (
                None,
                Request::Start(_) | Request::Restart(..) | Request::Reload(_) | Request::Scale(_),
            ) => Ok(()),
        }
    }

    fn run(&mut self, spec: Option<Arc<AppSpec>>, task: Task) -> Task {
        if let Some(spec) = spec {
            self.version = Version::new(spec);
        }
        self.goal = Goal::Run;
        self.forgive();
        task
    }

    fn rest(&mut self, goal: Goal, manner: Manner) -> Task {
        self.goal = goal;
        self.forgive();
        Task::Stop(manner)
    }

    fn scale(&mut self, instances: NonZeroU16) -> Task {
        let from = self.wanted();
        self.version = self.version.scaled(instances);
        self.build(self.wanted());
        for place in self.places.iter_mut().skip(from) {
            place.forgive();
        }
        Task::Scale { from }
    }

    pub(super) fn forgive(&mut self) {
        self.build(self.wanted());
        for place in &mut self.places {
            place.forgive();
        }
    }

    /// Ends the daemon's care for this app, whatever was under way; the goal stays.
    pub(super) fn close(&mut self, now: Moment, manner: Manner, out: &mut Outbox) {
        self.supersede(out);
        self.job = Some(Job { ticket: None, task: Task::Close(manner) });
        out.tell(Notice::AppChanged(self.id));
        self.settle(now, out);
    }

    /// Breaks off the request under way. A reload not finished has not succeeded: its spec goes.
    fn supersede(&mut self, out: &mut Outbox) {
        if let Some(job) = self.job.take() {
            out.finish(job.ticket, Outcome::Superseded);
        }
        if let Some(previous) = self.previous.take() {
            self.version = previous;
        }
    }

    pub(super) fn observe(&mut self, now: Moment, id: WorkerId, event: &Event, out: &mut Outbox) {
        self.serve(out);
        self.apply(now, id, event, out);
        self.settle(now, out);
    }

    /// Takes note of an event without drawing conclusions.
    pub(super) fn apply(&mut self, now: Moment, id: WorkerId, event: &Event, out: &mut Outbox) {
        if matches!(event, Event::Gone(_)) {
            return self.vanish(now, id, Exit::Unknown, out);
        }
        self.tend(now, id, out, |it, out| it.observe(now, event, out));
        if matches!(event, Event::SpawnFailed(..)) {
            self.bury(now, id, out);
        }
    }

    /// Nothing is left of a worker; unless its end was told before, it was `exit`.
    pub(super) fn vanish(&mut self, now: Moment, id: WorkerId, exit: Exit, out: &mut Outbox) {
        if self.workers().any(|it| it.id == id) {
            self.tend(now, id, out, |it, _| it.gone(now, exit));
            self.bury(now, id, out);
            out.act(Action::Forget(id));
        }
    }

    pub(super) fn heard(&mut self, now: Moment, id: WorkerId, word: Word, out: &mut Outbox) {
        self.serve(out);
        self.tend(now, id, out, |it, out| it.heard(now, word, out));
        self.settle(now, out);
    }

    /// The sockets its workers would inherit cannot be opened. What serves goes on; the rest
    /// gives up until a user says otherwise.
    pub(super) fn listen_failed(&mut self, now: Moment, why: &str, out: &mut Outbox) {
        self.serve(out);
        if matches!(&self.job, Some(Job { task: Task::Reload(_), .. })) {
            self.roll_back(now, why.to_owned(), out);
        } else if self.goal == Goal::Run {
            let wanted = self.wanted();
            for place in self.places.iter_mut().take(wanted).filter(|it| !it.is_settled()) {
                for worker in &mut place.workers {
                    worker.leave(Cause::Spawn, Manner::Gently, now, out);
                }
                place.give_up(why);
            }
        }
        self.settle(now, out);
    }

    pub(super) fn tick(&mut self, now: Moment, out: &mut Outbox) {
        self.serve(out);
        let ids: Vec<WorkerId> = self.workers().map(|it| it.id).collect();
        for id in ids {
            self.tend(now, id, out, |it, out| it.tick(now, out));
        }
        for place in &mut self.places {
            place.tick(now);
        }
        self.settle(now, out);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let workers = self.workers().filter_map(Worker::deadline);
        let steady = self.places.iter().filter_map(Place::steadies);
        let fills = if self.fills() { self.wanted() } else { 0 };
        let rests = self.places.iter().take(fills).filter_map(Place::retry);
        let batch = match &self.job {
            Some(Job { task: Task::Reload(reload), .. }) => reload.begins,
            Some(_) | None => None,
        };
        workers.chain(steady).chain(rests).chain(batch).min()
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.places.iter().flat_map(|it| &it.workers)
    }

    pub(super) fn is_over(&self) -> bool {
        self.goal == Goal::Gone && self.job.is_none()
    }

    fn serve(&self, out: &mut Outbox) {
        out.serve(self.job.as_ref().and_then(|it| it.ticket));
    }

    /// Lets something happen to a worker, if it is still remembered.
    fn tend(
        &mut self,
        now: Moment,
        id: WorkerId,
        out: &mut Outbox,
        happen: impl FnOnce(&mut Worker, &mut Outbox) -> Option<Failure>,
    ) {
        let rule = &self.version.spec.restart;
        let place = self.places.get_mut(usize::from(id.instance.index));
        if let Some(failure) = place.and_then(|it| it.tend(id, now, rule, |it| happen(it, out))) {
            self.failed(now, failure, out);
        }
    }

    /// What the failure of a worker means for the request under way.
    fn failed(&mut self, now: Moment, failure: Failure, out: &mut Outbox) {
        let index = usize::from(failure.worker.instance.index);
        match self.job.as_ref().map(|it| &it.task) {
            Some(Task::Start) if !failure.was_ready => {
                self.finish(Outcome::Failed(failure.text), out);
            }
            Some(Task::Scale { from }) if !failure.was_ready && *from <= index => {
                self.finish(Outcome::Failed(failure.text), out);
            }
            Some(Task::Reload(_)) if !failure.stale => self.roll_back(now, failure.text, out),
            Some(
                Task::Start
                | Task::Scale { .. }
                | Task::Reload(_)
                | Task::Stop(_)
                | Task::Restart(_)
                | Task::Close(_),
            )
            | None => (),
        }
    }

    fn bury(&mut self, now: Moment, id: WorkerId, out: &mut Outbox) {
        if let Some(place) = self.places.get_mut(usize::from(id.instance.index)) {
            place.bury(id, now, out);
        }
    }

    /// Takes every step that can be taken now.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Outbox) {
        match self.job.as_ref().map(|it| &it.task) {
            Some(Task::Stop(manner)) => self.settle_stop(*manner, now, out),
            Some(Task::Close(manner)) => self.leave_all(Cause::Stop, *manner, now, out),
            Some(Task::Restart(manner)) => self.settle_restart(*manner, now, out),
            Some(Task::Reload(_)) => self.settle_reload(now, out),
            Some(Task::Start | Task::Scale { .. }) | None => self.shrink(now, out),
        }
        if self.fills() {
            self.fill(now, out);
        }
        match self.job.as_ref().map(|it| &it.task) {
            Some(Task::Start) => self.settle_start(0, out),
            Some(Task::Scale { from }) => self.settle_start(*from, out),
            Some(Task::Stop(_) | Task::Close(_) | Task::Restart(_) | Task::Reload(_)) | None => (),
        }
        for place in &mut self.places {
            place.announce(out);
        }
    }

    /// Whether empty places are filled now. [`Self::deadline`] and [`Self::settle`] must agree.
    fn fills(&self) -> bool {
        let down = matches!(
            self.job.as_ref().map(|it| &it.task),
            Some(Task::Restart(_) | Task::Stop(_) | Task::Close(_))
        );
        self.goal == Goal::Run && !down
    }

    /// Puts a worker on every empty place whose rest is over.
    fn fill(&mut self, now: Moment, out: &mut Outbox) {
        let wanted = self.wanted();
        for place in self.places.iter_mut().take(wanted).filter(|it| it.is_due(now)) {
            place.spawn(&self.version, now, out);
        }
    }

    /// Sends away the workers of places that are no longer wanted.
    pub(super) fn shrink(&mut self, now: Moment, out: &mut Outbox) {
        let wanted = self.wanted();
        for worker in self.places.iter_mut().skip(wanted).flat_map(|it| &mut it.workers) {
            worker.leave(Cause::Scale, Manner::Gently, now, out);
        }
    }

    /// Whether no worker is left on places that are no longer wanted.
    pub(super) fn is_shrunk(&self) -> bool {
        self.places.iter().skip(self.wanted()).all(|it| it.workers.is_empty())
    }

    /// Ends a start, or a scaling whose new places begin at `from`, once all are online.
    fn settle_start(&mut self, from: usize, out: &mut Outbox) {
        if self.goal == Goal::Run {
            let wanted = self.wanted();
            let mut places = self.places.iter().take(wanted).skip(from);
            if let Some(place) = places.clone().find(|it| it.rest == Rest::GaveUp) {
                let why = place.gave_up();
                return self.finish(Outcome::Failed(why), out);
            }
            if !places.all(Place::is_settled) {
                return;
            }
        }
        if self.is_shrunk() {
            self.finish(Outcome::Done, out);
        }
    }

    fn settle_stop(&mut self, manner: Manner, now: Moment, out: &mut Outbox) {
        self.leave_all(Cause::Stop, manner, now, out);
        if self.workers().next().is_none() {
            self.finish(Outcome::Done, out);
        }
    }

    fn settle_restart(&mut self, manner: Manner, now: Moment, out: &mut Outbox) {
        self.leave_all(Cause::Restart, manner, now, out);
        if self.workers().next().is_none()
            && let Some(job) = &mut self.job
        {
            job.task = Task::Start;
        }
    }

    fn leave_all(&mut self, cause: Cause, manner: Manner, now: Moment, out: &mut Outbox) {
        for worker in self.places.iter_mut().flat_map(|it| &mut it.workers) {
            worker.leave(cause, manner, now, out);
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome, out: &mut Outbox) {
        if let Some(job) = self.job.take() {
            out.finish(job.ticket, outcome);
        }
    }
}
