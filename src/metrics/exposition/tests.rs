//! Against the text itself, and against the readers it is for.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use expect_test::{Expect, expect};

use super::*;
use crate::{
    domain::{Connections, Logged, Logs, Pid, Scheduling, Stage, Strategy, Usage},
    metrics::{App, CompatNames, Daemon, Heap, Histogram, State, Worker},
};

const SECOND: Duration = Duration::from_secs(1);

fn usage() -> Usage {
    Usage {
        user: Some(SECOND * 3 / 2),
        system: Some(Duration::from_millis(250)),
        cpu: Duration::from_millis(1_750),
        rss_bytes: 52_428_800,
        fds: 23,
        threads: 11,
        processes: 2,
        connections: Some(Connections { live: 3, accepted: 4_567, moved: 2, reset: 1 }),
        scheduling: Some(Scheduling {
            run_delay: Some(Duration::from_micros(1_250)),
            voluntary_switches: 40_321,
            involuntary_switches: 27,
            forks: 3,
        }),
    }
}

fn daemon() -> Daemon {
    Daemon {
        version: "0.3.0",
        rungs: [("cpu".to_owned(), "ebpf".to_owned())].into(),
        started_unix: Duration::from_millis(1_795_378_000_250),
        uptime: SECOND * 3600,
        usage: Some(usage()),
        fds_max: Some(20_000),
        collector_errors: 0,
    }
}

fn app(name: &str, workers: Vec<Worker>) -> App {
    App {
        name: name.parse().unwrap(),
        compat_names: CompatNames::On,
        desired: 2,
        strategy: Some(Strategy::Inherit),
        workers,
        ready: Histogram::default(),
        reload: Histogram::default(),
        reloads_failed: 0,
    }
}

fn online(index: u16, generation: u32) -> Worker {
    Worker {
        pid: Some(Pid(4711)),
        started_unix: Some(SECOND * 1_795_378_001),
        uptime: Some(SECOND * 3599),
        restarts: 1,
        exits: [("signal", 1), ("reload", 3)].into(),
        usage: Some(usage()),
        cpu_millipercent: Some(2_500),
        heap: Some(Heap {
            rss_bytes: 52_428_800,
            total_bytes: 41_943_040,
            used_bytes: 31_457_280,
            external_bytes: 1_048_576,
        }),
        event_loop_lag: Some(Duration::from_micros(1_250)),
        custom: [("queue depth \"x\"\n\\".to_owned(), 7.5), ("nan".to_owned(), f64::NAN)].into(),
        logs: Logs {
            out: Some(Logged {
                bytes: 1_000,
                lines: Some(10),
                rotations: 2,
                dropped_bytes: 7,
                blocked: Duration::from_millis(1_500),
                last_write_unix: Some(Duration::from_millis(1_795_378_001_250)),
            }),
            err: Some(Logged::default()),
        },
        health_failures: Some(0),
        ..Worker::new(index, generation, State::Live(Stage::Online))
    }
}

fn view() -> View {
    let mut api = app("api", vec![online(0, 7), Worker::new(1, 3, State::Errored)]);
    api.ready.observe(Duration::from_millis(180));
    let plain = App { strategy: None, ..app("plain", vec![Worker::new(0, 1, State::Stopped)]) };
    View { daemon: daemon(), apps: vec![api, plain] }
}

/// The view of apps that all want the original's names, or not.
fn with(compat_names: CompatNames) -> View {
    let View { daemon, apps } = view();
    View { daemon, apps: apps.into_iter().map(|app| App { compat_names, ..app }).collect() }
}

fn text(view: &View, dialect: Dialect) -> String {
    String::from_utf8(write(view, dialect)).unwrap()
}

/// The lines about `names`, a word of each line.
#[track_caller]
fn check(view: &View, dialect: Dialect, word: &str, expected: &Expect) {
    let mut lines = String::new();
    for line in text(view, dialect).lines().filter(|line| line.contains(word)) {
        writeln!(lines, "{line}").unwrap();
    }
    expected.assert_eq(&lines);
}

#[test]
fn the_names_of_the_original() {
    for line in [
        r#"bunpilot_worker_memory_rss_bytes{app="api",worker="0"} 52428800"#,
        r#"bunpilot_worker_memory_heap_used_bytes{app="api",worker="0"} 31457280"#,
        r#"bunpilot_worker_cpu_percent{app="api",worker="0"} 2.5"#,
        r#"bunpilot_worker_restart_count{app="api",worker="0"} 1"#,
        r#"bunpilot_worker_restarts_total{app="api",worker="0"} 1"#,
        r#"bunpilot_worker_uptime_seconds{app="api",worker="0"} 3599"#,
        r#"bunpilot_app_workers_online{app="api"} 1"#,
        r#"bunpilot_app_workers_errored{app="api"} 1"#,
        "bunpilot_master_uptime_seconds 3600",
    ] {
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            let text = text(&view(), dialect);
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

#[test]
fn without_the_names_of_the_original() {
    let text = text(&with(CompatNames::Off), Dialect::Text);
    for old in ["memory_rss", "cpu_percent", "restart_count", "uptime", "workers_online"] {
        assert!(!text.contains(old), "{old}");
    }
    assert!(text.contains("\nbunpilot_worker_restarts_total{"));
}

#[test]
fn each_app_decides_on_its_names() {
    let mut view = view();
    view.apps[1].compat_names = CompatNames::Off;
    let text = text(&view, Dialect::Text);
    assert!(text.contains("bunpilot_app_workers_online{app=\"api\"}"));
    assert!(!text.contains("bunpilot_app_workers_online{app=\"plain\"}"));
    assert!(text.contains("bunpilot_app_workers_desired{app=\"plain\"}"));
}

#[test]
fn counters_are_named_as_each_dialect_has_it() {
    check(
        &view(),
        Dialect::Text,
        "worker_cpu_seconds",
        &expect![[r#"
        # HELP bunpilot_worker_cpu_seconds_total CPU time of all processes of the worker by mode.
        # TYPE bunpilot_worker_cpu_seconds_total counter
        bunpilot_worker_cpu_seconds_total{app="api",worker="0",mode="user"} 1.5
        bunpilot_worker_cpu_seconds_total{app="api",worker="0",mode="system"} 0.25
    "#]],
    );
    check(
        &view(),
        Dialect::OpenMetrics,
        "worker_cpu_seconds",
        &expect![[r#"
        # HELP bunpilot_worker_cpu_seconds CPU time of all processes of the worker by mode.
        # TYPE bunpilot_worker_cpu_seconds counter
        # UNIT bunpilot_worker_cpu_seconds seconds
        bunpilot_worker_cpu_seconds_total{app="api",worker="0",mode="user"} 1.5
        bunpilot_worker_cpu_seconds_total{app="api",worker="0",mode="system"} 0.25
    "#]],
    );
    check(
        &view(),
        Dialect::OpenMetrics,
        "bunpilot_build",
        &expect![[r#"
        # HELP bunpilot_build The running version of bunpilot.
        # TYPE bunpilot_build info
        bunpilot_build_info{version="0.3.0"} 1
    "#]],
    );
    assert!(text(&view(), Dialect::OpenMetrics).ends_with("\n# EOF\n"));
    assert!(!text(&view(), Dialect::Text).contains("# EOF"));
}

#[test]
fn what_nobody_knows_is_absent() {
    let nothing = View {
        daemon: Daemon { usage: None, fds_max: None, rungs: [].into(), ..daemon() },
        apps: vec![app("api", vec![Worker::new(0, 1, State::Live(Stage::Spawning))])],
    };
    let text = text(&nothing, Dialect::Text);
    for absent in
        ["memory", "cpu", "heap", "uptime_seconds{", "custom", "worker_info", "lag", "fds", "log_"]
    {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    assert!(text.contains(r#"bunpilot_worker_up{app="api",worker="0"} 0"#));
}

#[test]
fn the_dead_keep_their_counters_only() {
    let ended = Worker { state: State::Crashed, ..online(0, 7) };
    let view = View { daemon: daemon(), apps: vec![app("api", vec![ended])] };
    check(
        &view,
        Dialect::Text,
        r#"worker="0""#,
        &expect![[r#"
        bunpilot_worker_up{app="api",worker="0"} 0
        bunpilot_worker_restarts_total{app="api",worker="0"} 1
        bunpilot_health_check_failures_total{app="api",worker="0"} 0
        bunpilot_worker_exits_total{app="api",worker="0",reason="reload"} 3
        bunpilot_worker_exits_total{app="api",worker="0",reason="signal"} 1
        bunpilot_log_bytes_total{app="api",worker="0",stream="out"} 1000
        bunpilot_log_bytes_total{app="api",worker="0",stream="err"} 0
        bunpilot_log_lines_total{app="api",worker="0",stream="out"} 10
        bunpilot_log_rotations_total{app="api",worker="0",stream="out"} 2
        bunpilot_log_rotations_total{app="api",worker="0",stream="err"} 0
        bunpilot_log_dropped_bytes_total{app="api",worker="0",stream="out"} 7
        bunpilot_log_dropped_bytes_total{app="api",worker="0",stream="err"} 0
        bunpilot_log_blocked_seconds_total{app="api",worker="0",stream="out"} 1.5
        bunpilot_log_blocked_seconds_total{app="api",worker="0",stream="err"} 0
        bunpilot_log_last_write_timestamp_seconds{app="api",worker="0",stream="out"} 1795378001.25
        bunpilot_worker_restart_count{app="api",worker="0"} 1
    "#]],
    );
}

#[test]
fn one_worker_speaks_for_a_place() {
    let starting =
        Worker { pid: Some(Pid(4712)), ..Worker::new(0, 8, State::Live(Stage::Starting)) };
    let view = View { daemon: daemon(), apps: vec![app("api", vec![starting, online(0, 7)])] };
    check(
        &view,
        Dialect::Text,
        "bunpilot_worker_up{",
        &expect![[r#"
        bunpilot_worker_up{app="api",worker="0"} 1
    "#]],
    );
    check(
        &view,
        Dialect::Text,
        "bunpilot_worker_info{",
        &expect![[r#"
        bunpilot_worker_info{app="api",worker="0",generation="8",pid="4712"} 1
        bunpilot_worker_info{app="api",worker="0",generation="7",pid="4711"} 1
    "#]],
    );
    check(
        &view,
        Dialect::Text,
        r#"state="sta"#,
        &expect![[r#"
        bunpilot_app_workers{app="api",state="starting"} 1
    "#]],
    );
}

#[test]
fn what_nobody_counts_is_absent() {
    let lines = |scheduling: Option<Scheduling>| {
        let worker = Worker { usage: Some(Usage { scheduling, ..usage() }), ..online(0, 7) };
        let view = View { daemon: daemon(), apps: vec![app("api", vec![worker])] };
        let of = ["_forks", "_run_delay", "_switches"];
        let text = text(&view, Dialect::Text);
        let lines = text.lines().filter(|line| of.iter().any(|it| line.contains(it)));
        let lines: Vec<_> = lines.filter(|line| !line.starts_with('#')).collect();
        lines.join("\n") + "\n"
    };
    let scheduling = usage().scheduling.unwrap();
    expect![[r#"
        bunpilot_worker_forks_total{app="api",worker="0"} 3
        bunpilot_worker_run_delay_seconds_total{app="api",worker="0"} 0.00125
        bunpilot_worker_context_switches_total{app="api",worker="0",kind="voluntary"} 40321
        bunpilot_worker_context_switches_total{app="api",worker="0",kind="involuntary"} 27
    "#]]
    .assert_eq(&lines(Some(scheduling)));
    expect![[r#"
        bunpilot_worker_forks_total{app="api",worker="0"} 3
        bunpilot_worker_context_switches_total{app="api",worker="0",kind="voluntary"} 40321
        bunpilot_worker_context_switches_total{app="api",worker="0",kind="involuntary"} 27
    "#]]
    .assert_eq(&lines(Some(Scheduling { run_delay: None, ..scheduling })));
    assert_eq!(lines(None), "\n");
}

#[test]
fn what_each_part_runs_on() {
    check(
        &view(),
        Dialect::OpenMetrics,
        "bunpilot_engine",
        &expect![[r##"
        # HELP bunpilot_engine What each part of bunpilot runs on here.
        # TYPE bunpilot_engine info
        bunpilot_engine_info{part="cpu",rung="ebpf"} 1
    "##]],
    );
}

#[test]
fn no_series_comes_twice() {
    for dialect in [Dialect::Text, Dialect::OpenMetrics] {
        let mut seen = BTreeSet::new();
        for line in text(&view(), dialect).lines() {
            let series = line.rsplit_once(' ').map_or(line, |(series, _value)| series);
            assert!(line == "# EOF" || seen.insert(series.to_owned()), "{line}");
        }
    }
}

#[test]
fn a_worker_cannot_flood_a_scrape() {
    let custom = (0..1_000).map(|n| (format!("m{n}"), 1.0)).collect();
    let view =
        View { daemon: daemon(), apps: vec![app("api", vec![Worker { custom, ..online(0, 1) }])] };
    assert_eq!(text(&view, Dialect::Text).matches("worker_custom{").count(), 64);
}

/// Gives `input` to a program and returns whether it is content, and what it says.
fn ask(program: &str, arguments: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        writeln!(std::io::stderr(), "skipped: `{program}` is not on the PATH").unwrap();
        assert!(std::env::var_os("BUNPILOT_REQUIRE").is_none(), "`{program}` is required");
        return None;
    };
    let mut stdin = child.stdin.take()?;
    // A program that ends early has something to say.
    stdin.write_all(input).unwrap_or_default();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn promtool_has_nothing_to_object_to() {
    for compat in [CompatNames::On, CompatNames::Off] {
        let text = write(&with(compat), Dialect::Text);
        let Some(said) = ask("promtool", &["check", "metrics"], &text) else { return };
        assert_eq!(said, (true, String::new()), "{compat:?}");
    }
}

#[test]
fn promtool_would_object() {
    let wrong = b"# HELP x_count x\n# TYPE x_count gauge\nx_count 1\n";
    let Some((content, said)) = ask("promtool", &["check", "metrics"], wrong) else { return };
    assert!(!content, "{said}");
}

/// Reads all of standard input with the strict parser and prints the samples it understood.
const PARSE: &str = "
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
    from prometheus_client.parser import text_string_to_metric_families as text
except ImportError:
    print('missing'); sys.exit()
parse = {'openmetrics': openmetrics, 'text': text}[sys.argv[1]]
families = list(parse(sys.stdin.read()))
print(sum(len(family.samples) for family in families))
print(next(s.labels['name'] for f in families for s in f.samples if 'custom' in s.name).encode())
";

#[test]
fn the_strict_parsers_read_every_sample() {
    for (dialect, name) in [(Dialect::OpenMetrics, "openmetrics"), (Dialect::Text, "text")] {
        let text = write(&view(), dialect);
        let Some((content, said)) = ask("python3", &["-c", PARSE, name], &text) else { return };
        if said == "missing\n" {
            writeln!(std::io::stderr(), "skipped: python's `prometheus_client` is missing")
                .unwrap();
            assert!(std::env::var_os("BUNPILOT_REQUIRE").is_none(), "the parser is required");
            return;
        }
        let text = String::from_utf8(text).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        let expected = format!("{samples}\nb'queue depth \"x\"\\n\\\\'\n");
        assert_eq!((content, said), (true, expected), "{name}");
    }
}
