//! What must never happen, whatever the seed.
//!
//! Knows the processes as they are and the actions as they come, not the supervisor's mind;
//! what it needs of that it takes from the public views, as a user would.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bunpilot::{
    domain::{AppId, InstanceId, Lane, Moment, Restart, Stage, WorkerId},
    supervisor::{Supervisor, WorkerView},
    world::{Action, Event, Launch},
};

use super::process::{Life, Process, WATCHDOG};

type Processes = BTreeMap<WorkerId, Process>;

/// Events come up to 20 ms late in a wild world, and one may wait for another.
const SLACK: Duration = Duration::from_millis(50);

/// The supervisor believes a probe lost this long after its timeout.
const PROBE_GRACE: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Law {
    broken: Option<String>,
    /// When the present daemon began.
    reborn: Moment,
    forgotten: BTreeSet<WorkerId>,
    crashes: BTreeMap<InstanceId, Crashes>,
    /// Of the last worker to be buried.
    lanes: BTreeMap<InstanceId, Lane>,
}

/// Uninvited ends of one place since somebody last asked for something.
#[derive(Debug, Default)]
struct Crashes {
    at: VecDeque<Moment>,
    /// Those in a row without `min_uptime` online between them.
    row: u32,
}

/// Whether this word is in the note the guard keeps.
fn says(process: &Process, word: &str) -> bool {
    process.note.split(' ').any(|it| it == word)
}

impl Crashes {
    /// Why no worker may come back now, if it may not.
    fn forbids(&self, now: Moment, rule: &Restart) -> Option<String> {
        let last = *self.at.back()?;
        let delay = (1..self.row).fold(rule.initial, |it, _| (it * 2).min(rule.max));
        if now < last.after(delay) {
            return Some(format!("came back too soon after crash {} in a row", self.row));
        }
        let recent = self.at.iter().filter(|at| last.since(**at) <= rule.window).count();
        let tolerated = usize::try_from(rule.max_restarts).unwrap();
        (recent > tolerated).then(|| format!("came back after {recent} crashes"))
    }
}

impl Law {
    fn breach(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A user's word resets every backoff.
    pub(crate) fn forgive(&mut self, app: AppId) {
        self.crashes.retain(|id, _| id.app != app);
    }

    /// A new daemon gives everyone some time again.
    pub(crate) fn reborn(&mut self, now: Moment) {
        self.reborn = now;
    }

    /// Nobody can know what a daemon knew that had no time to write it down.
    pub(crate) fn forget_history(&mut self) {
        self.crashes.clear();
    }

    /// Which lane an empty place had is not written down.
    pub(crate) fn forget_lanes(&mut self) {
        self.lanes.clear();
    }

    pub(crate) fn buried(&mut self, id: WorkerId, process: &Process) {
        self.forgotten.insert(id);
        if process.born.is_some() {
            self.lanes.insert(id.instance, process.lane);
        }
        if process.tree {
            self.breach(format!("{id} is forgotten alive"));
        }
    }

    /// Looks on as the supervisor is about to learn of something.
    pub(crate) fn witness(&mut self, now: Moment, event: &Event, supervisor: &Supervisor) {
        let Event::Exited(id, _) = event else { return };
        let Some(app) = supervisor.app(id.instance.app) else { return };
        let stays = |it: &WorkerView| !matches!(it.stage, Stage::Draining | Stage::Stopping);
        let staying: Vec<WorkerView> =
            app.workers().filter(|it| it.id.instance == id.instance && stays(it)).collect();
        let [worker] = staying.as_slice() else { return };
        if worker.id == *id {
            self.rest_row(now, worker);
            let crashes = self.crashes.entry(id.instance).or_default();
            crashes.row += 1;
            crashes.at.push_back(now);
        }
    }

    /// Staying online for long enough ends a row of crashes.
    fn rest_row(&mut self, now: Moment, worker: &WorkerView) {
        if worker.ready_at.is_some_and(|at| now.since(at) >= worker.spec.min_uptime)
            && let Some(crashes) = self.crashes.get_mut(&worker.id.instance)
        {
            crashes.row = 0;
        }
    }

    pub(crate) fn judge(&mut self, now: Moment, action: &Action, processes: &Processes) {
        let id = match action {
            Action::Spawn(launch) => return self.judge_spawn(now, launch, processes),
            Action::Adopt(launch) => launch.worker,
            Action::Signal(id, ..)
            | Action::Forget(id)
            | Action::Note(id, _)
            | Action::Admit(id)
            | Action::Retire(id)
            | Action::AwaitListen(id)
            | Action::Probe(id)
            | Action::Channel(id, _) => *id,
            other => return self.breach(format!("{other:?} is not the supervisor's to say")),
        };
        let Some(process) = processes.get(&id) else {
            return self.breach(format!("{action:?} for one that is forgotten"));
        };
        match action {
            Action::Signal(..) | Action::Channel(..) if !process.told.born => {
                self.breach(format!("{action:?} before it was there"));
            }
            Action::Forget(_) if !process.told.gone => {
                self.breach(format!("{id} is forgotten too early"));
            }
            Action::Admit(_) => self.judge_admit(now, id, process),
            Action::Retire(_) if process.retired.is_none() && says(process, "why=reload") => {
                let served = processes.iter().any(|(other, it)| {
                    let serves = it.admitted || it.spec.port.is_none();
                    other.instance == id.instance && *other != id && serves
                });
                if !served && process.told.exited.is_none() {
                    self.breach(format!("{id} is retired and nobody serves in its place"));
                }
            }
            Action::Probe(_) => self.judge_probe(now, id, process),
            _ => (),
        }
    }

    fn judge_admit(&mut self, now: Moment, id: WorkerId, process: &Process) {
        if process.trusted {
            return;
        }
        if process.spec.health.is_some() && process.nature.reachable && !process.proved {
            self.breach(format!("{id} gets traffic and no probe ever succeeded"));
        }
        if !process.listening && !process.nature.calls {
            self.breach(format!("{id} gets traffic and is not listening"));
        }
        if process.told.exited.is_some_and(|at| at < now) {
            self.breach(format!("{id} gets traffic and is dead"));
        }
    }

    fn judge_probe(&mut self, now: Moment, id: WorkerId, process: &Process) {
        let least = Duration::from_millis(50);
        if process.told.exited.is_some_and(|at| at < now) {
            self.breach(format!("{id} is probed and dead"));
        }
        if process.probed.is_some_and(|at| now.since(at) < least) {
            self.breach(format!("{id} is probed all the time"));
        }
    }

    fn judge_spawn(&mut self, now: Moment, launch: &Launch, processes: &Processes) {
        let id = launch.worker;
        if self.forgotten.contains(&id) || processes.contains_key(&id) {
            self.breach(format!("{id} is spawned twice"));
        }
        let here =
            |it: &(&WorkerId, &Process)| it.0.instance == id.instance && !it.1.is_stillborn();
        for (other, process) in processes.iter().filter(here) {
            if process.is_leaving() {
                self.breach(format!("{id} is spawned beside what is left of {other}"));
            }
            if process.lane == launch.lane {
                self.breach(format!("{id} takes the lane of {other}"));
            }
        }
        let alone = !processes.iter().any(|it| here(&it));
        if alone && self.lanes.get(&id.instance).is_some_and(|lane| *lane != launch.lane) {
            self.breach(format!("{id} does not keep its predecessor's lane"));
        }
        if alone && let Some(crashes) = self.crashes.get(&id.instance) {
            let too_soon = crashes.forbids(now, &launch.spec.restart);
            if let Some(why) = too_soon {
                self.breach(format!("{id} {why}"));
            }
        }
    }

    /// What must hold after every turn.
    pub(crate) fn check(
        &mut self,
        now: Moment,
        supervisor: &Supervisor,
        processes: &Processes,
    ) -> Result<(), String> {
        let mut known = BTreeMap::new();
        for app in supervisor.apps() {
            known.extend(app.workers().map(|it| (it.id, it)));
        }
        let mut staying = BTreeMap::new();
        for (id, worker) in &known {
            match worker.stage {
                Stage::Online => {
                    self.rest_row(now, worker);
                    *staying.entry(id.instance).or_insert(0) += 1;
                }
                Stage::Spawning | Stage::Starting => {
                    *staying.entry(id.instance).or_insert(0) += 1;
                    let patience = worker.spec.ready_timeout + Duration::from_secs(1) + SLACK;
                    if worker.spawned.is_some_and(|at| now.since(at.max(self.reborn)) > patience) {
                        self.breach(format!("{id} is still not ready"));
                    }
                }
                Stage::Draining | Stage::Stopping => {
                    if processes.get(id).is_some_and(|it| it.admitted) {
                        self.breach(format!("{id} is leaving and still gets traffic"));
                    }
                }
            }
        }
        if let Some((id, count)) = staying.iter().find(|(_, count)| **count > 2) {
            self.breach(format!("{count} workers stay on place {}", id.index));
        }
        for (id, process) in processes {
            match known.get(id) {
                None if process.tree => self.breach(format!("{id} runs and nobody knows")),
                Some(worker) if !says(process, worker.stage.word()) && !process.told.gone => {
                    self.breach(format!("{id} is {:?}: {}", worker.stage, process.note));
                }
                None | Some(_) => (),
            }
            if process.tree {
                self.check_patience(now, *id, process);
            }
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn check_patience(&mut self, now: Moment, id: WorkerId, process: &Process) {
        let kill = process.spec.kill_timeout;
        let over = |since: Option<Moment>, limit| since.is_some_and(|at| now.since(at) > limit);
        if process.killed == 0 && over(process.asked, kill + SLACK) {
            self.breach(format!("{id} outlived its kill timeout"));
        }
        let undecided = process.killed == 0 && process.asked.is_none();
        if undecided && over(process.retired, kill + SLACK) {
            self.breach(format!("{id} drains for ever"));
        }
        let exited = process.told.exited.is_some() && matches!(process.leader, Life::Ended(_));
        if exited && undecided && process.retired.is_none() {
            self.breach(format!("{id} left descendants, and nobody cares"));
        }
        if process.admitted && process.nature.reachable && process.proved {
            let limit = process.spec.health.as_ref().map(|it| {
                let threshold = it.unhealthy_threshold.get();
                it.interval * threshold + PROBE_GRACE * threshold + SLACK * 5
            });
            if limit.is_some_and(|limit| over(process.hung, limit)) {
                self.breach(format!("{id} hangs and still gets traffic"));
            }
            let pause = process.spec.health.as_ref().map(|it| it.interval + it.timeout);
            if pause.is_some_and(|it| over(process.probed, it + PROBE_GRACE + SLACK)) {
                self.breach(format!("{id} is probed no more"));
            }
        }
        let limit = Duration::from_secs(30) + WATCHDOG + SLACK;
        if process.monitored && undecided && !process.is_leaving() && over(process.hung, limit) {
            self.breach(format!("{id} has no pulse and nobody cares"));
        }
    }
}
