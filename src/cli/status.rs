//! `bunpilot status`: all about one app.

use serde_json::Value;

use super::{
    args,
    client::{Daemon, read},
    clock,
    failure::Outcome,
    format, list,
    output::{Format, Out, Screen, style},
    redact::redact,
    suggest,
    table::{ALWAYS, Cell, Column, Table},
};
use crate::control::{
    status::{AppStatus, WorkerStatus},
    wire::{Command, Target},
};

const COLUMNS: &[Column] = &[
    Column { title: "ID", name: "worker", need: ALWAYS },
    Column { title: "PID", name: "pid", need: 6 },
    Column { title: "STATE", name: "state", need: 10 },
    Column { title: "CPU", name: "cpu_percent", need: 7 },
    Column { title: "MEM", name: "memory_bytes", need: 8 },
    Column { title: "UPTIME", name: "uptime_seconds", need: 9 },
    Column { title: "RESTARTS", name: "restarts", need: 5 },
    Column { title: "GENERATION", name: "generation", need: 1 },
    Column { title: "PROCESSES", name: "processes", need: 2 },
    Column { title: "THREADS", name: "threads", need: 3 },
    Column { title: "FDS", name: "fds", need: 4 },
    Column { title: "CONNS", name: "connections", need: 2 },
    Column { title: "OUT", name: "out_bytes", need: 1 },
    Column { title: "ERR", name: "err_bytes", need: 1 },
    Column { title: "RUN DELAY", name: "run_delay_seconds", need: 1 },
    Column { title: "SLEEPS", name: "voluntary_switches", need: 1 },
    Column { title: "PREEMPTED", name: "involuntary_switches", need: 1 },
    Column { title: "FORKS", name: "forks", need: 1 },
];

/// Runs it.
pub(crate) fn run(daemon: &Daemon, args: &args::Status, out: &mut Out) -> Outcome {
    let target = Target::parse(&args.name);
    let mut data: Value = daemon.ask(&Command::Status(args.name.clone())).map_err(|failure| {
        let hint = failure.is_no_such_app().then(|| suggest::names(daemon, &target)).flatten();
        failure.hint(hint)
    })?;
    redact(&mut data, args.shown.secrets());
    if out.format == Format::Json {
        return out.json(&data);
    }
    show(&read(data)?, clock::unix_millis(), out)
}

fn show(app: &AppStatus, now: u64, out: &mut Out) -> Outcome {
    for (key, value) in facts(app, now) {
        fact(key, &value, out)?;
    }
    writeln!(out.stdout())?;
    let mut table = Table::new(COLUMNS);
    for worker in &app.workers {
        table.push(row(worker, now));
    }
    table.write(out)?;
    remarks(app, now, out)
}

fn fact(key: &str, value: &str, out: &mut Out) -> Outcome {
    match out.screen {
        Screen::Piped => writeln!(out.stdout(), "{}\t{value}", key.to_lowercase())?,
        Screen::Terminal(..) => {
            writeln!(out.stdout(), "{}{key:<12}{0:#}{value}", style::BOLD)?;
        }
    }
    Ok(())
}

fn facts(app: &AppStatus, now: u64) -> Vec<(&'static str, String)> {
    let config = |key: &str| app.config.get(key).map(plain);
    let uptime = app
        .started_at
        .filter(|_| app.status == "running")
        .map(|it| format::uptime(now.saturating_sub(it) / 1000));
    let said = |text: &String| !text.is_empty();
    [
        ("App", Some(app.name.clone())),
        ("Status", Some(app.status.clone())),
        ("Busy", app.busy.clone()),
        ("Script", config("script")),
        ("Interpreter", config("interpreter").filter(said)),
        ("Args", config("args").filter(said)),
        ("Instances", config("instances")),
        ("Port", config("port").filter(|it| it != "null")),
        ("Balancing", Some(app.balancing.clone()).filter(said)),
        ("Uptime", uptime),
        ("Cwd", config("cwd")),
        ("Config", app.config_path.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| value.map(|it| (key, it)))
    .collect()
}

/// A configuration value as a person writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn row(worker: &WorkerStatus, now: u64) -> Vec<Cell> {
    let count = |value: Option<u32>| Cell::maybe(value, ToString::to_string);
    let mut row = vec![
        Cell::new(worker.id.to_string()),
        list::pid(worker),
        Cell::new(&worker.state).styled(style::of_state(&worker.state)),
        list::cpu(worker),
        list::memory(worker),
        list::uptime(worker, now),
        Cell::new(worker.restart_count.to_string()),
        Cell::new(worker.generation.to_string()),
        count(worker.processes),
        count(worker.threads),
        count(worker.fds),
        Cell::maybe(worker.connections.map(|it| it.open), ToString::to_string),
        list::written(worker.out),
        list::written(worker.err),
    ];
    row.extend(list::scheduling(worker));
    row
}

/// What an operator should see, why workers are not online, and what they say of themselves.
fn remarks(app: &AppStatus, now: u64, out: &mut Out) -> Outcome {
    app.warnings.iter().try_for_each(|it| out.warn(it))?;
    for worker in &app.workers {
        let retry = worker.next_retry_at.map(|at| {
            let seconds = at.saturating_sub(now).div_ceil(1000);
            format!("next try in {}", format::uptime(seconds))
        });
        let reason = Some(worker.reason.clone()).filter(|it| !it.is_empty());
        let said = worker.status_text.as_ref().map(|it| format!("says: {it}"));
        let remarks: Vec<String> = [reason, retry, said].into_iter().flatten().collect();
        if !remarks.is_empty() {
            writeln!(out.stdout(), "{}:{} {}", app.name, worker.id, remarks.join("; "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{example, output::captured};

    #[track_caller]
    fn check(index: usize, screen: Screen, expected: &Expect) {
        let (mut out, paper, _) = captured::out(Format::Human, screen);
        let apps: Vec<AppStatus> = read(example::apps()).unwrap();
        show(&apps[index], example::NOW, &mut out).unwrap();
        expected.assert_eq(&paper.text());
    }

    #[test]
    fn a_cluster() {
        check(
            0,
            Screen::Terminal(160, 40),
            &expect![[r#"
                App         api-server
                Status      running
                Script      /srv/app/src/server.ts
                Interpreter bun run
                Instances   2
                Port        3000
                Balancing   reusePort: kernel hash
                Uptime      2m 3s
                Cwd         /srv/app
                Config      /srv/app/bunpilot.config.ts

                ID │ PID     │ STATE  │ CPU   │ MEM     │ UPTIME │ RESTARTS │ PROCESSES │ THREADS │ FDS │ CONNS │ OUT    │ ERR │ RUN DELAY │ SLEEPS │ PREEMPTED │ FORKS
                0  │ 4180001 │ online │ 12.3% │ 28.1 MB │ 2m 3s  │ 0        │ 1         │ 11      │ 21  │ 3     │ 1.2 MB │ —   │ 1.2s      │ 40321  │ 27        │ 3
                1  │ 4180002 │ online │ 12.3% │ 1.4 GB  │ 2m 3s  │ 0        │ 1         │ 11      │ 21  │ 3     │ 1.2 MB │ —   │ 1.2s      │ 40321  │ 27        │ 3
            "#]],
        );
        check(
            0,
            Screen::Terminal(60, 40),
            &expect![[r#"
            App         api-server
            Status      running
            Script      /srv/app/src/server.ts
            Interpreter bun run
            Instances   2
            Port        3000
            Balancing   reusePort: kernel hash
            Uptime      2m 3s
            Cwd         /srv/app
            Config      /srv/app/bunpilot.config.ts

            ID │ PID     │ STATE  │ CPU   │ MEM     │ UPTIME │ RESTARTS
            0  │ 4180001 │ online │ 12.3% │ 28.1 MB │ 2m 3s  │ 0
            1  │ 4180002 │ online │ 12.3% │ 1.4 GB  │ 2m 3s  │ 0
        "#]],
        );
    }

    #[test]
    fn a_crashed_app_says_why_and_what_next() {
        check(
            1,
            Screen::Terminal(80, 40),
            &expect![[r#"
                App         mailer
                Status      running
                Script      /srv/app/mail.py
                Interpreter bun run
                Instances   2
                Port        3000
                Uptime      1m 0s
                Cwd         /srv/app

                ID │ PID │ STATE   │ CPU │ MEM │ UPTIME │ RESTARTS │ THREADS │ FDS │ CONNS
                0  │ —   │ crashed │ —   │ —   │ —      │ 3        │ 11      │ 21  │ 3
                mailer:0 exited with status 1; next try in 4s
            "#]],
        );
        check(
            1,
            Screen::Piped,
            &expect![[r#"
                app	mailer
                status	running
                script	/srv/app/mail.py
                interpreter	bun run
                instances	2
                port	3000
                uptime	1m 0s
                cwd	/srv/app

                worker	pid	state	cpu_percent	memory_bytes	uptime_seconds	restarts	generation	processes	threads	fds	connections	out_bytes	err_bytes	run_delay_seconds	voluntary_switches	involuntary_switches	forks
                0		crashed				3	1	1	11	21	3	1234567					
                mailer:0 exited with status 1; next try in 4s
            "#]],
        );
    }
}
