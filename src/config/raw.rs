//! A mirror of the configuration file: what the user may write, and nothing of what it means.
//!
//! The keys are the original's, plus a few. Unknown keys and wrong types are errors; defaults and
//! bounds are [`resolve`](super::resolve)'s. The documentation of the fields is that of the JSON
//! Schema.

mod of;
mod value;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use value::whole;
pub use value::{Bytes, Count, Every, Instances, Limit, Millis, Owner, Words};

/// A bunpilot configuration: the apps to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawConfig {
    /// The apps to run.
    pub apps: Option<Vec<RawApp>>,
    /// Where the original's daemon kept its files. Not heeded: the environment variables
    /// `BUNPILOT_HOME` and `BUNPILOT_SOCKET` say it, so that every command finds the same daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemon: Option<RawDaemon>,
}

/// One app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["name", "script"]))]
#[schemars(extend("patternProperties" = {
    "^env_.+": { "type": "object", "additionalProperties": { "type": "string" } }
}))]
pub struct RawApp {
    /// Name of the app: letters, digits, `.`, `_` and `-`, at most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Entry point, relative to `cwd`; or a program found on `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Arguments after the script: a list, or one text split as a shell would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Words>,
    /// What runs the script, e.g. `node --enable-source-maps`; `none` if it runs by itself.
    /// Chosen by the script's extension and what is installed if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Words>,
    /// Working directory, relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// How many workers run; `max` is one per CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<Instances>,
    /// The port the app serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Count>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Environment variables by profile, added to `env` by `--env <profile>`. PM2's
    /// `env_<profile>` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envs: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// Whether the app also gets the environment of whoever starts it. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherit_env: Option<bool>,
    /// Whom to run as: a name, or `uid` and `gid`. Default: as the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
    /// Resource limits by name as in `prlimit(1)`: a number, a size or `unlimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, Limit>>,
    /// Crashes tolerated within `maxRestartWindow` before giving up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<Count>,
    /// Length of the sliding window in which crashes are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_window: Option<Millis>,
    /// Online time after which a crash no longer counts as one in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_uptime: Option<Millis>,
    /// How long to wait before a crashed worker is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RawBackoff>,
    /// Signal that asks a worker to exit. Default: `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_signal: Option<String>,
    /// Longest wait between asking a worker to exit and killing it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_timeout: Option<Millis>,
    /// Longest wait for a worker to say it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_timeout: Option<Millis>,
    /// HTTP probes of each worker; off if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<RawHealth>,
    /// Where output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<RawLogs>,
    /// What is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<RawMetrics>,
    /// How workers share the port and how a reload proceeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clustering: Option<RawClustering>,
}

/// How long to wait before a crashed worker is started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBackoff {
    /// First delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<Millis>,
    /// Growth of the delay per crash in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// Longest delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Millis>,
}

/// HTTP probes of each worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawHealth {
    /// Whether to probe. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Path of the GET request. Default: `/health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Time from one probe to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
    /// Longest wait for an answer; less than `interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// Failures in a row after which a worker is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<Count>,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawLogs {
    /// File of standard output, relative to the configuration file; `/dev/null` discards it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_file: Option<String>,
    /// File of standard error, relative to the configuration file; `/dev/null` discards it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err_file: Option<String>,
    /// What is written of each line. Default: `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RawLogMode>,
    /// Whether all workers of the app write to one file, each line whole. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<bool>,
    /// Size at which a file is rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Bytes>,
    /// Rotated files kept beside the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_files: Option<Count>,
    /// When a file is rotated whatever its size: `hourly` and `daily` by the local clock, or some
    /// time after its first byte. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<Every>,
    /// Age after which a rotated file is removed. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Millis>,
    /// What the rotated files of one stream may take on disk together. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_size: Option<Bytes>,
    /// How rotated files are packed. Default: `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<RawCompression>,
    /// What to do with output while the disk is full. Default: `block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_full: Option<RawOnFull>,
    /// When written bytes are forced to the disk. Default: `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsync: Option<RawSyncing>,
}

/// What is written of each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawLogMode {
    /// The bytes as they are.
    Raw,
    /// Each line after the time it came (RFC 3339, UTC).
    Timestamps,
    /// One JSON object for each line.
    Json,
    /// Nothing: the output goes to `/dev/null`.
    Off,
}

/// How rotated files are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawCompression {
    /// Not at all.
    None,
    /// As `gzip(1)`; the file ends in `.gz`.
    Gzip,
    /// As `zstd(1)`; the file ends in `.zst`.
    Zstd,
}

/// What to do with output while the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawOnFull {
    /// Lose nothing: the worker waits once its pipe is full.
    Block,
    /// Remove the oldest rotated files of this stream; then as `block`.
    Evict,
    /// Throw it away and count it.
    Drop,
}

/// When written bytes are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawSyncing {
    /// When the kernel sees fit.
    Never,
    /// Each file once, when it was rotated away.
    Rotated,
}

/// What is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawMetrics {
    /// Whether workers are measured at all. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Port of the metrics server, if `BUNPILOT_HTTP_PORT` is not set; the first app that names
    /// one decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_port: Option<Count>,
    /// Whether the app appears in the Prometheus exposition. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<bool>,
    /// Time from one measurement to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_interval: Option<Millis>,
    /// Whether the exposition also carries the names of the original. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat_names: Option<bool>,
}

/// How workers share the port and how a reload proceeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawClustering {
    /// Whether workers share the port. Default: true if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Who decides which worker gets the next connection. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RawStrategy>,
    /// In which way that is decided. Default: `leastConnections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<RawBalance>,
    /// How much of all connections each instance is to get, in proportion to the others.
    /// Default: 1 each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<Count>>,
    /// How a reload proceeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_restart: Option<RawRolling>,
}

/// Who decides which worker gets the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawStrategy {
    /// The best this machine offers.
    Auto,
    /// Each worker opens the port itself; bunpilot makes them share it where the machine lets it.
    ReusePort,
    /// bunpilot opens the port and hands each worker a listening socket (`LISTEN_FDS`).
    Inherit,
    /// bunpilot accepts and forwards (not built yet).
    Proxy,
}

/// In which way the next connection is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawBalance {
    /// To whoever has the fewest open ones, for its weight.
    LeastConnections,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
}

/// How a reload proceeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawRolling {
    /// How many workers are replaced at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<Count>,
    /// Rest between two batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_delay: Option<Millis>,
}

/// Where the original's daemon kept its files; not heeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawDaemon {
    /// File with the daemon's process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// The control socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_file: Option<String>,
    /// The daemon's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
}
