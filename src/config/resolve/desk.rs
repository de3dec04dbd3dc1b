//! One app, field by field: each default and bound applied, each fault noted.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Base, absolute, program};
use crate::{
    config::{
        fault::{Aim, Fault},
        host::Host,
        raw::{
            Every, Instances, Limit, Owner, RawApp, RawBackoff, RawBalance, RawClustering,
            RawCompression, RawHealth, RawLogMode, RawLogs, RawMetrics, RawOnFull, RawStrategy,
            RawSyncing, Words, whole,
        },
        settings::{self, Setting},
    },
    domain::{
        AppName, AppNameError, AppSpec, Balance, Cluster, Compression, Health, Keep, LogFiles,
        LogMode, LogSpec, MetricsSpec, OnFull, Period, Restart, Signal, Strategy, Syncing, User,
    },
};

/// Variables that belong to the caller alone: what bunpilot, systemd or node told *it*.
const PRIVATE: &[&str] = &[
    "BUNPILOT_APP_NAME",
    "BUNPILOT_CONTROL_SOCKET",
    "BUNPILOT_DAEMON",
    "BUNPILOT_INSTANCES",
    "BUNPILOT_INTERNAL_PORT_BASE",
    "BUNPILOT_PORT",
    "BUNPILOT_REUSE_PORT",
    "BUNPILOT_WORKER_ID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NODE_APP_INSTANCE",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Resource limits, as `prlimit(1)` calls them.
pub(super) const LIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One app on the desk: collects faults while its fields are read.
pub(super) struct Desk<'a> {
    pub(super) base: &'a Base,
    pub(super) host: &'a dyn Host,
    pub(super) faults: Vec<Fault>,
}

impl Desk<'_> {
    pub(super) fn app(&mut self, raw: &RawApp) -> Option<AppSpec> {
        let name = self.name(raw.name.as_deref());
        let cwd = self.cwd(raw.cwd.as_deref());
        let env = self.env(raw);
        let program = self.program(raw, &cwd, &env);
        let args = self.words(&["args"], raw.args.as_ref()).unwrap_or_default();
        let instances = self.instances(raw.instances);
        let port = raw.port.map(|port| positive16(self.number(settings::PORT, Some(port.0))));
        let rest = AppSpec {
            name: name.unwrap_or_else(placeholder),
            script: PathBuf::new(),
            interpreter: Vec::new(),
            args,
            cwd,
            env,
            instances,
            port,
            user: self.user(raw.user.as_ref()),
            limits: self.limits(raw.limits.as_ref()),
            shutdown_signal: self.signal(raw.shutdown_signal.as_deref()),
            ready_timeout: self.millis(settings::READY_TIMEOUT, raw.ready_timeout.map(|v| v.0)),
            kill_timeout: self.millis(settings::KILL_TIMEOUT, raw.kill_timeout.map(|v| v.0)),
            min_uptime: self.millis(settings::MIN_UPTIME, raw.min_uptime.map(|v| v.0)),
            restart: self.restart(raw),
            health: self.health(raw.health_check.as_ref(), port),
            logs: self.logs(raw.logs.as_ref()),
            metrics: self.metrics(raw.metrics.as_ref()),
            cluster: self.cluster(raw.clustering.as_ref(), port),
        };
        let program::Program { script, interpreter } = program?;
        Some(AppSpec { script, interpreter, ..rest })
    }

    fn fault(&mut self, path: &[&str], message: impl Into<String>) {
        self.faults.push(Fault::new(path, message));
    }

    /// Reads a number within its bounds; a fault and the default if it is outside.
    fn number(&mut self, setting: Setting, raw: Option<u64>) -> u64 {
        let default = setting.default.unwrap_or(setting.min);
        let value = raw.unwrap_or(default);
        if (setting.min..=setting.max).contains(&value) {
            return value;
        }
        let (min, max) = (setting.show(setting.min), setting.show(setting.max));
        let message = format!(
            "`{}` must be from {min} to {max}, not {}",
            setting.path.join("."),
            setting.show(value)
        );
        self.fault(setting.path, message);
        default
    }

    fn millis(&mut self, setting: Setting, raw: Option<u64>) -> Duration {
        Duration::from_millis(self.number(setting, raw))
    }

    fn name(&mut self, raw: Option<&str>) -> Option<AppName> {
        let Some(text) = raw else {
            self.faults
                .push(Fault::new(&["name"], "the app has no `name`").help("e.g. `name: 'api'`"));
            return None;
        };
        text.parse()
            .map_err(|error: AppNameError| {
                self.fault(&["name"], format!("{error}; `{text}` does not do"));
            })
            .ok()
    }

    fn cwd(&mut self, raw: Option<&str>) -> PathBuf {
        let cwd = absolute(&self.base.cwd, raw.unwrap_or_default());
        if !self.host.is_folder(&cwd) {
            self.fault(&["cwd"], format!("`cwd` is no folder: `{}`", cwd.display()));
        }
        cwd
    }

    fn env(&mut self, raw: &RawApp) -> BTreeMap<String, String> {
        let mut env = if raw.inherit_env.unwrap_or(true) {
            let public = |(name, _): &(&String, &String)| !PRIVATE.contains(&name.as_str());
            self.base.env.iter().filter(public).map(|(k, v)| (k.clone(), v.clone())).collect()
        } else {
            BTreeMap::new()
        };
        self.add_env(&mut env, &["env"], raw.env.as_ref());
        if let Some(profile) = &self.base.profile {
            let chosen = raw.envs.as_ref().and_then(|envs| envs.get(profile));
            self.add_env(&mut env, &["envs", profile], chosen);
        }
        env
    }

    fn add_env(
        &mut self,
        env: &mut BTreeMap<String, String>,
        path: &[&str],
        more: Option<&BTreeMap<String, String>>,
    ) {
        for (name, value) in more.into_iter().flatten() {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let message = "an environment variable has a name without `=`, and no NUL bytes";
                self.fault(&[path, &[name]].concat(), message);
            }
            env.insert(name.clone(), value.clone());
        }
    }

    /// Splits a text as a shell would.
    fn words(&mut self, path: &[&str], raw: Option<&Words>) -> Option<Vec<String>> {
        let list = match raw? {
            Words::List(list) => list.clone(),
            Words::Line(line) => shlex::split(line).unwrap_or_else(|| {
                let message = format!("`{}` has a quote that is never closed", path.join("."));
                self.fault(path, message);
                Vec::new()
            }),
        };
        if list.iter().any(|word| word.contains('\0')) {
            self.fault(path, format!("`{}` holds a NUL byte", path.join(".")));
        }
        Some(list)
    }

    fn program(
        &mut self,
        raw: &RawApp,
        cwd: &Path,
        env: &BTreeMap<String, String>,
    ) -> Option<program::Program> {
        let interpreter = self.words(&["interpreter"], raw.interpreter.as_ref());
        let Some(script) = raw.script.as_deref().filter(|script| !script.is_empty()) else {
            let help = "e.g. `script: './src/server.ts'`";
            self.faults.push(Fault::new(&["script"], "the app has no `script`").help(help));
            return None;
        };
        let path = env.get("PATH").map_or(program::DEFAULT_PATH, String::as_str);
        let wanted = program::Wanted { script, interpreter, cwd, path };
        program::choose(wanted, self.host).map_err(|fault| self.faults.push(fault)).ok()
    }

    fn instances(&mut self, raw: Option<Instances>) -> NonZeroU16 {
        match raw {
            Some(Instances::Max) => self.host.cpus(),
            Some(Instances::Count(count)) => {
                positive16(self.number(settings::INSTANCES, Some(count)))
            }
            None => positive16(self.number(settings::INSTANCES, None)),
        }
    }

    fn user(&mut self, raw: Option<&Owner>) -> Option<User> {
        match raw? {
            Owner::Ids { uid, gid } => Some(User { uid: *uid, gid: *gid }),
            Owner::Name(name) => {
                let user = self.host.user(name);
                if user.is_none() {
                    self.fault(&["user"], format!("there is no user `{name}` on this machine"));
                }
                user
            }
        }
    }

    fn limits(&mut self, raw: Option<&BTreeMap<String, Limit>>) -> BTreeMap<String, Option<u64>> {
        let mut limits = BTreeMap::new();
        for (name, limit) in raw.into_iter().flatten() {
            if !LIMITS.contains(&name.as_str()) {
                let mut fault =
                    Fault::new(&["limits", name], format!("there is no limit `{name}`"));
                fault.aim = Aim::Key;
                self.faults.push(fault.help(format!("there is {}", LIMITS.join(", "))));
            }
            let value = match limit {
                Limit::Most(most) => Some(*most),
                Limit::Unlimited => None,
            };
            limits.insert(name.clone(), value);
        }
        limits
    }

    fn signal(&mut self, raw: Option<&str>) -> Signal {
        let default = settings::SHUTDOWN_SIGNAL;
        let Some(text) = raw else { return default };
        match text.parse::<Signal>() {
            Ok(signal) if matches!(signal.name(), Some("SIGKILL" | "SIGSTOP")) => {
                let message = format!("no program can react to {signal}");
                self.faults.push(
                    Fault::new(&["shutdownSignal"], message).help("use `SIGTERM` or `SIGINT`"),
                );
                default
            }
            Ok(signal) => signal,
            Err(error) => {
                self.fault(&["shutdownSignal"], error.to_string());
                default
            }
        }
    }

    fn restart(&mut self, raw: &RawApp) -> Restart {
        let unset = RawBackoff::default();
        let backoff = raw.backoff.as_ref().unwrap_or(&unset);
        let before = self.faults.len();
        let initial = self.millis(settings::BACKOFF_INITIAL, backoff.initial.map(|v| v.0));
        let max = self.millis(settings::BACKOFF_MAX, backoff.max.map(|v| v.0));
        if initial > max && self.faults.len() == before {
            let (first, longest) = (settings::millis(initial), settings::millis(max));
            self.fault(
                &["backoff", "initial"],
                format!(
                    "`backoff.initial` must not exceed `backoff.max`, but {} > {}",
                    settings::BACKOFF_INITIAL.show(first),
                    settings::BACKOFF_MAX.show(longest)
                ),
            );
        }
        let max_restarts = self.number(settings::MAX_RESTARTS, raw.max_restarts.map(|v| v.0));
        Restart {
            max_restarts: narrow32(max_restarts),
            window: self.millis(settings::MAX_RESTART_WINDOW, raw.max_restart_window.map(|v| v.0)),
            initial,
            growth_percent: self.growth(backoff.multiplier),
            max,
        }
    }

    fn growth(&mut self, raw: Option<f64>) -> u32 {
        let percent = raw.map(|factor| whole((factor * 100.0).round()).unwrap_or(u64::MAX));
        narrow32(self.number(settings::BACKOFF_MULTIPLIER, percent))
    }

    fn health(&mut self, raw: Option<&RawHealth>, port: Option<NonZeroU16>) -> Option<Health> {
        let raw = raw?;
        let before = self.faults.len();
        let interval = self.millis(settings::HEALTH_INTERVAL, raw.interval.map(|v| v.0));
        let timeout = self.millis(settings::HEALTH_TIMEOUT, raw.timeout.map(|v| v.0));
        if timeout >= interval && self.faults.len() == before {
            self.fault(
                &["healthCheck", "timeout"],
                format!(
                    "`healthCheck.timeout` must be less than `healthCheck.interval`, which is {}",
                    settings::HEALTH_INTERVAL.show(settings::millis(interval))
                ),
            );
        }
        let path = raw.path.as_deref().unwrap_or(settings::HEALTH_PATH);
        if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = "`healthCheck.path` must begin with `/` and hold no blanks";
            self.fault(&["healthCheck", "path"], message);
        }
        let threshold = raw.unhealthy_threshold.map(|v| v.0);
        let threshold = narrow32(self.number(settings::UNHEALTHY_THRESHOLD, threshold));
        let enabled = raw.enabled.unwrap_or(true);
        if enabled && port.is_none() {
            self.faults.push(
                Fault::new(&["healthCheck"], "`healthCheck` needs a `port` to ask")
                    .help("set `port`, or `healthCheck.enabled: false`"),
            );
        }
        enabled.then(|| Health {
            path: path.to_owned(),
            interval,
            timeout,
            unhealthy_threshold: NonZeroU32::new(threshold).unwrap_or(NonZeroU32::MIN),
        })
    }

    fn logs(&mut self, raw: Option<&RawLogs>) -> LogSpec {
        let unset = RawLogs::default();
        let raw = raw.unwrap_or(&unset);
        LogSpec {
            out_file: self.log_file("outFile", raw.out_file.as_deref()),
            err_file: self.log_file("errFile", raw.err_file.as_deref()),
            mode: match raw.mode {
                None | Some(RawLogMode::Raw) => LogMode::Raw,
                Some(RawLogMode::Timestamps) => LogMode::Timestamps,
                Some(RawLogMode::Json) => LogMode::Json,
                Some(RawLogMode::Off) => LogMode::Off,
            },
            files: if raw.merge == Some(true) { LogFiles::Merged } else { LogFiles::Each },
            keep: self.keep(raw),
            on_full: match raw.on_full {
                None | Some(RawOnFull::Block) => OnFull::Block,
                Some(RawOnFull::Evict) => OnFull::Evict,
                Some(RawOnFull::Drop) => OnFull::Drop,
            },
        }
    }

    fn keep(&mut self, raw: &RawLogs) -> Keep {
        let positive = |bytes| NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN);
        let max_size = self.number(settings::LOG_MAX_SIZE, raw.max_size.map(|v| v.0));
        let max_files = self.number(settings::LOG_MAX_FILES, raw.max_files.map(|v| v.0));
        let every = raw.rotate_every.map(|every| match every {
            Every::Hour => Period::Hour,
            Every::Day => Period::Day,
            Every::Millis(span) => {
                Period::Span(self.millis(settings::LOG_ROTATE_EVERY, Some(span)))
            }
        });
        let max_age = raw.max_age.map(|age| self.millis(settings::LOG_MAX_AGE, Some(age.0)));
        let max_total =
            raw.max_total_size.map(|most| self.number(settings::LOG_MAX_TOTAL_SIZE, Some(most.0)));
        Keep {
            max_size_bytes: positive(max_size),
            max_files: positive16(max_files),
            every,
            max_age,
            max_total_bytes: max_total.map(positive),
            compression: match raw.compress {
                None | Some(RawCompression::None) => None,
                Some(RawCompression::Gzip) => Some(Compression::Gzip),
                Some(RawCompression::Zstd) => Some(Compression::Zstd),
            },
            syncing: match raw.fsync {
                None | Some(RawSyncing::Never) => Syncing::Never,
                Some(RawSyncing::Rotated) => Syncing::Rotated,
            },
        }
    }

    fn log_file(&mut self, key: &str, raw: Option<&str>) -> Option<PathBuf> {
        let text = raw?;
        let file = absolute(&self.base.cwd, text);
        if text.is_empty() || text.ends_with('/') || file.file_name().is_none() {
            self.fault(&["logs", key], format!("`logs.{key}` must name a file, not a folder"));
        }
        Some(file)
    }

    fn metrics(&mut self, raw: Option<&RawMetrics>) -> MetricsSpec {
        let unset = RawMetrics::default();
        let raw = raw.unwrap_or(&unset);
        let http_port = self.number(settings::METRICS_PORT, raw.http_port.map(|v| v.0));
        let interval = raw.collect_interval.map(|v| v.0);
        MetricsSpec {
            enabled: raw.enabled.unwrap_or(true),
            prometheus: raw.prometheus.unwrap_or(true),
            http_port: positive16(http_port),
            collect_interval: self.millis(settings::COLLECT_INTERVAL, interval),
            compat_names: raw.compat_names.unwrap_or(true),
        }
    }

    fn cluster(&mut self, raw: Option<&RawClustering>, port: Option<NonZeroU16>) -> Cluster {
        let unset = RawClustering::default();
        let raw = raw.unwrap_or(&unset);
        let strategy = self.strategy(raw.strategy.unwrap_or(RawStrategy::Auto));
        let rolling = raw.rolling_restart.clone().unwrap_or_default();
        let batch_size = self.number(settings::BATCH_SIZE, rolling.batch_size.map(|v| v.0));
        if strategy == Strategy::Inherit && port.is_none() && raw.enabled != Some(false) {
            self.faults.push(
                Fault::new(
                    &["clustering", "strategy"],
                    "strategy `inherit` needs a `port` to open",
                )
                .help("set `port`, or `clustering.enabled: false`"),
            );
        }
        let weights = raw.weights.iter().flatten();
        let weights = weights.map(|it| positive16(self.number(settings::WEIGHT, Some(it.0))));
        let weights = weights.collect();
        let balance = match raw.balance {
            Some(RawBalance::LeastConnections) | None => Balance::LeastConnections,
            Some(RawBalance::RoundRobin) => Balance::RoundRobin,
            Some(RawBalance::Random) => Balance::Random,
        };
        Cluster {
            // Also for one worker: during a reload there are two.
            enabled: port.is_some() && raw.enabled.unwrap_or(true),
            strategy,
            balance,
            weights,
            batch_size: positive16(batch_size),
            batch_delay: self.millis(settings::BATCH_DELAY, rolling.batch_delay.map(|v| v.0)),
        }
    }

    fn strategy(&mut self, raw: RawStrategy) -> Strategy {
        match raw {
            RawStrategy::Auto => Strategy::Auto,
            RawStrategy::ReusePort => Strategy::ReusePort,
            RawStrategy::Inherit => Strategy::Inherit,
            RawStrategy::Proxy => {
                self.faults.push(
                    Fault::new(&["clustering", "strategy"], "strategy `proxy` is not built yet")
                        .help("use `inherit` or `reusePort`"),
                );
                Strategy::Proxy
            }
        }
    }
}

/// Stands in for a name that is at fault; no spec with it leaves this file.
fn placeholder() -> AppName {
    #[expect(clippy::expect_used, reason = "a constant, and `domain` tests that it is a name")]
    "_x".parse().expect("`_x` is a name")
}

/// A number whose bounds fit; the largest if they ever do not.
pub(super) fn narrow32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) fn positive16(value: u64) -> NonZeroU16 {
    let narrow = u16::try_from(value).unwrap_or(u16::MAX);
    NonZeroU16::new(narrow).unwrap_or(NonZeroU16::MIN)
}
