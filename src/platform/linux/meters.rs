//! One meter for each worker.

use std::collections::BTreeMap;

use super::{usage::Meter, workers::Workers};
use crate::{
    domain::{Pid, Usage, WorkerId},
    world::Depth,
};

/// Every worker's meter.
#[derive(Debug, Default)]
pub(super) struct Meters {
    workers: BTreeMap<WorkerId, Meter>,
    own: Option<Meter>,
}

impl Meters {
    /// Measures those of `asked` that live.
    pub(super) fn measure(
        &mut self,
        asked: &[WorkerId],
        depth: Depth,
        workers: &Workers,
    ) -> Vec<(WorkerId, Usage)> {
        let mut samples = Vec::with_capacity(asked.len());
        for worker in asked {
            let Some(pid) = workers.pid(*worker) else { continue };
            let meter = self.workers.entry(*worker).or_insert_with(|| Meter::tree(pid));
            if let Some(usage) = meter.measure(depth) {
                samples.push((*worker, usage));
            }
        }
        samples
    }

    /// Measures the daemon itself.
    pub(super) fn daemon(&mut self, depth: Depth) -> Usage {
        let own = || Meter::tree(Pid(i32::try_from(std::process::id()).unwrap_or_default()));
        self.own.get_or_insert_with(own).measure(depth).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }
}
