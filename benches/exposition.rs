//! Cost of writing one scrape, of about 1,000 and 10,000 series.

use std::{hint::black_box, time::Duration};

use bunpilot::{
    domain::{Connections, Pid, Scheduling, Stage, Strategy, Usage},
    metrics::{App, CompatNames, Daemon, Heap, Histogram, State, View, Worker, exposition::write},
    world::Dialect,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Workers of one app.
const INSTANCES: u16 = 16;

fn view(workers: u16) -> View {
    let apps = (0..workers.div_ceil(INSTANCES)).map(|number| {
        let count = INSTANCES.min(workers - number * INSTANCES);
        app(number, count)
    });
    let daemon = Daemon {
        version: "0.0.0",
        rungs: [("cpu".to_owned(), "ebpf".to_owned())].into(),
        started_unix: Duration::from_millis(1_795_378_000_125),
        uptime: Duration::from_hours(1),
        usage: Some(usage(0)),
        fds_max: Some(20_000),
        collector_errors: 0,
    };
    View { daemon, apps: apps.collect() }
}

#[expect(clippy::expect_used, reason = "a bench may stop at once")]
fn app(number: u16, workers: u16) -> App {
    App {
        name: format!("api-server-{number}").parse().expect("letters, digits and dashes"),
        compat_names: CompatNames::On,
        desired: workers,
        strategy: Some(Strategy::Inherit),
        workers: (0..workers).map(worker).collect(),
        ready: Histogram::default(),
        reload: Histogram::default(),
        reloads_failed: 0,
    }
}

fn worker(index: u16) -> Worker {
    let number = u64::from(index);
    Worker {
        pid: Some(Pid(100_000 + i32::from(index))),
        started_unix: Some(Duration::from_millis(1_795_378_000_000 + number * 137)),
        uptime: Some(Duration::from_millis(3_600_000 + number * 137)),
        restarts: number,
        exits: [("exit", number), ("reload", 3)].into(),
        usage: Some(usage(number)),
        cpu_millipercent: Some(12_345),
        heap: Some(Heap {
            rss_bytes: 52_428_800,
            total_bytes: 41_943_040,
            used_bytes: 31_457_280 + number,
            external_bytes: 1_048_576,
        }),
        ..Worker::new(index, 3, State::Live(Stage::Online))
    }
}

fn usage(number: u64) -> Usage {
    Usage {
        user: Some(Duration::from_micros(123_456_789 + number * 7919)),
        system: Some(Duration::from_micros(23_456_789 + number * 104_729)),
        cpu: Duration::from_micros(146_913_578),
        rss_bytes: 52_428_800 + number * 4096,
        fds: 23,
        threads: 11,
        processes: 1,
        connections: Some(Connections { live: 3, accepted: 4_567, moved: 2, reset: 1 }),
        scheduling: Some(Scheduling {
            run_delay: Some(Duration::from_micros(3_456_789 + number * 7919)),
            voluntary_switches: 123_456 + number,
            involuntary_switches: 3_456,
            forks: 2,
        }),
    }
}

fn series(view: &View) -> usize {
    let text = write(view, Dialect::Text);
    text.split(|&byte| byte == b'\n')
        .filter(|line| line.first().is_some_and(|&b| b != b'#'))
        .count()
}

fn exposition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exposition");
    for workers in [42, 420] {
        let view = view(workers);
        let series = series(&view);
        group.throughput(Throughput::Elements(u64::try_from(series).unwrap_or(u64::MAX)));
        for (name, dialect) in [("text", Dialect::Text), ("openmetrics", Dialect::OpenMetrics)] {
            group.bench_with_input(BenchmarkId::new(name, series), &view, |bencher, view| {
                bencher.iter(|| write(black_box(view), dialect));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, exposition);
criterion_main!(benches);
