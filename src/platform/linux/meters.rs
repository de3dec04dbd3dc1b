//! One meter for each worker, and the kernel's books for all.

mod ladder;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::BorrowedFd,
    path::Path,
};

use self::ladder::Ladder;
use super::{
    bpf::books::{self, Books, Origin, Seat},
    doors::Held,
    hatchery::Arrival,
    usage::Meter,
    workers::Workers,
};
use crate::{
    domain::{Pid, Usage, WorkerId},
    guard::wire::Rung,
    world::Depth,
};

/// Every worker's meter.
#[derive(Debug)]
pub(super) struct Meters {
    ladder: Ladder,
    workers: BTreeMap<WorkerId, Metered>,
    own: Option<Meter>,
}

#[derive(Debug)]
struct Metered {
    meter: Meter,
    seat: Option<Seat>,
}

impl Meters {
    /// No worker yet. Books are those the guard kept, if it did; with them come the names of
    /// what it need not keep any more.
    pub(super) fn open(
        kept: &mut Held,
        workers: &BTreeMap<WorkerId, Arrival>,
        trees: Rung,
        home: &Path,
    ) -> (Self, Vec<String>) {
        let keys = books::keys(kept);
        let alive = workers.values().filter(|it| !it.life.gone).map(|it| it.life.pid);
        let ladder = Ladder::climb(kept, alive, trees, home);
        let meters = Self { ladder, workers: BTreeMap::new(), own: None };
        let needed: BTreeSet<String> = meters.keepsakes().map(|(key, _)| key).collect();
        let needless = keys.into_iter().filter(|it| !needed.contains(it)).collect();
        (meters, needless)
    }

    /// How CPU time is measured, for people.
    pub(super) fn engine(&self) -> String {
        self.ladder.to_string()
    }

    /// How CPU time is measured, in one word.
    pub(super) fn rung(&self) -> &'static str {
        self.ladder.rung().word()
    }

    /// The descriptors that keep the books going without us, and their names.
    pub(super) fn keepsakes(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.ladder.books.iter().flat_map(Books::keepsakes)
    }

    /// Begins to account a worker.
    pub(super) fn follow(&mut self, worker: WorkerId, pid: Pid, origin: Origin) {
        let seat = self.ladder.books.as_mut().and_then(|it| it.follow(pid, origin));
        self.workers.insert(worker, Metered { meter: self.ladder.meter(worker, pid), seat });
    }

    /// Measures those of `asked` that live.
    pub(super) fn measure(
        &mut self,
        asked: &[WorkerId],
        depth: Depth,
        workers: &Workers,
    ) -> Vec<(WorkerId, Usage)> {
        if let Some(books) = &mut self.ladder.books {
            books.refresh();
        }
        let mut samples = Vec::with_capacity(asked.len());
        for worker in asked.iter().filter(|it| workers.pid(**it).is_some()) {
            let Some(Metered { meter, seat }) = self.workers.get_mut(worker) else { continue };
            let booked = seat.zip(self.ladder.books.as_ref());
            let booked = booked.and_then(|(seat, books)| books.booked(seat));
            if let Some(usage) = meter.measure(depth, booked) {
                samples.push((*worker, usage));
            }
        }
        samples
    }

    /// Measures the daemon itself.
    pub(super) fn daemon(&mut self, depth: Depth) -> Usage {
        let pid = Pid(i32::try_from(std::process::id()).unwrap_or_default());
        let own = || Meter::tree(pid).by(self.ladder.clock);
        self.own.get_or_insert_with(own).measure(depth, None).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        let seat = self.workers.remove(&worker).and_then(|it| it.seat);
        if let (Some(seat), Some(books)) = (seat, &mut self.ladder.books) {
            books.leave(seat);
        }
    }
}
