//! What others may see: plain copies for tables, JSON and metrics.

use std::sync::Arc;

use super::{
    app::App,
    place::{Place, Rest},
    worker::Worker,
};
use crate::{
    domain::{AppId, AppSpec, Exit, InstanceId, Lane, Moment, Pid, Stage, WorkerId},
    world::Goal,
};

/// One app, to look at.
#[derive(Clone, Copy, Debug)]
pub struct AppView<'a>(pub(super) &'a App);

/// An app as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It should run, and no place has given up; or it is still on its way down.
    Running,
    /// Nothing of it runs, as asked.
    Stopped,
    /// At least one place has given up.
    Errored,
}

impl Status {
    /// The word the original's protocol and tables use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Errored => "errored",
        }
    }
}

/// What a place looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A worker is there; its stage.
    Alive(Stage),
    /// None should be there, or the next one is about to come.
    Stopped,
    /// It crashed; the next one comes after a pause.
    Crashed,
    /// It crashed too often, and none comes until somebody says so.
    Errored,
}

impl State {
    /// The word the original's protocol, tables and database use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alive(stage) => stage.word(),
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Errored => "errored",
        }
    }
}

/// One place, to look at.
#[derive(Clone, Debug)]
pub struct PlaceView {
    /// Which.
    pub id: InstanceId,
    /// What it looks like.
    pub state: State,
    /// That of its newest worker; 0 if there never was one.
    pub generation: u32,
    /// The worker meant to stay, else the last of those leaving.
    pub worker: Option<WorkerView>,
    /// Other workers, on their way out or about to be replaced, oldest first.
    pub others: Vec<WorkerView>,
    /// Restarts after a crash since the app was added.
    pub restarts: u32,
    /// Crashes in a row.
    pub crashes_in_a_row: u32,
    /// The crashes within the window, oldest first.
    pub crashes: Vec<Moment>,
    /// How the last worker to end did.
    pub last_exit: Option<Exit>,
    /// When the next worker comes, while the place waits for that.
    pub retry_at: Option<Moment>,
    /// What the last crash was, in words; why it gave up, if it did.
    pub reason: Option<String>,
}

/// One worker, to look at.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Who.
    pub id: WorkerId,
    /// Its stage.
    pub stage: Stage,
    /// Its process, once there is one.
    pub pid: Option<Pid>,
    /// Which listening socket it inherited, if any.
    pub lane: Lane,
    /// What it runs.
    pub spec: Arc<AppSpec>,
    /// When its process was there.
    pub spawned: Option<Moment>,
    /// When it went online.
    pub ready_at: Option<Moment>,
    /// How its leader ended, if it did; descendants may live on.
    pub exit: Option<Exit>,
    /// Health probes that failed in a row.
    pub probes_failed: u32,
}

impl<'a> AppView<'a> {
    /// Which app.
    #[must_use]
    pub fn id(self) -> AppId {
        self.0.id
    }

    /// What new workers run.
    #[must_use]
    pub fn spec(self) -> &'a Arc<AppSpec> {
        &self.0.version.spec
    }

    /// What to go back to if the reload under way fails.
    #[must_use]
    pub fn previous(self) -> Option<&'a Arc<AppSpec>> {
        self.0.previous.as_ref().map(|it| &it.spec)
    }

    /// What it should be doing.
    #[must_use]
    pub fn goal(self) -> Goal {
        self.0.goal
    }

    /// The request under way, in a word.
    #[must_use]
    pub fn under_way(self) -> Option<&'static str> {
        self.0.job.as_ref().map(|it| it.task.word())
    }

    /// The app as a whole.
    #[must_use]
    pub fn status(self) -> Status {
        let gave_up = self.wanted().any(|it| it.rest == Rest::GaveUp);
        match self.0.goal {
            Goal::Run if gave_up => Status::Errored,
            Goal::Run => Status::Running,
            Goal::Rest | Goal::Gone if self.0.workers().next().is_some() => Status::Running,
            Goal::Rest | Goal::Gone => Status::Stopped,
        }
    }

    /// Its places: those wanted, and those a worker has yet to leave.
    pub fn places(self) -> impl Iterator<Item = PlaceView> + use<'a> {
        let wanted = self.0.wanted();
        let places = (0..).zip(&self.0.places);
        places
            .filter(move |(index, place)| *index < wanted || !place.workers.is_empty())
            .map(|(_, place)| PlaceView::of(place))
    }

    /// One place, also one no longer wanted.
    #[must_use]
    pub fn place(self, index: u16) -> Option<PlaceView> {
        self.0.places.get(usize::from(index)).map(PlaceView::of)
    }

    /// Every worker of which something is left.
    pub fn workers(self) -> impl Iterator<Item = WorkerView> + use<'a> {
        self.0.workers().map(WorkerView::of)
    }

    fn wanted(self) -> impl Iterator<Item = &'a Place> {
        self.0.places.iter().take(self.0.wanted())
    }
}

impl PlaceView {
    fn of(place: &Place) -> Self {
        let shown = place.current().or(place.workers.last());
        let others = place.workers.iter().filter(|it| shown.is_none_or(|shown| shown.id != it.id));
        let state = match (shown, place.rest) {
            (None, Rest::None) => State::Stopped,
            (None, Rest::Until(_)) => State::Crashed,
            (_, Rest::GaveUp) => State::Errored,
            (Some(worker), Rest::None | Rest::Until(_)) => match worker.exit {
                Some(_) if place.rest != Rest::None => State::Crashed,
                Some(_) | None => State::Alive(worker.stage),
            },
        };
        Self {
            id: place.id,
            state,
            generation: place.generation,
            worker: shown.map(WorkerView::of),
            others: others.map(WorkerView::of).collect(),
            restarts: place.restarts,
            crashes_in_a_row: place.history.in_a_row(),
            crashes: place.history.recent().collect(),
            last_exit: place.last_exit,
            retry_at: place.retry(),
            reason: place.trouble.clone(),
        }
    }
}

impl WorkerView {
    fn of(worker: &Worker) -> Self {
        Self {
            id: worker.id,
            stage: worker.stage,
            pid: worker.pid,
            lane: worker.lane,
            spec: Arc::clone(&worker.version.spec),
            spawned: worker.spawned,
            ready_at: worker.ready_at,
            exit: worker.exit.map(|(exit, _)| exit),
            probes_failed: worker.probes_failed(),
        }
    }
}
