//! Whole trees end: children, grandchildren in sessions of their own, orphans, the deaf.

use std::{fs, time::Duration};

use serde_json::json;

use crate::test::{Home, Stopwatch, Tool, alive, declared, kill, need, skip, wait_for};

/// `killTimeout`, and what is allowed beyond it.
const STOP_MAX: Duration = Duration::from_millis(1000 + 200);

/// Descendants of `clan.py`.
const KINDS: usize = 6;

/// A home with `clan.py` running in it, complete.
struct Clan {
    home: Home,
    kinds: usize,
}

impl Clan {
    #[track_caller]
    fn start(home: Home, unmarked: bool) -> Self {
        let env = json!({
            "CLAN": home.path("pids"),
            "SURVIVORS": home.path("survivors"),
            "UNMARKED": if unmarked { "1" } else { "0" },
        });
        home.start([declared("clan", "clan.py", json!({ "env": env }))]).succeeded();
        Self { home, kinds: KINDS + usize::from(unmarked) }
    }

    /// The leader and all its descendants, once they are complete.
    #[track_caller]
    fn members(&self, not: Option<u32>) -> (u32, Vec<u32>) {
        wait_for("a complete clan", || {
            let leader = self.home.online("clan", 1)[0].pid;
            let text = fs::read_to_string(self.home.path("pids")).ok()?;
            let all: Vec<u32> = text.lines().filter_map(|it| it.parse().ok()).collect();
            (Some(leader) != not && all.len() == self.kinds && all.iter().all(|it| alive(*it)))
                .then_some((leader, all))
        })
    }

    /// A crash of the leader and a stop each leave nobody behind.
    #[track_caller]
    fn ends_whole(&self) {
        let (leader, first) = self.members(None);
        kill(leader);
        let (_, second) = self.members(Some(leader));
        let left: Vec<_> = first.iter().filter(|it| alive(**it)).collect();
        assert!(left.is_empty(), "{left:?} live beside the next leader");
        assert_eq!(self.home.read("survivors"), "", "alive when the next leader began");

        let clock = Stopwatch::start();
        self.home.ok(["stop", "clan"]);
        let took = clock.elapsed();
        let left: Vec<_> = second.iter().filter(|it| alive(**it)).collect();
        assert!(left.is_empty(), "{left:?} have survived `stop`");
        assert!(took < STOP_MAX * 2, "{took:?}");
    }

    /// Nor does a stop ordered of a daemon that dies over it.
    #[track_caller]
    fn ends_whole_though_the_daemon_dies(&self) {
        self.home.ok(["start", "clan"]);
        let (_, all) = self.members(None);
        let stop = self.home.spawn(self.home.command(["stop", "clan"]));
        self.home.in_state("clan", "stopping");
        kill(self.home.daemon());
        wait_for("the clan to be gone", || all.iter().all(|it| !alive(*it)).then_some(()));
        drop(stop);
        wait_for("a stopped app", || (self.home.rows("clan")[0].state == "stopped").then_some(()));
    }
}

/// How the daemon says it finds the processes of a worker.
#[track_caller]
fn rung(home: &Home) -> String {
    let told = home.ok(["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&told).unwrap();
    status["engines"]["trees"].as_str().unwrap().to_owned()
}

#[test]
fn by_cgroup() {
    need!(Tool::Python);
    let home = Home::new();
    home.ok(["daemon", "start"]);
    if rung(&home) != "cgroup2" {
        return skip("no writable cgroup2 here");
    }
    let clan = Clan::start(home, true);
    clan.ends_whole();
    clan.ends_whole_though_the_daemon_dies();
}

#[test]
fn by_session() {
    need!(Tool::Python);
    let clan = Clan::start(Home::new().with_env("BUNPILOT_TREES", "session"), false);
    assert_eq!(rung(&clan.home), "process group");
    clan.ends_whole();
    clan.ends_whole_though_the_daemon_dies();
}

#[test]
fn by_session_without_privileges() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    let clan = Clan::start(Home::new().owned_by(65_534), false);
    clan.ends_whole();
    clan.ends_whole_though_the_daemon_dies();
}
