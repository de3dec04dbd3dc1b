//! Whatever a spec holds, writing it down and reading it again gives it back.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use proptest::{
    prelude::Just, prop_assert_eq, prop_compose, prop_oneof, proptest, strategy::Strategy,
    test_runner::Config as ProptestConfig,
};

use super::{
    app,
    desk::{LIMITS, narrow32, positive16},
};
use crate::{
    config::{
        Trust,
        paper::base,
        raw::RawApp,
        settings::{self, Setting},
    },
    domain::{
        AppSpec, Balance, Cluster, Compression, Health, Keep, LogFiles, LogMode, LogSpec,
        MetricsSpec, OnFull, Period, Restart, Signal, Strategy as Sharing, Syncing, User,
    },
};

fn millis_within(setting: Setting) -> impl Strategy<Value = Duration> {
    (setting.min..=setting.max).prop_map(Duration::from_millis)
}

fn count16(setting: Setting) -> impl Strategy<Value = NonZeroU16> {
    (setting.min..=setting.max).prop_map(positive16)
}

fn file() -> impl Strategy<Value = PathBuf> {
    "(/[a-zA-Zä0-9 _.-]{0,6}[a-z0-9]){1,3}".prop_map(PathBuf::from)
}

fn restart() -> impl Strategy<Value = Restart> {
    (
        (settings::MAX_RESTARTS.min..=settings::MAX_RESTARTS.max).prop_map(narrow32),
        millis_within(settings::MAX_RESTART_WINDOW),
        100_u64..=300_000,
        100_u32..=1_000,
        0_u64..=300_000,
    )
        .prop_map(|(max_restarts, window, initial, growth_percent, more)| Restart {
            max_restarts,
            window,
            initial: Duration::from_millis(initial),
            growth_percent,
            max: Duration::from_millis((initial + more).max(1_000)),
        })
}

fn health() -> impl Strategy<Value = Health> {
    (500_u64..=60_000, 1_u64..=500_000, "/[!-~]{0,9}", 1_u32..=100).prop_map(
        |(timeout, more, path, threshold)| Health {
            path,
            interval: Duration::from_millis((timeout + more).max(1_000)),
            timeout: Duration::from_millis(timeout),
            unhealthy_threshold: NonZeroU32::new(threshold).unwrap(),
        },
    )
}

prop_compose! {
    fn cluster(port: Option<NonZeroU16>)(
        enabled: bool,
        strategy in prop_oneof![Just(Sharing::Auto), Just(Sharing::ReusePort), Just(Sharing::Inherit)],
        balance in proptest::sample::select(vec![
            Balance::LeastConnections,
            Balance::RoundRobin,
            Balance::Random,
        ]),
        weights in proptest::collection::vec(count16(settings::WEIGHT), 0..4),
        batch_size in count16(settings::BATCH_SIZE),
        batch_delay in millis_within(settings::BATCH_DELAY),
    ) -> Cluster {
        let enabled = enabled && port.is_some();
        Cluster { enabled, strategy, balance, weights, batch_size, batch_delay }
    }
}

fn bytes_within(setting: Setting) -> impl Strategy<Value = NonZeroU64> {
    (setting.min..=setting.max).prop_map(|bytes| NonZeroU64::new(bytes).unwrap())
}

prop_compose! {
    fn keep()(
        max_size_bytes in bytes_within(settings::LOG_MAX_SIZE),
        max_files in count16(settings::LOG_MAX_FILES),
        every in proptest::option::of(prop_oneof![
            Just(Period::Hour),
            Just(Period::Day),
            millis_within(settings::LOG_ROTATE_EVERY).prop_map(Period::Span),
        ]),
        max_age in proptest::option::of(millis_within(settings::LOG_MAX_AGE)),
        max_total_bytes in proptest::option::of(bytes_within(settings::LOG_MAX_TOTAL_SIZE)),
        compression in proptest::option::of(proptest::sample::select(&Compression::ALL)),
        syncing in proptest::sample::select(vec![Syncing::Never, Syncing::Rotated]),
    ) -> Keep {
        Keep { max_size_bytes, max_files, every, max_age, max_total_bytes, compression, syncing }
    }
}

prop_compose! {
    fn logs()(
        out_file in proptest::option::of(file()),
        err_file in proptest::option::of(file()),
        mode in proptest::sample::select(vec![LogMode::Raw, LogMode::Timestamps, LogMode::Json, LogMode::Off]),
        files in proptest::sample::select(vec![LogFiles::Each, LogFiles::Merged]),
        keep in keep(),
        on_full in proptest::sample::select(vec![OnFull::Block, OnFull::Evict, OnFull::Drop]),
    ) -> LogSpec {
        LogSpec { out_file, err_file, mode, files, keep, on_full }
    }
}

prop_compose! {
    fn metrics()(
        enabled: bool,
        prometheus: bool,
        compat_names: bool,
        http_port in count16(settings::METRICS_PORT),
        collect_interval in millis_within(settings::COLLECT_INTERVAL),
    ) -> MetricsSpec {
        MetricsSpec { enabled, prometheus, http_port, collect_interval, compat_names }
    }
}

prop_compose! {
    fn any_spec()(port in proptest::option::of(count16(settings::PORT)))(
        name in "[a-z_][a-z0-9_.-]{0,9}".prop_filter("reserved", |name| name != "all"),
        script in file(),
        interpreter in proptest::option::of(file()),
        options in proptest::collection::vec("[a-z /'-]{0,8}", 0..3),
        args in proptest::collection::vec("\\PC{0,8}", 0..3),
        cwd in file(),
        env in proptest::collection::btree_map("[A-Z_]{1,6}", "\\PC{0,8}", 0..4),
        instances in count16(settings::INSTANCES),
        user in proptest::option::of((0_u32..9, 0_u32..9).prop_map(|(uid, gid)| User { uid, gid })),
        limits in proptest::collection::btree_map(proptest::sample::select(LIMITS).prop_map(str::to_owned), proptest::option::of(0..u64::MAX), 0..3),
        signal in (1_i32..=64).prop_filter("cannot be caught", |n| Signal(*n) != Signal::KILL && Signal(*n).name() != Some("SIGSTOP")),
        times in (millis_within(settings::READY_TIMEOUT), millis_within(settings::KILL_TIMEOUT), millis_within(settings::MIN_UPTIME)),
        restart in restart(),
        health in proptest::option::of(health()),
        logs in logs(),
        metrics in metrics(),
        cluster in cluster(port),
        port in Just(port),
    ) -> AppSpec {
        let (ready_timeout, kill_timeout, min_uptime) = times;
        let interpreter = match interpreter {
            Some(program) => [vec![program.display().to_string()], options].concat(),
            None => Vec::new(),
        };
        AppSpec {
            name: name.parse().unwrap(),
            script, interpreter, args, cwd, env, instances, port, user, limits,
            shutdown_signal: Signal(signal),
            ready_timeout, kill_timeout, min_uptime, restart,
            health: health.filter(|_| port.is_some()),
            logs, metrics, cluster,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What the daemon stores is what it reads back, through JSON, wherever it runs.
    #[test]
    fn a_written_spec_resolves_to_itself(spec in any_spec()) {
        let text = serde_json::to_string(&RawApp::of(&spec)).unwrap();
        let raw: RawApp = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(app(&raw, &base(), &Trust).map_err(|faults| format!("{faults:?}")), Ok(spec));
    }
}
