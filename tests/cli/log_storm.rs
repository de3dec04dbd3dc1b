//! Daemon and guard die again and again while workers write: every line is kept, once, whole and
//! in order.
//!
//! `BUNPILOT_LINES=12000000 BUNPILOT_KILLS=400 BUNPILOT_GUARD_KILLS=50 cargo test --test cli
//! log_storm:: -- --nocapture --test-threads 1` for the long version; `BUNPILOT_SEED` for one
//! that was seen before.

mod ledger;

use std::{env, fmt::Display, fs, str::FromStr, time::Duration};

use serde_json::{Value, json};

use self::ledger::{Form, Ledger};
use crate::test::{Home, Luck, Stopwatch, Tool, alive, declared, kill, merge, need, say, wait_for};

/// Workers that write.
const WORKERS: u16 = 4;

/// The app.
const APP: &str = "storm";

/// The longest all is left alone before the next death.
const MOMENT_MAX: Duration = Duration::from_millis(120);

/// `maxFiles`, its maximum; nothing may be rotated away before it was counted.
const FILES_MAX: u32 = 100;

/// Bytes of a line of `storm.py`, on average, with all that records add to it.
const LINE_BYTES: u64 = 210;

/// How much is written, and how often something dies.
#[derive(Clone, Copy, Debug)]
struct Size {
    lines: u64,
    kills: u64,
    guard_kills: u64,
}

impl Size {
    /// A short storm, or what the environment says.
    fn read() -> Self {
        Self {
            lines: number("BUNPILOT_LINES", 120_000),
            kills: number("BUNPILOT_KILLS", 24),
            guard_kills: number("BUNPILOT_GUARD_KILLS", 4),
        }
    }

    fn lines_each(self) -> u64 {
        self.lines.div_ceil(u64::from(WORKERS))
    }
}

fn number<T: FromStr<Err: Display>>(variable: &str, short: T) -> T {
    let read = |text: String| text.parse().unwrap_or_else(|it| panic!("{variable}: {it}"));
    env::var(variable).map_or(short, read)
}

/// Pid of the guard, by its command line: the daemon's parent only if it started it.
#[track_caller]
fn guard(home: &Home) -> u32 {
    wait_for("one guard", || {
        let guards = home.pids("__guard");
        (guards.len() == 1).then(|| guards[0])
    })
}

fn kill_guard(home: &Home) {
    let old = guard(home);
    kill(old);
    wait_for("another guard", || Some(guard(home)).filter(|it| *it != old));
    // Both at once is another story: then nobody is left to start anybody.
    assert_eq!(home.control().ask("ping", &json!({}))["data"]["pong"], true);
}

fn kill_daemon(home: &Home, luck: &mut Luck) {
    let old = home.daemon();
    kill(old);
    wait_for("another daemon", || Some(home.daemon()).filter(|it| *it != old && alive(*it)));
    // Sometimes the next one dies before it is in control.
    if luck.below(3) > 0 {
        assert_eq!(home.control().ask("ping", &json!({}))["data"]["pong"], true);
    }
}

/// Lets the workers write their first lines up to what belongs to death `death`.
fn allow(home: &Home, size: Size, death: u64) {
    let deaths = size.kills + size.guard_kills;
    let until = size.lines_each() * (death + 1) / (deaths + 1);
    fs::write(home.path("yard/next"), until.to_string()).unwrap();
    fs::rename(home.path("yard/next"), home.path("yard/allowed")).unwrap();
}

#[track_caller]
fn storm(story: &str, form: Form, logs: Value) {
    need!(Tool::Python);
    let (mut luck, size, clock) = (Luck::new(story), Size::read(), Stopwatch::start());
    let home = Home::new();
    fs::create_dir(home.path("yard")).unwrap();
    // in one file or in four: no more than half of what is kept
    let max_size = (size.lines * LINE_BYTES / u64::from(FILES_MAX / 2)).max(16 << 10);
    let mut all = json!({ "maxSize": max_size, "maxFiles": FILES_MAX });
    merge(&mut all, logs);
    let more = json!({
        "instances": WORKERS,
        "env": {
            "LINES": size.lines_each().to_string(),
            "YARD": home.path("yard"),
            "SEED": luck.below(1 << 32).to_string(),
        },
        "logs": all,
    });
    home.start([declared(APP, "storm.py", more)]).succeeded();
    let rows = home.online(APP, usize::from(WORKERS));

    let deaths = size.kills + size.guard_kills;
    let mut guard_kills = 0;
    for death in 0..deaths {
        allow(&home, size, death);
        luck.dawdle(MOMENT_MAX);
        // spread evenly, whatever comes of rounding
        if guard_kills * deaths < size.guard_kills * death {
            kill_guard(&home);
            guard_kills += 1;
        } else {
            kill_daemon(&home, &mut luck);
        }
    }
    allow(&home, size, deaths);
    let done = |worker| home.path(&format!("yard/{worker}.done")).exists();
    while !(0..WORKERS).all(done) {
        let before = ledger::bytes(&home);
        wait_for("a worker to write on", || {
            ((0..WORKERS).all(done) || ledger::bytes(&home) > before).then_some(())
        });
    }
    assert_eq!(home.online(APP, usize::from(WORKERS)), rows, "a worker died of it");
    home.ok(["stop", APP, "--force"]);
    // what was still in the pipes is moved before the daemon ends
    home.ok(["daemon", "stop"]);

    let ledger = Ledger::read(&home, form, WORKERS, size.lines_each());
    let kills = deaths - guard_kills;
    say(&format!(
        "{story}: {ledger}; {kills} daemons and {guard_kills} guards killed; {:.1?}",
        clock.elapsed()
    ));
    ledger.is_complete();
    assert!(ledger.files >= 3, "hardly rotated");
}

#[test]
fn raw_lines_survive_every_death() {
    storm("raw lines survive every death", Form::Raw, json!({}));
}

#[test]
fn merged_lines_survive_every_death() {
    storm("merged lines survive every death", Form::Raw, json!({ "merge": true }));
}

#[test]
fn timed_lines_survive_every_death() {
    let logs = json!({ "mode": "timestamps" });
    storm("timed lines survive every death", Form::Timestamps, logs);
}

#[test]
fn json_records_survive_every_death() {
    storm("JSON records survive every death", Form::Json, json!({ "mode": "json" }));
}

#[test]
fn merged_json_records_survive_every_death() {
    let logs = json!({ "mode": "json", "merge": true });
    storm("merged JSON records survive every death", Form::Json, logs);
}
