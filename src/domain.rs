//! The nouns: what an app, an instance and a worker are, and when something happened.
//!
//! Quiet: no I/O, no clock, no threads.

mod app;
mod id;
mod log;
mod moment;
mod usage;
mod worker;

pub use app::{
    AppName, AppNameError, AppSpec, Balance, Cluster, Health, MetricsSpec, Restart, Signal,
    SignalError, Strategy, User,
};
pub use id::{AppId, ClientId, InstanceId, Lane, WorkerId, WorkerIdError};
pub use log::{Compression, Keep, LogFiles, LogMode, LogSpec, OnFull, Period, Syncing};
pub use moment::{Clock, Moment};
pub use usage::{Connections, Logged, Logs, Parting, Scheduling, Usage};
pub use worker::{Exit, Pid, Stage};
