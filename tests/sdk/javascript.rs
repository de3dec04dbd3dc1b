//! Node and Bun: the same scripts, the same conversation.

use std::{path::PathBuf, time::Duration};

use bunpilot::{
    cli::sdk::What,
    ipc::channel::{Dialect, Message, Report, Request},
};
use rustix::process::Signal;

use crate::{
    runtime::{bun, node},
    worker::{Project, Worker},
};

/// Says all there is to say.
const MODERN: &str = "
import { bunpilotReady, bunpilotOnShutdown, bunpilotOnConfigUpdate, bunpilotStartMetrics,
  bunpilotHeartbeat, bunpilotSend } from 'bunpilot/worker';
import { bunpilotReady as same } from 'bunpilot/sdk/worker';
import { defineConfig } from 'bunpilot';
if (same !== bunpilotReady || defineConfig(7) !== 7) throw new Error('exports');
const server = setInterval(() => {}, 1000);
bunpilotOnShutdown(async () => {
  await new Promise((resolve) => setTimeout(resolve, 10));
  clearInterval(server);
  console.log('closed');
});
bunpilotOnShutdown(() => console.log('second'));
bunpilotOnConfigUpdate((config) => bunpilotSend('config', config));
bunpilotStartMetrics(1e9);
bunpilotStartMetrics(1e9);
bunpilotHeartbeat(1e9);
bunpilotSend('jobs', { left: 3 });
bunpilotReady();
";

fn all_there_is(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let project = Project::new(test, What::Js, "worker.mjs", MODERN);
    let mut worker = Worker::spawn(project.command(&runtime, "worker.mjs"));
    worker.expect(&Message::ShutdownHandler);
    worker.expect_heartbeat();
    let data = serde_json::json!({"left": 3});
    worker.expect(&Message::Custom { channel: "jobs".into(), data });
    worker.expect(&Message::Ready(Dialect::Ours));
    worker.say(&Request::CollectMetrics);
    let Some(Message::Metrics(report)) = worker.hear() else { panic!("no metrics") };
    check_report(report);
    assert!(report.event_loop_lag.is_some_and(|lag| lag < Duration::from_mins(1)));
    worker.say(&Request::Ping);
    worker.expect_heartbeat();
    let config = serde_json::json!({"port": 3001});
    worker.say(&Request::ConfigUpdate { config: config.clone() });
    worker.expect(&Message::Custom { channel: "config".into(), data: config });
    worker.shutdown();
    worker.shutdown(); // said twice, done once
    worker.expect(&Message::Stopping);
    worker.expect_end(0, "second\nclosed\n");
}

#[track_caller]
fn check_report(report: Report) {
    let size = 100_000..100_000_000_000;
    for part in [report.rss_bytes, report.heap_total_bytes, report.heap_used_bytes] {
        assert!(part.is_some_and(|bytes| size.contains(&bytes)), "{report:?}");
    }
    let cpu = report.user.zip(report.system).map(|(user, system)| user + system);
    assert!(cpu.is_some_and(|cpu| cpu > Duration::ZERO), "{report:?}");
    assert!(report.external_bytes.is_some(), "{report:?}");
}

#[test]
fn all_there_is_in_node() {
    all_there_is("node", node());
}

#[test]
fn all_there_is_in_bun() {
    all_there_is("bun", bun());
}

/// The signal the manager falls back to, in a worker that uses `require`.
fn a_signal_runs_the_handlers(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let script = "
        const { bunpilotReady, bunpilotOnShutdown } = require('bunpilot/worker');
        setInterval(() => {}, 1000);
        bunpilotOnShutdown(() => console.log('closed'));
        bunpilotReady();
    ";
    let project = Project::new(test, What::Js, "worker.cjs", script);
    for signal in [Signal::TERM, Signal::INT] {
        let mut worker = Worker::spawn(project.command(&runtime, "worker.cjs"));
        worker.expect(&Message::ShutdownHandler);
        worker.expect(&Message::Ready(Dialect::Ours));
        worker.signal(signal);
        worker.expect(&Message::Stopping);
        worker.expect_end(0, "closed\n");
    }
}

#[test]
fn a_signal_runs_the_handlers_in_node() {
    a_signal_runs_the_handlers("node-signal", node());
}

#[test]
fn a_signal_runs_the_handlers_in_bun() {
    a_signal_runs_the_handlers("bun-signal", bun());
}

fn a_handler_that_fails_shows(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let script = "
        import { bunpilotReady, bunpilotOnShutdown } from 'bunpilot/worker';
        bunpilotOnShutdown(() => { throw new Error('cannot close'); });
        bunpilotOnShutdown(() => console.log('closed'));
        bunpilotReady();
    ";
    let project = Project::new(test, What::Js, "worker.mjs", script);
    let mut command = project.command(&runtime, "worker.mjs");
    command.stderr(std::process::Stdio::null());
    let mut worker = Worker::spawn(command);
    worker.expect(&Message::ShutdownHandler);
    worker.expect(&Message::Ready(Dialect::Ours));
    worker.shutdown();
    worker.expect(&Message::Stopping);
    worker.expect_end(1, "closed\n");
}

#[test]
fn a_handler_that_fails_shows_in_node() {
    a_handler_that_fails_shows("node-fails", node());
}

#[test]
fn a_handler_that_fails_shows_in_bun() {
    a_handler_that_fails_shows("bun-fails", bun());
}

/// D20: what the original's SDK does, and scripts written without any.
const ORIGINAL: &str = "
process.on('message', async (message) => {
  if (message.type === 'collect-metrics') {
    const { rss, heapTotal, heapUsed, external } = process.memoryUsage();
    const payload = { memory: { rss, heapTotal, heapUsed, external }, cpu: process.cpuUsage() };
    process.send({ type: 'metrics', payload });
  } else if (message.type === 'shutdown') {
    console.log('closed within', message.timeout);
    process.exit(0);
  }
});
process.send({ type: 'ready' });
process.send('ready');
process.send({ type: 'metrics' });
";

fn the_original(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let project = Project::new(test, What::Js, "worker.js", ORIGINAL);
    let mut worker = Worker::spawn(project.command(&runtime, "worker.js"));
    worker.expect(&Message::Ready(Dialect::Original));
    worker.expect(&Message::BareReady);
    worker.expect(&Message::Metrics(Report::default()));
    worker.say(&Request::CollectMetrics);
    let Some(Message::Metrics(report)) = worker.hear() else { panic!("no metrics") };
    check_report(report);
    worker.shutdown();
    worker.expect_end(0, "closed within 5000\n");
}

#[test]
fn d20_the_original_in_node() {
    the_original("node-original", node());
}

#[test]
fn d20_the_original_in_bun() {
    the_original("bun-original", bun());
}

/// A script that has done its work ends, although it spoke.
fn speaking_keeps_nobody_alive(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let script = "
        import { bunpilotReady, bunpilotHeartbeat, bunpilotSend } from 'bunpilot/worker';
        bunpilotReady();
        bunpilotHeartbeat();
        bunpilotSend('jobs', null);
    ";
    let project = Project::new(test, What::Js, "worker.mjs", script);
    let mut worker = Worker::spawn(project.command(&runtime, "worker.mjs"));
    worker.expect(&Message::Ready(Dialect::Ours));
    worker.expect_heartbeat();
    worker.expect(&Message::Custom { channel: "jobs".into(), data: serde_json::Value::Null });
    worker.expect_end(0, "");
}

#[test]
fn speaking_keeps_nobody_alive_in_node() {
    speaking_keeps_nobody_alive("node-done", node());
}

#[test]
fn speaking_keeps_nobody_alive_in_bun() {
    speaking_keeps_nobody_alive("bun-done", bun());
}

/// Without bunpilot nothing is sent, nothing is kept alive, no signal is caught.
fn nothing_happens_elsewhere(test: &str, runtime: Option<PathBuf>) {
    let Some(runtime) = runtime else { return };
    let script = format!(
        "{MODERN} clearInterval(server);
         console.log(process.listenerCount('SIGTERM') + process.listenerCount('message'));"
    );
    let project = Project::new(test, What::Js, "worker.mjs", &script);
    let output = project.command(&runtime, "worker.mjs").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nothing_happens_elsewhere_in_node() {
    nothing_happens_elsewhere("node-alone", node());
}

#[test]
fn nothing_happens_elsewhere_in_bun() {
    nothing_happens_elsewhere("bun-alone", bun());
}
