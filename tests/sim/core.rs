//! The whole core of the daemon, turned by the real loop: clients and workers send bytes, good
//! and bad, in any pieces; the daemon dies amid a turn; the machine goes down.
//!
//! Every request of a client that stays is answered once, and nobody else's answer reaches it;
//! nothing is started that is not written down, nothing after a reboot that nobody woke; the
//! daemon ends only when every worker has; and when all is quiet nothing is remembered.

mod client;
mod outside;

use std::{env, num::NonZeroU16, time::Duration};

use bunpilot::{
    config::raw::RawApp,
    control::wire::{Command, Force, Progress, Target},
    daemon::{Core, Turn, turn},
    domain::{ClientId, Clock, Pid, Signal, Strategy},
    world::{Dialect, Event, Facts, Goal, Life, Question, Start},
};
use serde_json::Value;

use self::{client::any_command, outside::Outside};
use super::{any_spec, luck::Luck, process::Temper};

/// Longer than anything mild can take.
const CALM: Duration = Duration::from_secs(75);

/// Turns a quiet world may take before we call it stuck.
const TURNS_MAX: u32 = 40_000;

struct Run {
    seed: u64,
    luck: Luck,
    outside: Outside,
    core: Core,
    over: bool,
    versions: u32,
}

fn facts(outside: &Outside) -> Facts {
    Facts {
        version: "0.0.0",
        pid: Pid(1),
        started: outside.now(),
        clock: Clock::default(),
        engines: std::collections::BTreeMap::new(),
        rungs: std::collections::BTreeMap::new(),
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let outside = Outside::new(seed);
        let core = Core::new(facts(&outside));
        Self { seed, luck: Luck(seed), outside, core, over: false, versions: 0 }
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        panic!("{}\nseed {}: {why}", self.outside.inner.transcript, self.seed);
    }

    #[track_caller]
    fn turn(&mut self) {
        if self.over {
            return;
        }
        self.over = turn(&mut self.core, &mut self.outside, &mut Vec::new()).unwrap() == Turn::Over;
        if let Some(why) = self.outside.broken() {
            self.fail(why);
        }
    }

    #[track_caller]
    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.turn();
        }
        let remembered = self.core.remembered();
        self.fail(&format!("no end; {} are owed an answer; {remembered:?}", self.outside.owed()));
    }

    #[track_caller]
    fn pass(&mut self, time: Duration) {
        let end = self.outside.now().after(time);
        self.until(|it| it.over || end <= it.outside.now());
    }

    /// The daemon dies amid its turn, another one takes over.
    #[track_caller]
    fn die(&mut self) {
        self.outside.last_breath = Some(self.luck.below(40).into());
        self.turn();
        self.outside.inner.note("> kill -9");
        self.outside.bereave();
        if self.luck.percent(20) {
            self.outside.disk.lose_one();
        }
        self.take_over(Life::Next);
    }

    #[track_caller]
    fn reboot(&mut self) {
        self.outside.inner.note("> reboot");
        self.outside.reboot();
        self.take_over(Life::First);
    }

    #[track_caller]
    fn take_over(&mut self, life: Life) {
        self.over = false;
        let survivors = self.outside.survivors();
        self.core = Core::begin(Start {
            now: self.outside.now(),
            facts: facts(&self.outside),
            life,
            saved: self.outside.disk.saved(),
            survivors,
            notes: Vec::new(),
        });
    }

    /// Clients that may say more.
    fn open(&self) -> Vec<ClientId> {
        let clients = self.outside.clients.iter();
        clients.filter(|(_, it)| !it.closed).map(|(id, _)| *id).collect()
    }

    fn client(&mut self) -> ClientId {
        let open = self.open();
        if open.is_empty() || self.luck.percent(30) {
            self.outside.connect()
        } else {
            *self.luck.pick(&open)
        }
    }

    fn ask(&mut self, id: ClientId, command: Command) {
        let progress = if self.luck.percent(50) { Progress::Told } else { Progress::Silent };
        self.wake(&command);
        let client = self.outside.clients.get_mut(&id).unwrap();
        let line = client.ask(&format!("c{}", id.0), command, progress);
        self.outside.send(id, &line);
    }

    /// Notes which apps may run again because of this command.
    fn wake(&mut self, command: &Command) {
        match command {
            Command::Start { name, .. } | Command::Restart(Target::App(name), _) => {
                self.outside.asleep.remove(name);
            }
            Command::Delete(..) | Command::Resurrect => self.outside.asleep.clear(),
            _ => (),
        }
    }

    fn any_config(luck: &mut Luck, versions: &mut u32, name: &str) -> Value {
        *versions += 1;
        let mut spec = any_spec(luck, *versions, 3);
        spec.name = name.parse().unwrap();
        spec.kill_timeout = Duration::from_secs(1);
        if let Some(health) = &mut spec.health {
            health.timeout = Duration::from_millis(500);
        }
        if spec.port.is_some() {
            spec.port = NonZeroU16::new(luck.range(3000, 3001));
        }
        spec.cluster.strategy =
            *luck.pick(&[Strategy::Inherit, Strategy::ReusePort, Strategy::Auto]);
        if spec.port.is_none() {
            spec.cluster.strategy = Strategy::Auto;
        }
        let inherits = spec.cluster.strategy == Strategy::Inherit;
        spec.cluster.enabled = spec.port.is_some() && (spec.instances.get() > 1 || inherits);
        serde_json::to_value(RawApp::of(&spec)).unwrap()
    }

    fn any_step(&mut self) {
        match self.luck.below(20) {
            0..11 => {
                let id = self.client();
                let (luck, versions) = (&mut self.luck, &mut self.versions);
                let command =
                    any_command(luck, &mut |luck, name| Self::any_config(luck, versions, name));
                self.ask(id, command);
            }
            11 => {
                let id = self.client();
                let client = self.outside.clients.get_mut(&id).unwrap();
                let line = client.babble(&format!("c{}", id.0), &mut self.luck);
                self.outside.send(id, &line);
            }
            12 => {
                let id = self.client();
                for _ in 0..self.luck.below(4) {
                    let question = [Command::List, Command::Exposition, Command::Dump];
                    let question = self.luck.pick(&question).clone();
                    self.ask(id, question);
                }
                if self.luck.percent(50) {
                    self.outside.send(id, b"{\"id\":\"half\",\"cmd\":\"sto");
                }
                self.outside.close(id);
            }
            13 => {
                let question = match self.luck.below(4) {
                    0 => Question::Exposition(Dialect::Text),
                    1 => Question::Exposition(Dialect::OpenMetrics),
                    2 => Question::Metrics(self.luck.percent(50).then(|| "web".to_owned())),
                    _ => Question::Status,
                };
                self.outside.scrape(question);
            }
            14..17 => self.outside.babble(),
            17 if self.luck.percent(50) => self.outside.soon(Event::StoreRecovered),
            17 => self.outside.soon(Event::StoreFailed("disk full".to_owned())),
            18 => self.outside.soon(Event::Signalled(Signal::HUP)),
            _ => (),
        }
    }

    /// Every client leaves; then nothing is remembered of anybody.
    #[track_caller]
    fn check_quiet(&mut self) {
        for id in self.open() {
            self.outside.close(id);
        }
        self.until(|it| it.outside.clients.is_empty());
        self.pass(Duration::from_secs(2));
        let workers = self.outside.inner.processes.len();
        for (what, count) in self.core.remembered() {
            let most = if what == "voices" || what == "measurements" { workers } else { 0 };
            if count > most {
                self.fail(&format!("all is quiet, and {count} {what} are remembered"));
            }
        }
    }

    /// The daemon is told to end, and does.
    #[track_caller]
    fn farewell(&mut self) {
        if self.luck.percent(30) {
            // Strangers, and nobody else, may be left: they are waited for as well.
            self.die();
            self.outside.disk.lose_one();
            self.outside.disk.lose_one();
            self.take_over(Life::Next);
            self.outside.now_comes(Event::Signalled(Signal::TERM));
        }
        let asker = self.outside.connect();
        for _ in 0..self.luck.below(4) {
            let id = self.client();
            let name = "web".to_owned();
            let command = match self.luck.below(4) {
                0 => Command::List,
                1 => Command::Logs { name, lines: 1 },
                2 => Command::Restart(Target::All, Force::Gentle),
                _ => Command::Exposition,
            };
            self.ask(id, command);
        }
        if self.luck.percent(50) {
            self.ask(asker, Command::KillDaemon);
        } else {
            self.outside.soon(Event::Signalled(Signal::TERM));
        }
        self.until(|it| it.over);
        // What came after the last turn was never heard.
        if !self.outside.is_unheard() {
            self.fail(&format!("the daemon ended and owed {} answers", self.outside.owed()));
        }
    }

    /// Whether every app does what the database says.
    #[track_caller]
    fn check_goals(&self) {
        for app in self.outside.disk.apps.values() {
            let running = self
                .outside
                .inner
                .processes
                .iter()
                .any(|(id, it)| id.instance.app == app.id && it.tree);
            if running && app.goal != Goal::Run {
                self.fail(&format!("{} is to {:?} and runs", app.name, app.goal));
            }
            let listens = self.outside.listens(app.id);
            if listens && (app.goal != Goal::Run || app.asleep) {
                self.fail(&format!("{} is at rest, and its port is open", app.name));
            }
            if app.goal == Goal::Gone {
                self.fail(&format!("{} was deleted and is still there", app.name));
            }
        }
    }
}

#[test]
fn core_storm() {
    let number = |name| env::var(name).ok().map(|it: String| it.parse::<u64>().unwrap());
    let only = number("BUNPILOT_SEED");
    let count = number("BUNPILOT_SEEDS").unwrap_or(200);
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let transcript = storm_once(seed);
        if only.is_some() {
            println!("{transcript}");
        }
    }
}

fn storm_once(seed: u64) -> String {
    let mut run = Run::new(seed);
    run.take_over(Life::First);
    let mortal = !seed.is_multiple_of(3);
    for _ in 0..60 {
        run.any_step();
        for _ in 0..run.luck.below(12) {
            if mortal && run.luck.below(300) == 0 {
                run.die();
            } else if mortal && run.luck.below(1_500) == 0 {
                run.reboot();
            }
            run.turn();
        }
    }
    run.outside.inner.temper = Temper::MILD;
    run.until(|it| it.outside.owed() == 0);
    run.pass(CALM);
    run.check_quiet();
    run.check_goals();
    run.farewell();
    run.reboot();
    run.pass(Duration::from_secs(10));
    if run.outside.inner.processes.values().any(|it| it.tree) {
        run.fail("something runs after a reboot, and nobody said `resurrect`");
    }
    let client = run.outside.connect();
    run.ask(client, Command::Resurrect);
    run.until(|it| it.outside.owed() == 0);
    run.ask(client, Command::Delete(Target::All, Force::Gentle));
    run.until(|it| it.outside.owed() == 0);
    run.check_quiet();
    if !run.outside.disk.apps.is_empty() || !run.outside.inner.processes.is_empty() {
        run.fail("something is left after everything was deleted");
    }
    run.outside.inner.transcript
}
