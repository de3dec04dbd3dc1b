//! One port, many workers, and programs that know nothing of it: they are as they were written,
//! handle no signal, and whoever connects notices nothing of what happens to them.
//!
//! `BUNPILOT_ROUNDS=20 cargo test --test cli sharing:: -- --nocapture` for the long version.

mod balance;
mod probes;
mod rights;
mod scope;
mod site;

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::json;

use self::site::{Rung, Server, Site};
use crate::test::{Crowd, Load, Luck, Row, Tally, kill, rounds, say, wait_for};

/// Those who ask: 24 over a connection of its own each time, 16 over one they keep.
const CROWD: Crowd =
    Crowd { fresh: 24, kept: 16, pause: Duration::from_millis(2), questions_max: u64::MAX };

/// Answers before and after a reload that make sure it happened under load.
const ANSWERS: u64 = 400;

/// Reloads after which the kernel's hash must have lost something.
const HASH_RELOADS_MAX: u32 = 20;

/// The longest a reload is left alone before the daemon is killed over it.
const MOMENT_MAX: Duration = Duration::from_secs(5);

fn pids(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|it| it.pid).collect()
}

/// Gives an order under load: every worker is another one afterwards. What became of the questions.
#[track_caller]
fn ordered_under_load(site: &Site, order: &str) -> Tally {
    let before = pids(&site.online());
    let load = Load::of(site.port, CROWD);
    load.flows(ANSWERS);
    site.home.ok([order, "web"]);
    load.flows(ANSWERS);
    let after = pids(&site.online());
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    let tally = load.finish();
    site::are_right(&tally);
    tally
}

#[track_caller]
fn loses_nothing(server: Server, rung: Rung, count: u16, order: &str) {
    let Some(site) = Site::staged(server, rung, count, json!({})) else { return };
    let rounds = rounds(1);
    let mut answered = 0;
    for round in 0..rounds {
        let tally = ordered_under_load(&site, order);
        assert!(tally.failed.is_empty(), "round {round}: {tally:#?}");
        answered += tally.answered;
    }
    say(&format!("{order} of {count} {server:?} by {rung:?}: {rounds} times, {answered} answered"));
}

#[test]
fn bun_times_four() {
    loses_nothing(Server::Bun, Rung::Ebpf, 4, "reload");
}

#[test]
fn node_times_four() {
    loses_nothing(Server::Node, Rung::Ebpf, 4, "reload");
}

#[test]
fn asyncio_times_four() {
    loses_nothing(Server::Asyncio, Rung::Ebpf, 4, "reload");
}

#[test]
fn uvicorn_times_four() {
    loses_nothing(Server::Uvicorn, Rung::Ebpf, 4, "reload");
}

#[test]
fn gunicorn_times_four() {
    loses_nothing(Server::Gunicorn, Rung::Ebpf, 4, "reload");
}

#[test]
fn c_times_four() {
    loses_nothing(Server::C, Rung::Ebpf, 4, "reload");
}

#[test]
fn asyncio_alone() {
    loses_nothing(Server::Asyncio, Rung::Ebpf, 1, "reload");
}

/// Nobody is there for a while: connections wait.
#[test]
fn asyncio_alone_restarts() {
    loses_nothing(Server::Asyncio, Rung::Ebpf, 1, "restart");
}

#[test]
fn bun_alone_restarts() {
    loses_nothing(Server::Bun, Rung::Ebpf, 1, "restart");
}

#[test]
fn trapped_bun_times_four() {
    loses_nothing(Server::Bun, Rung::Trap, 4, "reload");
}

#[test]
fn trapped_node_times_four() {
    loses_nothing(Server::Node, Rung::Trap, 4, "reload");
}

#[test]
fn trapped_gunicorn_times_four() {
    loses_nothing(Server::Gunicorn, Rung::Trap, 4, "reload");
}

#[test]
fn trapped_c_times_four() {
    loses_nothing(Server::C, Rung::Trap, 4, "reload");
}

#[test]
fn trapped_asyncio_alone_restarts() {
    loses_nothing(Server::Asyncio, Rung::Trap, 1, "restart");
}

/// Without us, what waits at a worker that goes is lost: the tests above can see losses.
#[test]
fn the_kernels_hash_loses_some() {
    let Some(site) = Site::staged(Server::Asyncio, Rung::Workers, 4, json!({})) else { return };
    let mut tallies = (0..HASH_RELOADS_MAX).map(|_| ordered_under_load(&site, "reload"));
    let lost = tallies.find(|it| it.lost() > 0).expect("losses without us");
    say(&format!("without us: {:?} of {} lost", lost.failed, lost.answered));
}

/// The version every worker is of.
#[track_caller]
fn version(rows: &[Row]) -> String {
    let of = |row: &Row| {
        let environment = fs::read(format!("/proc/{}/environ", row.pid)).unwrap_or_default();
        let mut all = environment.split(|it| *it == 0).map(String::from_utf8_lossy);
        all.find_map(|it| it.strip_prefix("VERSION=").map(str::to_owned)).unwrap_or_default()
    };
    let all: BTreeSet<String> = rows.iter().map(of).collect();
    assert_eq!(all.len(), 1, "several versions: {all:?}");
    all.into_iter().next().unwrap()
}

/// The daemon is killed at a random moment of a deploy: it is finished or taken back, and nobody
/// who connects notices either.
#[track_caller]
fn the_daemon_dies_over_a_reload(rung: Rung) {
    let mut luck = Luck::new("the daemon dies over a reload");
    let Some(site) = Site::staged(Server::Asyncio, rung, 4, json!({})) else { return };
    let load = Load::of(site.port, CROWD);
    let (mut last, mut finished) = (String::new(), 0);
    for round in 0..rounds(3) {
        load.flows(ANSWERS);
        let daemon = site.home.daemon();
        let new = format!("v{round}");
        let apps = json!({ "apps": [site.with(json!({ "env": { "VERSION": new } }))] });
        site.home.write("new.json", &apps.to_string());
        let deploy = site.home.command(["reload", "web", "--config", "new.json"]);
        let mut deploy = site.home.spawn(deploy);
        luck.dawdle(MOMENT_MAX);
        kill(daemon);
        let status = wait_for("the deploy to end", || deploy.child.try_wait().unwrap());
        wait_for("another daemon", || (site.home.daemon() != daemon).then_some(()));
        let told = deploy.so_far();
        let rows = wait_for("workers at rest", || {
            let rows = site.home.at_rest("web")?;
            let online = rows.len() == 4 && rows.iter().all(|it| it.state == "online");
            (online && site.home.pids_of("web").len() == 4).then_some(rows)
        });
        let version = version(&rows);
        let expected = if status.success() { &new } else { &last };
        let in_words = status.success() || !told.stderr.is_empty();
        let right = version == *expected || (!status.success() && version == new);
        assert!(in_words && right, "round {round}: all are {version:?}, {told:?}");
        finished += u32::from(version == new);
        last = version;
    }
    load.flows(ANSWERS);
    let tally = load.finish();
    site::are_right(&tally);
    assert!(tally.failed.is_empty(), "{tally:#?}");
    say(&format!("{finished} deploys were finished, {} answered", tally.answered));
}

#[test]
fn the_daemon_dies_over_a_reload_by_ebpf() {
    the_daemon_dies_over_a_reload(Rung::Ebpf);
}

#[test]
fn the_daemon_dies_over_a_reload_by_trap() {
    the_daemon_dies_over_a_reload(Rung::Trap);
}
