//! What a worker finds when it begins: its environment and its command line.
//!
//! Decides every variable whose value follows from the app and the worker. Those that name file
//! descriptors or sockets (`NODE_CHANNEL_FD`, `NOTIFY_SOCKET`, `LISTEN_FDS`, …) are taken out
//! here, because an inherited one would lie, and added by whoever opens what they name.

use std::{collections::BTreeMap, ffi::OsString};

use crate::domain::{AppSpec, Strategy, WorkerId};

/// Variables of ours that are true of one process only, whoever passes them on.
const OURS: &[&str] = &[
    "BUNPILOT_APP_NAME",
    "BUNPILOT_CONTROL_SOCKET",
    "BUNPILOT_DAEMON",
    "BUNPILOT_GENERATION",
    "BUNPILOT_INSTANCES",
    "BUNPILOT_INTERNAL_PORT_BASE",
    "BUNPILOT_PORT",
    "BUNPILOT_REUSE_PORT",
    "BUNPILOT_WORKER_ID",
    "NODE_APP_INSTANCE",
];

/// Beginnings of variables that name something a parent opened for its child.
const HANDED_DOWN: &[&str] = &[
    "BUNPILOT_GUARD_",
    "LISTEN_",
    "NODE_CHANNEL_",
    "NODE_UNIQUE_ID",
    "NOTIFY_SOCKET",
    "WATCHDOG_",
];

/// The environment of `worker`.
///
/// The app's own, without what belongs to another process, plus `BUNPILOT_APP_NAME`,
/// `BUNPILOT_INSTANCES`, `BUNPILOT_WORKER_ID` (also as PM2's `NODE_APP_INSTANCE`),
/// `BUNPILOT_GENERATION`, `BUNPILOT_REUSE_PORT` and, with a port, `BUNPILOT_PORT`.
#[must_use]
pub fn environment(spec: &AppSpec, worker: WorkerId) -> BTreeMap<String, String> {
    let own = spec.env.iter().filter(|(name, _)| !foreign(name));
    let mut environment: BTreeMap<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    set("BUNPILOT_APP_NAME", spec.name.to_string());
    set("BUNPILOT_GENERATION", worker.generation.to_string());
    set("BUNPILOT_INSTANCES", spec.instances.to_string());
    set("BUNPILOT_REUSE_PORT", if reuses_port(spec) { "1" } else { "0" }.to_owned());
    set("BUNPILOT_WORKER_ID", worker.instance.index.to_string());
    set("NODE_APP_INSTANCE", worker.instance.index.to_string());
    if let Some(port) = spec.port {
        set("BUNPILOT_PORT", port.to_string());
    }
    environment
}

/// The command line: interpreter, script, arguments. Never empty.
#[must_use]
pub fn command(spec: &AppSpec) -> Vec<OsString> {
    let interpreter = spec.interpreter.iter().map(OsString::from);
    let script = spec.script.clone().into_os_string();
    interpreter.chain([script]).chain(spec.args.iter().map(OsString::from)).collect()
}

fn foreign(name: &str) -> bool {
    OURS.contains(&name) || HANDED_DOWN.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether the worker should open its port with `SO_REUSEPORT`.
///
/// Also with one instance: a reload runs two generations side by side.
fn reuses_port(spec: &AppSpec) -> bool {
    let by_worker = match spec.cluster.strategy {
        Strategy::Auto | Strategy::ReusePort => true,
        Strategy::Inherit | Strategy::Proxy => false,
    };
    by_worker && spec.cluster.enabled && spec.port.is_some()
}

#[cfg(test)]
mod tests {
    use std::{
        num::{NonZeroU16, NonZeroU64},
        time::Duration,
    };

    use expect_test::{Expect, expect};

    use super::*;
    use crate::domain::{AppId, Balance, Cluster, Keep, LogSpec, MetricsSpec, Restart, Signal};

    fn spec() -> AppSpec {
        let second = Duration::from_secs(1);
        AppSpec {
            name: "api".parse().unwrap(),
            script: "/srv/api/main.ts".into(),
            interpreter: vec!["bun".into(), "run".into()],
            args: vec!["--fast".into(), "two words".into()],
            cwd: "/srv/api".into(),
            env: BTreeMap::from([("TOKEN".into(), "t".into())]),
            instances: NonZeroU16::new(4).unwrap(),
            port: NonZeroU16::new(3000),
            user: None,
            limits: BTreeMap::new(),
            shutdown_signal: Signal::TERM,
            ready_timeout: second,
            kill_timeout: second,
            min_uptime: second,
            restart: Restart {
                max_restarts: 1,
                window: second,
                initial: second,
                growth_percent: 200,
                max: second,
            },
            health: None,
            logs: LogSpec::plain(Keep::new(NonZeroU64::MIN, NonZeroU16::MIN)),
            metrics: MetricsSpec {
                compat_names: true,
                enabled: true,
                prometheus: true,
                http_port: NonZeroU16::MIN,
                collect_interval: second,
            },
            cluster: Cluster {
                enabled: true,
                strategy: Strategy::Auto,
                balance: Balance::LeastConnections,
                weights: Vec::new(),
                batch_size: NonZeroU16::MIN,
                batch_delay: second,
            },
        }
    }

    #[track_caller]
    fn check(spec: &AppSpec, expected: &Expect) {
        let lines: Vec<String> = environment(spec, WorkerId::new(AppId(7), 2, 9))
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_worker_knows_its_place() {
        check(
            &spec(),
            &expect![[r#"
                BUNPILOT_APP_NAME=api
                BUNPILOT_GENERATION=9
                BUNPILOT_INSTANCES=4
                BUNPILOT_PORT=3000
                BUNPILOT_REUSE_PORT=1
                BUNPILOT_WORKER_ID=2
                NODE_APP_INSTANCE=2
                TOKEN=t"#]],
        );
    }

    #[test]
    fn what_belongs_to_another_process_is_not_passed_on() {
        let mut spec = spec();
        spec.port = None;
        for name in [
            "BUNPILOT_DAEMON",
            "BUNPILOT_CONTROL_SOCKET",
            "BUNPILOT_INTERNAL_PORT_BASE",
            "BUNPILOT_GUARD_FD",
            "BUNPILOT_PORT",
            "BUNPILOT_WORKER_ID",
            "NODE_CHANNEL_FD",
            "NODE_CHANNEL_SERIALIZATION_MODE",
            "NODE_UNIQUE_ID",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
        ] {
            spec.env.insert(name.into(), "a lie".into());
        }
        spec.env.insert("BUNPILOT_HOME".into(), "/srv/pilot".into());
        spec.env.insert("LISTENER".into(), "mine".into());
        check(
            &spec,
            &expect![[r#"
                BUNPILOT_APP_NAME=api
                BUNPILOT_GENERATION=9
                BUNPILOT_HOME=/srv/pilot
                BUNPILOT_INSTANCES=4
                BUNPILOT_REUSE_PORT=0
                BUNPILOT_WORKER_ID=2
                LISTENER=mine
                NODE_APP_INSTANCE=2
                TOKEN=t"#]],
        );
    }

    #[track_caller]
    fn check_reuse(expected: bool, change: impl FnOnce(&mut AppSpec)) {
        let mut spec = spec();
        change(&mut spec);
        assert_eq!(reuses_port(&spec), expected, "{:?} {:?}", spec.cluster, spec.port);
    }

    #[test]
    fn the_port_is_reused_where_workers_open_it() {
        check_reuse(true, |_| ());
        check_reuse(true, |spec| spec.cluster.strategy = Strategy::ReusePort);
        check_reuse(true, |spec| spec.instances = NonZeroU16::MIN);
        check_reuse(false, |spec| spec.cluster.strategy = Strategy::Inherit);
        check_reuse(false, |spec| spec.cluster.strategy = Strategy::Proxy);
        check_reuse(false, |spec| spec.cluster.enabled = false);
        check_reuse(false, |spec| spec.port = None);
    }

    #[test]
    fn the_command_is_interpreter_script_arguments() {
        let mut spec = spec();
        assert_eq!(command(&spec), ["bun", "run", "/srv/api/main.ts", "--fast", "two words"]);
        spec.interpreter.clear();
        spec.args.clear();
        assert_eq!(command(&spec), ["/srv/api/main.ts"]);
    }
}
