//! One meter for each worker.

use std::collections::BTreeMap;

use super::{usage::Meter, workers::Workers};
use crate::{
    domain::{Usage, WorkerId},
    world::Depth,
};

/// Every worker's meter.
#[derive(Debug, Default)]
pub(super) struct Meters(BTreeMap<WorkerId, Meter>);

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
            let meter = self.0.entry(*worker).or_insert_with(|| Meter::tree(pid));
            if let Some(usage) = meter.measure(depth) {
                samples.push((*worker, usage));
            }
        }
        samples
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }
}
