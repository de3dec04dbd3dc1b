//! Writes a spec back in the words of the file, every default filled in.

use std::path::Path;

use super::{
    Bytes, Count, Every, Instances, Limit, Millis, Owner, RawApp, RawBackoff, RawBalance,
    RawClustering, RawCompression, RawHealth, RawLogMode, RawLogs, RawMetrics, RawOnFull,
    RawRolling, RawStrategy, RawSyncing, Words,
};
use crate::{
    config::settings::millis,
    domain::{
        AppSpec, Balance, Cluster, Compression, Health, LogFiles, LogMode, LogSpec, MetricsSpec,
        OnFull, Period, Restart, Signal, Strategy, Syncing,
    },
};

impl RawApp {
    /// Writes `spec` such that [`resolve::app`](crate::config::resolve::app) gives it back, in
    /// whatever folder and environment.
    #[must_use]
    pub fn of(spec: &AppSpec) -> Self {
        let words = |list: &[String]| Some(Words::List(list.to_vec()));
        let limit = |value: &Option<u64>| value.map_or(Limit::Unlimited, Limit::Most);
        Self {
            name: Some(spec.name.to_string()),
            script: Some(text(&spec.script)),
            args: words(&spec.args),
            interpreter: words(&spec.interpreter),
            cwd: Some(text(&spec.cwd)),
            instances: Some(Instances::Count(spec.instances.get().into())),
            port: spec.port.map(|port| Count(port.get().into())),
            env: Some(spec.env.clone()),
            envs: None,
            inherit_env: Some(false),
            user: spec.user.map(|user| Owner::Ids { uid: user.uid, gid: user.gid }),
            limits: Some(spec.limits.iter().map(|(name, v)| (name.clone(), limit(v))).collect()),
            max_restarts: Some(Count(spec.restart.max_restarts.into())),
            max_restart_window: Some(Millis(millis(spec.restart.window))),
            min_uptime: Some(Millis(millis(spec.min_uptime))),
            backoff: Some(RawBackoff::of(&spec.restart)),
            shutdown_signal: Some(signal(spec.shutdown_signal)),
            kill_timeout: Some(Millis(millis(spec.kill_timeout))),
            ready_timeout: Some(Millis(millis(spec.ready_timeout))),
            health_check: spec.health.as_ref().map(RawHealth::of),
            logs: Some(RawLogs::of(&spec.logs)),
            metrics: Some(RawMetrics::of(&spec.metrics)),
            clustering: Some(RawClustering::of(&spec.cluster)),
        }
    }
}

impl From<&AppSpec> for RawApp {
    fn from(spec: &AppSpec) -> Self {
        Self::of(spec)
    }
}

impl RawBackoff {
    fn of(restart: &Restart) -> Self {
        Self {
            initial: Some(Millis(millis(restart.initial))),
            multiplier: Some(f64::from(restart.growth_percent) / 100.0),
            max: Some(Millis(millis(restart.max))),
        }
    }
}

impl RawHealth {
    fn of(health: &Health) -> Self {
        Self {
            enabled: Some(true),
            path: Some(health.path.clone()),
            interval: Some(Millis(millis(health.interval))),
            timeout: Some(Millis(millis(health.timeout))),
            unhealthy_threshold: Some(Count(health.unhealthy_threshold.get().into())),
        }
    }
}

impl RawLogs {
    fn of(logs: &LogSpec) -> Self {
        let keep = &logs.keep;
        Self {
            out_file: logs.out_file.as_deref().map(text),
            err_file: logs.err_file.as_deref().map(text),
            mode: Some(match logs.mode {
                LogMode::Raw => RawLogMode::Raw,
                LogMode::Timestamps => RawLogMode::Timestamps,
                LogMode::Json => RawLogMode::Json,
                LogMode::Off => RawLogMode::Off,
            }),
            merge: Some(logs.files == LogFiles::Merged),
            max_size: Some(Bytes(keep.max_size_bytes.get())),
            max_files: Some(Count(keep.max_files.get().into())),
            rotate_every: keep.every.map(|period| match period {
                Period::Hour => Every::Hour,
                Period::Day => Every::Day,
                Period::Span(span) => Every::Millis(millis(span)),
            }),
            max_age: keep.max_age.map(|age| Millis(millis(age))),
            max_total_size: keep.max_total_bytes.map(|most| Bytes(most.get())),
            compress: Some(match keep.compression {
                None => RawCompression::None,
                Some(Compression::Gzip) => RawCompression::Gzip,
                Some(Compression::Zstd) => RawCompression::Zstd,
            }),
            on_full: Some(match logs.on_full {
                OnFull::Block => RawOnFull::Block,
                OnFull::Evict => RawOnFull::Evict,
                OnFull::Drop => RawOnFull::Drop,
            }),
            fsync: Some(match keep.syncing {
                Syncing::Never => RawSyncing::Never,
                Syncing::Rotated => RawSyncing::Rotated,
            }),
        }
    }
}

impl RawMetrics {
    fn of(metrics: &MetricsSpec) -> Self {
        Self {
            enabled: Some(metrics.enabled),
            http_port: Some(Count(metrics.http_port.get().into())),
            prometheus: Some(metrics.prometheus),
            collect_interval: Some(Millis(millis(metrics.collect_interval))),
            compat_names: Some(metrics.compat_names),
        }
    }
}

impl RawClustering {
    fn of(cluster: &Cluster) -> Self {
        Self {
            enabled: Some(cluster.enabled),
            strategy: Some(match cluster.strategy {
                Strategy::Auto => RawStrategy::Auto,
                Strategy::ReusePort => RawStrategy::ReusePort,
                Strategy::Inherit => RawStrategy::Inherit,
                Strategy::Proxy => RawStrategy::Proxy,
            }),
            balance: Some(match cluster.balance {
                Balance::LeastConnections => RawBalance::LeastConnections,
                Balance::RoundRobin => RawBalance::RoundRobin,
                Balance::Random => RawBalance::Random,
            }),
            weights: (!cluster.weights.is_empty())
                .then(|| cluster.weights.iter().map(|it| Count(it.get().into())).collect()),
            rolling_restart: Some(RawRolling {
                batch_size: Some(Count(cluster.batch_size.get().into())),
                batch_delay: Some(Millis(millis(cluster.batch_delay))),
            }),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn signal(signal: Signal) -> String {
    signal.name().map_or_else(|| signal.0.to_string(), str::to_owned)
}
