//! A world of pretend processes, behind the same door as the real one.

use std::{collections::BTreeMap, fmt::Write as _, io, time::Duration};

use bunpilot::{
    domain::{AppId, Exit, Moment, Pid, Signal, WorkerId},
    supervisor::{Speech, Word},
    world::{Action, Event, Launch, Probe, Reach, Survivor, World},
};

use super::{
    law::Law,
    luck::Luck,
    process::{Fact, Life, Nature, Process, Temper, WATCHDOG},
};

#[derive(Debug)]
pub(crate) struct SimWorld {
    now: Moment,
    luck: Luck,
    pub(crate) temper: Temper,
    /// Overrides what the next processes are like.
    pub(crate) bend: Option<fn(&mut Nature)>,
    coming: BTreeMap<(Moment, u64), Coming>,
    sequence: u64,
    pub(crate) processes: BTreeMap<WorkerId, Process>,
    /// What workers said since the daemon last listened.
    words: Vec<(WorkerId, Word)>,
    pub(crate) law: Law,
    pub(crate) transcript: String,
}

#[derive(Debug)]
enum Coming {
    Fact(WorkerId, Fact),
    News(Event),
    Word(WorkerId, Word),
}

impl SimWorld {
    pub(crate) fn new(seed: u64, temper: Temper) -> Self {
        Self {
            now: Moment::from_millis(1_000),
            luck: Luck(!seed),
            temper,
            bend: None,
            coming: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            words: Vec::new(),
            law: Law::default(),
            transcript: String::new(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    pub(crate) fn note(&mut self, line: &str) {
        writeln!(self.transcript, "{:<8} {line}", self.now.to_string()).unwrap();
    }

    /// Workers that get connections.
    pub(crate) fn serving(&self) -> usize {
        self.processes.values().filter(|it| it.admitted && it.leader == Life::Alive).count()
    }

    pub(crate) fn hear(&mut self) -> Vec<(WorkerId, Word)> {
        std::mem::take(&mut self.words)
    }

    /// The daemon died. What it was about to be told is lost; the guard finishes what it was
    /// told to start; time passes until a new daemon is there.
    pub(crate) fn bereave(&mut self) {
        let pending: Vec<WorkerId> =
            self.processes.iter().filter(|(_, it)| it.born.is_none()).map(|(id, _)| *id).collect();
        self.coming.retain(|_, it| match it {
            Coming::Fact(_, Fact::Born | Fact::Stillborn) | Coming::News(_) | Coming::Word(..) => {
                false
            }
            Coming::Fact(..) => true,
        });
        for id in pending {
            if self.processes[&id].nature.stillborn {
                self.processes.remove(&id);
            } else {
                self.happen(id, Fact::Born);
            }
        }
        self.now = self.now.after(self.luck.ms(0, 300));
        self.pass(&mut Vec::new());
        self.coming.retain(|_, it| matches!(it, Coming::Fact(..)));
        self.words.clear();
        let now = self.now;
        self.law.reborn(now);
        for process in self.processes.values_mut() {
            // The new daemon starts its clocks anew.
            process.asked = process.asked.map(|_| now);
            process.retired = process.retired.map(|_| now);
            process.hung = process.hung.map(|_| now);
            process.probed = None;
            process.awaited = false;
            process.monitored &= process.note.contains(" pulse="); // else it was not written down
        }
    }

    /// The machine went down, and with it every process.
    pub(crate) fn reboot(&mut self) {
        self.processes.clear();
        self.coming.clear();
        self.words.clear();
        self.law.forget_history();
        self.law.forget_lanes();
    }

    /// What the guard tells a new daemon about the workers of one app.
    pub(crate) fn survivors(&mut self, app: AppId) -> Vec<Survivor> {
        let now = self.now;
        let mine = self.processes.iter_mut().filter(|(id, _)| id.instance.app == app);
        mine.map(|(id, process)| {
            process.told.born = true;
            let ended = !matches!(process.leader, Life::Alive);
            process.told.exited = ended.then_some(now);
            process.told.gone = !process.tree;
            Survivor {
                worker: *id,
                pid: process.pid,
                spawned: process.born.unwrap(),
                note: process.note.clone(),
                exit: match process.leader {
                    Life::Ended(exit) => Some(exit),
                    Life::Unborn | Life::Alive => None,
                },
                gone: !process.tree,
            }
        })
        .collect()
    }

    /// Forgets what is left of an app no one knows any more.
    pub(crate) fn forget_app(&mut self, app: AppId) {
        self.processes.retain(|id, process| {
            assert!(id.instance.app != app || !process.tree, "{id} outlived its app");
            id.instance.app != app
        });
    }

    fn later(&mut self, delay: Duration, coming: Coming) {
        self.sequence += 1;
        self.coming.insert((self.now.after(delay), self.sequence), coming);
    }

    fn fact(&mut self, id: WorkerId, delay: Duration, fact: Fact) {
        self.later(delay, Coming::Fact(id, fact));
    }

    /// News that may come late or not at all.
    fn rumour(&mut self, event: Event) {
        if !self.luck.percent(self.temper.lost) {
            let delay = self.luck.ms(0, self.temper.late_ms);
            self.later(delay, Coming::News(event));
        }
    }

    /// News from the guard: late maybe, but certain, and in order.
    fn news(&mut self, id: WorkerId, event: Event) {
        let when = self.now.after(self.luck.ms(0, self.temper.late_ms));
        let process = self.processes.get_mut(&id).unwrap();
        process.told_until = process.told_until.max(when);
        let delay = process.told_until.since(self.now);
        self.later(delay, Coming::News(event));
    }

    fn spawn(&mut self, launch: Launch) {
        let id = launch.worker;
        let mut nature = Nature::draw(&mut self.luck, &self.temper);
        if let Some(bend) = self.bend {
            bend(&mut nature);
        }
        let fact = if nature.stillborn { Fact::Stillborn } else { Fact::Born };
        self.fact(id, nature.boots, fact);
        let slippery = nature.offspring && self.luck.percent(self.temper.slippery);
        let pid = Pid(i32::try_from(self.sequence).unwrap());
        self.processes.insert(id, Process::new(launch, nature, pid, slippery));
    }

    fn happen(&mut self, id: WorkerId, fact: Fact) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        match fact {
            Fact::Born => self.born(id),
            Fact::Stillborn => {
                self.news(id, Event::SpawnFailed(id, "no such file".to_owned()));
            }
            Fact::Listens if process.responds() => {
                process.listening = process.spec.port.is_some();
                if process.listening && process.awaited {
                    self.rumour(Event::Listening(id));
                }
            }
            Fact::Says(word) if process.responds() => self.say(id, word),
            Fact::Beats if process.responds() => {
                let every = process.nature.beats.unwrap();
                self.say(id, Word::Alive);
                self.fact(id, every, Fact::Beats);
            }
            Fact::Hangs if process.responds() => process.hung = Some(self.now),
            Fact::Crashes if process.responds() => self.end(id, Exit::Code(1)),
            Fact::Obeys if process.responds() => self.end(id, Exit::Code(0)),
            Fact::Obeys if matches!(process.leader, Life::Ended(_)) => self.extinct(id),
            Fact::Killed => {
                self.end(id, Exit::Signal(9));
                self.extinct(id);
            }
            Fact::Drained if process.responds() => self.rumour(Event::Drained(id)),
            Fact::Listens
            | Fact::Says(_)
            | Fact::Beats
            | Fact::Hangs
            | Fact::Crashes
            | Fact::Obeys
            | Fact::Drained => (),
        }
    }

    fn say(&mut self, id: WorkerId, word: Word) {
        if !self.luck.percent(self.temper.lost) {
            let delay = self.luck.ms(0, self.temper.late_ms);
            self.later(delay, Coming::Word(id, word));
        }
    }

    fn born(&mut self, id: WorkerId) {
        let process = self.processes.get_mut(&id).unwrap();
        process.leader = Life::Alive;
        process.tree = true;
        process.born = Some(self.now);
        let (nature, pid) = (process.nature.clone(), process.pid);
        self.news(id, Event::Spawned(id, pid));
        self.fact(id, Duration::ZERO, Fact::Says(Word::Speaks(nature.speech)));
        if let Some(delay) = nature.ready {
            self.fact(id, delay, Fact::Listens);
            if nature.calls {
                self.fact(id, delay, Fact::Says(Word::Ready));
            }
        }
        if let Some(delay) = nature.crashes {
            self.fact(id, delay, Fact::Crashes);
        }
        if let Some(delay) = nature.hangs {
            self.fact(id, delay, Fact::Hangs);
        }
        if nature.beats.is_some() {
            self.fact(id, Duration::ZERO, Fact::Says(Word::Watchdog(WATCHDOG)));
            self.fact(id, Duration::from_millis(30), Fact::Beats);
        }
    }

    /// The leader ends, and with it all that does not outlive it.
    pub(crate) fn end(&mut self, id: WorkerId, exit: Exit) {
        let process = self.processes.get_mut(&id).unwrap();
        if process.leader != Life::Alive {
            return;
        }
        process.leader = Life::Ended(exit);
        let offspring = process.nature.offspring;
        self.news(id, Event::Exited(id, exit));
        if !offspring {
            self.extinct(id);
        }
    }

    fn extinct(&mut self, id: WorkerId) {
        let process = self.processes.get_mut(&id).unwrap();
        if std::mem::take(&mut process.slippery) {
            return;
        }
        if std::mem::take(&mut process.tree) {
            self.news(id, Event::Gone(id));
        }
    }

    fn signal(&mut self, id: WorkerId, signal: Signal, reach: Reach) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        assert_eq!(reach, Reach::Tree, "{id}: a stop is for the whole tree");
        if signal == Signal::KILL {
            process.killed += 1;
            if process.tree {
                self.fact(id, Duration::from_millis(1), Fact::Killed);
            }
            return;
        }
        process.asked.get_or_insert(self.now);
        if let Some(delay) = process.nature.obeys {
            self.fact(id, delay, Fact::Obeys);
        }
    }

    fn shutdown_message(&mut self, id: WorkerId, line: &[u8]) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let timeout = process.spec.kill_timeout.as_millis();
        let expected = format!("{{\"type\":\"shutdown\",\"timeout\":{timeout}}}\n");
        assert_eq!(line, expected.as_bytes(), "{id}");
        assert_eq!(process.nature.speech, Speech::SdkHandlesShutdown, "{id} never spoke");
        process.asked.get_or_insert(self.now);
        let (acknowledges, obeys) = (process.nature.acknowledges, process.nature.obeys);
        if acknowledges {
            self.fact(id, Duration::from_millis(1), Fact::Says(Word::Stopping));
        }
        if let Some(delay) = obeys {
            self.fact(id, delay, Fact::Obeys);
        }
    }

    fn probe(&mut self, id: WorkerId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.probed = Some(self.now);
        let timeout = process.spec.health.as_ref().unwrap().timeout;
        let (answer, delay) = if !process.nature.reachable {
            (Probe::Unreachable, Duration::ZERO)
        } else if process.hung.is_some() {
            (Probe::Sick("no answer in time".to_owned()), timeout)
        } else if !process.listening || process.leader != Life::Alive {
            (Probe::Sick("connection refused".to_owned()), Duration::ZERO)
        } else if process.nature.sick {
            (Probe::Sick("status 500".to_owned()), Duration::from_millis(2))
        } else {
            process.proved = true;
            (Probe::Healthy, Duration::from_millis(2))
        };
        if !self.luck.percent(self.temper.lost) {
            self.later(delay, Coming::News(Event::Probed(id, answer)));
        }
    }

    /// Lets everything happen that is due.
    fn pass(&mut self, events: &mut Vec<Event>) {
        while let Some(entry) = self.coming.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Coming::Fact(id, fact) => self.happen(id, fact),
                Coming::Word(id, word) => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        process.monitored |= word == Word::Alive;
                    }
                    if word != Word::Alive {
                        self.note(&format!("< {id} says {word:?}"));
                    }
                    self.words.push((id, word));
                }
                Coming::News(event) => {
                    self.note(&format!("< {event:?}"));
                    self.told(&event);
                    events.push(event);
                }
            }
        }
    }

    /// Nobody is told to forget what never was; the daemon has had its say about it.
    fn bury_stillborn(&mut self) {
        let law = &mut self.law;
        self.processes.retain(|id, it| {
            if it.is_stillborn() {
                law.buried(*id, it);
            }
            !it.is_stillborn()
        });
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::Spawned(id, _) => {
                self.processes.get_mut(id).unwrap().told.born = true;
            }
            Event::Exited(id, _) => {
                let process = self.processes.get_mut(id).unwrap();
                process.told.exited = Some(self.now);
                process.admitted = false;
            }
            Event::Gone(id) | Event::SpawnFailed(id, _) => {
                self.processes.get_mut(id).unwrap().told.gone = true;
            }
            _ => (),
        }
    }
}

impl World for SimWorld {
    fn submit(&mut self, action: Action) {
        if !matches!(action, Action::Note(..)) {
            self.note(&format!("  {}", brief(&action)));
        }
        self.law.judge(self.now, &action, &self.processes);
        match action {
            Action::Spawn(launch) => self.spawn(launch),
            Action::Signal(id, signal, reach) => self.signal(id, signal, reach),
            Action::Forget(id) => {
                if let Some(process) = self.processes.remove(&id) {
                    self.law.buried(id, &process);
                }
            }
            Action::Note(id, note) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.note = note;
                }
            }
            Action::Admit(id) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.admitted = true;
                    // The daemon died before it noted that it retired the worker, and the next
                    // one lets it serve on (seed 3607).
                    process.retired = None;
                }
            }
            Action::Retire(id) => {
                let Some(process) = self.processes.get_mut(&id) else { return };
                process.admitted = false;
                process.retired.get_or_insert(self.now);
                if let Some(delay) = process.nature.drains {
                    self.fact(id, delay, Fact::Drained);
                }
            }
            Action::AwaitListen(id) => {
                let Some(process) = self.processes.get_mut(&id) else { return };
                process.awaited = true;
                if process.listening {
                    self.rumour(Event::Listening(id));
                }
            }
            Action::Probe(id) => self.probe(id),
            Action::Channel(id, line) => self.shutdown_message(id, &line),
            Action::Adopt(launch) => {
                if let Some(process) = self.processes.get_mut(&launch.worker) {
                    process.spec = launch.spec;
                    process.trusted = process.note.starts_with("1 online");
                }
            }
            Action::Sample(..)
            | Action::Tail(..)
            | Action::Tidy(..)
            | Action::Reply(..)
            | Action::Hangup(_)
            | Action::Answer(..)
            | Action::Persist(_)
            | Action::Listen(..)
            | Action::Unlisten(_)
            | Action::Exit => panic!("not the supervisor's to say"),
        }
    }

    fn wait(&mut self, deadline: Option<Moment>, events: &mut Vec<Event>) -> io::Result<Moment> {
        self.bury_stillborn();
        let next = self.coming.keys().next().map(|(at, _)| *at);
        let wake = match (next, deadline) {
            (Some(next), Some(deadline)) => next.min(deadline),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => self.now.after(Duration::from_millis(100)),
        };
        self.now = self.now.max(wake);
        self.pass(events);
        Ok(self.now)
    }
}

/// An action as a line of a story.
fn brief(action: &Action) -> String {
    match action {
        Action::Spawn(it) => format!("Spawn({} lane {:?})", it.worker, it.lane),
        Action::Adopt(it) => format!("Adopt({} lane {:?})", it.worker, it.lane),
        Action::Signal(id, signal, _) => format!("Signal({id}, {signal})"),
        Action::Channel(id, line) => {
            format!("Channel({id}, {})", String::from_utf8_lossy(line).trim_end())
        }
        other => format!("{other:?}"),
    }
}
