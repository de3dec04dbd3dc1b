//! `bunpilot list`: one row for each worker.

use serde_json::Value;

use super::{
    client::Daemon,
    clock,
    failure::Outcome,
    format,
    output::{Format, Out, style},
    redact::{Secrets, redact},
    table::{ALWAYS, Cell, Column, PIPE_ONLY, Table},
};
use crate::control::{
    status::{AppStatus, Logged, Scheduling, WorkerStatus},
    wire::Command,
};

const COLUMNS: &[Column] = &[
    Column { title: "NAME", name: "name", need: ALWAYS },
    Column { title: "", name: "worker", need: PIPE_ONLY },
    Column { title: "STATUS", name: "status", need: 7 },
    Column { title: "PID", name: "pid", need: 2 },
    Column { title: "CPU", name: "cpu_percent", need: 3 },
    Column { title: "MEM", name: "memory_bytes", need: 5 },
    Column { title: "UPTIME", name: "uptime_seconds", need: 6 },
    Column { title: "RESTARTS", name: "restarts", need: 4 },
];

/// Runs it.
pub(crate) fn run(daemon: &Daemon, secrets: Secrets, out: &mut Out) -> Outcome {
    if out.format == Format::Json {
        let mut data: Value = daemon.ask(&Command::List)?;
        redact(&mut data, secrets);
        return out.json(&data);
    }
    show(&daemon.ask::<Vec<AppStatus>>(&Command::List)?, clock::unix_millis(), out)
}

fn show(apps: &[AppStatus], now: u64, out: &mut Out) -> Outcome {
    if apps.is_empty() && out.screen != super::output::Screen::Piped {
        return out.warn("No applications running");
    }
    let mut table = Table::new(COLUMNS);
    for app in apps {
        for worker in &app.workers {
            table.push(row(app, worker, now));
        }
        if app.workers.is_empty() {
            let state = Cell::new(&app.status).styled(style::of_state(&app.status));
            let mut row = vec![Cell::new(&app.name).styled(style::NAME), Cell::new(""), state];
            row.resize_with(COLUMNS.len(), || Cell::maybe::<u64>(None, |_| String::new()));
            table.push(row);
        }
    }
    table.write(out)
}

fn row(app: &AppStatus, worker: &WorkerStatus, now: u64) -> Vec<Cell> {
    // The name as commands take it, so that it can be copied into one.
    let name = match app.workers.len() {
        1 => app.name.clone(),
        _ => format!("{}:{}", app.name, worker.id),
    };
    vec![
        Cell::both(&app.name, name).styled(style::NAME),
        Cell::both(&worker.id, ""),
        Cell::new(&worker.state).styled(style::of_state(&worker.state)),
        pid(worker),
        cpu(worker),
        memory(worker),
        uptime(worker, now),
        Cell::new(worker.restart_count.to_string()),
    ]
}

/// Whether a process fills the worker's place now.
fn alive(worker: &WorkerStatus) -> bool {
    !matches!(worker.state.as_str(), "stopped" | "crashed" | "errored" | "spawning")
}

/// The pid, while there is a process.
pub(crate) fn pid(worker: &WorkerStatus) -> Cell {
    Cell::maybe(worker.pid.filter(|_| alive(worker)), ToString::to_string)
}

/// Share of one CPU.
pub(crate) fn cpu(worker: &WorkerStatus) -> Cell {
    let share = worker.cpu.filter(|_| alive(worker)).map(|it| it.percentage);
    Cell::maybe(share, |it| format::percent(*it))
}

/// Resident memory.
pub(crate) fn memory(worker: &WorkerStatus) -> Cell {
    let rss = worker.memory.filter(|_| alive(worker)).map(|it| it.rss);
    Cell::maybe(rss, |it| format::size(*it))
}

/// What the scheduler did: time without a CPU, switches by kind, processes started.
pub(crate) fn scheduling(worker: &WorkerStatus) -> [Cell; 4] {
    let scheduling = worker.scheduling.filter(|_| alive(worker));
    let count = |of: fn(Scheduling) -> u64| Cell::maybe(scheduling.map(of), ToString::to_string);
    let delay = match scheduling.and_then(|it| it.run_delay) {
        Some(micros) => {
            let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            Cell::both(&seconds, format::time(micros))
        }
        None => Cell::maybe(None::<u64>, ToString::to_string),
    };
    [
        delay,
        count(|it| it.voluntary_switches),
        count(|it| it.involuntary_switches),
        count(|it| it.forks),
    ]
}

/// What went into a log, whether or not a worker is there now.
pub(crate) fn written(log: Option<Logged>) -> Cell {
    Cell::maybe(log.map(|it| it.bytes), |it| format::size(*it))
}

/// Time since the process was spawned.
pub(crate) fn uptime(worker: &WorkerStatus, now: u64) -> Cell {
    let started = worker.started_at.filter(|_| alive(worker));
    Cell::maybe(started.map(|it| now.saturating_sub(it) / 1000), |it| format::uptime(*it))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{
        client::read,
        example,
        output::{Screen, captured},
    };

    #[track_caller]
    fn check(screen: Screen, expected: &Expect) {
        let (mut out, paper, _) = captured::out(Format::Human, screen);
        let apps: Vec<AppStatus> = read(example::apps()).unwrap();
        show(&apps, example::NOW, &mut out).unwrap();
        expected.assert_eq(&paper.text());
    }

    #[test]
    fn fits_every_width() {
        check(
            Screen::Terminal(160, 40),
            &expect![[r#"
            NAME         │ STATUS  │ PID     │ CPU   │ MEM     │ UPTIME │ RESTARTS
            api-server:0 │ online  │ 4180001 │ 12.3% │ 28.1 MB │ 2m 3s  │ 0
            api-server:1 │ online  │ 4180002 │ 12.3% │ 1.4 GB  │ 2m 3s  │ 0
            mailer       │ crashed │ —       │ —     │ —       │ —      │ 3
            old          │ stopped │ —       │ —     │ —       │ —      │ —
        "#]],
        );
        check(
            Screen::Terminal(60, 40),
            &expect![[r#"
            NAME         │ STATUS  │ CPU   │ MEM     │ UPTIME │ RESTARTS
            api-server:0 │ online  │ 12.3% │ 28.1 MB │ 2m 3s  │ 0
            api-server:1 │ online  │ 12.3% │ 1.4 GB  │ 2m 3s  │ 0
            mailer       │ crashed │ —     │ —       │ —      │ 3
            old          │ stopped │ —     │ —       │ —      │ —
        "#]],
        );
        check(
            Screen::Terminal(30, 40),
            &expect![[r#"
            NAME         │ STATUS
            api-server:0 │ online
            api-server:1 │ online
            mailer       │ crashed
            old          │ stopped
        "#]],
        );
        check(
            Screen::Piped,
            &expect![[r#"
            name	worker	status	pid	cpu_percent	memory_bytes	uptime_seconds	restarts
            api-server	0	online	4180001	12.34	29465000	123	0
            api-server	1	online	4180002	12.34	1500000000	123	0
            mailer	0	crashed					3
            old		stopped					
        "#]],
        );
    }

    #[test]
    fn nothing_to_list() {
        let (mut out, paper, _) = captured::out(Format::Human, Screen::Terminal(80, 24));
        show(&[], 0, &mut out).unwrap();
        assert_eq!(paper.text(), "[bunpilot] WARN │ No applications running\n");
    }
}
