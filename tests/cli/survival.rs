//! The daemon, its guard, or both die at the worst moment: nothing else does.
//!
//! `BUNPILOT_ROUNDS=200 cargo test --test cli survival:: -- --nocapture` for the long version.

pub(crate) mod both;
mod ledger;
mod verbs;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use self::{
    ledger::{FILES_MAX, exits, lines},
    verbs::{Verb, Wanted},
};
use crate::test::{
    Clients, Home, Load, Luck, Row, Stopwatch, Tool, alive, declared, free_port, get, inherited,
    kill, need, poke, rounds, say, wait_for,
};

/// A daemon is in control again after at most this long.
const CONTROL_BACK: Duration = Duration::from_millis(500);

/// The longest a verb is left alone before the daemon is killed over it.
const MOMENT_MAX: Duration = Duration::from_millis(600);

/// The exit code of `scribe.py` after SIGUSR1.
const POKED: i64 = 42;

/// An app that writes numbered lines into files that are full all the time.
fn scribe(name: &str, every: &str, instances: u16) -> Value {
    declared(
        name,
        "scribe.py",
        json!({
            "instances": instances,
            "env": { "EVERY": every },
            "maxRestarts": 10_000,
            "logs": { "maxSize": 8192, "maxFiles": FILES_MAX },
            "clustering": { "rollingRestart": { "batchDelay": 0 } },
        }),
    )
}

/// What must be the same before and after every death.
struct Witness {
    home: Home,
    port: u16,
    bystanders: Vec<(&'static str, Vec<Row>)>,
}

impl Witness {
    /// Starts the bystanders: a writer, whose lines are counted in the end, and a cluster.
    #[track_caller]
    fn new() -> Self {
        let (home, port) = (Home::new(), free_port());
        let writer = scribe("writer", "0.004", 1);
        home.start([writer, inherited("server.py", port, 2, json!({}))]).succeeded();
        let bystanders = vec![("writer", home.online("writer", 1)), ("web", home.online("web", 2))];
        Self { home, port, bystanders }
    }

    /// Nobody who had nothing to do with it has died, or has a double.
    #[track_caller]
    fn is_untouched(&self) {
        for (app, before) in &self.bystanders {
            let rows = self.home.online(app, before.len());
            assert_eq!(&rows, before, "`{app}` was not left alone");
            no_doubles(&self.home, app);
        }
        assert_eq!(get(self.port, "/").unwrap().status, 200);
    }

    /// No line of the writer is missing, twice there, or out of order.
    #[track_caller]
    fn has_every_line(&self) {
        self.home.ok(["stop", "writer"]);
        // The pump may still write its last words when the worker is gone already.
        let (pid, written) = wait_for("its last line", || {
            lines(&self.home, "writer").into_iter().next().filter(|(_, it)| it.ended.is_some())
        });
        assert_eq!(pid, self.bystanders[0].1[0].pid);
        written.is_whole(pid);
        say(&format!("  {} lines of the writer, each exactly once", written.numbers.len()));
    }
}

/// Once `app` is at rest, its processes are those the daemon tells of.
#[track_caller]
fn no_doubles(home: &Home, app: &str) {
    wait_for(&format!("the processes of `{app}` to be those listed"), || {
        let found: BTreeSet<u32> = home.pids_of(app).into_iter().collect();
        let rows = home.at_rest(app)?;
        let told: BTreeSet<u32> = rows.iter().map(|it| it.pid).filter(|it| *it != 0).collect();
        (found == told).then_some(())
    });
}

/// Kills the daemon; how long it took until another one answered.
#[track_caller]
fn kill_daemon(home: &Home) -> Duration {
    let daemon = home.daemon();
    kill(daemon);
    let clock = Stopwatch::start();
    while alive(daemon) {}
    assert_eq!(home.control().ask("ping", &json!({}))["data"]["pong"], true);
    clock.elapsed()
}

/// How long it took each time: the median and the worst.
#[track_caller]
fn within(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
    let late = times.iter().filter(|it| **it > CONTROL_BACK).count();
    say(&format!(
        "{what}: {} times, median {median:?}, max {max:?}, {late} over 500 ms",
        times.len()
    ));
    assert!(median <= CONTROL_BACK, "{times:?}");
}

/// The daemon is killed at a random moment of one verb after the other.
#[test]
fn the_daemon_dies_over_every_verb() {
    need!(Tool::Python);
    let mut luck = Luck::new("the daemon dies over every verb");
    let witness = Witness::new();
    let home = &witness.home;
    home.start([scribe("mortal", "0.02", 1)]).succeeded();
    let mut wanted = Wanted::None;
    let (mut times, mut unfulfilled, mut poked) = (Vec::new(), 0, BTreeSet::new());
    for round in 0..rounds(15) {
        let verb = Verb::pick(&mut luck, wanted);
        let mortal = wait_for("a mortal that handles its signals", || {
            let pid = home.online("mortal", 1)[0].pid;
            lines(home, "mortal").contains_key(&pid).then_some(pid)
        });
        let mut order = home.spawn(verb.command(home));
        let poke_first = round % 3 == 0;
        if poke_first {
            poke(mortal);
            poked.insert(mortal);
        }
        luck.dawdle(MOMENT_MAX);
        times.push(kill_daemon(home));
        if round % 3 == 1 && poked.insert(mortal) {
            poke(mortal);
        }
        let status = wait_for("the command to end", || order.child.try_wait().unwrap());
        let told = order.so_far();
        let got = wanted.after(verb);
        let fulfilled = got.holds(home);
        assert!(fulfilled || !status.success(), "round {round}: {verb:?} claims success: {told:?}");
        if !fulfilled {
            // it came too late to be heard, or was taken back; asked again it is carried out
            unfulfilled += 1;
            assert!(wanted.holds(home), "round {round}: {verb:?} left a mess");
            home.finish(verb.again(home)).succeeded();
            assert!(got.holds(home), "round {round}: {verb:?} is not true: {:?}", home.rows("job"));
        }
        wanted = got;
        no_doubles(home, "job");
        witness.is_untouched();
    }
    within("control back after kill -9 of the daemon", times);
    say(&format!("  {unfulfilled} orders died with the daemon and said so"));
    witness.has_every_line();
    for (pid, written) in lines(home, "job") {
        written.is_unbroken(pid);
    }
    for pid in &poked {
        let end = wait_for("an end to be written down", || exits(home, "mortal").remove(pid));
        assert_eq!(end, Some(POKED), "the exit status of {pid} is lost");
        wait_for("its last line", || lines(home, "mortal")[pid].ended);
        lines(home, "mortal")[pid].is_whole(*pid);
    }
    for (pid, exit) in exits(home, "job") {
        assert!(
            exit != Some(0) || lines(home, "job")[&pid].ended.is_some(),
            "last line of {pid} lost"
        );
    }
}

/// One daemon after the other is killed before it has found its feet.
#[test]
fn daemons_die_as_soon_as_they_are_born() {
    need!(Tool::Python);
    let mut luck = Luck::new("daemons die as soon as they are born");
    let witness = Witness::new();
    let home = &witness.home;
    home.start([scribe("job", "0.01", 2)]).succeeded();
    for _ in 0..rounds(5) {
        let reload = home.spawn(home.command(["reload", "job"]));
        for _ in 0..4 {
            luck.dawdle(Duration::from_millis(80));
            for pid in home.pids("__daemon") {
                kill(pid);
            }
        }
        drop(reload);
        home.online("job", 2);
        no_doubles(home, "job");
        witness.is_untouched();
    }
    witness.has_every_line();
    for (pid, written) in lines(home, "job") {
        written.is_unbroken(pid);
    }
}

/// A stop that was seen to begin when the daemon died comes true; one that nobody has seen yet
/// may be forgotten, but then nobody was stopped.
#[test]
fn a_stop_is_all_or_nothing() {
    let home = Home::new();
    let script = home.write("slow.sh", "trap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n");
    home.start([declared("slow", "ticker.sh", json!({ "script": script }))]).succeeded();
    let mut stopped = 0;
    for _ in 0..rounds(10) {
        let before = home.online("slow", 1);
        let mut control = home.control();
        control.write(b"{\"id\":\"1\",\"cmd\":\"stop\",\"args\":{\"name\":\"slow\"}}\n");
        while home.rows("slow") == before {}
        kill(home.daemon());
        drop(control);
        let rows = wait_for("an app at rest", || home.at_rest("slow"));
        match rows[0].state.as_str() {
            "stopped" => {
                stopped += 1;
                home.ok(["start", "slow"]);
            }
            _ => assert_eq!(rows, before, "stopped, and started again"),
        }
        no_doubles(&home, "slow");
    }
    say(&format!("  {stopped} stops came true"));
}

/// A worker ends while no daemon is there to see it: its last words and its exit status are kept.
#[test]
fn last_words_without_a_daemon_are_kept() {
    need!(Tool::Python);
    let home = Home::new();
    home.start([scribe("mortal", "0.001", 1)]).succeeded();
    for _ in 0..rounds(5) {
        let pid = wait_for("a mortal that handles its signals", || {
            let pid = home.online("mortal", 1)[0].pid;
            lines(&home, "mortal").contains_key(&pid).then_some(pid)
        });
        kill(home.daemon());
        poke(pid);
        let end = wait_for("an end to be written down", || exits(&home, "mortal").remove(&pid));
        assert_eq!(end, Some(POKED), "the exit status of {pid} is lost");
        wait_for("its last line", || lines(&home, "mortal")[&pid].ended);
        lines(&home, "mortal")[&pid].is_whole(pid);
    }
}

/// Kills the daemon `rounds` times while clients ask and, every other time, a reload is under way.
/// Not a single question may fail.
#[track_caller]
fn dies_under_load(story: &str, script: &str, more: Value, clients: usize) {
    let mut luck = Luck::new(story);
    let (home, port) = (Home::new(), free_port());
    home.start([inherited(script, port, 3, more)]).succeeded();
    home.online("web", 3);
    let load = Load::start(port, Clients::Fresh, clients);
    let mut times = Vec::new();
    for round in 0..rounds(6) {
        load.flows(20);
        let reload = (round % 2 == 1).then(|| home.spawn(home.command(["reload", "web"])));
        luck.dawdle(MOMENT_MAX * 2);
        times.push(kill_daemon(&home));
        if let Some(mut reload) = reload {
            // rolled back or carried on: both are fine, as long as it says which
            wait_for("the reload to end", || reload.child.try_wait().unwrap());
        }
        home.online("web", 3);
        no_doubles(&home, "web");
    }
    load.flows(20);
    within(story, times);
    load.lost_nothing();
}

#[test]
fn the_daemon_dies_under_load_python() {
    need!(Tool::Python);
    dies_under_load("the daemon dies under load, python", "server.py", json!({}), 8);
}

#[test]
fn the_daemon_dies_under_load_node() {
    let node = need!(Tool::Node);
    let more = json!({ "interpreter": node });
    dies_under_load("the daemon dies under load, node", "server.mjs", more, 8);
}
