//! `bunpilot metrics`: a table, a live dashboard, JSON, or what Prometheus reads.

mod live;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    args,
    client::Daemon,
    failure::{Failure, Outcome},
    format, list,
    output::{Format, Out, Screen, style},
    redact::{Secrets, redact},
    suggest,
    table::{ALWAYS, Cell, Column, PIPE_ONLY, Table},
};
use crate::control::{
    status::{AppStatus, Logged, WorkerStatus},
    wire::{Command, Target},
};

const COLUMNS: &[Column] = &[
    Column { title: "APP", name: "app", need: ALWAYS },
    Column { title: "WORKER", name: "worker", need: 10 },
    Column { title: "PID", name: "pid", need: 5 },
    Column { title: "CPU %", name: "cpu_percent", need: 9 },
    Column { title: "RSS", name: "rss_bytes", need: 8 },
    Column { title: "HEAP USED", name: "heap_used_bytes", need: 7 },
    Column { title: "HEAP TOTAL", name: "heap_total_bytes", need: 4 },
    Column { title: "RESTARTS", name: "restarts", need: 6 },
    Column { title: "THREADS", name: "threads", need: 2 },
    Column { title: "FDS", name: "fds", need: 3 },
    Column { title: "OUT", name: "out_bytes", need: 1 },
    Column { title: "ERR", name: "err_bytes", need: 1 },
    Column { title: "OUT LINES", name: "out_lines", need: PIPE_ONLY },
    Column { title: "ERR LINES", name: "err_lines", need: PIPE_ONLY },
    Column { title: "RUN DELAY", name: "run_delay_seconds", need: 1 },
    Column { title: "SLEEPS", name: "voluntary_switches", need: 1 },
    Column { title: "PREEMPTED", name: "involuntary_switches", need: 1 },
    Column { title: "FORKS", name: "forks", need: 1 },
];

/// Runs it.
pub(crate) fn run(daemon: &Daemon, args: &args::Metrics, out: &mut Out) -> Outcome {
    if args.prometheus {
        return exposition(daemon, out);
    }
    if out.format == Format::Json {
        let mut data: Value = measurements(daemon, args.name.as_deref())?;
        redact(&mut data, Secrets::Hidden);
        return out.json(&data);
    }
    match out.screen {
        Screen::Terminal(..) if !args.once => live::run(daemon, args.name.as_deref(), out),
        Screen::Terminal(..) | Screen::Piped => {
            let apps: Vec<AppStatus> = measurements(daemon, args.name.as_deref())?;
            table(&apps).write(out)
        }
    }
}

fn exposition(daemon: &Daemon, out: &mut Out) -> Outcome {
    let text: String = daemon.ask(&Command::Exposition)?;
    Ok(out.stdout().write_all(text.as_bytes())?)
}

fn measurements<T: DeserializeOwned>(daemon: &Daemon, name: Option<&str>) -> Result<T, Failure> {
    daemon.ask(&Command::Metrics(name.map(str::to_owned))).map_err(|failure| {
        let unknown = name.filter(|_| failure.is_no_such_app()).map(Target::parse);
        failure.hint(unknown.and_then(|it| suggest::names(daemon, &it)))
    })
}

fn table(apps: &[AppStatus]) -> Table {
    let mut table = Table::new(COLUMNS);
    for app in apps {
        for worker in &app.workers {
            table.push(row(app, worker));
        }
    }
    table
}

fn row(app: &AppStatus, worker: &WorkerStatus) -> Vec<Cell> {
    let lines = |log: Option<Logged>| Cell::maybe(log.and_then(|it| it.lines), u64::to_string);
    let count = |value: Option<u32>| Cell::maybe(value, ToString::to_string);
    // Zero is "the worker does not tell".
    let heap = |bytes: Option<u64>| Cell::maybe(bytes.filter(|it| *it > 0), |it| format::size(*it));
    let mut row = vec![
        Cell::new(&app.name).styled(style::NAME),
        Cell::new(worker.id.to_string()),
        list::pid(worker),
        list::cpu(worker),
        list::memory(worker),
        heap(worker.memory.map(|it| it.heap_used)),
        heap(worker.memory.map(|it| it.heap_total)),
        Cell::new(worker.restart_count.to_string()),
        count(worker.threads),
        count(worker.fds),
        list::written(worker.out),
        list::written(worker.err),
        lines(worker.out),
        lines(worker.err),
    ];
    row.extend(list::scheduling(worker));
    row
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{client::read, example, output::captured};

    #[track_caller]
    fn check(screen: Screen, expected: &Expect) {
        let (mut out, paper, _) = captured::out(Format::Human, screen);
        let apps: Vec<AppStatus> = read(example::apps()).unwrap();
        table(&apps).write(&mut out).unwrap();
        expected.assert_eq(&paper.text());
    }

    #[test]
    fn fits_every_width() {
        check(
            Screen::Terminal(160, 40),
            &expect![[r#"
            APP        │ WORKER │ PID     │ CPU % │ RSS     │ HEAP USED │ HEAP TOTAL │ RESTARTS │ THREADS │ FDS │ OUT    │ ERR │ RUN DELAY │ SLEEPS │ PREEMPTED │ FORKS
            api-server │ 0      │ 4180001 │ 12.3% │ 28.1 MB │ 11.8 MB   │ 19.1 MB    │ 0        │ 11      │ 21  │ 1.2 MB │ —   │ 1.2s      │ 40321  │ 27        │ 3
            api-server │ 1      │ 4180002 │ 12.3% │ 1.4 GB  │ 11.8 MB   │ 19.1 MB    │ 0        │ 11      │ 21  │ 1.2 MB │ —   │ 1.2s      │ 40321  │ 27        │ 3
            mailer     │ 0      │ —       │ —     │ —       │ —         │ —          │ 3        │ 11      │ 21  │ 1.2 MB │ —   │ —         │ —      │ —         │ —
        "#]],
        );
        check(
            Screen::Terminal(60, 40),
            &expect![[r#"
            APP        │ WORKER │ CPU % │ RSS     │ HEAP USED │ RESTARTS
            api-server │ 0      │ 12.3% │ 28.1 MB │ 11.8 MB   │ 0
            api-server │ 1      │ 12.3% │ 1.4 GB  │ 11.8 MB   │ 0
            mailer     │ 0      │ —     │ —       │ —         │ 3
        "#]],
        );
        check(
            Screen::Piped,
            &expect![[r#"
            app	worker	pid	cpu_percent	rss_bytes	heap_used_bytes	heap_total_bytes	restarts	threads	fds	out_bytes	err_bytes	out_lines	err_lines	run_delay_seconds	voluntary_switches	involuntary_switches	forks
            api-server	0	4180001	12.34	29465000	12345678	20000000	0	11	21	1234567		12345		1.234567	40321	27	3
            api-server	1	4180002	12.34	1500000000	12345678	20000000	0	11	21	1234567		12345		1.234567	40321	27	3
            mailer	0						3	11	21	1234567		12345					
        "#]],
        );
    }
}
