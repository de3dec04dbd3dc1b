//! Replacing workers batch by batch, and going back when the new ones are no good.
//!
//! A worker to be replaced is *stale*. A new one comes up beside it; only when every new worker
//! of a batch is online do the stale ones leave. A new worker that fails ends the reload: those
//! it was to replace stay. If the reload brought a new spec, those already replaced become the
//! stale ones, and the same procedure brings the old spec back.

use std::sync::Arc;

use super::{
    Cause, Manner, Notice, Outcome,
    app::{App, Job, Task},
    outbox::Outbox,
    place::{Place, Rest},
    version::Version,
    worker::Staleness,
};
use crate::domain::{AppSpec, Moment};

/// A reload under way.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// Places being replaced now, ascending; empty between two batches.
    batch: Vec<usize>,
    /// The next batch begins then; `None` once it has.
    pub(super) begins: Option<Moment>,
}

impl App {
    /// Marks every worker as to be replaced.
    pub(super) fn reload(&mut self, spec: Option<Arc<AppSpec>>, out: &mut Outbox) -> Task {
        if let Some(spec) = spec {
            self.previous = Some(std::mem::replace(&mut self.version, Version::new(spec)));
        }
        self.build(self.wanted());
        for place in &mut self.places {
            if place.current().is_none() {
                place.forgive();
            }
            place.mark(Staleness::Stale, out);
        }
        Task::Reload(Reload::default())
    }

    /// Goes on with a reload an earlier daemon began. Pairs count as begun batches.
    pub(super) fn resume_reload(&mut self) {
        let begun = |place: &Place| {
            let mut workers = place.workers.iter();
            workers.any(|it| it.stale) && workers.any(|it| !it.stale && !it.is_leaving())
        };
        let batch = (0..).zip(&self.places).filter(|(_, it)| begun(it));
        let batch = batch.map(|(index, _)| index).collect();
        let task = Task::Reload(Reload { batch, begins: None });
        self.job = Some(Job { ticket: None, task });
    }

    pub(super) fn settle_reload(&mut self, now: Moment, out: &mut Outbox) {
        // Ends: each round finishes a batch, and a finished batch is stale no more.
        while let Some(Job { task: Task::Reload(reload), .. }) = &mut self.job {
            if reload.begins.is_some_and(|begins| now < begins) {
                return;
            }
            reload.begins = None;
            let wanted = usize::from(self.version.spec.instances.get());
            let mut places = self.places.iter().take(wanted);
            if let Some(place) = places.find(|it| it.rest == Rest::GaveUp) {
                let why = place.gave_up();
                return self.roll_back(now, why, out);
            }
            if reload.batch.is_empty() {
                reload.batch = next_batch(&self.places, &self.version.spec);
            }
            if reload.batch.is_empty() {
                return self.finish_reload(now, out);
            }
            if !self.replace_batch(now, out) {
                return;
            }
        }
    }

    /// Takes the batch a step further; true once it is done.
    fn replace_batch(&mut self, now: Moment, out: &mut Outbox) -> bool {
        let Some(Job { task: Task::Reload(reload), .. }) = &mut self.job else { return false };
        let delay = self.version.spec.cluster.batch_delay;
        let mut settled = true;
        let mut calm = true;
        for &index in &reload.batch {
            let Some(place) = self.places.get_mut(index) else { continue };
            // An empty place is filled when its rest is over, one that is being left once it is
            // empty.
            if place.is_stale() && place.workers.len() == 1 {
                place.spawn(&self.version, now, out);
            }
            settled &= place.is_settled();
            calm &= place.workers.len() == 1;
        }
        if !settled {
            return false;
        }
        for &index in &reload.batch {
            let Some(place) = self.places.get_mut(index) else { continue };
            for worker in place.workers.iter_mut().filter(|it| it.stale) {
                worker.leave(Cause::Reload, Manner::Gently, now, out);
            }
        }
        if calm {
            reload.batch.clear();
            let more = !next_batch(&self.places, &self.version.spec).is_empty();
            reload.begins = more.then(|| now.after(delay));
        }
        calm
    }

    /// Nothing is stale any more: waits for places that were empty, then drops surplus ones.
    fn finish_reload(&mut self, now: Moment, out: &mut Outbox) {
        let wanted = self.wanted();
        if !self.places.iter().take(wanted).all(Place::is_settled) {
            return;
        }
        self.shrink(now, out);
        if self.is_shrunk() {
            self.previous = None;
            out.tell(Notice::AppChanged(self.id));
            self.finish(Outcome::Done, out);
        }
    }

    /// Ends a reload whose new worker failed.
    pub(super) fn roll_back(&mut self, now: Moment, why: String, out: &mut Outbox) {
        let previous = self.previous.take();
        let mut back = false;
        for place in &mut self.places {
            if place.is_stale() {
                for fresh in place.workers.iter_mut().filter(|it| !it.stale) {
                    fresh.leave(Cause::Rollback, Manner::Gently, now, out);
                }
                place.mark(Staleness::Fresh, out);
            } else if previous.is_some() {
                place.mark(Staleness::Stale, out);
                back |= place.is_stale();
            }
        }
        if let Some(previous) = previous {
            self.version = previous;
        }
        out.tell(Notice::AppChanged(self.id));
        self.finish(Outcome::RolledBack(why), out);
        if back {
            self.job = Some(Job { ticket: None, task: Task::Reload(Reload::default()) });
        }
    }
}

fn next_batch(places: &[Place], spec: &AppSpec) -> Vec<usize> {
    let wanted = usize::from(spec.instances.get());
    let size = usize::from(spec.cluster.batch_size.get());
    let stale = (0..).zip(places).take(wanted).filter(|(_, place)| place.is_stale());
    stale.map(|(index, _)| index).take(size).collect()
}
