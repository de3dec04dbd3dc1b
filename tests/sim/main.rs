//! The supervisor, and in [`core`] the daemon around it, in a make-believe world: simulated
//! time, seeded luck, and a daemon that dies.
//!
//! Replay one run with `BUNPILOT_SEED=<seed> cargo test --test sim storm -- --nocapture`; run
//! more of them with `BUNPILOT_SEEDS=10000`.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking and tells its story on stdout"
)]

mod core;
mod daemon;
mod law;
mod luck;
mod process;
mod reload;
mod story;
mod world;

use std::{
    collections::BTreeMap,
    env,
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use bunpilot::{
    domain::{
        AppId, AppSpec, Balance, Cluster, Health, Keep, LogSpec, MetricsSpec, Restart, Signal,
        Stage, Strategy,
    },
    supervisor::{AppView, Manner, Outcome, Refusal, Request, State},
    world::Goal,
};
use daemon::{Daemon, Death, TURNS_MAX, is_calm, version};
use luck::Luck;
use process::Temper;
use world::SimWorld;

/// Longer than anything mild can take: four batches, each with its timeouts, and the heartbeats
/// of a hung worker.
const CALM: Duration = Duration::from_secs(75);

/// A spec with short times. `version` is all that tells two of them apart.
pub(crate) fn spec(instances: u16, version: u32) -> AppSpec {
    let ms = Duration::from_millis;
    AppSpec {
        name: "web".parse().unwrap(),
        script: "/srv/web.js".into(),
        interpreter: Vec::new(),
        args: Vec::new(),
        cwd: "/srv".into(),
        env: BTreeMap::from([("VERSION".to_owned(), version.to_string())]),
        instances: NonZeroU16::new(instances).unwrap(),
        port: NonZeroU16::new(3000),
        user: None,
        limits: BTreeMap::new(),
        shutdown_signal: Signal::TERM,
        ready_timeout: ms(1_000),
        kill_timeout: ms(500),
        min_uptime: ms(300),
        restart: Restart {
            max_restarts: 5,
            window: ms(10_000),
            initial: ms(100),
            growth_percent: 200,
            max: ms(1_000),
        },
        health: None,
        logs: LogSpec::plain(Keep::new(
            NonZeroU64::new(1 << 20).unwrap(),
            NonZeroU16::new(5).unwrap(),
        )),
        metrics: MetricsSpec {
            compat_names: true,
            enabled: true,
            prometheus: false,
            http_port: NonZeroU16::new(9615).unwrap(),
            collect_interval: ms(5_000),
        },
        cluster: Cluster {
            enabled: true,
            strategy: Strategy::Inherit,
            balance: Balance::LeastConnections,
            weights: Vec::new(),
            batch_size: NonZeroU16::new(2).unwrap(),
            batch_delay: ms(100),
        },
    }
}

pub(crate) fn health() -> Health {
    Health {
        path: "/health".to_owned(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(300),
        unhealthy_threshold: NonZeroU32::new(3).unwrap(),
    }
}

fn any_spec(luck: &mut Luck, version: u32, max_restarts: u32) -> AppSpec {
    let mut spec = spec(luck.range(1, 4), version);
    spec.health = luck.percent(50).then(health);
    if luck.percent(25) {
        spec.port = None;
    }
    spec.cluster.batch_size = NonZeroU16::new(luck.range(1, 2)).unwrap();
    spec.restart.max_restarts = max_restarts;
    spec
}

/// One simulated machine.
pub(crate) struct Run {
    seed: u64,
    pub(crate) world: SimWorld,
    pub(crate) daemon: Daemon,
}

impl Run {
    pub(crate) fn new(seed: u64, temper: Temper) -> Self {
        Self { seed, world: SimWorld::new(seed, temper), daemon: Daemon::default() }
    }

    #[track_caller]
    pub(crate) fn turn(&mut self) {
        if let Err(broken) = self.daemon.turn(&mut self.world) {
            self.fail(&broken);
        }
    }

    #[track_caller]
    pub(crate) fn die(&mut self, death: Death) {
        if let Err(broken) = self.daemon.die(&mut self.world, death) {
            self.fail(&broken);
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.turn();
        }
        self.fail("no end");
    }

    #[track_caller]
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.world.now().after(time);
        self.until(|it| end <= it.world.now());
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, app: AppId, request: Request) -> Outcome {
        match self.daemon.request(&mut self.world, app, request) {
            Err(refusal) => self.fail(&format!("refused: {refusal}")),
            Ok(ticket) => {
                self.until(|it| it.daemon.outcome(ticket).is_some());
                self.daemon.outcome(ticket).unwrap().clone()
            }
        }
    }

    #[track_caller]
    pub(crate) fn fail(&self, why: &str) -> ! {
        panic!("{}\nseed {}: {why}", self.world.transcript, self.seed);
    }

    #[track_caller]
    fn assert_calm(&self) {
        for app in self.daemon.supervisor.apps() {
            if let Err(why) = is_calm(app) {
                self.fail(&why);
            }
        }
        if let Err(why) = self.daemon.check_wishes() {
            self.fail(&why);
        }
        if self.daemon.open() > 0 {
            self.fail("a request was never answered");
        }
    }
}

/// Any order of requests against any behaviour of processes, with a daemon that dies now and
/// then: the [`law`] holds in every turn, every request is answered once, and once processes
/// behave every app comes to rest where it should.
#[test]
fn storm() {
    let number = |name| env::var(name).ok().map(|it: String| it.parse::<u64>().unwrap());
    let only = number("BUNPILOT_SEED");
    let count = number("BUNPILOT_SEEDS").unwrap_or(300);
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let transcript = storm_once(seed);
        if only.is_some() {
            println!("{transcript}");
        }
    }
}

fn storm_once(seed: u64) -> String {
    let mut luck = Luck(seed);
    let mut run = Run::new(seed, Temper::WILD);
    let mortal = !seed.is_multiple_of(3);
    let max_restarts = luck.range(1, 5).into();
    let mut versions = 0;
    let mut apps: Vec<AppId> = Vec::new();
    for _ in 0..40 {
        while apps.len() < 2 {
            versions += 1;
            apps.push(run.daemon.add(any_spec(&mut luck, versions, max_restarts)));
        }
        let app = if luck.percent(10) {
            AppId(luck.range(1, 9).into()) // maybe deleted, maybe never there
        } else {
            *luck.pick(&apps)
        };
        versions += 1;
        let request = any_request(&mut luck, versions, max_restarts);
        let deletes = matches!(request, Request::Delete(_));
        if run.daemon.request(&mut run.world, app, request).is_ok() && deletes {
            apps.retain(|it| *it != app);
        }
        for _ in 0..luck.below(40) {
            if mortal && luck.percent(2) {
                run.die(any_death(&mut luck));
                apps = run.daemon.supervisor.apps().map(AppView::id).collect();
            } else {
                run.turn();
            }
        }
    }
    run.world.temper = Temper::MILD;
    run.pass(CALM);
    run.assert_calm();
    come_back(&mut run);
    reboot(&mut run);
    farewell(&mut run);
    run.world.transcript
}

fn any_request(luck: &mut Luck, version: u32, max_restarts: u32) -> Request {
    let spec = luck.percent(40).then(|| Arc::new(any_spec(luck, version, max_restarts)));
    let manner = if luck.percent(20) { Manner::Forcibly } else { Manner::Gently };
    match luck.below(20) {
        0..4 => Request::Start(spec),
        4..6 => Request::Stop(manner),
        6..9 => Request::Restart(spec, manner),
        9..16 => Request::Reload(spec),
        16..19 => Request::Scale(NonZeroU16::new(luck.range(1, 5)).unwrap()),
        _ => Request::Delete(manner),
    }
}

fn any_death(luck: &mut Luck) -> Death {
    match luck.below(3) {
        0 => Death::Between,
        1 => Death::Unsaved,
        _ => Death::Amid(luck.below(100)),
    }
}

fn apps(run: &Run) -> Vec<AppId> {
    run.daemon.supervisor.apps().filter(|it| it.goal() != Goal::Gone).map(AppView::id).collect()
}

/// In a mild world a restart brings every worker up, all with the app's own spec.
fn come_back(run: &mut Run) {
    for app in apps(run) {
        let outcome = run.ask(app, Request::Restart(None, Manner::Gently));
        if outcome != Outcome::Done {
            run.fail(&format!("restart of app {} in a mild world: {outcome:?}", app.0));
        }
        let view = run.daemon.supervisor.app(app).unwrap();
        for place in view.places() {
            let right = place.worker.as_ref().is_some_and(|it| {
                it.stage == Stage::Online && version(Some(&it.spec)) == version(Some(view.spec()))
            });
            if !right {
                run.fail(&format!("restarted, and yet {place:?}"));
            }
        }
    }
}

/// After a shutdown and a reboot, what ran runs.
fn reboot(run: &mut Run) {
    let ran: Vec<AppId> = apps(run);
    let ticket = run.daemon.stop_all(&mut run.world, Manner::Gently);
    let refused = run.daemon.request(&mut run.world, AppId(1), Request::Start(None));
    assert_eq!(refused, Err(Refusal::ShuttingDown), "seed {}", run.seed);
    run.until(|it| it.daemon.outcome(ticket).is_some());
    run.turn(); // what was to be forgotten is
    if run.daemon.supervisor.deadline().is_some() || !run.world.processes.is_empty() {
        run.fail("a worker, or a timer, is left after the shutdown");
    }
    run.daemon.take_over(&mut run.world);
    run.pass(Duration::from_secs(5));
    run.assert_calm();
    for app in ran {
        let mut places = run.daemon.supervisor.app(app).unwrap().places();
        if !places.all(|it| it.state == State::Alive(Stage::Online)) {
            run.fail(&format!("app {} did not come back after a reboot", app.0));
        }
    }
}

/// After everything is deleted, nothing is left.
fn farewell(run: &mut Run) {
    for app in apps(run) {
        run.ask(app, Request::Delete(Manner::Gently));
        let refused = run.daemon.request(&mut run.world, app, Request::Start(None));
        assert_eq!(refused, Err(Refusal::NoSuchApp), "seed {}: not forgotten", run.seed);
    }
    run.turn();
    let left = run.world.processes.len() + run.daemon.supervisor.apps().count();
    if left > 0 || run.daemon.supervisor.deadline().is_some() || run.daemon.open() > 0 {
        run.fail("something is left after everything was deleted");
    }
}

/// What crashes again and again comes back as often as it may, and no more.
#[test]
fn crash_loops_end() {
    for seed in 0..40 {
        let mut luck = Luck(seed);
        let temper = Temper { crashes: 100, life_ms: 200, ..Temper::MILD };
        let mut run = Run::new(seed, temper);
        let max_restarts = luck.range(1, 5).into();
        let spec = any_spec(&mut luck, 1, max_restarts);
        let lives = spec.restart.max_restarts + 1;
        let app = run.daemon.add(spec);
        run.ask(app, Request::Start(None));
        run.pass(Duration::from_secs(30));
        for place in run.daemon.supervisor.app(app).unwrap().places() {
            let told = (place.state, place.generation, place.restarts);
            assert_eq!(told, (State::Errored, lives, lives - 1), "seed {seed}: {place:?}");
        }
    }
}

/// In a world where nothing breaks no request ever fails, however often it is repeated.
#[test]
fn calm_stays_calm() {
    for seed in 0..40 {
        let mut luck = Luck(seed);
        let mut run = Run::new(seed, Temper::MILD);
        let app = run.daemon.add(any_spec(&mut luck, 1, 5));
        assert_eq!(run.ask(app, Request::Start(None)), Outcome::Done, "seed {seed}");
        for round in 2..8 {
            let new = Arc::new(any_spec(&mut luck, round, 5));
            for request in [
                Request::Reload(None),
                Request::Reload(Some(new)),
                Request::Scale(NonZeroU16::new(luck.range(1, 5)).unwrap()),
                Request::Restart(None, Manner::Gently),
            ] {
                let words = format!("{request:?}");
                let outcome = run.ask(app, request);
                assert_eq!(outcome, Outcome::Done, "seed {seed}: {words}");
                run.pass(Duration::from_secs(2));
                run.assert_calm();
            }
        }
        let restarts: u32 =
            run.daemon.supervisor.app(app).unwrap().places().map(|it| it.restarts).sum();
        assert_eq!(restarts, 0, "seed {seed}: nothing crashed");
    }
}
