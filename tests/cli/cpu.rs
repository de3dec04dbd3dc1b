//! CPU time as users see it, beside what the kernel counts for the worker's cgroup.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::json;

use crate::test::{Home, Tool, declared, kill, need, skip, wait_for};

/// What a worker of `orphans.py` must have used before numbers are compared.
const ENOUGH: Duration = Duration::from_millis(400);

/// A home with one worker that burns CPU time in children nobody waits for.
struct Burner {
    home: Home,
    /// Its cgroup, if there are cgroups.
    cgroup: Option<PathBuf>,
}

impl Burner {
    fn start(home: Home) -> Self {
        home.start([declared("burn", "orphans.py", json!({}))]).succeeded();
        let pid = home.online("burn", 1)[0].pid;
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let cgroup = mount.and_then(|line| {
            let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
            let path = PathBuf::from(line.split(' ').nth(4)?).join(path);
            path.to_str()?.contains("bunpilot-").then_some(path)
        });
        Self { home, cgroup }
    }

    /// What the daemon says the worker used.
    fn said(&self) -> Duration {
        let told = self.home.ok(["status", "burn", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&told).unwrap();
        let cpu = &status["workers"][0]["cpu"];
        let part = |name: &str| Duration::from_micros(cpu[name].as_u64().unwrap_or_default());
        part("user") + part("system")
    }

    fn truth(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.cgroup.as_ref()?.join("cpu.stat")).ok()?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        Some(Duration::from_micros(micros.parse().ok()?))
    }

    /// Waits until the worker used some, then compares: what is said lies between what the kernel
    /// counted before and after we asked, give or take one percent.
    #[track_caller]
    fn is_exact(&self) -> Duration {
        wait_for("a worker that worked", || (self.truth()? > ENOUGH).then_some(()));
        // A question within a second of the last measurement gets that one.
        let (before, said, after) = wait_for("a new measurement", || {
            let before = self.truth()?;
            let said = self.said();
            let after = self.truth()?;
            (said * 100 >= before * 99).then_some((before, said, after))
        });
        assert!(said * 100 <= after * 101, "{before:?} <= {said:?} <= {after:?}");
        said
    }
}

#[test]
fn children_nobody_waits_for_are_counted_though_the_daemon_dies() {
    need!(Tool::Python);
    let home = Home::new();
    home.ok(["daemon", "start"]);
    let told = home.ok(["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&told).unwrap();
    if status["engines"]["cpu"] != "eBPF sched_switch" {
        return skip(&status["engines"]["cpu"].to_string());
    }
    let burner = Burner::start(home);
    if burner.truth().is_none() {
        return skip("no writable cgroup2 here");
    }
    let before = burner.is_exact();
    let daemon = burner.home.daemon();
    kill(daemon);
    wait_for("another daemon", || (burner.home.daemon() != daemon).then_some(()));
    burner.home.online("burn", 1);
    let after = burner.is_exact();
    assert!(after >= before, "{after:?} after {before:?}");
}
