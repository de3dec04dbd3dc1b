//! What the doctor says, beside the machine itself and beside what a daemon makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};

use crate::test::{Home, Stopwatch, Tool, app, declared, free_port, inherited, need, skip, stop};

/// Nobody: a user without any right.
const NOBODY: u32 = 65_534;

/// `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN` by their numbers in capabilities(7)'s header.
const RIGHTS: &[(&str, u32)] = &[("BPF", 39), ("PERFMON", 38), ("NET_ADMIN", 12)];

/// Longest a visit may take on a busy machine; alone it takes less than a tenth of it.
const VISIT_MAX: Duration = Duration::from_secs(5);

/// What one visit came to.
struct Visit {
    code: i32,
    told: Value,
    findings: BTreeMap<String, Value>,
}

impl Visit {
    #[track_caller]
    fn of(home: &Home, more: &[&str]) -> Self {
        let took = Stopwatch::start();
        let output = home.run(["doctor", "--json"].iter().chain(more));
        assert!(took.elapsed() < VISIT_MAX, "{:?}", took.elapsed());
        let told: Value = serde_json::from_str(&output.stdout).expect("JSON");
        let list = told["findings"].as_array().unwrap().clone();
        let findings =
            list.into_iter().map(|it| (it["id"].as_str().unwrap().to_owned(), it)).collect();
        Self { code: output.code, told, findings }
    }

    #[track_caller]
    fn level(&self, id: &str) -> &str {
        self.findings[id]["level"].as_str().unwrap()
    }

    #[track_caller]
    fn is_ok(&self, id: &str) -> bool {
        self.level(id) == "ok"
    }

    #[track_caller]
    fn found(&self, id: &str) -> &str {
        self.findings[id]["found"].as_str().unwrap()
    }

    #[track_caller]
    fn fix(&self, id: &str) -> String {
        self.findings[id]["fix"].to_string()
    }
}

/// The words of a file, which is where the kernel tells a fact.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Folders of cgroups the doctor made, wherever cgroups of version 2 are.
fn trials() -> Vec<PathBuf> {
    let mounts = read("/proc/self/mountinfo");
    let own = read("/proc/self/cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let folder = mount.and_then(|line| Some(PathBuf::from(line.split(' ').nth(4)?).join(own)));
    let entries = folder.into_iter().flat_map(fs::read_dir).flatten().flatten();
    let paths = entries.map(|it| it.path());
    paths.filter(|it| it.to_string_lossy().contains("bunpilot-doctor-")).collect()
}

/// What the doctor promises of a machine is what a daemon there gets.
#[track_caller]
fn agrees_with_a_daemon(home: &Home) -> Visit {
    let before = Visit::of(home, &[]);
    assert_eq!(before.told["daemon"], Value::Null);
    home.ok(["daemon", "start"]);
    let visit = Visit::of(home, &[]);
    let daemon = &visit.told["daemon"];
    assert_eq!(daemon["pid"].as_u64(), Some(home.daemon().into()));
    assert_eq!(daemon["version"], visit.told["version"]);
    let engine = |part: &str| daemon["engines"][part].as_str().unwrap().to_owned();
    for visit in [&before, &visit] {
        let rings = ["control", "logs"].iter().all(|part| engine(part) == "io_uring");
        assert_eq!(visit.is_ok("io-uring") && visit.is_ok("memlock"), rings);
        assert_eq!(visit.is_ok("cgroup"), engine("trees") == "cgroup2");
        assert_eq!(visit.is_ok("ports"), engine("ports").starts_with("eBPF"));
        assert_eq!(visit.is_ok("cpu-time"), engine("cpu") == "eBPF sched_switch");
    }
    home.ok(["daemon", "stop"]);
    before
}

#[test]
fn facts_are_those_of_the_machine() {
    let home = Home::new();
    let visit = agrees_with_a_daemon(&home);
    assert_eq!(visit.told["daemon"], Value::Null);
    assert!(visit.found("kernel").contains(&read("/proc/sys/kernel/osrelease")));
    assert!(visit.found("somaxconn").starts_with(&read("/proc/sys/net/core/somaxconn")));
    let status = read("/proc/self/status");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    let told: BTreeSet<_> = visit.found("capabilities").split(", ").collect();
    for (name, bit) in RIGHTS {
        assert_eq!(told.contains(name), mask >> bit & 1 == 1, "{name}: {told:?}");
    }
    let limits = read("/proc/self/limits");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    for number in files.split_whitespace().take(2) {
        assert!(visit.found("nofile").contains(number), "{files}: {}", visit.found("nofile"));
    }
}

#[test]
fn a_visit_changes_nothing() {
    let home = Home::new();
    home.write("marker", "");
    let listing = || {
        let entries = fs::read_dir(home.root()).unwrap().flatten();
        entries.map(|it| it.file_name()).collect::<BTreeSet<_>>()
    };
    let before = listing();
    Visit::of(&home, &[]);
    assert_eq!(listing(), before, "no daemon was started, nothing was written");
    assert!(home.pids("__daemon").is_empty());
    // Of other visits under way there may be some, for a moment.
    let left: BTreeSet<_> = trials().into_iter().collect();
    crate::test::wait_for("trials to be gone", || {
        trials().iter().all(|it| !left.contains(it)).then_some(())
    });
}

#[test]
fn without_rights() {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    let home = Home::new().owned_by(NOBODY);
    let visit = agrees_with_a_daemon(&home);
    assert_eq!((visit.code, visit.level("bpf")), (0, "note"));
    for right in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"] {
        assert!(visit.found("bpf").contains(right), "{}", visit.found("bpf"));
    }
    assert!(visit.fix("bpf").to_lowercase().contains("cap_bpf,cap_perfmon,cap_net_admin+ep"));
    assert!(visit.found("user").contains("uid 65534"));
    assert!(!visit.is_ok("cpu-time") && !visit.is_ok("ports"));
}

#[test]
fn without_io_uring() {
    let python = need!(Tool::Python);
    let home = Home::new().run_by([python.as_os_str(), app("no_io_uring.py").as_os_str()]);
    let visit = agrees_with_a_daemon(&home);
    assert_eq!((visit.code, visit.level("io-uring")), (0, "note"));
    assert_eq!(visit.found("io-uring"), "none: Operation not permitted");
    assert!(visit.fix("io-uring").contains("io_uring_setup"));
}

#[test]
fn without_programs() {
    let home = Home::new().with_env("BUNPILOT_BPF", "off");
    let visit = agrees_with_a_daemon(&home);
    assert_eq!(visit.level("environment"), "note");
    assert!(visit.found("bpf").contains("`off`"));
}

#[test]
fn the_shape_of_json_and_of_a_pipe() {
    let home = Home::new();
    let Visit { told, code, .. } = Visit::of(&home, &[]);
    let keys: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["level", "version", "daemon", "findings"]);
    let findings = told["findings"].as_array().unwrap();
    let rank = |level: &Value| {
        let known = ["ok", "note", "warn", "bad"];
        known.iter().position(|it| level == it).expect("a level")
    };
    for finding in findings {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["id", "level", "found", "consequence", "fix"]);
        assert_ne!(finding["found"], "");
        assert_eq!(finding["consequence"].is_null(), finding["level"] == "ok", "{finding}");
        assert!(finding["fix"].as_array().unwrap().iter().all(Value::is_string));
    }
    assert_eq!(findings.iter().map(|it| rank(&it["level"])).max(), Some(rank(&told["level"])));
    assert_eq!(code, i32::from(told["level"] == "bad"));
    let piped = home.run(["doctor"]).stdout;
    let mut lines = piped.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["id", "level", "found", "consequence", "fix"]);
    let ids = findings.iter().map(|it| it["id"].as_str().unwrap());
    assert!(lines.map(|it| it[0]).eq(ids));
}

#[test]
fn a_home_that_cannot_be_is_bad() {
    let home = Home::new();
    for (folder, said) in [("/proc/bunpilot", "cannot be written"), (&*"/x".repeat(60), "107")] {
        let mut command = home.command(["doctor", "--json"]);
        command.env("BUNPILOT_HOME", folder);
        let output = home.finish(command);
        let told: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((output.code, &told["level"]), (1, &json!("bad")), "{output:?}");
        let all = told["findings"].as_array().unwrap();
        let found = all.iter().find(|it| it["id"] == "home").unwrap();
        assert!(found["found"].as_str().unwrap().contains(said), "{found}");
    }
}

#[test]
fn a_daemon_that_is_stopped_is_bad_and_another_ones_file_is_seen() {
    let home = Home::new();
    home.ok(["daemon", "start"]);
    assert_eq!(Visit::of(&home, &[]).told["daemon"]["sameProgram"], true);
    let copy = home.path("copy");
    fs::copy(env!("CARGO_BIN_EXE_bunpilot"), &copy).unwrap();
    let mut other = std::process::Command::new(&copy);
    other.args(["doctor", "--json"]).env("BUNPILOT_HOME", home.root());
    let told: Value = serde_json::from_str(&home.finish(other).stdout).unwrap();
    assert_eq!(told["daemon"]["sameProgram"], false);

    let daemon = home.daemon();
    stop(daemon);
    let visit = Visit::of(&home, &[]);
    crate::test::kill(daemon);
    assert_eq!((visit.code, visit.level("daemon")), (1, "bad"));
}

#[test]
fn apps_that_cannot_start_are_told_before_they_are_started() {
    need!(Tool::Python);
    let home = Home::new();
    let port = free_port();
    let write = |apps: Value| {
        home.write("bunpilot.json", &json!({ "apps": apps }).to_string());
        Visit::of(&home, &["bunpilot.json"])
    };
    let web = inherited("server.py", port, 1, json!({}));
    let visit = write(json!([web]));
    assert_eq!((visit.code, visit.level("app")), (0, "ok"), "{}", visit.told);

    let holder = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let visit = write(json!([web]));
    assert_eq!((visit.code, visit.level("app")), (1, "bad"));
    let pid = format!("(pid {})", std::process::id());
    assert!(visit.found("app").contains(&pid) && visit.found("app").contains(&port.to_string()));
    drop(holder);

    home.start([web.clone()]).succeeded();
    home.online("web", 1);
    let visit = write(json!([web]));
    assert_eq!((visit.code, visit.level("app")), (0, "ok"), "its own workers hold the port");

    let lost = declared("lost", "ticker.sh", json!({ "interpreter": "no-such-program" }));
    home.write("bunpilot.json", &json!({ "apps": [lost] }).to_string());
    for (file, said) in
        [("bunpilot.json", "no-such-program"), ("no-such-file.json", "no-such-file.json")]
    {
        assert_eq!(home.run(["doctor", file]).refused(said).code, 78);
    }
}

#[test]
fn apps_that_ask_for_more_than_their_user_has() {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    let home = Home::new().owned_by(NOBODY);
    let low = read("/proc/sys/net/ipv4/ip_unprivileged_port_start").parse().unwrap_or(1024_u16);
    let ask = |more: Value| {
        let app = declared("tick", "ticker.sh", more);
        home.write("bunpilot.json", &json!({ "apps": [app] }).to_string());
        let visit = Visit::of(&home, &["bunpilot.json"]);
        (visit.code, visit.found("app").to_owned())
    };
    let user = ask(json!({ "user": { "uid": 1, "gid": 1 } }));
    assert!(user.0 == 1 && user.1.contains("CAP_SETUID"), "{user:?}");
    let log = ask(json!({ "logs": { "outFile": "/proc/sys/out.log" } }));
    assert!(log.0 == 1 && log.1.contains("/proc/sys/out.log"), "{log:?}");
    if low > 1 {
        let port = ask(json!({ "port": low - 1 }));
        assert!(port.0 == 1 && port.1.contains(&(low - 1).to_string()), "{port:?}");
    }
    assert_eq!(ask(json!({})), (0, "`tick` can start".to_owned()));
}
