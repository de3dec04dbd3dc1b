//! What is to be written: bounded, and for each app and instance only the newest state.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    domain::{AppId, InstanceId},
    world::Record,
};

/// Most measurements kept while the disk cannot keep up: 20 s of 1,000 workers, or less than
/// 2 MB.
pub(super) const SAMPLES_MAX: usize = 4096;

/// Most ends of workers kept while the disk cannot keep up: 1,000 crash loops for minutes.
pub(super) const ENDED_MAX: usize = 4096;

/// Records on their way. Each collection holds records of one kind only.
#[derive(Debug, Default)]
pub(super) struct Pending {
    gone: BTreeMap<AppId, Record>,
    apps: BTreeMap<AppId, Record>,
    instances: BTreeMap<InstanceId, Record>,
    ended: VecDeque<Record>,
    samples: VecDeque<Record>,
    /// Measurements and ends given up to stay within bounds.
    pub(super) dropped: u64,
}

impl Pending {
    /// Adds `record` to what came before. What belongs to an app that is gone is nothing to add.
    pub(super) fn push(&mut self, record: Record) {
        let app = app(&record);
        if let Record::AppGone(_) = record {
            self.forget(app);
            self.gone.insert(app, record);
        } else if let Record::App(_) = record {
            self.gone.remove(&app);
            self.apps.insert(app, record);
        } else if !self.gone.contains_key(&app) {
            self.push_part(record);
        }
    }

    /// Adds all that came later.
    pub(super) fn absorb(&mut self, newer: Self) {
        self.dropped += newer.dropped;
        for record in newer.into_records() {
            self.push(record);
        }
    }

    /// Takes over the states in `written`, and nothing else: what must be in any new file.
    pub(super) fn remember(&mut self, written: Self) {
        for record in written.into_records() {
            match record {
                Record::App(_) | Record::Instance(_) => self.push(record),
                Record::AppGone(app) => self.forget(app),
                Record::Ended(_) | Record::Sample { .. } => (),
            }
        }
    }

    /// The states alone, once more.
    pub(super) fn states(&self) -> Self {
        Self { apps: self.apps.clone(), instances: self.instances.clone(), ..Self::default() }
    }

    /// All records, in an order in which none contradicts one before.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        let states = self.gone.values().chain(self.apps.values()).chain(self.instances.values());
        states.chain(&self.ended).chain(&self.samples)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records().next().is_none()
    }

    /// Whether anything but measurements is waiting.
    pub(super) fn is_urgent(&self) -> bool {
        self.records().next().is_some_and(|first| !matches!(first, Record::Sample { .. }))
    }

    /// How many measurements are waiting.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// How many rows of history these are.
    pub(super) fn history(&self) -> usize {
        self.ended.len() + self.samples.len()
    }

    fn into_records(self) -> impl Iterator<Item = Record> {
        let states = self.gone.into_values().chain(self.apps.into_values());
        states.chain(self.instances.into_values()).chain(self.ended).chain(self.samples)
    }

    fn push_part(&mut self, record: Record) {
        match &record {
            Record::App(_) | Record::AppGone(_) => (),
            Record::Instance(place) => {
                self.instances.insert(place.worker.instance, record);
            }
            Record::Ended(_) => self.dropped += push_bounded(&mut self.ended, ENDED_MAX, record),
            Record::Sample { .. } => {
                self.dropped += push_bounded(&mut self.samples, SAMPLES_MAX, record);
            }
        }
    }

    fn forget(&mut self, gone: AppId) {
        self.apps.remove(&gone);
        self.instances.retain(|instance, _| instance.app != gone);
        self.ended.retain(|record| app(record) != gone);
        self.samples.retain(|record| app(record) != gone);
    }
}

/// Drops the oldest when full; returns how many that were.
fn push_bounded(queue: &mut VecDeque<Record>, max: usize, record: Record) -> u64 {
    let full = queue.len() >= max;
    if full {
        queue.pop_front();
    }
    queue.push_back(record);
    u64::from(full)
}

/// Whose record it is.
fn app(record: &Record) -> AppId {
    match record {
        Record::App(app) => app.id,
        Record::AppGone(id) => *id,
        Record::Instance(place) => place.worker.instance.app,
        Record::Ended(ended) => ended.worker.instance.app,
        Record::Sample { worker, .. } => worker.instance.app,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{app, ended, gone, instance, sample};

    #[track_caller]
    fn check(pushed: &[Record], expected: &[Record]) {
        let mut pending = Pending::default();
        for record in pushed {
            pending.push(record.clone());
        }
        assert_eq!(pending.records().cloned().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_newest_state_replaces_older_ones() {
        let (old, new) = (instance(1, 0, 1), instance(1, 0, 2));
        check(&[app(1, "a"), old, app(1, "b"), new.clone()], &[app(1, "b"), new]);
    }

    #[test]
    fn an_app_that_is_gone_leaves_nothing() {
        let parts = [app(1, "a"), instance(1, 0, 1), ended(1, 0, 1), sample(1, 0, 1)];
        let of_two = [app(2, "b"), ended(2, 0, 1)];
        let pushed = [&parts[..], &of_two, &[gone(1)], &parts[1..]].concat();
        check(&pushed, &[&[gone(1)][..], &of_two].concat());
    }

    #[test]
    fn an_outage_costs_old_measurements_and_ends_but_no_state() {
        let mut pending = Pending::default();
        for n in 0..10_000 {
            pending.push(sample(1, 0, n));
            pending.push(ended(1, 0, n));
            pending.push(instance(1, 0, n));
        }
        assert_eq!(pending.records().count(), SAMPLES_MAX + ENDED_MAX + 1);
        assert_eq!(pending.dropped, 20_000 - 2 * 4096);
        assert_eq!(pending.ended.back(), Some(&ended(1, 0, 9_999)));
    }

    #[test]
    fn what_failed_comes_before_what_is_new() {
        let (mut failed, mut newer) = (Pending::default(), Pending::default());
        failed.push(instance(1, 0, 1));
        failed.push(instance(2, 0, 1));
        newer.push(instance(1, 0, 2));
        newer.push(gone(2));
        failed.absorb(newer);
        assert_eq!(failed.records().cloned().collect::<Vec<_>>(), [gone(2), instance(1, 0, 2)]);
    }

    #[test]
    fn only_states_are_remembered() {
        let (mut memory, mut written) = (Pending::default(), Pending::default());
        memory.push(app(2, "b"));
        for record in [app(1, "a"), instance(1, 0, 1), ended(1, 0, 1), sample(1, 0, 1), gone(2)] {
            written.push(record);
        }
        memory.remember(written);
        assert_eq!(
            memory.states().records().cloned().collect::<Vec<_>>(),
            [app(1, "a"), instance(1, 0, 1)]
        );
    }
}
