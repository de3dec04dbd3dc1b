//! All that is outside the daemon: the pretend processes of [`SimWorld`], and beside them
//! clients, scrapers, a database, listening sockets; and what must never happen to any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use bunpilot::{
    config::raw::RawApp,
    domain::{
        AppId, AppSpec, ClientId, InstanceId, Logged, Logs, Moment, Strategy, Usage, WorkerId,
    },
    supervisor::{Speech, Word},
    world::{
        Action, Event, Goal, Question, Reach, Record, Sample, Saved, SavedApp, SavedInstance,
        Survivor, Tidied, World,
    },
};

use super::{
    super::{luck::Luck, process::Temper, world::SimWorld},
    client::Client,
};

#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) inner: SimWorld,
    pub(crate) luck: Luck,
    coming: BTreeMap<(Moment, u64), Event>,
    sequence: u64,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    /// When the last bytes of each client arrive: later ones come after them.
    until: BTreeMap<ClientId, Moment>,
    /// HTTP requests not answered yet.
    scrapes: BTreeSet<ClientId>,
    last_client: u64,
    pub(crate) disk: Disk,
    /// Places each app has listening sockets for.
    sockets: BTreeMap<AppId, u16>,
    /// Apps whose row changed since the daemon last slept: what it decided before goes out after.
    fresh: BTreeSet<AppId>,
    /// Apps that must not start until somebody says so.
    pub(crate) asleep: BTreeSet<String>,
    /// How many more actions are carried out before the daemon dies.
    pub(crate) last_breath: Option<usize>,
    pub(crate) exited: bool,
    broken: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) apps: BTreeMap<AppId, SavedApp>,
    instances: BTreeMap<InstanceId, SavedInstance>,
    last_app: u32,
}

impl Disk {
    pub(crate) fn saved(&self) -> Saved {
        Saved {
            apps: self.apps.values().cloned().collect(),
            instances: self.instances.values().cloned().collect(),
            last_app: self.last_app,
        }
    }

    /// A damaged row is left out by whoever reads it next.
    pub(crate) fn lose_one(&mut self) {
        if let Some((id, _)) = self.apps.pop_first() {
            self.instances.retain(|it, _| it.app != id);
        }
    }

    fn write(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::App(app) => {
                let twin = self.apps.values().find(|it| it.name == app.name && it.id != app.id);
                if let Some(twin) = twin {
                    return Err(format!(
                        "apps {:?} and {:?} are both {}",
                        twin.id, app.id, app.name
                    ));
                }
                self.last_app = self.last_app.max(app.id.0);
                self.apps.insert(app.id, app);
            }
            Record::AppGone(id) => {
                self.apps.remove(&id);
                self.instances.retain(|it, _| it.app != id);
            }
            Record::Instance(saved) => {
                self.instances.insert(saved.worker.instance, saved);
            }
            Record::Ended(_) | Record::Sample { .. } => (),
        }
        Ok(())
    }
}

impl Outside {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            inner: SimWorld::new(seed, Temper::WILD),
            luck: Luck(seed ^ 0x0C0D_E0FF),
            coming: BTreeMap::new(),
            sequence: 0,
            clients: BTreeMap::new(),
            until: BTreeMap::new(),
            scrapes: BTreeSet::new(),
            last_client: 0,
            disk: Disk::default(),
            sockets: BTreeMap::new(),
            fresh: BTreeSet::new(),
            asleep: BTreeSet::new(),
            last_breath: None,
            exited: false,
            broken: None,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.inner.now()
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref().or_else(|| self.inner.law.broken())
    }

    fn breach(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(crate) fn connect(&mut self) -> ClientId {
        self.last_client += 1;
        let id = ClientId(self.last_client);
        self.clients.insert(id, Client::default());
        id
    }

    /// Sends bytes of a client in pieces.
    pub(crate) fn send(&mut self, id: ClientId, mut bytes: &[u8]) {
        let pieces_max = self.luck.range(1, 4);
        for _ in 1..pieces_max {
            let at = bytes.len() * usize::from(self.luck.below(100)) / 100;
            let (head, tail) = bytes.split_at(at);
            if !head.is_empty() {
                self.arrive(id, Event::Client(id, head.to_vec()));
            }
            bytes = tail;
        }
        self.arrive(id, Event::Client(id, bytes.to_vec()));
    }

    /// A client says nothing more.
    pub(crate) fn close(&mut self, id: ClientId) {
        self.clients.get_mut(&id).unwrap().closed = true;
        self.arrive(id, Event::ClientClosed(id));
    }

    fn arrive(&mut self, id: ClientId, event: Event) {
        let delay = if self.luck.percent(50) { Duration::ZERO } else { self.luck.ms(0, 20) };
        let at = self.now().after(delay).max(self.until.get(&id).copied().unwrap_or_default());
        self.until.insert(id, at);
        self.at(at, event);
    }

    pub(crate) fn scrape(&mut self, question: Question) {
        self.last_client += 1;
        let id = ClientId(self.last_client);
        self.scrapes.insert(id);
        self.at(self.now(), Event::Asked(id, question));
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.coming.insert((at, self.sequence), event);
    }

    pub(crate) fn now_comes(&mut self, event: Event) {
        self.at(self.now(), event);
    }

    pub(crate) fn soon(&mut self, event: Event) {
        let at = self.now().after(self.luck.ms(0, 30));
        self.at(at, event);
    }

    /// A worker sends bytes that mean nothing.
    pub(crate) fn babble(&mut self) {
        let ids: Vec<WorkerId> = self.inner.processes.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = *self.luck.pick(&ids);
        if !self.inner.processes[&id].told.born {
            return;
        }
        let event = match self.luck.below(6) {
            0 => Event::Channel(id, b"\xff\x00{\n".to_vec()),
            1 => {
                Event::Channel(id, b"{\"type\":\"custom\",\"channel\":\"x\",\"data\":1}\n".to_vec())
            }
            2 => Event::Channel(id, vec![b'y'; usize::from(self.luck.below(2_000))]),
            3 => Event::Notify(id, b"STATUS=at work\nMAINPID=1\n\xff=\n=".to_vec()),
            4 => Event::Notify(id, vec![0; 5_000]),
            _ => Event::ChannelClosed(id),
        };
        self.soon(event);
    }

    /// The daemon is dead: nobody hears what was on its way, and every connection is broken.
    pub(crate) fn bereave(&mut self) {
        self.hang_up();
        self.inner.law.forget_history();
        self.inner.bereave();
        self.inner.law.forget_lanes();
    }

    /// The machine went down.
    pub(crate) fn reboot(&mut self) {
        self.hang_up();
        self.inner.reboot();
        self.sockets.clear();
        let slept = self.disk.apps.values().filter(|it| it.goal == Goal::Run);
        self.asleep = slept.map(|it| it.name.to_string()).collect();
    }

    fn hang_up(&mut self) {
        self.coming.clear();
        self.clients.clear();
        self.until.clear();
        self.scrapes.clear();
        self.last_breath = None;
        self.exited = false;
    }

    /// What the guard knows.
    pub(crate) fn survivors(&mut self) -> Vec<Survivor> {
        let apps: BTreeSet<AppId> = self.inner.processes.keys().map(|it| it.instance.app).collect();
        apps.into_iter().flat_map(|it| self.inner.survivors(it)).collect()
    }

    /// Whether every answer owed is owed to a client whose bytes were still on their way.
    pub(crate) fn is_unheard(&self) -> bool {
        let on_its_way = |id: &ClientId| {
            self.coming.values().any(|it| match it {
                Event::Client(client, _) | Event::Asked(client, _) => client == id,
                _ => false,
            })
        };
        let clients = self.clients.iter().filter(|(_, it)| it.waits() > 0);
        clients.map(|(id, _)| id).chain(&self.scrapes).all(on_its_way)
    }

    /// Whether any listening socket of the app is open.
    pub(crate) fn listens(&self, app: AppId) -> bool {
        self.sockets.contains_key(&app)
    }

    /// Who is still owed an answer.
    pub(crate) fn owed(&self) -> usize {
        self.scrapes.len() + self.clients.values().map(Client::waits).sum::<usize>()
    }

    fn judge_spawn(&mut self, worker: WorkerId, spec: &Arc<AppSpec>) {
        let config = serde_json::to_string(&RawApp::of(spec)).unwrap();
        let app = worker.instance.app;
        match self.disk.apps.get(&app) {
            Some(saved) if saved.goal == Goal::Run => {
                if saved.config != config && saved.previous.as_ref() != Some(&config) {
                    self.breach(format!("{worker} runs what was never written down"));
                }
            }
            Some(saved) if !self.fresh.contains(&app) => {
                let goal = saved.goal;
                self.breach(format!("{worker} is spawned, and its app is to {goal:?}"));
            }
            Some(_) => (),
            None => self.breach(format!("{worker} is spawned before its app is written down")),
        }
        if self.asleep.contains(spec.name.as_str()) {
            self.breach(format!("{worker} is spawned, and nobody woke its app"));
        }
        let inherits = spec.cluster.enabled && spec.cluster.strategy == Strategy::Inherit;
        if inherits && self.sockets.get(&app).is_none_or(|count| *count <= worker.instance.index) {
            // No harm if the world said that it cannot open them: the worker is stillborn.
            self.inner.bend = Some(|nature| nature.stillborn = true);
            if self.inner.temper.lost == 0 {
                self.breach(format!("{worker} is spawned before its socket is open"));
            }
        }
    }

    fn listen(&mut self, app: AppId, spec: &AppSpec) {
        if spec.cluster.enabled && spec.cluster.strategy == Strategy::Inherit {
            if self.inner.temper.lost > 0 && self.luck.percent(10) {
                self.soon(Event::ListenFailed(app, "port taken".to_owned()));
            } else {
                let count = self.sockets.entry(app).or_default();
                *count = (*count).max(spec.instances.get());
            }
        }
    }

    fn reply(&mut self, id: ClientId, bytes: &[u8]) {
        self.inner.note(&format!("  to {}: {}", id.0, String::from_utf8_lossy(bytes).trim_end()));
        let taken = match self.clients.get_mut(&id) {
            Some(client) => client.take(bytes),
            None => Err("nobody is there".to_owned()),
        };
        if let Err(why) = taken {
            self.breach(format!("reply to client {}: {why}", id.0));
        }
    }

    fn part(&mut self, id: ClientId) {
        match self.clients.remove(&id) {
            Some(client) if client.closed && client.waits() == 0 => (),
            Some(client) => self.breach(format!("client {} is hung up on: {client:?}", id.0)),
            None => self.breach(format!("client {} is hung up on twice", id.0)),
        }
    }

    fn sample(&mut self, workers: &[WorkerId]) {
        let known = |it: &WorkerId| self.inner.processes.get(it).is_some_and(|it| it.told.born);
        if let Some(stranger) = workers.iter().find(|it| !known(it)) {
            self.breach(format!("{stranger} is measured, and nobody knows it"));
        }
        let usage = Usage { cpu: self.now().since_boot() / 10, ..Usage::default() };
        let mut samples: Vec<(WorkerId, Usage)> = workers.iter().map(|it| (*it, usage)).collect();
        samples.retain(|_| !self.luck.percent(5));
        let logged = Some(Logged { bytes: self.now().since_boot().as_secs(), ..Logged::default() });
        // Also of apps that are deleted meanwhile.
        let logs = workers.iter().map(|it| (it.instance, Logs { out: logged, err: None }));
        let logs = logs.collect();
        self.soon(Event::Sampled(Sample { workers: samples, logs, daemon: usage }));
    }

    /// As often as not the disk has something against it.
    fn tidy(&mut self, client: ClientId, id: String) {
        let mut tidied = Tidied { files: 1, bytes: 1, ..Tidied::default() };
        if self.luck.percent(50) {
            tidied.faults.push("cannot flush `x`: read-only file system".to_owned());
        }
        self.soon(Event::Tidied(client, id, tidied));
    }

    fn judge_signal(&mut self, worker: WorkerId) {
        if !self.inner.processes.get(&worker).is_some_and(|it| it.told.born) {
            self.breach(format!("{worker} is signalled, and nobody knows it"));
        }
    }

    fn exit(&mut self) {
        if let Some(left) = self.inner.processes.keys().next() {
            self.breach(format!("the daemon ends, and {left} is left"));
        }
        self.exited = true;
    }

    /// What a worker says, as it would write it.
    fn spell(&mut self, id: WorkerId, word: Word) -> Vec<Event> {
        let speech = self.inner.processes.get(&id).map(|it| it.nature.speech);
        let channel = |text: &str| Event::Channel(id, format!("{text}\n").into_bytes());
        let notify = |text: &str| Event::Notify(id, text.as_bytes().to_vec());
        let event = match word {
            Word::Ready if speech == Some(Speech::Bare) => channel("\"ready\""),
            Word::Ready if speech.is_some_and(|it| it >= Speech::Sdk) => {
                channel("{\"type\":\"ready\",\"sdk\":\"1\"}")
            }
            Word::Ready => notify("READY=1"),
            Word::Stopping => notify("STOPPING=1\nSTATUS=bye"),
            Word::Alive if speech == Some(Speech::Sdk) => {
                channel("{\"type\":\"heartbeat\",\"uptime\":1}")
            }
            Word::Alive => notify("WATCHDOG=1"),
            Word::Failing => notify("WATCHDOG=trigger"),
            Word::Watchdog(every) => notify(&format!("WATCHDOG_USEC={}", every.as_micros())),
            Word::Speaks(Speech::Silent | Speech::Bare) => return Vec::new(),
            Word::Speaks(Speech::Sdk) => {
                channel("{\"type\":\"metrics\",\"payload\":{\"memory\":{\"rss\":1}}}")
            }
            Word::Speaks(Speech::SdkHandlesShutdown) => channel(
                "{\"type\":\"custom\",\"channel\":\"bunpilot\",\"data\":{\"handlesShutdown\":true}}",
            ),
        };
        match event {
            Event::Channel(id, bytes) if self.luck.percent(50) => {
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                vec![Event::Channel(id, head.to_vec()), Event::Channel(id, tail.to_vec())]
            }
            event => vec![event],
        }
    }
}

impl World for Outside {
    fn submit(&mut self, action: Action) {
        match &mut self.last_breath {
            Some(0) => return,
            Some(left) => *left -= 1,
            None => (),
        }
        match action {
            Action::Reply(id, bytes) => self.reply(id, &bytes),
            Action::Hangup(id) => self.part(id),
            Action::Answer(id, answer) => {
                if !self.scrapes.remove(&id) || !matches!(answer.status, 200 | 404) {
                    self.breach(format!("scrape {} is answered {answer:?}", id.0));
                }
            }
            Action::Persist(record) => {
                if let Record::App(app) = &record {
                    self.fresh.insert(app.id);
                }
                if let Err(why) = self.disk.write(record) {
                    self.breach(why);
                }
            }
            Action::Listen(app, spec) => self.listen(app, &spec),
            Action::Unlisten(app) => {
                self.sockets.remove(&app);
            }
            Action::Sample(workers, _) => self.sample(&workers),
            Action::Tail(client, id, _, _) => self.soon(Event::Tailed(client, id, Vec::new())),
            Action::Tidy(client, id, _, _) => self.tidy(client, id),
            Action::Signal(worker, _, Reach::Leader) => self.judge_signal(worker),
            Action::Exit => self.exit(),
            Action::Spawn(launch) => {
                self.judge_spawn(launch.worker, &launch.spec);
                self.inner.submit(Action::Spawn(launch));
                self.inner.bend = None;
            }
            action => self.inner.submit(action),
        }
    }

    fn wait(&mut self, deadline: Option<Moment>, events: &mut Vec<Event>) -> io::Result<Moment> {
        self.fresh.clear();
        let own = self.coming.keys().next().map(|(at, _)| *at);
        let now = self.inner.wait(deadline.into_iter().chain(own).min(), events)?;
        for (id, word) in self.inner.hear() {
            events.extend(self.spell(id, word));
        }
        while let Some(entry) = self.coming.first_entry()
            && entry.key().0 <= now
        {
            let event = entry.remove();
            if let Event::Client(id, bytes) = &event {
                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
                self.inner.note(&format!("< client {}: {head}", id.0));
            } else {
                self.inner.note(&format!("< {event:?}"));
            }
            events.push(event);
        }
        Ok(now)
    }
}
