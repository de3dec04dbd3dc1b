//! One life of one process, from [`Action::Spawn`] to [`Event::Gone`].
//!
//! Decides when it is ready, unwell, and how it is made to leave; never whether another follows.

mod adopted;
mod leaving;

use std::{fmt, sync::Arc, time::Duration};

use self::leaving::Pressure;
use super::{
    Cause, Manner, Speech, Step, Word,
    health::{Finding, Probes, Pulse, Standing},
    note::{Note, Welcome},
    outbox::Outbox,
    version::Version,
};
use crate::{
    domain::{AppSpec, Exit, Health, Lane, Moment, Pid, Stage, WorkerId},
    world::{Action, Event, Launch, Probe},
};

/// An app without a port that lives this long is taken for started: long enough for a missing
/// module or a bad option to end it, short enough to wait for.
const SETTLE: Duration = Duration::from_millis(200);

/// The part of `kill_timeout` a worker has to act on a shutdown message before it gets the
/// signal too: then there is as much time left for a handler of the signal.
const MESSAGE_SHARE: u32 = 2;

/// A process we asked for and have not yet seen the end of.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) version: Version,
    pub(super) lane: Lane,
    pub(super) stage: Stage,
    /// When `stage` began.
    since: Moment,
    pub(super) pid: Option<Pid>,
    pub(super) spawned: Option<Moment>,
    pub(super) ready_at: Option<Moment>,
    /// How the leader ended, and when. Its descendants may live on.
    pub(super) exit: Option<(Exit, Moment)>,
    /// Why it is to end.
    pub(super) cause: Option<Cause>,
    /// Whether the reload under way is to replace it.
    pub(super) stale: bool,
    welcome: Welcome,
    says_stopping: bool,
    speech: Speech,
    manner: Manner,
    pressure: Pressure,
    probes: Probes,
    pulse: Pulse,
    noted: Note,
}

/// A life that went wrong, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) worker: WorkerId,
    pub(super) text: String,
    /// Whether the reload under way was to replace it anyway.
    pub(super) stale: bool,
    /// Whether it had been online.
    pub(super) was_ready: bool,
}

impl Worker {
    pub(super) fn spawn(
        id: WorkerId,
        version: Version,
        lane: Lane,
        now: Moment,
        out: &mut Outbox,
    ) -> Self {
        let worker = Self::new(id, version, lane, now);
        out.act(Action::Spawn(worker.launch()));
        out.step(id, Step::Entered(Stage::Spawning));
        worker
    }

    fn new(id: WorkerId, version: Version, lane: Lane, now: Moment) -> Self {
        let mut worker = Self {
            id,
            lane,
            stage: Stage::Spawning,
            since: now,
            pid: None,
            spawned: None,
            ready_at: None,
            exit: None,
            cause: None,
            stale: false,
            welcome: Welcome::Unknown,
            says_stopping: false,
            speech: Speech::Silent,
            manner: Manner::Gently,
            pressure: Pressure::None,
            probes: Probes::none(),
            pulse: Pulse::SILENT,
            noted: Note::parse(""),
            version,
        };
        worker.noted = worker.note();
        worker
    }

    fn launch(&self) -> Launch {
        Launch {
            worker: self.id,
            spec: Arc::clone(&self.version.spec),
            lane: self.lane,
            note: self.noted.to_string(),
        }
    }

    fn spec(&self) -> &AppSpec {
        &self.version.spec
    }

    /// The probes to send, if any: only what serves a port can be probed.
    fn health(&self) -> Option<&Health> {
        self.version.spec.port.and(self.version.spec.health.as_ref())
    }

    /// Whether this life is meant to end.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Draining | Stage::Stopping)
    }

    /// Probes that failed in a row.
    pub(super) fn probes_failed(&self) -> u32 {
        self.probes.failures()
    }

    /// When [`Self::tick`] must run next, if ever.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let watched = match self.stage {
            Stage::Spawning | Stage::Draining | Stage::Stopping => [None, None],
            Stage::Starting => [self.settles(), self.next_probe()],
            Stage::Online => [self.pulse.deadline(), self.next_probe()],
        };
        self.patience().into_iter().chain(watched.into_iter().flatten()).min()
    }

    /// When patience with the present stage ends. The one place that knows: acting and
    /// [`Self::deadline`] cannot disagree.
    fn patience(&self) -> Option<Moment> {
        let AppSpec { ready_timeout, kill_timeout, .. } = *self.version.spec;
        match self.stage {
            Stage::Spawning | Stage::Starting => Some(self.since.after(ready_timeout)),
            Stage::Online => None,
            Stage::Draining => Some(self.since.after(kill_timeout)),
            Stage::Stopping => Some(match self.pressure {
                Pressure::Kill { again } => again,
                Pressure::Message if !self.says_stopping => {
                    self.since.after(kill_timeout / MESSAGE_SHARE)
                }
                Pressure::None | Pressure::Message | Pressure::Signal => {
                    self.since.after(kill_timeout)
                }
            }),
        }
    }

    /// When being alive is enough to be ready.
    fn settles(&self) -> Option<Moment> {
        if self.spec().port.is_some() {
            return None;
        }
        self.spawned.map(|at| at.after(SETTLE))
    }

    fn next_probe(&self) -> Option<Moment> {
        self.probes.deadline(self.health()?)
    }

    /// Takes note of what happened to it; says so if it went wrong. [`Event::Gone`] is for
    /// [`Self::gone`].
    pub(super) fn observe(
        &mut self,
        now: Moment,
        event: &Event,
        out: &mut Outbox,
    ) -> Option<Failure> {
        match event {
            Event::SpawnFailed(_, why) => return self.spawn_failed(why),
            Event::Exited(_, exit) => return self.exited(now, *exit, out),
            Event::Probed(_, probe) => return self.probed(now, probe, out),
            Event::Spawned(_, pid) => self.spawned(now, *pid, out),
            Event::Listening(_) => self.listening(now, out),
            Event::Drained(_) => self.drained(now, out),
            Event::ChannelClosed(_) => self.hung_up(out),
            Event::Gone(_)
            | Event::ListenFailed(..)
            | Event::Channel(..)
            | Event::Notify(..)
            | Event::Sampled(..)
            | Event::Parted(..)
            | Event::Tailed(..)
            | Event::Tidied(..)
            | Event::Client(..)
            | Event::ClientClosed(_)
            | Event::Asked(..)
            | Event::LogBlocked(_)
            | Event::LogResumed(_)
            | Event::StoreFailed(_)
            | Event::StoreRecovered
            | Event::Signalled(_) => (),
        }
        None
    }

    /// Fires its timers; says so if it went wrong.
    pub(super) fn tick(&mut self, now: Moment, out: &mut Outbox) -> Option<Failure> {
        // Ends: each step leads to a later stage or moment.
        while self.patience().is_some_and(|end| end <= now) {
            if let Some(failure) = self.lose_patience(now, out) {
                return Some(failure);
            }
        }
        match self.stage {
            Stage::Starting => {
                self.consider(now, out);
                self.tick_probes(now, out)
            }
            Stage::Online => {
                if self.pulse.deadline().is_some_and(|end| end <= now) {
                    return Some(self.fail(
                        Cause::Heartbeat,
                        "stopped sending heartbeats",
                        now,
                        out,
                    ));
                }
                self.tick_probes(now, out)
            }
            Stage::Spawning | Stage::Draining | Stage::Stopping => None,
        }
    }

    fn lose_patience(&mut self, now: Moment, out: &mut Outbox) -> Option<Failure> {
        match self.stage {
            Stage::Spawning | Stage::Starting => {
                let within = self.spec().ready_timeout;
                let text = match self.probes.complaint() {
                    Some(seen) => {
                        format!("did not become ready within {within:?}; its last probe: {seen}")
                    }
                    None => format!("did not become ready within {within:?}"),
                };
                return Some(self.fail(Cause::Ready, text, now, out));
            }
            Stage::Draining => self.ask(now, out),
            Stage::Stopping => {
                let over = self.since.after(self.spec().kill_timeout) <= now;
                if self.pressure == Pressure::Message && !over {
                    self.signal(out);
                } else {
                    self.kill(now, out);
                }
            }
            Stage::Online => (),
        }
        None
    }

    fn tick_probes(&mut self, now: Moment, out: &mut Outbox) -> Option<Failure> {
        let health = self.version.spec.health.as_ref()?;
        let finding = self.probes.tick(now, health);
        if self.probes.is_due(now) {
            out.act(Action::Probe(self.id));
        }
        self.act_upon(finding, now, out)
    }

    fn probed(&mut self, now: Moment, probe: &Probe, out: &mut Outbox) -> Option<Failure> {
        if self.is_leaving() {
            return None;
        }
        let health = self.version.spec.health.as_ref()?;
        let finding = self.probes.answered(now, probe, health);
        self.consider(now, out);
        self.act_upon(finding, now, out)
    }

    fn act_upon(&mut self, finding: Finding, now: Moment, out: &mut Outbox) -> Option<Failure> {
        match finding {
            Finding::Well => None,
            Finding::Sick(seen) => {
                let text = format!("failed its health probes; the last one: {seen}");
                Some(self.fail(Cause::Health, text, now, out))
            }
        }
    }

    /// The process exists.
    fn spawned(&mut self, now: Moment, pid: Pid, out: &mut Outbox) {
        if self.pid.is_some() {
            return;
        }
        self.pid = Some(pid);
        self.spawned = Some(now);
        match (self.stage, self.pressure) {
            (Stage::Spawning, _) => {
                self.started(now, out);
                self.consider(now, out);
            }
            (Stage::Stopping, Pressure::Kill { .. }) => self.kill(now, out),
            (Stage::Stopping, _) if self.exit.is_none() => self.ask(now, out),
            (Stage::Starting | Stage::Online | Stage::Draining | Stage::Stopping, _) => (),
        }
    }

    fn started(&mut self, at: Moment, out: &mut Outbox) {
        self.enter(at, Stage::Starting, out);
        if self.spec().port.is_some() {
            out.act(Action::AwaitListen(self.id));
        }
        if self.health().is_some() {
            self.probes = Probes::of_starting(at);
        }
    }

    /// Its port is served by this very worker.
    fn listening(&mut self, now: Moment, out: &mut Outbox) {
        self.call();
        self.consider(now, out);
        self.write_down(out);
    }

    /// It said something of itself.
    pub(super) fn heard(&mut self, now: Moment, word: Word, out: &mut Outbox) -> Option<Failure> {
        match word {
            Word::Ready => self.call(),
            Word::Stopping => self.says_stopping = true,
            Word::Alive => self.pulse.beat(now),
            Word::Watchdog(interval) => self.pulse.expect_every(interval),
            // What it once could it can still.
            Word::Speaks(speech) => self.speech = self.speech.max(speech),
            Word::Failing if self.is_leaving() => (),
            Word::Failing => {
                return Some(self.fail(Cause::Heartbeat, "said that it fails", now, out));
            }
        }
        self.consider(now, out);
        self.write_down(out);
        None
    }

    fn call(&mut self) {
        if self.welcome == Welcome::Unknown {
            self.welcome = Welcome::Called;
        }
    }

    /// It can no longer be spoken to.
    fn hung_up(&mut self, out: &mut Outbox) {
        self.speech = Speech::Silent;
        self.write_down(out);
    }

    /// Goes online if it is ready now.
    fn consider(&mut self, now: Moment, out: &mut Outbox) {
        let ready = match self.probes.standing() {
            Standing::Proven => true,
            Standing::Unproven => false,
            Standing::Aside => {
                self.welcome != Welcome::Unknown || self.settles().is_some_and(|at| at <= now)
            }
        };
        if self.stage == Stage::Starting && ready {
            self.enter_online(now, out);
        }
    }

    fn enter_online(&mut self, at: Moment, out: &mut Outbox) {
        self.ready_at = Some(at);
        if self.spec().port.is_some() {
            self.welcome = Welcome::Admitted;
        }
        self.enter(at, Stage::Online, out);
        if self.welcome == Welcome::Admitted {
            out.act(Action::Admit(self.id));
        }
    }

    fn retire(&self, out: &mut Outbox) {
        if self.welcome == Welcome::Admitted {
            out.act(Action::Retire(self.id));
        }
    }

    /// Sends it away because it went wrong.
    fn fail(
        &mut self,
        cause: Cause,
        text: impl fmt::Display,
        now: Moment,
        out: &mut Outbox,
    ) -> Failure {
        let failure = self.failure(text);
        self.leave(cause, Manner::Gently, now, out);
        failure
    }

    fn failure(&self, text: impl fmt::Display) -> Failure {
        let index = self.id.instance.index;
        let text = match self.pid {
            Some(pid) => format!("worker {index} (pid {pid}) {text}"),
            None => format!("worker {index} {text}"),
        };
        Failure { worker: self.id, text, stale: self.stale, was_ready: self.ready_at.is_some() }
    }

    fn enter(&mut self, now: Moment, stage: Stage, out: &mut Outbox) {
        self.stage = stage;
        self.since = now;
        self.write_down(out); // before what follows is done: see `resume`
        out.step(self.id, Step::Entered(stage));
    }

    /// Says whether the reload under way is to replace it.
    pub(super) fn mark(&mut self, stale: Staleness, out: &mut Outbox) {
        self.stale = stale == Staleness::Stale;
        self.write_down(out);
    }

    /// Tells the guard what the next daemon must know, if it is not what it knows.
    fn write_down(&mut self, out: &mut Outbox) {
        let note = self.note();
        if note != self.noted {
            self.noted = note;
            out.act(Action::Note(self.id, note.to_string()));
        }
    }

    fn note(&self) -> Note {
        Note {
            stage: self.stage,
            since: Moment::from_millis(self.since.millis()),
            lane: self.lane,
            print: self.version.print,
            stale: self.stale,
            ready_at: self.ready_at.map(|at| Moment::from_millis(at.millis())),
            cause: self.cause,
            welcome: self.welcome,
            says_stopping: self.says_stopping,
            speech: self.speech,
            pulse: self.pulse.monitored(),
        }
    }
}

/// Whether a reload is to replace a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staleness {
    Fresh,
    Stale,
}
