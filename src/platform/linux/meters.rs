//! One meter for each worker, and the kernel's books for all.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::BorrowedFd,
};

use super::{
    bpf::{
        Refusal,
        books::{self, Books, Origin, Seat},
    },
    doors::Held,
    hatchery::Arrival,
    usage::Meter,
    workers::Workers,
};
use crate::{
    domain::{Pid, Usage, WorkerId},
    world::Depth,
};

/// Every worker's meter.
#[derive(Debug)]
pub(super) struct Meters {
    books: Result<Books, Refusal>,
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
    ) -> (Self, Vec<String>) {
        let keys = books::keys(kept);
        let alive = workers.values().filter(|it| !it.life.gone).map(|it| it.life.pid);
        let books = Books::open(kept, alive);
        match &books {
            Ok(_) | Err(Refusal::Off { .. }) => (),
            Err(why @ Refusal::Forbidden) => tracing::info!(%why, "CPU time is read from clocks"),
            Err(why) => tracing::warn!(%why, "CPU time is read from clocks"),
        }
        let meters = Self { books, workers: BTreeMap::new(), own: None };
        let needed: BTreeSet<String> = meters.keepsakes().map(|(key, _)| key).collect();
        let needless = keys.into_iter().filter(|it| !needed.contains(it)).collect();
        (meters, needless)
    }

    /// How CPU time is measured, for people.
    pub(super) fn engine(&self) -> String {
        match &self.books {
            Ok(_) => "eBPF sched_switch".to_owned(),
            Err(why) => format!("clocks of processes: {why}"),
        }
    }

    /// The descriptors that keep the books going without us, and their names.
    pub(super) fn keepsakes(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.books.iter().flat_map(Books::keepsakes)
    }

    /// Begins to account a worker.
    pub(super) fn follow(&mut self, worker: WorkerId, pid: Pid, origin: Origin) {
        let seat = self.books.as_mut().ok().and_then(|it| it.follow(pid, origin));
        self.workers.insert(worker, Metered { meter: Meter::tree(pid), seat });
    }

    /// Measures those of `asked` that live.
    pub(super) fn measure(
        &mut self,
        asked: &[WorkerId],
        depth: Depth,
        workers: &Workers,
    ) -> Vec<(WorkerId, Usage)> {
        if let Ok(books) = &mut self.books {
            books.refresh();
        }
        let mut samples = Vec::with_capacity(asked.len());
        for worker in asked.iter().filter(|it| workers.pid(**it).is_some()) {
            let Some(Metered { meter, seat }) = self.workers.get_mut(worker) else { continue };
            let booked = seat.zip(self.books.as_ref().ok()).and_then(|(seat, it)| it.cpu(seat));
            if let Some(usage) = meter.measure(depth, booked) {
                samples.push((*worker, usage));
            }
        }
        samples
    }

    /// Measures the daemon itself.
    pub(super) fn daemon(&mut self, depth: Depth) -> Usage {
        let own = || Meter::tree(Pid(i32::try_from(std::process::id()).unwrap_or_default()));
        self.own.get_or_insert_with(own).measure(depth, None).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        let seat = self.workers.remove(&worker).and_then(|it| it.seat);
        if let (Some(seat), Ok(books)) = (seat, &mut self.books) {
            books.leave(seat);
        }
    }
}
