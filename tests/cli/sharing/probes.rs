//! Each worker behind a shared port is asked for itself, and answers for itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::site::{Rung, Server, Site, all_answer};
use crate::test::{Crowd, Home, Load, Stopwatch, get, holds_for, rounds, say, stop, wait_for};

/// Probes that must reach whom they are meant for, in the long version.
const PROBES: usize = 1_000;
const FEW_PROBES: usize = 60;

/// `healthCheck` as often as a config may ask for it.
const INTERVAL: Duration = Duration::from_secs(1);
const THRESHOLD: u32 = 2;

/// How late a worker that hangs may leave rotation, over interval × threshold: half a second, of
/// which the shortest timeout takes all, and what a busy machine adds.
const LATE_MAX: Duration = Duration::from_millis(500 + 150);

/// An answer that takes longer comes from nobody, or by way of somebody who hung.
const STUCK: Duration = Duration::from_millis(400);

fn health() -> Value {
    json!({
        "path": "/health",
        "interval": INTERVAL.as_millis(),
        "timeout": 500,
        "unhealthyThreshold": THRESHOLD,
    })
}

/// Every probe as the workers saw it: from which address, and who they were.
fn seen(home: &Home) -> Vec<(String, String)> {
    let notes = home.read("notes");
    let whole = notes.lines().filter_map(|line| line.split_once(' '));
    whole.map(|(peer, worker)| (peer.to_owned(), worker.to_owned())).collect()
}

#[track_caller]
fn staged(rung: Rung, count: u16) -> Option<Site> {
    let more = json!({
        "healthCheck": health(),
        "env": { "NOTES": "notes" },
        "clustering": { "balance": "roundRobin" },
    });
    let site = Site::staged(Server::Probed, rung, count, more)?;
    all_answer(&site, count.into());
    Some(site)
}

/// Each address probes come from belongs to one worker, whoever else connects meanwhile; and where
/// one worker is sick, that one is replaced.
#[track_caller]
fn reach_whom_they_are_meant_for(rung: Rung) {
    let (count, probes) = if rounds(1) > 1 { (32, PROBES) } else { (8, FEW_PROBES) };
    let Some(site) = staged(rung, count) else { return };
    let pause = Duration::from_millis(5);
    let load = Load::of(site.port, Crowd { fresh: 2, kept: 2, pause, questions_max: u64::MAX });
    wait_for_all("probes", || seen(&site.home).len() >= probes);
    let mut by: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let all = seen(&site.home);
    for (peer, worker) in &all {
        by.entry(peer).or_default().insert(worker);
    }
    let workers: BTreeSet<_> = all.iter().map(|(_, worker)| worker).collect();
    assert!(by.values().all(|it| it.len() == 1), "one address, several workers: {by:?}");
    assert_eq!((by.len(), workers.len()), (count.into(), count.into()), "{by:?}");
    say(&format!("{} of {} probes reached their worker by {rung:?}", all.len(), all.len()));
    for sick in [0, usize::from(count) - 1] {
        let before = site.online();
        let mark = site.home.write(&format!("notes.sick-{sick}"), "");
        wait_for("the sick worker to be replaced", || {
            let rows = site.home.at_rest("web")?;
            (rows[sick].pid != before[sick].pid).then(|| drop(fs::remove_file(&mark)))
        });
        let after = site.online();
        let same = |it: &usize| *it == sick || after[*it] == before[*it];
        assert!((0..after.len()).all(|it| same(&it)), "{sick} was sick: {before:?} {after:?}");
    }
    load.finish();
}

/// Waits as long as there is progress: a thousand probes take longer than anything else.
#[track_caller]
fn wait_for_all(what: &str, mut done: impl FnMut() -> bool) {
    const TURNS_MAX: u32 = 6;
    for _ in 0..TURNS_MAX {
        let clock = Stopwatch::start();
        let turn = || (clock.elapsed() > Duration::from_secs(10)).then_some(false);
        if wait_for(what, || if done() { Some(true) } else { turn() }) {
            return;
        }
    }
    panic!("waited in vain for {what}");
}

#[test]
fn probes_reach_whom_they_are_meant_for() {
    reach_whom_they_are_meant_for(Rung::Ebpf);
}

#[test]
fn trapped_probes_reach_whom_they_are_meant_for() {
    reach_whom_they_are_meant_for(Rung::Trap);
}

/// Others answer on the port: not for it.
#[track_caller]
fn who_never_listens_is_never_ready(rung: Rung) {
    let Some(site) = staged(rung, 2) else { return };
    let before = site.online();
    let script = site.home.write("never.py", "import time\ntime.sleep(3600)\n");
    let apps = json!({ "apps": [site.with(json!({ "script": script, "readyTimeout": 3000 }))] });
    site.home.write("new.json", &apps.to_string());
    site.home.run(["reload", "web", "--config", "new.json"]).refused("did not become ready");
    assert_eq!(site.online(), before);
}

#[test]
fn a_worker_that_never_listens_is_never_ready() {
    who_never_listens_is_never_ready(Rung::Ebpf);
}

#[test]
fn a_trapped_worker_that_never_listens_is_never_ready() {
    who_never_listens_is_never_ready(Rung::Trap);
}

/// A worker that hangs gets nobody any more as soon as it has missed as many probes as it may.
#[track_caller]
fn who_hangs_leaves_rotation(rung: Rung) {
    let Some(site) = staged(rung, 4) else { return };
    let limit = INTERVAL * THRESHOLD + LATE_MAX;
    for round in 0..rounds(1) {
        let frozen = site.online()[usize::try_from(round % 4).unwrap()].pid;
        let stuck = Arc::new(Mutex::new(Vec::new()));
        let (clock, mut clients) = (Stopwatch::start(), Vec::new());
        stop(frozen);
        // a new client each time: those that wait for the one that hangs must not be all
        holds_for(limit + Duration::from_secs(1), "they ask", || {
            let (stuck, port) = (Arc::clone(&stuck), site.port);
            clients.push(thread::spawn(move || {
                let (asked, waiting) = (clock.elapsed(), Stopwatch::start());
                if get(port, "/").is_err() || waiting.elapsed() > STUCK {
                    stuck.lock().unwrap().push(asked);
                }
            }));
            true
        });
        for client in clients {
            client.join().unwrap();
        }
        let last = stuck.lock().unwrap().iter().max().copied();
        let last = last.expect("somebody met the worker that hung");
        say(&format!("who hung got nobody after {last:?}, by {rung:?}"));
        assert!(last <= limit, "{last:?} after it froze somebody still met it");
        wait_for("another worker in its place", || {
            site.online().iter().all(|it| it.pid != frozen).then_some(())
        });
    }
}

#[test]
fn a_worker_that_hangs_leaves_rotation() {
    who_hangs_leaves_rotation(Rung::Ebpf);
}

#[test]
fn a_trapped_worker_that_hangs_leaves_rotation() {
    who_hangs_leaves_rotation(Rung::Trap);
}
