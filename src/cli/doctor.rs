//! `bunpilot doctor`: what this machine offers, and what to do about the rest.
//!
//! Asks, and shows; [`crate::doctor`] judges. Needs no daemon and starts none.

use std::{env, fs, io::Write, os::unix::fs::MetadataExt as _, sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    args, client,
    failure::{Failure, Outcome, Verdict},
    home::Home,
    output::{Format, Out, Screen, style},
    plan,
    table::{ALWAYS, Cell, Column, Table},
};
use crate::{
    config::settings::METRICS_PORT,
    control::{
        status::{AppStatus, DaemonStatus},
        wire::Command,
    },
    doctor::{
        Finding, Level,
        facts::{Daemon, Running},
        judge,
    },
    platform::linux::examine::{Place, examine},
};

/// Longest wait for a daemon that listens: it answers in a millisecond, or something is wrong.
const ANSWER_MAX: Duration = Duration::from_millis(700);

/// Width of a finding's level on a terminal, and the gap behind it.
const LEVEL_WIDTH: usize = 6;

/// Width of its name, and the gap behind it.
const ID_WIDTH: usize = 20;

/// Columns below which a line begins under the level, not under what was found.
const NARROW: usize = 70;

const COLUMNS: &[Column] = &[
    Column { title: "ID", name: "id", need: ALWAYS },
    Column { title: "LEVEL", name: "level", need: ALWAYS },
    Column { title: "FOUND", name: "found", need: ALWAYS },
    Column { title: "CONSEQUENCE", name: "consequence", need: ALWAYS },
    Column { title: "FIX", name: "fix", need: ALWAYS },
];

/// Runs it.
pub(crate) fn run(args: &args::Doctor, out: &mut Out) -> Outcome {
    let file = args.file.as_deref();
    let apps = file.map(|file| plan::specs(file, args.config_runtime)).transpose()?;
    let home = Home::find();
    let daemon = home.as_ref().map_or(Daemon::Absent, daemon);
    let place = Place {
        home: home.map(|it| it.folder().to_owned()).map_err(|failure| failure.to_string()),
        daemon: daemon.clone(),
        http_port: http_port(),
        apps: apps.unwrap_or_default(),
    };
    let findings = judge(&examine(place));
    let worst = findings.iter().map(|it| it.level).max().unwrap_or(Level::Ok);
    match (out.format, out.screen) {
        (Format::Json, _) => out.json(&as_json(worst, &findings, &daemon))?,
        (Format::Human, Screen::Piped) => list(&findings, out)?,
        (Format::Human, Screen::Terminal(columns, _)) => {
            show(&findings, columns.into(), out.stdout())?;
        }
    }
    if worst == Level::Bad { Err(Failure::Told(Verdict::Failed)) } else { Ok(()) }
}

/// Asks the daemon of `home` how it is.
fn daemon(home: &Home) -> Daemon {
    let (tell, hear) = mpsc::channel();
    let asked = client::Daemon::of(home);
    let asking = thread::spawn(move || {
        // Nobody listens any more if it took too long.
        drop(tell.send(asked.ask::<DaemonStatus>(&Command::Dump)));
    });
    // It ends with this process at the latest.
    drop(asking);
    match hear.recv_timeout(ANSWER_MAX) {
        Ok(Ok(status)) => Daemon::Running(running(status)),
        Ok(Err(Failure::Unreachable { .. })) => Daemon::Absent,
        Ok(Err(failure)) => Daemon::Silent(failure.to_string()),
        Err(_late) => {
            let (socket, millis) = (home.socket().display(), ANSWER_MAX.as_millis());
            Daemon::Silent(format!("it listens on `{socket}`, and is silent for {millis} ms"))
        }
    }
}

fn running(status: DaemonStatus) -> Running {
    let DaemonStatus { pid, version, engines, warnings, apps, .. } = status;
    let running = apps.iter().filter(|app| app.status == "running");
    let port = |app: &AppStatus| app.config["port"].as_u64()?.try_into().ok();
    let file = |link: &str| fs::metadata(link).ok().map(|it| (it.dev(), it.ino()));
    let theirs = file(&format!("/proc/{pid}/exe"));
    Running {
        pid,
        version,
        our_version: env!("CARGO_PKG_VERSION"),
        same_program: theirs.zip(file("/proc/self/exe")).map(|(theirs, ours)| theirs == ours),
        ports: running.filter_map(|app| Some((app.name.clone(), port(app)?))).collect(),
        engines,
        warnings,
    }
}

/// Where a daemon started from here would serve metrics, unless an app says otherwise.
fn http_port() -> Option<u16> {
    let usual = || METRICS_PORT.default.and_then(|it| u16::try_from(it).ok());
    let set = env::var("BUNPILOT_HTTP_PORT").ok();
    set.map_or_else(usual, |it| it.parse().ok()).filter(|port| *port != 0)
}

fn as_json(worst: Level, findings: &[Finding], daemon: &Daemon) -> Value {
    let findings: Vec<_> = findings
        .iter()
        .map(|Finding { id, level, found, consequence, fix }| {
            json!({
                "id": id,
                "level": level.word(),
                "found": found,
                "consequence": Some(consequence).filter(|it| !it.is_empty()),
                "fix": fix,
            })
        })
        .collect();
    let daemon = match daemon {
        Daemon::Running(it) => json!({
            "pid": it.pid,
            "version": it.version,
            "sameProgram": it.same_program,
            "engines": it.engines,
            "warnings": it.warnings,
        }),
        Daemon::Absent | Daemon::Silent(_) => Value::Null,
    };
    json!({
        "level": worst.word(),
        "version": env!("CARGO_PKG_VERSION"),
        "daemon": daemon,
        "findings": findings,
    })
}

fn list(findings: &[Finding], out: &mut Out) -> Outcome {
    let mut table = Table::new(COLUMNS);
    for Finding { id, level, found, consequence, fix } in findings {
        let cells = [*id, level.word(), found, consequence, &fix.join("; ")];
        table.push(cells.into_iter().map(Cell::new).collect());
    }
    table.write(out)
}

fn show(findings: &[Finding], columns: usize, out: &mut dyn Write) -> Outcome {
    let hang = if columns < NARROW { LEVEL_WIDTH } else { LEVEL_WIDTH + ID_WIDTH };
    for Finding { id, level, found, consequence, fix } in findings {
        let colour = match level {
            Level::Ok => style::GOOD,
            Level::Note => style::NAME,
            Level::Warn => style::BUSY,
            Level::Bad => style::BAD,
        };
        write!(out, "{colour}{level:LEVEL_WIDTH$}{colour:#}")?;
        write!(out, "{}{id:ID_WIDTH$}{0:#}", style::BOLD)?;
        let used = LEVEL_WIDTH + ID_WIDTH - hang;
        for (number, line) in wrapped(found, columns.saturating_sub(hang), used).iter().enumerate()
        {
            let space = if number == 0 { 0 } else { hang };
            writeln!(out, "{:space$}{line}", "")?;
        }
        for line in wrapped(consequence, columns.saturating_sub(hang), 0) {
            writeln!(out, "{:hang$}{line}", "")?;
        }
        for line in fix {
            // Not broken: these are copied.
            writeln!(out, "{:hang$}{}→{0:#} {line}", "", style::DIM)?;
        }
    }
    Ok(writeln!(out, "{}", tally(findings))?)
}

/// `21 ok, 3 notes, 1 warning`.
fn tally(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|it| it.level == level).count();
    let told = |level, one: &str, many: &str| match count(level) {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let parts = [
        told(Level::Ok, "ok", "ok"),
        told(Level::Note, "note", "notes"),
        told(Level::Warn, "warning", "warnings"),
        told(Level::Bad, "bad", "bad"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `text` in lines of at most `width` characters, the first shorter by `used`; a word that is
/// longer has a line of its own.
fn wrapped(text: &str, width: usize, used: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut left = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if left > length => {
                line.push(' ');
                line.push_str(word);
                left -= length + 1;
            }
            last => {
                let room = if last.is_none() { width.saturating_sub(used) } else { width };
                left = room.saturating_sub(length);
                lines.push(word.to_owned());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::output::captured;

    fn findings() -> Vec<Finding> {
        let finding = |id, level, found: &str, consequence: &str, fix: &[&str]| Finding {
            id,
            level,
            found: found.to_owned(),
            consequence: consequence.to_owned(),
            fix: fix.iter().map(|it| (*it).to_owned()).collect(),
        };
        vec![
            finding("kernel", Level::Ok, "Linux 6.18.0 on x86_64, 2 CPUs", "", &[]),
            finding(
                "io-uring",
                Level::Note,
                "none: Operation not permitted",
                "commands and logs wait in epoll: all works, for some more CPU time",
                &["`sysctl -w kernel.io_uring_disabled=0`", "to keep it: a line in a file"],
            ),
            finding("home", Level::Bad, "`/srv`\tis full", "state is not kept", &["make room"]),
        ]
    }

    #[track_caller]
    fn check(screen: Screen, expected: &Expect) {
        let (mut out, paper, _) = captured::out(Format::Human, screen);
        match screen {
            Screen::Piped => list(&findings(), &mut out).unwrap(),
            Screen::Terminal(columns, _) => {
                show(&findings(), columns.into(), out.stdout()).unwrap();
            }
        }
        expected.assert_eq(&paper.text());
    }

    #[test]
    fn on_a_terminal() {
        check(
            Screen::Terminal(80, 24),
            &expect![[r#"
            ok    kernel              Linux 6.18.0 on x86_64, 2 CPUs
            note  io-uring            none: Operation not permitted
                                      commands and logs wait in epoll: all works, for some
                                      more CPU time
                                      → `sysctl -w kernel.io_uring_disabled=0`
                                      → to keep it: a line in a file
            bad   home                `/srv` is full
                                      state is not kept
                                      → make room
            1 ok, 1 note, 1 bad
        "#]],
        );
    }

    #[test]
    fn on_a_narrow_one() {
        check(
            Screen::Terminal(40, 24),
            &expect![[r#"
            ok    kernel              Linux 6.18.0
                  on x86_64, 2 CPUs
            note  io-uring            none:
                  Operation not permitted
                  commands and logs wait in epoll:
                  all works, for some more CPU time
                  → `sysctl -w kernel.io_uring_disabled=0`
                  → to keep it: a line in a file
            bad   home                `/srv` is full
                  state is not kept
                  → make room
            1 ok, 1 note, 1 bad
        "#]],
        );
    }

    #[test]
    fn in_a_pipe() {
        check(
            Screen::Piped,
            &expect![[r#"
            id	level	found	consequence	fix
            kernel	ok	Linux 6.18.0 on x86_64, 2 CPUs		
            io-uring	note	none: Operation not permitted	commands and logs wait in epoll: all works, for some more CPU time	`sysctl -w kernel.io_uring_disabled=0`; to keep it: a line in a file
            home	bad	`/srv` is full	state is not kept	make room
        "#]],
        );
    }
}
