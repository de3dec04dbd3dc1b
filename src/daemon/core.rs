//! What the daemon knows, and where each event goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    answers::Questions,
    apps::Apps,
    blockages::Blockages,
    jobs::{Addressed, Asker, Jobs},
    scrape::Tallies,
    strangers::Strangers,
    tidy::Tidyings,
    voices::Voices,
};
use crate::{
    control::{
        session::Session,
        wire::{Malformed, Reply, Request},
    },
    domain::{AppId, ClientId, Moment, Signal, WorkerId},
    supervisor::{Manner, Notice, Supervisor, Ticket},
    world::{Action, Event, Facts, Start},
};

/// The subject of warnings about the database.
const DATABASE: &str = "database";

/// All the quiet rooms, joined.
#[derive(Debug)]
pub struct Core {
    pub(super) facts: Facts,
    pub(super) supervisor: Supervisor,
    pub(super) apps: Apps,
    pub(super) jobs: Jobs,
    pub(super) voices: Voices,
    pub(super) questions: Questions,
    pub(super) tidyings: Tidyings,
    pub(super) tallies: Tallies,
    /// Reloads under way, and since when.
    pub(super) reloads: BTreeMap<Ticket, (AppId, Moment)>,
    /// What an operator should know, by subject; shown until it is no longer true.
    pub(super) warnings: BTreeMap<String, String>,
    pub(super) blockages: Blockages,
    sessions: BTreeMap<ClientId, Session>,
    /// Clients that will ask no more but wait for an answer.
    half_open: BTreeSet<ClientId>,
    pub(super) strangers: Strangers,
    actions: VecDeque<Action>,
    leaving: Leaving,
}

/// How far the daemon is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Workers are being stopped; over when this request is.
    Asked,
    /// Every worker is gone; the last actions are on their way out.
    Ready,
    /// The last action is out.
    Over,
}

impl Core {
    /// A daemon without apps.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            supervisor: Supervisor::default(),
            apps: Apps::default(),
            jobs: Jobs::default(),
            voices: Voices::default(),
            questions: Questions::default(),
            tidyings: Tidyings::default(),
            tallies: Tallies::default(),
            reloads: BTreeMap::new(),
            warnings: BTreeMap::new(),
            blockages: Blockages::default(),
            sessions: BTreeMap::new(),
            half_open: BTreeSet::new(),
            strangers: Strangers::default(),
            actions: VecDeque::new(),
            leaving: Leaving::No,
        }
    }

    /// A daemon that takes over from the one before it.
    #[must_use]
    pub fn begin(start: Start) -> Self {
        let Start { now, facts, life, saved, survivors, notes } = start;
        let mut core = Self::new(facts);
        for (number, note) in notes.into_iter().enumerate() {
            core.warn(&format!("start {number}"), note);
        }
        core.restore(now, life, saved, survivors);
        core
    }

    /// Takes note of something that happened outside.
    pub fn observe(&mut self, now: Moment, event: &Event) {
        match event {
            Event::Client(client, bytes) => self.heard(now, *client, bytes),
            Event::ClientClosed(client) => self.client_closed(*client),
            Event::Asked(client, question) => self.asked(now, *client, question.clone()),
            Event::Sampled(sample) => self.sampled(now, sample),
            Event::Tailed(client, id, lines) => self.tailed(*client, id, lines),
            Event::Tidied(client, id, tidied) => self.tidied(*client, id, tidied),
            Event::Channel(worker, bytes) => self.channel(now, *worker, bytes),
            Event::Notify(worker, datagram) => self.notify(now, *worker, datagram),
            Event::StoreFailed(why) => self.warn(DATABASE, why.clone()),
            Event::StoreRecovered => {
                self.warnings.remove(DATABASE);
            }
            Event::LogBlocked(blockage) => self.blockages.begin(blockage),
            Event::LogResumed(path) => self.blockages.end(path),
            Event::Signalled(signal) => self.signalled(now, *signal),
            Event::Parted(worker, parting) => {
                if let Some(name) = self.apps.name(worker.instance.app) {
                    self.jobs.parted(name.as_str(), *parting);
                }
            }
            Event::Gone(worker) => {
                self.supervisor.observe(now, event);
                self.forget(*worker);
                self.bury_stranger(*worker);
            }
            Event::Spawned(..)
            | Event::SpawnFailed(..)
            | Event::Exited(..)
            | Event::Listening(_)
            | Event::Drained(_)
            | Event::Probed(..)
            | Event::ChannelClosed(_)
            | Event::ListenFailed(..) => self.supervisor.observe(now, event),
        }
        self.collect(now);
    }

    /// Fires every timer due by `now`. Calling it early or twice does nothing.
    pub fn tick(&mut self, now: Moment) {
        self.supervisor.tick(now);
        self.kill_strangers(now);
        self.measure_if_due(now);
        self.collect(now);
    }

    /// When [`Self::tick`] must run next, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let own = [self.next_measurement(), self.strangers.deadline()];
        self.supervisor.deadline().into_iter().chain(own.into_iter().flatten()).min()
    }

    /// The next thing to do outside; drain until `None`.
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front().or_else(|| self.supervisor.next_action()) {
            return Some(action);
        }
        if self.leaving == Leaving::Ready {
            self.leaving = Leaving::Over;
            return Some(Action::Exit);
        }
        None
    }

    /// Whether the daemon's last action is out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.leaving == Leaving::Over
    }

    /// How much is remembered of whom, for the simulator: when nobody asks for anything, only
    /// what belongs to living workers.
    #[doc(hidden)]
    #[must_use]
    pub fn remembered(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([
            ("sessions", self.sessions.len()),
            ("half-open clients", self.half_open.len()),
            ("jobs", self.jobs.len()),
            ("questions", self.questions.len()),
            ("tidyings", self.tidyings.len()),
            ("measurements", self.questions.measured()),
            ("reloads", self.reloads.len()),
            ("voices", self.voices.len()),
            ("strangers", self.strangers.len()),
        ])
    }

    /// Queues an action of the core's own; they go out before the supervisor's.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Writes an answer to whoever asked.
    pub(super) fn reply(&mut self, asker: &Asker, reply: Reply<impl serde::Serialize>) {
        let last = !matches!(reply, Reply::Chunk(_));
        self.act(Action::Reply(asker.client, reply.line(&asker.id)));
        if last && self.half_open.contains(&asker.client) && !self.awaits(asker.client) {
            self.hang_up(asker.client);
        }
    }

    pub(super) fn answered(&mut self, answer: Option<Addressed>) {
        if let Some((asker, reply)) = answer {
            self.reply(&asker, reply);
        }
    }

    /// Remembers what an operator should know, and logs it once.
    pub(super) fn warn(&mut self, subject: &str, why: String) {
        if self.warnings.get(subject) != Some(&why) {
            tracing::warn!(subject, why);
            self.warnings.insert(subject.to_owned(), why);
        }
    }

    /// Stops everything, then ends.
    pub(super) fn leave(&mut self, now: Moment) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
            let draft = self.jobs.begin(None, "shutting-down", "daemon");
            let ticket = self.jobs.ticket(draft, "daemon");
            self.supervisor.stop_all(now, ticket, Manner::Gently);
        }
    }

    fn signalled(&mut self, now: Moment, signal: Signal) {
        match signal {
            Signal::HUP => self.reload_all(now),
            _ => self.leave(now),
        }
    }

    fn heard(&mut self, now: Moment, client: ClientId, bytes: &[u8]) {
        let mut requests = Vec::new();
        self.sessions.entry(client).or_default().receive(bytes, &mut requests);
        for request in requests {
            match request {
                Ok(Request { id, command, progress }) => {
                    self.command(now, &Asker { client, id, progress }, command);
                }
                Err(Malformed { id, reason }) => {
                    let reply = Reply::<()>::Failed(crate::control::wire::Code::Usage, reason);
                    self.act(Action::Reply(client, reply.line(&id)));
                }
            }
        }
    }

    fn client_closed(&mut self, client: ClientId) {
        self.sessions.remove(&client);
        if self.awaits(client) {
            self.half_open.insert(client);
        } else {
            self.hang_up(client);
        }
    }

    fn hang_up(&mut self, client: ClientId) {
        self.half_open.remove(&client);
        self.act(Action::Hangup(client));
    }

    fn awaits(&self, client: ClientId) -> bool {
        self.jobs.waits(client) || self.questions.waits(client) || self.tidyings.waits(client)
    }

    /// Whether the daemon is on its way out.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Whether nothing is left of any worker.
    fn is_empty(&self) -> bool {
        self.workers().next().is_none() && self.strangers.is_empty()
    }

    fn forget(&mut self, worker: WorkerId) {
        self.voices.forget(worker);
        self.questions.forget(worker);
    }

    /// Carries the supervisor's notices to whom they concern.
    pub(super) fn collect(&mut self, now: Moment) {
        while let Some(notice) = self.supervisor.next_notice() {
            match notice {
                Notice::Finished(ticket, outcome) => self.finished(now, ticket, outcome),
                Notice::Progress(ticket, worker, step) => self.progressed(ticket, worker, step),
                Notice::Ended(ending) => self.ended(&ending),
                Notice::AppChanged(app) => self.write_app(app),
                Notice::AppGone(app) => self.app_gone(app),
                Notice::InstanceChanged(instance) => {
                    self.write_instance(instance);
                    self.unlisten_if_over(instance.app);
                }
            }
        }
        if self.leaving == Leaving::Asked && self.is_empty() {
            self.leaving = Leaving::Ready;
        }
        if self.leaving == Leaving::Ready {
            self.last_answers(now);
            self.give_up_tidying();
        }
    }
}
