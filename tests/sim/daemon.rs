//! A daemon's core as small as can be: the supervisor, a disk, and the wheel that turns them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use bunpilot::{
    domain::{AppId, AppSpec, InstanceId, Moment, WorkerId},
    supervisor::{
        AppView, Legacy, Manner, Notice, Outcome, Refusal, Request, SavedPlace, State, Supervisor,
        Ticket,
    },
    world::{Action, Goal, World as _},
};

use super::world::SimWorld;

/// Events a turn of a quiet world may still bring before we call it stuck.
pub(crate) const TURNS_MAX: u32 = 20_000;

#[derive(Debug, Default)]
pub(crate) struct Daemon {
    pub(crate) supervisor: Supervisor,
    disk: Disk,
    last_app: u32,
    last_ticket: u64,
    /// Accepted and not yet answered.
    open: BTreeSet<Ticket>,
    /// When and how the others were.
    answers: BTreeMap<Ticket, (Moment, Outcome)>,
    ended: BTreeSet<WorkerId>,
    /// What users last asked of each app, as far as it was written down.
    wishes: BTreeMap<AppId, Goal>,
    /// What was told of the way there.
    pub(crate) progress: String,
}

/// What outlives the daemon.
#[derive(Debug, Default, Clone)]
struct Disk {
    apps: BTreeMap<AppId, SavedApp>,
    places: BTreeMap<InstanceId, SavedPlace>,
}

#[derive(Clone, Debug)]
struct SavedApp {
    spec: Arc<AppSpec>,
    previous: Option<Arc<AppSpec>>,
    goal: Goal,
}

#[derive(Debug)]
enum Output {
    Notice(Notice),
    Action(Action),
}

/// Where in a turn the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// After everything this turn wanted was done.
    Between,
    /// After this many percent of it.
    Amid(u16),
    /// As `Between`, but what it last wrote about places had not reached the disk.
    Unsaved,
}

impl Daemon {
    pub(crate) fn add(&mut self, spec: AppSpec) -> AppId {
        self.last_app += 1;
        let id = AppId(self.last_app);
        self.supervisor.add(id, Arc::new(spec));
        self.save_app(id);
        id
    }

    pub(crate) fn request(
        &mut self,
        world: &mut SimWorld,
        app: AppId,
        request: Request,
    ) -> Result<Ticket, Refusal> {
        let ticket = self.ticket();
        let words = match &request {
            Request::Start(spec) => format!("Start {}", version(spec.as_ref())),
            Request::Restart(spec, _) => format!("Restart {}", version(spec.as_ref())),
            Request::Reload(spec) => format!("Reload {}", version(spec.as_ref())),
            other => format!("{other:?}"),
        };
        world.note(&format!("> {words} app {}", app.0));
        let wish = match &request {
            Request::Start(_) | Request::Restart(..) => Some(Goal::Run),
            Request::Stop(_) => Some(Goal::Rest),
            Request::Delete(_) => Some(Goal::Gone),
            Request::Reload(_) | Request::Scale(_) => None,
        };
        let answer = self.supervisor.request(world.now(), app, ticket, request);
        match answer {
            Ok(()) => {
                let before = self.wishes.get(&app) == Some(&Goal::Gone);
                assert!(!before || wish == Some(Goal::Gone), "{app:?} is deleted and not: {words}");
                self.wishes.extend(wish.map(|wish| (app, wish)));
                world.law.forgive(app);
                self.open.insert(ticket);
            }
            Err(refusal) => world.note(&format!("  refused: {refusal}")),
        }
        answer.map(|()| ticket)
    }

    pub(crate) fn stop_all(&mut self, world: &mut SimWorld, manner: Manner) -> Ticket {
        let ticket = self.ticket();
        world.note(&format!("> stop all {manner:?}"));
        self.supervisor.stop_all(world.now(), ticket, manner);
        self.open.insert(ticket);
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<&Outcome> {
        self.answers.get(&ticket).map(|(_, outcome)| outcome)
    }

    pub(crate) fn answered(&self, ticket: Ticket) -> Option<Moment> {
        self.answers.get(&ticket).map(|(at, _)| *at)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Turns the wheel once, as the real loop does.
    pub(crate) fn turn(&mut self, world: &mut SimWorld) -> Result<(), String> {
        for output in self.outputs() {
            self.put_out(world, output)?;
        }
        world.law.check(world.now(), &self.supervisor, &world.processes)?;
        let mut events = Vec::new();
        let now = world.wait(self.supervisor.deadline(), &mut events).unwrap();
        for event in events {
            world.law.witness(now, &event, &self.supervisor);
            self.supervisor.observe(now, &event);
        }
        for (worker, word) in world.hear() {
            self.supervisor.heard(now, worker, word);
        }
        self.supervisor.tick(now);
        match self.supervisor.deadline() {
            Some(due) if due <= now => Err(format!("due at {due}, and it is {now}: would spin")),
            Some(_) | None => Ok(()),
        }
    }

    /// Dies in this turn; a new daemon takes over from what is left.
    pub(crate) fn die(&mut self, world: &mut SimWorld, death: Death) -> Result<(), String> {
        world.note(&format!("> kill -9 {death:?}"));
        let before = self.disk.clone();
        let outputs = self.outputs();
        let done = match death {
            Death::Between | Death::Unsaved => outputs.len(),
            Death::Amid(percent) => outputs.len() * usize::from(percent) / 100,
        };
        for output in outputs.into_iter().take(done) {
            self.put_out(world, output)?;
        }
        if death == Death::Unsaved {
            self.disk.places = before.places;
        }
        if death != Death::Between {
            world.law.forget_history();
        }
        if matches!(death, Death::Amid(_)) {
            self.wishes = self.disk.apps.iter().map(|(id, app)| (*id, app.goal)).collect();
        }
        self.open.clear();
        self.ended.clear();
        world.bereave();
        self.take_over(world);
        Ok(())
    }

    /// A new daemon reads the disk and asks the guard.
    pub(crate) fn take_over(&mut self, world: &mut SimWorld) {
        self.supervisor = Supervisor::default();
        world.law.forget_lanes();
        let apps = self.disk.apps.clone();
        for (id, saved) in apps {
            let places = self.disk.places.iter().filter(|(it, _)| it.app == id);
            let legacy = Legacy {
                goal: saved.goal,
                previous: saved.previous,
                places: places.map(|(_, place)| place.clone()).collect(),
                survivors: world.survivors(id),
            };
            self.supervisor.adopt(world.now(), id, saved.spec, legacy);
        }
        for id in (1..=self.last_app).map(AppId) {
            if !self.disk.apps.contains_key(&id) {
                world.forget_app(id);
            }
        }
    }

    /// Whether every app is doing what was last asked of it.
    pub(crate) fn check_wishes(&self) -> Result<(), String> {
        for (id, wish) in &self.wishes {
            let goal = self.supervisor.app(*id).map_or(Goal::Gone, AppView::goal);
            if goal != *wish {
                return Err(format!("app {} was to {wish:?} and is to {goal:?}", id.0));
            }
        }
        Ok(())
    }

    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(notice) = self.supervisor.next_notice() {
            outputs.push(Output::Notice(notice));
        }
        while let Some(action) = self.supervisor.next_action() {
            outputs.push(Output::Action(action));
        }
        outputs
    }

    fn put_out(&mut self, world: &mut SimWorld, output: Output) -> Result<(), String> {
        match output {
            Output::Action(action) => world.submit(action),
            Output::Notice(Notice::Finished(ticket, outcome)) => {
                world.note(&format!("  finished {}: {outcome:?}", ticket.0));
                if !self.open.remove(&ticket) {
                    return Err(format!("{ticket:?} was not open, yet it finished"));
                }
                self.answers.insert(ticket, (world.now(), outcome));
            }
            Output::Notice(Notice::Progress(ticket, worker, step)) => {
                if !self.open.contains(&ticket) {
                    return Err(format!("{ticket:?} is over, yet {worker} {step:?}"));
                }
                writeln!(self.progress, "{} {worker} {step:?}", ticket.0).unwrap();
            }
            Output::Notice(Notice::Ended(ending)) => {
                if !self.ended.insert(ending.worker) {
                    return Err(format!("{} ended twice", ending.worker));
                }
            }
            Output::Notice(Notice::AppChanged(id)) => self.save_app(id),
            Output::Notice(Notice::InstanceChanged(id)) => self.save_place(id),
            Output::Notice(Notice::AppGone(id)) => {
                world.note(&format!("  app {} is gone", id.0));
                self.disk.apps.remove(&id);
                self.disk.places.retain(|it, _| it.app != id);
            }
        }
        Ok(())
    }

    fn save_app(&mut self, id: AppId) {
        let Some(app) = self.supervisor.app(id) else { return };
        let saved = SavedApp {
            spec: Arc::clone(app.spec()),
            previous: app.previous().cloned(),
            goal: app.goal(),
        };
        self.disk.apps.insert(id, saved);
    }

    fn save_place(&mut self, id: InstanceId) {
        let place = self.supervisor.app(id.app).and_then(|it| it.place(id.index));
        let Some(place) = place else { return };
        let saved = SavedPlace {
            index: id.index,
            generation: place.generation,
            restarts: place.restarts,
            crashes_in_a_row: place.crashes_in_a_row,
            crashes: place.crashes,
            gave_up: (place.state == State::Errored).then(|| place.reason.unwrap_or_default()),
        };
        self.disk.places.insert(id, saved);
    }
}

/// Which version of an app this is; the specs of a simulation differ in one variable.
pub(crate) fn version(spec: Option<&Arc<AppSpec>>) -> &str {
    spec.map_or("same", |it| it.env.get("VERSION").map_or("?", String::as_str))
}

/// Whether everything is as it should be: no request under way, nobody leaving, all wanted
/// places online, or given up.
pub(crate) fn is_calm(app: AppView<'_>) -> Result<(), String> {
    if let Some(job) = app.under_way() {
        return Err(format!("app {}: a {job} is still under way", app.id().0));
    }
    for place in app.places() {
        let online = place.state == State::Alive(bunpilot::domain::Stage::Online);
        let fits = match app.goal() {
            Goal::Run => place.state == State::Errored || online,
            Goal::Rest | Goal::Gone => place.worker.is_none(),
        };
        if !fits || !place.others.is_empty() {
            return Err(format!("app {} {:?}: {place:?}", app.id().0, app.goal()));
        }
    }
    Ok(())
}
