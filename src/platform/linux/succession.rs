//! When the guard dies: workers go on, a new guard is given everything the old one had.
//!
//! And when both guard and daemon died: the workers left behind are found and taken over.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
    rc::Rc,
    time::Duration,
};

use super::{
    guardian::{Guardian, hear},
    hatchery::{self, Arrival},
    world::Shared,
};
use crate::{
    domain::{Signal, WorkerId},
    guard::{
        self, GuardError,
        link::Link,
        wire::{Life, Notice, Order},
    },
    world::{Event, Fate, Reach},
};

/// Rest before another try to start a guard.
const REST: Duration = Duration::from_secs(1);

/// What it takes to start another guard.
#[derive(Clone, Debug)]
pub(super) struct Heritage {
    /// The home it serves.
    pub(super) home: std::path::PathBuf,
    /// Soft limit of open files that workers get.
    pub(super) nofile_soft: Option<u64>,
}

/// Hears what the guard says; if it dies, starts another and goes on.
pub(super) async fn listen(shared: Rc<Shared>) {
    loop {
        let guardian = shared.guardian.borrow().clone();
        let said = Rc::clone(&shared);
        if let Err(error) = guardian.listen(move |it| hatchery::said(&said, it)).await {
            tracing::warn!(%error, "the guard is gone, starting another");
        }
        while let Err(error) = succeed(&shared) {
            tracing::error!(%error, "cannot start another guard; trying again");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Starts another guard and hands it everything.
fn succeed(shared: &Shared) -> Result<(), GuardError> {
    let program = crate::platform::host::own_program()
        .map_err(|source| GuardError::Prepare { what: "its program", source })?;
    let argv: [OsString; 3] = [program.into(), "__guard".into(), "--detach".into()];
    let (link, pid) = guard::respawn(&argv, shared.heritage.nofile_soft)?;
    let guardian = Guardian::new(link);
    for (order, fds) in shared.keepsakes.borrow().testament() {
        guardian.order_with(&order, fds);
    }
    let lost = adopt_unborn(shared, &guardian);
    guardian.order(&Order::Inventory);
    *shared.guardian.borrow_mut() = guardian;
    tracing::info!(%pid, "another guard watches over the workers");
    for worker in lost {
        let why = "the guard died before it could start the worker".to_owned();
        shared.inbox.push(Event::SpawnFailed(worker, why));
    }
    Ok(())
}

/// Workers the old guard was told to start and never told of: those that exist are adopted, the
/// others are returned.
fn adopt_unborn(shared: &Shared, guardian: &Guardian) -> Vec<WorkerId> {
    let mut unborn = shared.workers.unborn();
    if unborn.is_empty() {
        return unborn;
    }
    for (worker, stray) in strays(&shared.heritage.home) {
        if let Some(at) = unborn.iter().position(|it| *it == worker) {
            unborn.swap_remove(at);
            guardian.order_with(&Order::Adopt(stray.life, stray.roles), stray.fds);
        }
    }
    unborn
}

/// Finds workers whose guard and daemon both died and has the new guard adopt them; those whose
/// fate is to end are killed first, so that nothing is ever started twice.
///
/// # Errors
///
/// If the guard breaks the line meanwhile.
pub(super) fn gather(
    link: &mut Link,
    home: &Path,
    fate: impl Fn(WorkerId) -> Fate,
) -> Result<BTreeMap<WorkerId, Arrival>, GuardError> {
    let mut told = BTreeMap::new();
    let mut unanswered = 0_usize;
    let mut doomed = BTreeSet::new();
    for (worker, stray) in strays(home) {
        tracing::warn!(%worker, pid = %stray.life.pid, "a worker was left behind");
        link.send(&Order::Adopt(stray.life, stray.roles), stray.fds)?;
        unanswered += 1;
        if fate(worker) == Fate::Ended || stray.state == guard::State::Bereft {
            let (label, signal, reach) = (worker.to_string(), Signal::KILL, Reach::Tree);
            link.send(&Order::Signal { label, signal, reach }, Vec::new())?;
            doomed.insert(worker);
        }
    }
    while unanswered > 0 || !doomed.is_empty() {
        for (notice, fds) in hear(link)? {
            match notice {
                Notice::Worker(life, roles) => {
                    unanswered = unanswered.saturating_sub(1);
                    note(&mut told, Arrival::new(life, roles, fds));
                }
                Notice::SpawnFailed { label, .. } => {
                    unanswered = unanswered.saturating_sub(1);
                    doomed.retain(|it| it.to_string() != label);
                }
                Notice::Exited { label, exit } => {
                    amend(&mut told, &label, |life| life.exit = Some(exit));
                }
                Notice::Gone { label } => amend(&mut told, &label, |life| life.gone = true),
                Notice::Took { .. }
                | Notice::Untrapped { .. }
                | Notice::Held { .. }
                | Notice::InventoryEnd { .. } => (),
            }
        }
        doomed.retain(|it| told.get(it).is_none_or(|it| !it.life.gone));
    }
    Ok(told)
}

fn note(told: &mut BTreeMap<WorkerId, Arrival>, arrival: Arrival) {
    if let Ok(worker) = arrival.life.label.parse() {
        told.insert(worker, arrival);
    }
}

fn amend(told: &mut BTreeMap<WorkerId, Arrival>, label: &str, change: impl FnOnce(&mut Life)) {
    if let Some(arrival) = label.parse().ok().and_then(|it| told.get_mut(&it)) {
        change(&mut arrival.life);
    }
}

/// Workers of this home by who they are.
pub(super) fn strays(home: &Path) -> BTreeMap<WorkerId, guard::Stray> {
    let named = |stray: guard::Stray| Some((stray.life.label.parse().ok()?, stray));
    guard::strays(home).into_iter().filter_map(named).collect()
}
