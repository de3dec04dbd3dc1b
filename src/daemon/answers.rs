//! Questions about how things are: `list`, `status`, `metrics`, scrapes. Whoever asks waits until
//! the workers are measured, at most once a second for all askers together.
//!
//! Also measures on its own: CPU time often, since it costs next to nothing, and everything once
//! a minute for the database.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{Core, jobs::Asker};
use crate::{
    control::wire::{Code, Reply, Target},
    domain::{AppId, ClientId, Moment, Usage, WorkerId},
    metrics::rates::Rate,
    supervisor::Refusal,
    world::{self, Action, Answer, Depth, Record, Sample},
};

/// Measurements this young are given to everybody who asks.
const FRESH: Duration = Duration::from_secs(1);

/// Time between two measurements that go to the database.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(1);

/// What a client or a scraper wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    List,
    Status(String, Option<u16>),
    Metrics(Option<String>),
    Exposition,
    Dump,
}

/// Everyone who waits for an answer, and what was last measured.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<(Who, Question)>,
    tails: Vec<Asker>,
    measured: BTreeMap<WorkerId, Measured>,
    daemon: Option<Usage>,
    /// When everything was last measured.
    full: Option<Moment>,
    /// When anything was last measured.
    last: Option<Moment>,
    snapshot: Option<Moment>,
    under_way: Option<Depth>,
}

#[derive(Clone, Debug)]
enum Who {
    Client(Asker),
    Http(ClientId, Option<world::Dialect>),
}

/// What is known of one worker's usage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) usage: Usage,
    pub(super) rate: Rate,
    pub(super) at: Moment,
}

impl Questions {
    pub(super) fn of(&self, worker: WorkerId) -> Option<&Measured> {
        self.measured.get(&worker)
    }

    /// What the daemon itself uses.
    pub(super) fn daemon(&self) -> Option<Usage> {
        self.daemon
    }

    /// Askers who wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.tails.len()
    }

    /// Workers that were measured.
    pub(super) fn measured(&self) -> usize {
        self.measured.len()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.measured.remove(&worker);
    }

    /// A client waits for the end of log files.
    pub(super) fn tail(&mut self, asker: Asker) {
        self.tails.push(asker);
    }

    pub(super) fn waits(&self, client: ClientId) -> bool {
        self.tails.iter().any(|it| it.client == client)
            || self.waiting.iter().any(|(who, _)| match who {
                Who::Client(asker) => asker.client == client,
                Who::Http(..) => false,
            })
    }
}

impl Core {
    pub(super) fn question(&mut self, now: Moment, asker: &Asker, question: Question) {
        self.questions.waiting.push_back((Who::Client(asker.clone()), question));
        self.answer_or_measure(now);
    }

    pub(super) fn status(
        &mut self,
        now: Moment,
        asker: &Asker,
        target: &str,
    ) -> Result<(), (Code, String)> {
        let (name, index) = match Target::parse(target) {
            Target::Instance(name, index) => (name, Some(index)),
            Target::App(name) => (name, None),
            Target::All => ("all".to_owned(), None),
        };
        if self.apps.find(&name).is_none() {
            return Err((Code::NoSuchApp, format!("App not found: {name}")));
        }
        self.question(now, asker, Question::Status(name, index));
        Ok(())
    }

    pub(super) fn asked(&mut self, now: Moment, client: ClientId, question: world::Question) {
        let (dialect, question) = match question {
            world::Question::Exposition(dialect) => (Some(dialect), Question::Exposition),
            world::Question::Metrics(name) => (None, Question::Metrics(name)),
            world::Question::Status => (None, Question::Dump),
        };
        self.questions.waiting.push_back((Who::Http(client, dialect), question));
        self.answer_or_measure(now);
    }

    /// The daemon ends: whoever still waits is answered now.
    pub(super) fn last_answers(&mut self, now: Moment) {
        self.answer_all(now);
        while let Some(asker) = self.questions.tails.pop() {
            let why = Refusal::ShuttingDown.to_string();
            self.reply(&asker, Reply::<()>::Failed(Code::Busy, why));
        }
    }

    pub(super) fn tailed(&mut self, client: ClientId, id: &str, lines: &[String]) {
        let is_it = |it: &Asker| it.client == client && it.id == id;
        if let Some(at) = self.questions.tails.iter().position(is_it) {
            let asker = self.questions.tails.swap_remove(at);
            self.reply(&asker, Reply::Done(json!(lines)));
        }
    }

    /// When the next measurement of its own is due.
    pub(super) fn next_measurement(&self) -> Option<Moment> {
        if self.questions.under_way.is_some() {
            return None;
        }
        let interval = self.interval()?;
        let last = self.questions.last.unwrap_or(self.facts.started);
        Some(last.after(interval))
    }

    /// The shortest interval any running app asks for; `None` if nothing is to be measured.
    fn interval(&self) -> Option<Duration> {
        self.supervisor
            .apps()
            .filter(|app| app.spec().metrics.enabled && app.workers().next().is_some())
            .map(|app| app.spec().metrics.collect_interval)
            .min()
    }

    pub(super) fn measure_if_due(&mut self, now: Moment) {
        if self.next_measurement().is_none_or(|due| now < due) {
            return;
        }
        let snapshot = self.questions.snapshot.unwrap_or(self.facts.started);
        let depth = if now.since(snapshot) >= SNAPSHOT_EVERY { Depth::Full } else { Depth::Cpu };
        self.measure(now, depth);
    }

    fn measure(&mut self, now: Moment, depth: Depth) {
        // One at a time: what comes back does not say how deep it went.
        if self.questions.under_way.is_some() {
            return;
        }
        let workers: Vec<WorkerId> = self.alive().map(|it| it.id).collect();
        self.questions.under_way = Some(depth);
        self.questions.last = Some(now);
        self.act(Action::Sample(workers, depth));
    }

    fn answer_or_measure(&mut self, now: Moment) {
        let fresh = self.questions.full.is_some_and(|at| now.since(at) < FRESH);
        // What the workers of a stopped app wrote last is worth a look, too.
        if fresh || self.supervisor.apps().next().is_none() {
            self.answer_all(now);
        } else {
            self.measure(now, Depth::Full);
        }
    }

    pub(super) fn sampled(&mut self, now: Moment, sample: &Sample) {
        let depth = self.questions.under_way.take();
        self.questions.daemon = Some(sample.daemon);
        let alive: BTreeSet<WorkerId> = self.alive().map(|it| it.id).collect();
        for (worker, usage) in sample.workers.iter().filter(|(worker, _)| alive.contains(worker)) {
            let measured = self.questions.measured.entry(*worker).or_default();
            measured.rate.observe(now, usage.cpu);
            (measured.usage, measured.at) = (*usage, now);
        }
        for (instance, logs) in &sample.logs {
            // An app may have been deleted since.
            if self.supervisor.app(instance.app).is_some() {
                self.tallies.logged(*instance, *logs);
            }
        }
        if depth != Some(Depth::Full) {
            if !self.questions.waiting.is_empty() {
                self.answer_or_measure(now);
            }
            return;
        }
        self.questions.full = Some(now);
        let snapshot = self.questions.snapshot.unwrap_or(self.facts.started);
        if now.since(snapshot) >= SNAPSHOT_EVERY {
            self.questions.snapshot = Some(now);
            self.write_samples(now, &sample.workers);
        }
        self.answer_all(now);
    }

    fn write_samples(&mut self, now: Moment, samples: &[(WorkerId, Usage)]) {
        let unix_millis = self.facts.clock.unix_millis(now);
        for (worker, usage) in samples {
            let Some(app) = self.apps.name(worker.instance.app).cloned() else { continue };
            let report = self.voices.of(*worker).and_then(|it| it.report);
            self.act(Action::Persist(Record::Sample {
                worker: *worker,
                app,
                unix_millis,
                usage: *usage,
                cpu_millipercent: self.millipercent(*worker),
                heap_used_bytes: report.and_then(|it| it.heap_used_bytes),
            }));
        }
    }

    /// Share of one CPU, in thousandths of a percent; 0 before the second measurement.
    pub(super) fn millipercent(&self, worker: WorkerId) -> u32 {
        self.questions.of(worker).and_then(|it| it.rate.millipercent()).unwrap_or_default()
    }

    fn answer_all(&mut self, now: Moment) {
        // One after the other: a client that waits for the next one is not hung up on.
        while let Some((who, question)) = self.questions.waiting.pop_front() {
            match who {
                Who::Client(asker) => {
                    let reply = self.answer(now, &question);
                    self.reply(&asker, reply);
                }
                Who::Http(client, dialect) => {
                    let answer = self.http_answer(now, &question, dialect);
                    self.act(Action::Answer(client, answer));
                }
            }
        }
    }

    fn answer(&self, now: Moment, question: &Question) -> Reply<Box<RawValue>> {
        match question {
            Question::List | Question::Metrics(None) => done(&self.list()),
            Question::Metrics(Some(name)) => match self.apps.find(name) {
                Some(id) => done(&[self.app_status(id)]),
                None => Reply::Failed(Code::NoSuchApp, format!("App \"{name}\" not found.")),
            },
            Question::Status(name, index) => match self.apps.find(name) {
                Some(id) => self.one_status(id, *index),
                None => Reply::Failed(Code::NoSuchApp, format!("App not found: {name}")),
            },
            Question::Exposition => {
                let text = self.exposition(now, world::Dialect::Text);
                done(&String::from_utf8_lossy(&text))
            }
            Question::Dump => done(&self.daemon_status(now)),
        }
    }

    fn one_status(&self, id: AppId, index: Option<u16>) -> Reply<Box<RawValue>> {
        let Some(mut status) = self.app_status(id) else {
            return Reply::Failed(Code::NoSuchApp, "the app is being deleted".to_owned());
        };
        if let Some(index) = index {
            status.workers.retain(|it| it.id == index);
            if status.workers.is_empty() {
                let why = format!("App \"{}\" has no instance {index}.", status.name);
                return Reply::Failed(Code::NoSuchApp, why);
            }
        }
        done(&status)
    }

    fn http_answer(
        &self,
        now: Moment,
        question: &Question,
        dialect: Option<world::Dialect>,
    ) -> Answer {
        if let (Question::Exposition, Some(dialect)) = (question, dialect) {
            return Answer {
                status: 200,
                content_type: dialect.media_type(),
                body: self.exposition(now, dialect),
            };
        }
        let (status, body) = match self.answer(now, question) {
            Reply::Done(data) | Reply::Chunk(data) => (200, data.get().to_owned()),
            Reply::Failed(Code::NoSuchApp, why) => (404, json!({ "error": why }).to_string()),
            Reply::Failed(_, why) => (500, json!({ "error": why }).to_string()),
        };
        Answer { status, content_type: "application/json", body: body.into_bytes() }
    }
}

fn done(what: &(impl serde::Serialize + ?Sized)) -> Reply<Box<RawValue>> {
    // These types hold only strings, numbers and lists: writing them cannot fail.
    Reply::Done(to_raw_value(what).unwrap_or_else(|_never| RawValue::NULL.to_owned()))
}
