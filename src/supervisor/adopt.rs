//! Taking over from a daemon that died.
//!
//! Decides who stays and what goes on; starts nothing twice. Ends that nobody witnessed are
//! judged like any other, then the app settles as usual.
//!
//! Two specs at most are known: the app's and the one to go back to. Workers of a third, on their
//! way out because their reload failed just before the daemon died, go by the app's.

use std::sync::Arc;

use super::{
    Manner,
    app::{App, Job, Task},
    note::Note,
    outbox::Outbox,
    place::Rest,
    restart::History,
    version::Version,
    worker::{Staleness, Worker},
};
use crate::{
    domain::{AppSpec, Exit, Moment, Stage},
    world::{Event, Goal, Survivor},
};

/// What an earlier daemon left behind of one app.
#[derive(Clone, Debug)]
pub struct Legacy {
    /// What the app should be doing.
    pub goal: Goal,
    /// The spec to go back to, if a reload was under way.
    pub previous: Option<Arc<AppSpec>>,
    /// What was written down about its places; missing ones are new.
    pub places: Vec<SavedPlace>,
    /// Its workers the guard still knows.
    pub survivors: Vec<Survivor>,
}

/// What was written down about one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedPlace {
    /// Its position.
    pub index: u16,
    /// That of its newest worker.
    pub generation: u32,
    /// Restarts after a crash, ever.
    pub restarts: u32,
    /// Crashes in a row.
    pub crashes_in_a_row: u32,
    /// The crashes within the window, oldest first.
    pub crashes: Vec<Moment>,
    /// Why it had given up, if it had.
    pub gave_up: Option<String>,
}

impl App {
    pub(super) fn adopt(&mut self, now: Moment, legacy: Legacy, out: &mut Outbox) {
        self.goal = legacy.goal;
        self.previous = legacy.previous.map(Version::new);
        for saved in legacy.places {
            self.restore(saved);
        }
        let mut survivors = legacy.survivors;
        survivors.sort_by_key(|it| it.worker);
        for survivor in &survivors {
            self.take_over(now, survivor, out);
        }
        self.mark_predecessors(out);
        self.resume_job();
        for survivor in &survivors {
            self.catch_up(now, survivor, out);
        }
        self.judge_pairs(now, out);
        self.settle(now, out);
    }

    fn restore(&mut self, saved: SavedPlace) {
        self.build(usize::from(saved.index) + 1);
        let Some(place) = self.places.get_mut(usize::from(saved.index)) else { return };
        place.generation = saved.generation;
        place.restarts = saved.restarts;
        place.history = History::resume(saved.crashes, saved.crashes_in_a_row);
        if let Some(why) = saved.gave_up {
            place.give_up(&why);
        } else if let Some(due) = place.history.due(&self.version.spec.restart) {
            place.rest = Rest::Until(due);
        }
    }

    fn take_over(&mut self, now: Moment, survivor: &Survivor, out: &mut Outbox) {
        let id = survivor.worker;
        self.build(usize::from(id.instance.index) + 1);
        let Some(place) = self.places.get_mut(usize::from(id.instance.index)) else { return };
        let mut note = Note::parse(&survivor.note);
        let version = match &self.previous {
            Some(previous) if note.print != self.version.print => {
                // The reload may not have got as far as telling the guard.
                note.stale |= note.print == previous.print;
                previous
            }
            Some(_) | None => &self.version,
        };
        let worker = Worker::adopt(survivor, &note, version.clone(), now, out);
        if !worker.is_leaving() {
            place.rest = Rest::None;
        }
        place.workers.push(worker);
        place.generation = place.generation.max(id.generation);
        place.touch();
    }

    /// Of several workers on one place only the newest can be meant to stay.
    fn mark_predecessors(&mut self, out: &mut Outbox) {
        for place in &mut self.places {
            let Some(newest) = place.current().map(|it| it.id) else { continue };
            for worker in place.workers.iter_mut().filter(|it| it.id != newest) {
                worker.mark(Staleness::Stale, out);
            }
        }
    }

    fn resume_job(&mut self) {
        let reloading = self.previous.is_some() || self.workers().any(|it| it.stale);
        match self.goal {
            Goal::Run if reloading => self.resume_reload(),
            Goal::Run => (),
            Goal::Rest | Goal::Gone => {
                self.job = Some(Job { ticket: None, task: Task::Stop(Manner::Gently) });
            }
        }
    }

    /// Tells the tale of an end that came while no daemon was there.
    fn catch_up(&mut self, now: Moment, survivor: &Survivor, out: &mut Outbox) {
        let id = survivor.worker;
        match survivor.exit {
            exit if survivor.gone => self.vanish(now, id, exit.unwrap_or(Exit::Unknown), out),
            Some(exit) => self.apply(now, id, &Event::Exited(id, exit), out),
            None => (),
        }
    }

    /// A new worker that did not make it while its daemon lived gets no second chance beside the
    /// old one: the reload is rolled back.
    fn judge_pairs(&mut self, now: Moment, out: &mut Outbox) {
        let unproven = self.places.iter().filter(|it| it.is_stale()).find_map(|it| {
            it.workers.iter().find(|it| !it.stale && !it.is_leaving() && it.stage != Stage::Online)
        });
        if let (Some(worker), Some(Job { task: Task::Reload(_), .. })) = (unproven, &self.job) {
            let why = format!("worker {} was not ready when the daemon died", worker.id);
            self.roll_back(now, why, out);
        }
    }
}
