//! Cost of one worker's crash and return beside a thousand others, and of a turn without news.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    num::{NonZeroU16, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use bunpilot::{
    domain::{
        AppId, AppSpec, Balance, Cluster, Exit, Keep, LogSpec, MetricsSpec, Moment, Pid, Restart,
        Signal, Strategy, WorkerId,
    },
    supervisor::{Request, Supervisor, Ticket},
    world::{Action, Event},
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Workers of all apps together.
const WORKERS: u16 = 1_000;

#[expect(clippy::expect_used, reason = "a bench may stop at once")]
fn spec(instances: u16) -> AppSpec {
    let number = |it| NonZeroU16::new(it).expect("not zero");
    AppSpec {
        name: "api".parse().expect("letters"),
        script: "/srv/api".into(),
        interpreter: Vec::new(),
        args: Vec::new(),
        cwd: "/srv".into(),
        env: BTreeMap::new(),
        instances: number(instances),
        port: None,
        user: None,
        limits: BTreeMap::new(),
        shutdown_signal: Signal::TERM,
        ready_timeout: Duration::from_secs(30),
        kill_timeout: Duration::from_secs(5),
        min_uptime: Duration::from_secs(30),
        restart: Restart {
            max_restarts: 15,
            window: Duration::from_secs(1),
            initial: Duration::ZERO,
            growth_percent: 200,
            max: Duration::from_secs(30),
        },
        health: None,
        logs: LogSpec::plain(Keep::new(NonZeroU64::new(10 << 20).expect("not zero"), number(5))),
        metrics: MetricsSpec {
            enabled: true,
            prometheus: true,
            http_port: number(9615),
            collect_interval: Duration::from_secs(5),
            compat_names: true,
        },
        cluster: Cluster {
            enabled: false,
            strategy: Strategy::Auto,
            balance: Balance::LeastConnections,
            weights: Vec::new(),
            batch_size: number(1),
            batch_delay: Duration::from_secs(1),
        },
    }
}

/// A supervisor, what time it is there, and the workers that live.
struct Fleet {
    supervisor: Supervisor,
    now: Moment,
    workers: VecDeque<WorkerId>,
}

impl Fleet {
    /// `apps` apps that share [`WORKERS`] workers, all online.
    fn new(apps: u16) -> Self {
        let spec = Arc::new(spec(WORKERS / apps));
        let mut fleet = Self {
            supervisor: Supervisor::default(),
            now: Moment::START,
            workers: VecDeque::new(),
        };
        for number in 0..u32::from(apps) {
            let id = AppId(number);
            fleet.supervisor.add(id, Arc::clone(&spec));
            let start = Request::Start(None);
            let accepted = fleet.supervisor.request(fleet.now, id, Ticket(number.into()), start);
            assert_eq!(accepted, Ok(()));
        }
        fleet.workers = fleet.drain().into();
        for worker in fleet.workers.clone() {
            fleet.supervisor.observe(fleet.now, &Event::Spawned(worker, Pid(1)));
        }
        fleet.pass(Duration::from_mins(1));
        assert_eq!(fleet.workers.len(), usize::from(WORKERS));
        fleet
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.supervisor.tick(self.now);
        self.drain();
    }

    /// Takes out what is to be done; returns the workers to be spawned.
    fn drain(&mut self) -> Vec<WorkerId> {
        while self.supervisor.next_notice().is_some() {}
        let mut spawned = Vec::new();
        while let Some(action) = self.supervisor.next_action() {
            if let Action::Spawn(launch) = action {
                spawned.push(launch.worker);
            }
        }
        spawned
    }

    /// A worker crashes, its successor is spawned.
    fn crash(&mut self) {
        let Some(worker) = self.workers.pop_front() else { return };
        for event in [Event::Exited(worker, Exit::Signal(9)), Event::Gone(worker)] {
            self.supervisor.observe(self.now, &event);
        }
        let spawned = self.drain();
        assert_eq!(spawned.len(), 1, "one crashed, one comes");
        for successor in spawned {
            self.supervisor.observe(self.now, &Event::Spawned(successor, Pid(2)));
            self.workers.push_back(successor);
        }
        self.pass(Duration::from_secs(2));
    }
}

fn supervisor_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("supervisor_turn");
    for apps in [1, 100] {
        let mut fleet = Fleet::new(apps);
        group.bench_function(BenchmarkId::new("crash and return", apps), |bencher| {
            bencher.iter(|| fleet.crash());
        });
        group.bench_function(BenchmarkId::new("nothing new", apps), |bencher| {
            bencher.iter(|| {
                fleet.supervisor.tick(black_box(fleet.now));
                fleet.supervisor.deadline()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, supervisor_turn);
criterion_main!(benches);
