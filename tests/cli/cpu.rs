//! CPU time as users see it, beside what the kernel counts: on every rung, and as exactly as the
//! rung can.

use std::{fs, path::PathBuf, time::Duration};

use bunpilot::{domain::Pid, platform::sys::process_cpu};
use serde_json::{Value, json};

use crate::test::{Home, Tool, declared, kill, need, skip, wait_for};

/// What a worker must use before numbers are compared.
const ENOUGH: Duration = Duration::from_millis(400);

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Burns in children nobody waits for: their clocks end with them.
    Orphans,
    /// Burns in one process.
    Busy,
}

/// Who knows what was used.
#[derive(Debug)]
enum Truth {
    Cgroup(PathBuf),
    Clock(Pid),
}

impl Truth {
    fn of(load: Load, pid: u32) -> Option<Self> {
        match load {
            Load::Orphans => Some(Self::Cgroup(own_cgroup(pid)?)),
            Load::Busy => Some(Self::Clock(Pid(pid.try_into().unwrap()))),
        }
    }

    fn used(&self) -> Duration {
        match self {
            Self::Cgroup(folder) => {
                let text = fs::read_to_string(folder.join("cpu.stat")).unwrap();
                let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Duration::from_micros(micros.unwrap().parse().unwrap())
            }
            Self::Clock(pid) => process_cpu(*pid).unwrap(),
        }
    }
}

/// The cgroup of a worker, if it has one of its own.
fn own_cgroup(pid: u32) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = PathBuf::from(mount.split(' ').nth(4)?).join(path);
    path.to_str()?.contains("bunpilot-").then_some(path)
}

/// A measurement between two looks at the truth.
#[derive(Clone, Copy, Debug)]
struct Reading {
    before: Duration,
    said: Duration,
    after: Duration,
}

/// A home with one worker that burns CPU time.
struct Burner {
    home: Home,
    truth: Option<Truth>,
}

impl Burner {
    fn start(home: Home, load: Load) -> Self {
        let script = match load {
            Load::Orphans => "orphans.py",
            Load::Busy => "busy.py",
        };
        home.start([declared("burn", script, json!({}))]).succeeded();
        let truth = Truth::of(load, home.online("burn", 1)[0].pid);
        Self { home, truth }
    }

    fn status(&self) -> Value {
        let told = self.home.ok(["status", "burn", "--json"]);
        serde_json::from_str::<Value>(&told).unwrap()["workers"][0].clone()
    }

    fn used(&self) -> Duration {
        self.truth.as_ref().map(Truth::used).unwrap_or_default()
    }

    /// A measurement that was made after we asked: a question within a second of the last one
    /// gets that.
    #[track_caller]
    fn reading(&self) -> Reading {
        wait_for("a new measurement", || {
            let asked = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
            let before = self.used();
            let cpu = self.status()["cpu"].clone();
            let after = self.used();
            let part = |name: &str| Duration::from_micros(cpu[name].as_u64().unwrap());
            (u128::from(cpu["timestamp"].as_u64()?) > asked).then(|| Reading {
                before,
                said: part("user") + part("system"),
                after,
            })
        })
    }

    /// Waits until the worker used some, and compares what is said of it with the truth, give or
    /// take one percent and `steps`.
    #[track_caller]
    fn is_exact(&self, steps: Duration) -> [Reading; 2] {
        let first = self.reading();
        wait_for("a worker that worked", || (self.used() > first.after + ENOUGH).then_some(()));
        let second = self.reading();
        let said = second.said.saturating_sub(first.said);
        let least = second.before.saturating_sub(first.after);
        let most = second.after.saturating_sub(first.before);
        assert!(
            (said + steps) * 100 >= least * 99,
            "{said:?}, not {least:?}: {first:?} {second:?}"
        );
        assert!(said * 100 <= (most + steps) * 101, "{said:?}, not {most:?}: {first:?} {second:?}");
        [first, second]
    }
}

/// How a daemon says it measures CPU time, and what its metrics say.
#[track_caller]
fn rung(home: &Home) -> (String, String) {
    let told = home.ok(["daemon", "status", "--json"]);
    let status: Value = serde_json::from_str(&told).unwrap();
    let metrics = home.ok(["metrics", "--prometheus"]);
    let line = metrics.lines().find_map(|line| {
        let line = line.strip_prefix("bunpilot_engine_info{part=\"cpu\",rung=\"")?;
        line.strip_suffix("\"} 1")
    });
    (status["engines"]["cpu"].as_str().unwrap().to_owned(), line.unwrap().to_owned())
}

const EBPF: &str = "eBPF sched_switch";

/// Steps of `proc_pid_stat(5)`, for user and system time each, at both ends.
const TICKS: Duration = Duration::from_millis(40);

/// A daemon measures as `expected` says, in words and in the word of metrics, and exactly; what
/// only programs in the kernel count is there only with them.
#[track_caller]
fn check(home: Home, load: Load, expected: (&str, &str)) {
    let burner = Burner::start(home, load);
    let (told, word) = rung(&burner.home);
    assert_eq!((told.as_str(), word.as_str()), expected);
    if burner.truth.is_none() {
        return skip("no writable cgroup2 here");
    }
    burner.reading();
    let before = burner.status()["scheduling"].clone();
    burner.is_exact(if word == "proc" { TICKS } else { Duration::ZERO });
    let after = burner.status()["scheduling"].clone();
    let metrics = burner.home.ok(["metrics", "--prometheus"]);
    let counted = |name: &str| metrics.contains(&format!("\nbunpilot_worker_{name}_total{{"));
    let names = ["run_delay_seconds", "context_switches", "forks"];
    if word != "ebpf" {
        assert_eq!((after, names.map(counted)), (Value::Null, [false; 3]));
        return;
    }
    assert_eq!(names.map(counted), [true; 3], "{metrics}");
    let more = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert!(more("runDelay") > 0 && more("voluntarySwitches") > 10, "{before} {after}");
    match load {
        Load::Orphans => assert!(more("forks") > 10, "{before} {after}"),
        Load::Busy => assert_eq!(more("forks"), 0, "{before} {after}"),
    }
}

/// Whether the machine lets us load programs, which most of these tests take away.
fn loads_programs() -> bool {
    let home = Home::new();
    home.ok(["daemon", "start"]);
    let (told, _) = rung(&home);
    let loads = told == EBPF;
    if !loads {
        skip(&told);
    }
    loads
}

/// A home of root without some capabilities.
fn without(capabilities: &str) -> Home {
    Home::new().run_by(["setpriv", "--bounding-set", capabilities])
}

const FORBIDDEN: &str = "CAP_BPF and CAP_PERFMON are missing";

#[test]
fn children_nobody_waits_for_are_counted_though_the_daemon_dies() {
    need!(Tool::Python);
    if !loads_programs() {
        return;
    }
    let burner = Burner::start(Home::new(), Load::Orphans);
    if burner.truth.is_none() {
        return skip("no writable cgroup2 here");
    }
    let [_, before] = burner.is_exact(Duration::ZERO);
    let daemon = burner.home.daemon();
    kill(daemon);
    wait_for("another daemon", || (burner.home.daemon() != daemon).then_some(()));
    burner.home.online("burn", 1);
    let [after, _] = burner.is_exact(Duration::ZERO);
    // And nothing is lost in between.
    assert!(after.said * 100 >= after.before * 99, "{before:?} {after:?}");
}

#[test]
fn a_daemon_that_may_do_anything() {
    need!(Tool::Python);
    if loads_programs() {
        check(Home::new(), Load::Orphans, (EBPF, "ebpf"));
    }
}

#[test]
fn the_capability_of_old_is_as_good_as_those_of_today() {
    need!(Tool::Python);
    if loads_programs() {
        check(without("-bpf,-perfmon"), Load::Orphans, (EBPF, "ebpf"));
        check(without("-sys_admin"), Load::Orphans, (EBPF, "ebpf"));
    }
}

#[test]
fn one_capability_alone_is_not_enough() {
    need!(Tool::Python);
    if loads_programs() {
        let told = format!("cgroup2 cpu.stat: {FORBIDDEN}");
        for capabilities in ["-sys_admin,-bpf", "-sys_admin,-perfmon"] {
            check(without(capabilities), Load::Orphans, (&told, "cgroup"));
        }
    }
}

#[test]
fn nobody_with_two_capabilities_reads_the_books() {
    need!(Tool::Python);
    if !loads_programs() {
        return;
    }
    let ambient = "+bpf,+perfmon";
    let home = Home::new().owned_by(65_534);
    let home = home.run_by(["--inh-caps", ambient, "--ambient-caps", ambient]);
    check(home, Load::Busy, (EBPF, "ebpf"));
}

#[test]
fn without_programs_cgroups_are_as_exact() {
    need!(Tool::Python);
    if loads_programs() {
        let told = "cgroup2 cpu.stat: `BUNPILOT_BPF` is `off`";
        check(Home::new().with_env("BUNPILOT_BPF", "off"), Load::Orphans, (told, "cgroup"));
        let told = "cgroup2 cpu.stat: `BUNPILOT_CPU` is `cgroup`";
        check(Home::new().with_env("BUNPILOT_CPU", "cgroup"), Load::Orphans, (told, "cgroup"));
    }
}

#[test]
fn without_cgroups_programs_are_as_exact() {
    need!(Tool::Python);
    if loads_programs() {
        let home = Home::new().with_env("BUNPILOT_TREES", "session");
        check(home, Load::Busy, (EBPF, "ebpf"));
    }
}

#[test]
fn without_either_clocks_are_read() {
    need!(Tool::Python);
    let home = Home::new().with_env("BUNPILOT_BPF", "off").with_env("BUNPILOT_TREES", "session");
    let told = "clocks of processes: `BUNPILOT_BPF` is `off`; workers have no cgroups of their own";
    check(home, Load::Busy, (told, "clocks"));
    let told = "clocks of processes: `BUNPILOT_CPU` is `clocks`";
    check(Home::new().with_env("BUNPILOT_CPU", "clocks"), Load::Busy, (told, "clocks"));
}

#[test]
fn without_clocks_proc_is_read() {
    need!(Tool::Python);
    let told = "/proc, in steps of 10 ms: `BUNPILOT_CPU` is `proc`";
    check(Home::new().with_env("BUNPILOT_CPU", "proc"), Load::Busy, (told, "proc"));
}
