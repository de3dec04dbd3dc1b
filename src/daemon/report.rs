//! How things look from outside: apps and workers in the original's shapes.

use std::time::Duration;

use super::Core;
use crate::{
    control::status::{
        AppStatus, Connections, Cpu, DaemonStatus, Logged, Memory, Scheduling, Step as WireStep,
        WorkerStatus,
    },
    domain::{self, AppId, AppSpec, Balance, Exit, InstanceId, Moment, Signal, Strategy, WorkerId},
    supervisor::{AppView, Cause, PlaceView, Step, WorkerView},
};

impl Core {
    /// Every app, in the order of their names.
    pub(super) fn list(&self) -> Vec<AppStatus> {
        let ids = self.apps.by_name().into_iter();
        ids.filter_map(|(id, _)| self.app_status(id)).collect()
    }

    /// The daemon about itself.
    pub(super) fn daemon_status(&self, now: Moment) -> DaemonStatus {
        DaemonStatus {
            apps: self.list(),
            uptime: now.since(self.facts.started).as_secs(),
            pid: self.facts.pid.0,
            version: self.facts.version.to_owned(),
            engines: self.facts.engines.clone(),
            warnings: self.warnings.values().cloned().chain(self.blockages.all()).collect(),
        }
    }

    /// One app.
    pub(super) fn app_status(&self, id: AppId) -> Option<AppStatus> {
        let app = self.supervisor.app(id)?;
        let entry = self.apps.entry(id)?;
        let workers: Vec<WorkerStatus> = app.places().map(|it| self.worker_status(&it)).collect();
        let started = app.workers().filter_map(|it| it.spawned).min();
        Some(AppStatus {
            name: entry.name.to_string(),
            status: app.status().word().to_owned(),
            workers,
            config: serde_json::to_value(crate::config::raw::RawApp::of(app.spec()))
                .unwrap_or_default(),
            started_at: started.map(|it| self.facts.clock.unix_millis(it)),
            balancing: balancing(app.spec(), self.facts.engines.get("ports").map_or("", |it| it))
                .to_owned(),
            busy: app.under_way().map(ToOwned::to_owned),
            config_path: entry.config_path.clone(),
            warnings: self.blockages.of(id).collect(),
        })
    }

    fn worker_status(&self, place: &PlaceView) -> WorkerStatus {
        let unix = |moment: Moment| self.facts.clock.unix_millis(moment);
        let worker = place.worker.as_ref();
        let voice = worker.and_then(|it| self.voices.of(it.id));
        let measured = worker.and_then(|it| self.questions.of(it.id));
        let usage = measured.map(|it| it.usage);
        let (exit_code, signal_code) = exit_codes(place.last_exit);
        let logs = self.tallies.logs(place.id);
        WorkerStatus {
            id: place.id.index,
            pid: worker.and_then(|it| it.pid).map(|it| it.0),
            state: place.state.word().to_owned(),
            started_at: worker.and_then(|it| it.spawned).map(unix),
            ready_at: worker.and_then(|it| it.ready_at).map(unix),
            restart_count: place.restarts,
            consecutive_crashes: place.crashes_in_a_row,
            last_crash_at: place.crashes.last().map(|it| unix(*it)),
            exit_code,
            signal_code,
            memory: worker.and_then(|it| self.memory(it.id)),
            cpu: worker.and_then(|it| self.cpu(it.id)),
            generation: place.generation,
            reason: place.reason.clone().unwrap_or_default(),
            next_retry_at: place.retry_at.map(unix),
            fds: usage.map(|it| it.fds),
            threads: usage.map(|it| it.threads),
            processes: usage.map(|it| it.processes),
            connections: usage.and_then(|it| it.connections).map(connections),
            scheduling: usage.and_then(|it| it.scheduling).map(scheduling),
            status_text: voice.and_then(|it| it.status.clone()),
            out: logs.out.map(logged),
            err: logs.err.map(logged),
        }
    }

    fn memory(&self, worker: WorkerId) -> Option<Memory> {
        let measured = self.questions.of(worker)?;
        let report = self.voices.of(worker).and_then(|it| it.report).unwrap_or_default();
        Some(Memory {
            rss: measured.usage.rss_bytes,
            heap_total: report.heap_total_bytes.unwrap_or_default(),
            heap_used: report.heap_used_bytes.unwrap_or_default(),
            external: report.external_bytes.unwrap_or_default(),
            timestamp: self.facts.clock.unix_millis(measured.at),
        })
    }

    fn cpu(&self, worker: WorkerId) -> Option<Cpu> {
        let measured = self.questions.of(worker)?;
        let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
        Some(Cpu {
            user: micros(measured.usage.user.unwrap_or(measured.usage.cpu)),
            system: micros(measured.usage.system.unwrap_or_default()),
            percentage: f64::from(self.millipercent(worker)) / 1000.0,
            timestamp: self.facts.clock.unix_millis(measured.at),
        })
    }

    /// A step of a long command as clients read it.
    pub(super) fn step(&self, worker: WorkerId, step: Step) -> WireStep {
        let place = self.place(worker.instance);
        let view = place.as_ref().and_then(|it| one_of(it, worker));
        let (word, detail) = match step {
            Step::Entered(stage) => (stage.word(), None),
            Step::Ended(cause) => (ended_as(cause), Some(cause.word().to_owned())),
        };
        WireStep {
            app: self.apps.name(worker.instance.app).map(ToString::to_string).unwrap_or_default(),
            worker: worker.instance.index,
            generation: worker.generation,
            step: word.to_owned(),
            pid: view.and_then(|it| it.pid).map(|it| it.0),
            detail,
        }
    }

    /// One place, if it is known.
    pub(super) fn place(&self, instance: InstanceId) -> Option<PlaceView> {
        self.supervisor.app(instance.app)?.place(instance.index)
    }

    /// Every worker whose process is there.
    pub(super) fn alive(&self) -> impl Iterator<Item = WorkerView> {
        self.workers().filter(|it| it.pid.is_some() && it.exit.is_none())
    }

    /// Every worker of which something is left.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.supervisor.apps().flat_map(AppView::workers)
    }
}

fn connections(it: domain::Connections) -> Connections {
    let domain::Connections { live, accepted, moved, reset } = it;
    Connections { open: live, accepted, moved, reset }
}

fn logged(logged: domain::Logged) -> Logged {
    let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    Logged {
        bytes: logged.bytes,
        lines: logged.lines,
        rotations: logged.rotations,
        dropped_bytes: logged.dropped_bytes,
        blocked_millis: millis(logged.blocked),
        last_write_at: logged.last_write_unix.map(millis),
    }
}

fn scheduling(it: domain::Scheduling) -> Scheduling {
    Scheduling {
        run_delay: it.run_delay.map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
        voluntary_switches: it.voluntary_switches,
        involuntary_switches: it.involuntary_switches,
        forks: it.forks,
    }
}

fn one_of(place: &PlaceView, worker: WorkerId) -> Option<&WorkerView> {
    place.worker.iter().chain(&place.others).find(|it| it.id == worker)
}

/// Whether an end was wanted.
fn ended_as(cause: Cause) -> &'static str {
    match cause {
        Cause::Exit | Cause::Signal | Cause::Spawn => "crashed",
        Cause::Ready | Cause::Health | Cause::Heartbeat => "failed",
        Cause::Stop | Cause::Restart | Cause::Reload | Cause::Scale | Cause::Rollback => "stopped",
    }
}

fn exit_codes(exit: Option<Exit>) -> (Option<i32>, Option<String>) {
    match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(Signal(signal).to_string())),
        Some(Exit::Unknown) | None => (None, None),
    }
}

/// How connections reach the workers; `ports` is how those are shared that workers open.
fn balancing(spec: &AppSpec, ports: &str) -> &'static str {
    if spec.port.is_none() {
        return "none: the app has no port";
    }
    if !spec.cluster.enabled {
        return "none: the worker opens the port for itself";
    }
    match spec.cluster.strategy {
        Strategy::Inherit => "inherit: bunpilot's sockets, one of the ready workers at random",
        Strategy::ReusePort | Strategy::Auto if ports.starts_with("eBPF") => {
            match spec.cluster.balance {
                Balance::LeastConnections => "eBPF: the ready worker with the fewest connections",
                Balance::RoundRobin => "eBPF: the ready workers in turn",
                Balance::Random => "eBPF: one of the ready workers at random",
            }
        }
        Strategy::ReusePort | Strategy::Auto => {
            "the kernel's hash over the workers' own sockets; workers are not probed one by one"
        }
        Strategy::Proxy => "proxy",
    }
}
