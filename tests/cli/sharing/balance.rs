//! Who gets the next connection.

use std::time::Duration;

use serde_json::json;

use super::site::{Rung, Server, Site, are_right};
use crate::test::{Crowd, Load, Stopwatch, holds_for, rounds, say};

/// Connections that are spread.
const CONNECTIONS: u32 = 10_000;

/// Clients, each question over a connection of its own.
const CLIENTS: usize = 16;

fn crowd(questions_max: u64) -> Crowd {
    Crowd { fresh: CLIENTS, kept: 0, pause: Duration::ZERO, questions_max }
}

/// How many connections each of the four got, fewest first.
#[track_caller]
fn spread(site: &Site) -> Vec<u64> {
    let tally = Load::of(site.port, crowd(CONNECTIONS.into())).join();
    assert!(tally.failed.is_empty(), "{tally:#?}");
    let mut shares: Vec<u64> = are_right(&tally).into_iter().map(|(_, count)| count).collect();
    shares.sort_unstable();
    assert_eq!(shares.len(), 4, "{shares:?}");
    shares
}

#[test]
fn in_turn_is_even() {
    let more = json!({ "clustering": { "balance": "roundRobin" } });
    let Some(site) = Site::staged(Server::C, Rung::Ebpf, 4, more) else { return };
    for _ in 0..rounds(1) {
        let shares = spread(&site);
        say(&format!("{CONNECTIONS} connections in turn: {shares:?}"));
        assert!(shares[3] * 100 <= shares[0] * 101, "{shares:?}");
    }
}

#[test]
fn weights_are_kept() {
    let more = json!({ "clustering": { "balance": "roundRobin", "weights": [4, 2, 1, 1] } });
    let Some(site) = Site::staged(Server::C, Rung::Ebpf, 4, more) else { return };
    let shares = spread(&site);
    say(&format!("{CONNECTIONS} connections by 4:2:1:1: {shares:?}"));
    let wanted = [1, 1, 2, 4].map(|it| u64::from(CONNECTIONS) * it / 8);
    let near = |(share, wanted): (&u64, u64)| share.abs_diff(wanted) * 100 <= wanted;
    assert!(shares.iter().zip(wanted).all(near), "{shares:?}");
}

/// One worker of four is slow, as is everybody behind it in the kernel's hash. By least
/// connections it hardly matters.
#[test]
fn a_slow_worker_gets_less() {
    let long = rounds(1) > 1;
    let (time, ratio) = if long { (4, 8) } else { (2, 4) };
    let Some(ours) = Site::staged(Server::Slow, Rung::Ebpf, 4, json!({})) else { return };
    let Some(hash) = Site::staged(Server::Slow, Rung::Workers, 4, json!({})) else { return };
    for _ in 0..rounds(1) {
        let answered = [&ours, &hash].map(|site| {
            let (clock, load) = (Stopwatch::start(), Load::of(site.port, crowd(u64::MAX)));
            holds_for(Duration::from_secs(time), "they ask", || true);
            let tally = load.finish();
            assert!(tally.failed.is_empty(), "{tally:#?}");
            are_right(&tally);
            say(&format!("{} answered in {:?}", tally.answered, clock.elapsed()));
            tally.answered
        });
        let [ours, hash] = answered;
        assert!(ours >= hash * ratio, "{ours} by least connections, {hash} by the kernel's hash");
    }
}
