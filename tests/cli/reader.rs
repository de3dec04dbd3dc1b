//! `bunpilot logs` as a user runs it: times, lives, several workers in order, a follower that stays.

use serde_json::{Value, json};

use super::test::{Home, declared, wait_for};

/// The numbers `tick <worker> <number>` in `text`, in order.
fn ticks(text: &str, worker: u32) -> Vec<usize> {
    let mark = format!("tick {worker} ");
    let after = |line: &str| line.split_once(&mark)?.1.trim_end().parse().ok();
    text.lines().filter_map(after).collect()
}

/// A ticker that takes a moment to begin, as real programs do: times are exact to 20 ms.
const SLOW_TO_BEGIN: &str = "sleep 0.2\n\
    i=0; while :; do echo \"tick $BUNPILOT_WORKER_ID $i\"; i=$((i + 1)); sleep 0.02; done\n";

/// A home in which `tick` has this many workers, each of which said this much.
fn ticking(instances: u32, count: usize, logs: &Value) -> Home {
    let home = Home::new();
    let script = home.write("tick.sh", SLOW_TO_BEGIN);
    let more = json!({ "script": script, "instances": instances, "logs": logs });
    home.start([declared("tick", "ticker.sh", more)]).succeeded();
    wait_for("lines of every worker", || {
        let text = home.ok(["logs", "tick", "-n", "all"]);
        (0..instances).all(|worker| ticks(&text, worker).len() >= count).then_some(())
    });
    home
}

/// The lines of `logs --json`.
fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_of_four_workers_come_in_the_order_of_their_times() {
    for logs in
        [json!({}), json!({ "mode": "timestamps" }), json!({ "mode": "json", "merge": true })]
    {
        let home = ticking(4, 30, &logs);
        let records = records(&home.ok(["logs", "tick", "-n", "all", "--out", "--json"]));
        let times: Vec<&str> = records.iter().map(|it| it["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{logs}: {times:?}");
        for worker in 0..4 {
            let of = |it: &&Value| it["worker"] == worker;
            let said: Vec<&str> =
                records.iter().filter(of).map(|it| it["message"].as_str().unwrap()).collect();
            let numbers = ticks(&said.join("\n"), worker);
            assert!(numbers.len() >= 30 && numbers.is_sorted_by(|a, b| a + 1 == *b), "{said:?}");
        }
        // The workers take turns: none is shown as a whole before the others.
        let first_half = &records[..records.len() / 2];
        assert!((0..4).all(|worker| first_half.iter().any(|it| it["worker"] == worker)));
    }
}

#[test]
fn since_and_until_cut_where_the_clock_did() {
    let home = ticking(1, 50, &json!({}));
    let all = records(&home.ok(["logs", "tick", "-n", "all", "--out", "--json"]));
    let (from, to) = (&all[20], &all[40]);
    let time = |record: &Value| record["time"].as_str().unwrap().to_owned();
    let args = ["logs", "tick", "--since", &time(from), "--until", &time(to), "--json", "--out"];
    let within = records(&home.ok(args));
    let meant = |it: &&Value| time(it) >= time(from) && time(it) < time(to);
    let expected = all.iter().filter(meant).count();
    // Times are shown to the millisecond and kept to the microsecond: one line may be off.
    assert!(expected.abs_diff(within.len()) <= 1 && within.len() > 5, "{within:?}");
    assert!(within.iter().all(|it| all.contains(it)));
    assert_eq!(home.ok(["logs", "tick", "--since", "1h", "-n", "2", "--out"]).lines().count(), 2);
    assert_eq!(home.ok(["logs", "tick", "--until", "1h"]), "");
    assert_eq!(home.run(["logs", "tick", "--since", "soon"]).refused("10 minutes ago").code, 2);
    assert_eq!(home.run(["logs", "tick", "-g", "a(b"]).refused("unclosed group").code, 2);
}

#[test]
fn the_life_before_is_told_from_the_one_that_is() {
    for logs in [json!({}), json!({ "mode": "json", "merge": true })] {
        let home = ticking(2, 20, &logs);
        assert_eq!(home.ok(["logs", "tick", "--previous"]), "", "{logs}: there was no life before");
        home.ok(["restart", "tick"]);
        wait_for("lines of the next life", || {
            let text = home.ok(["logs", "tick", "-n", "all"]);
            let begins = |worker| ticks(&text, worker).iter().filter(|it| **it == 0).count();
            (begins(0) == 2 && begins(1) == 2).then_some(())
        });
        let earlier = home.ok(["logs", "tick", "-p", "-n", "all"]);
        for worker in 0..2 {
            let ticks = ticks(&earlier, worker);
            assert!(ticks.len() >= 20 && ticks.is_sorted_by(|a, b| a + 1 == *b), "{earlier}");
        }
        home.ok(["stop", "tick", "--force"]);
        let all = home.ok(["logs", "tick", "-n", "all"]);
        assert_eq!(home.ok(["logs", "tick", "-p", "-n", "all"]), all, "none runs: all is past");
        home.ok(["daemon", "stop"]);
        let down =
            home.run(["logs", "tick", "--previous"]).refused("`--previous` needs the daemon");
        assert_eq!(down.code, 69);
        assert_eq!(home.ok(["logs", "tick", "-n", "all"]), all);
    }
}

#[test]
fn a_follower_stays_through_restart_scale_and_a_dead_daemon() {
    let home = ticking(1, 1, &json!({ "maxSize": 1024, "maxFiles": 100, "compress": "zstd" }));
    let follow = home.spawn(home.command(["logs", "-f", "tick", "-n", "all", "--out"]));
    let shown = || follow.so_far().stdout;
    let lives = |worker| ticks(&shown(), worker).iter().filter(|it| **it == 0).count();
    wait_for("lines", || (!ticks(&shown(), 0).is_empty()).then_some(()));
    home.ok(["restart", "tick"]);
    wait_for("the second life", || (lives(0) == 2).then_some(()));
    home.ok(["scale", "tick", "2"]);
    wait_for("the second worker", || (lives(1) == 1).then_some(()));
    super::test::kill(home.daemon());
    let before = ticks(&shown(), 1).len();
    wait_for("lines after that", || (ticks(&shown(), 1).len() > before + 100).then_some(()));
    for worker in 0..2 {
        let ticks = ticks(&shown(), worker);
        assert!(ticks.is_sorted_by(|a, b| a + 1 == *b || *b == 0), "{ticks:?}");
    }
    assert_eq!(follow.so_far().stderr, "");
}
