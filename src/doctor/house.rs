//! Where bunpilot lives: system, user, files, daemon.

use super::{
    facts::{Daemon, Facts, Home, Running, System},
    finding::{Finding, Level},
    network, remedy,
};

/// Bytes below which a home is full in all but name: the database and its log need some.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Bytes below which one app's logs, at their usual size and number, may not fit.
const FREE_BYTES_GOOD: u64 = 256 << 20;
/// Files that should still fit.
const FREE_FILES_GOOD: u64 = 1000;
/// File systems on which SQLite's shared memory and locks cannot be relied on.
const REMOTE: &[&str] = &["nfs", "cifs", "smb2", "9p", "vfat", "exfat"];
/// File systems that are gone after a reboot.
const FLEETING: &[&str] = &["tmpfs", "ramfs"];
/// The first second of 2025: a clock before that was never set.
const CLOCK_MIN: u64 = 1_735_689_600;
/// What may be process 1 of a container without ending it too early.
const INITS: &[&str] =
    &["bunpilot", "catatonit", "docker-init", "dumb-init", "init", "s6-svscan", "systemd", "tini"];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let system = &facts.system;
    let mut findings = vec![daemon(facts), home(facts), kernel(system), container(system)];
    findings.extend([user(system), clock(system), overcommit(system)]);
    findings.extend(switches(facts));
    findings
}

fn daemon(facts: &Facts) -> Finding {
    let id = "daemon";
    let running = match &facts.daemon {
        Daemon::Absent => return Finding::ok(id, "none runs for this home"),
        Daemon::Silent(why) => {
            let follows = "no command that needs it works; workers go on";
            let finding = Finding::at(Level::Bad, id, why, follows);
            let Ok(Home { folder, .. }) = &facts.home else { return finding };
            let (log, pid) = (folder.join("bunpilot-daemon.log"), folder.join("bunpilot.pid"));
            return finding.fix([
                format!("read the end of `{}`", log.display()),
                format!("or end it, its guard starts the next: `kill -9 $(cat {})`", pid.display()),
            ]);
        }
        Daemon::Running(running) => running,
    };
    let Running { pid, version, our_version, same_program, warnings, .. } = running;
    let engines: Vec<_> =
        running.engines.iter().map(|(part, it)| format!("{part}: {it}")).collect();
    let found = format!("pid {pid}, version {version}; {}", engines.join(", "));
    let again = "`bunpilot daemon stop`, then `bunpilot resurrect`; apps stop in between";
    if version != our_version {
        let follows = format!("this command is version {our_version}; the daemon is not upgraded");
        return Finding::at(Level::Warn, id, found, follows).fix([again]);
    }
    if !warnings.is_empty() {
        return Finding::at(Level::Warn, id, found, warnings.join("; "));
    }
    if *same_program == Some(false) {
        let follows = "it was started from another file than this command";
        return Finding::at(Level::Note, id, found, follows).fix([again]);
    }
    let less = lower(facts, running);
    if !less.is_empty() {
        let follows = format!("it makes do with less than we may use here: {}", less.join(", "));
        return Finding::at(Level::Note, id, found, follows)
            .fix(["as this user, `bunpilot daemon stop`, then `bunpilot resurrect`"]);
    }
    Finding::ok(id, found)
}

/// Parts of a daemon that run on less than we found.
fn lower(facts: &Facts, running: &Running) -> Vec<&'static str> {
    let has = |part: &str, engine: &str| {
        running.engines.get(part).is_some_and(|it| it.starts_with(engine))
    };
    let parts = [
        ("control", has("control", "epoll") && facts.rings.control.is_ok()),
        ("cpu", has("cpu", "clocks") && facts.programs.cpu.is_ok()),
        ("ports", has("ports", "workers' own") && network::is_balanced(facts)),
        ("trees", has("trees", "process group") && facts.cgroup.enter.is_ok()),
    ];
    parts.into_iter().filter_map(|(part, is)| is.then_some(part)).collect()
}

fn home(facts: &Facts) -> Finding {
    let id = "home";
    let other = "set `BUNPILOT_HOME` to a folder of yours on a local disk";
    let home = match &facts.home {
        Ok(home) => home,
        Err(why) => {
            return Finding::at(Level::Bad, id, why, "the daemon cannot start");
        }
    };
    let place = match &home.missing_in {
        Some(base) => format!("`{}`, to be made in `{}`", home.folder.display(), base.display()),
        None => format!("`{}`", home.folder.display()),
    };
    let broken = |what: &str, said: &str, follows: &str| {
        Finding::at(Level::Bad, id, format!("{place}: {what}: {said}"), follows)
    };
    if let Err(refusal) = &home.write {
        let follows = "the daemon cannot start: it keeps its socket, state and logs there";
        return broken("cannot be written", &refusal.said, follows).fix([other]);
    }
    if let Err(refusal) = &home.socket {
        let follows = "no command reaches the daemon";
        return broken("cannot hold a socket", &refusal.said, follows)
            .fix(["set `BUNPILOT_SOCKET` to a path on a local disk, e.g. in `/run` or `/tmp`"]);
    }
    if let Err(refusal) = &home.lock {
        let follows = "nothing keeps two daemons from serving the same home";
        return broken("files cannot be locked", &refusal.said, follows).fix([other]);
    }
    let free = bytes(home.free_bytes);
    let found = format!("{place} ({}, {free} free)", home.file_system);
    room(home, &found).unwrap_or_else(|| manners(home, found, other))
}

/// What is wrong with a home that is nearly full.
fn room(home: &Home, found: &str) -> Option<Finding> {
    let make = "make room, or set `BUNPILOT_HOME` to a folder on another disk";
    let (level, follows) = if home.free_bytes < FREE_BYTES_MIN {
        (Level::Bad, "too little: state may not be kept, and workers wait for room for their logs")
    } else if home.free_bytes < FREE_BYTES_GOOD {
        let follows =
            "logs may fill the disk; workers then wait, unless `logs.onFull` says otherwise";
        (Level::Warn, follows)
    } else if home.free_files.is_some_and(|it| it < FREE_FILES_GOOD) {
        (Level::Warn, "the file system is nearly out of files, whatever room there is")
    } else {
        return None;
    };
    Some(Finding::at(level, "home", found, follows).fix([make]))
}

/// What else is wrong with a home that works.
fn manners(home: &Home, found: String, other: &str) -> Finding {
    let id = "home";
    let folder = home.folder.display();
    if REMOTE.contains(&&*home.file_system) {
        let follows = "SQLite needs shared memory and locks that this file system does not promise";
        return Finding::at(Level::Warn, id, found, follows).fix([other]);
    }
    if home.missing_in.is_none() && home.owner.is_some() {
        let owner = home.owner.unwrap_or_default();
        let follows = format!("it belongs to uid {owner}: files of both users mix in it");
        return Finding::at(Level::Warn, id, found, follows).fix([other]);
    }
    if home.missing_in.is_none() && home.mode & 0o022 != 0 {
        let follows = "others may write there: who can replace the socket commands your daemon";
        return Finding::at(Level::Warn, id, found, follows)
            .fix([format!("`chmod go-w {folder}`")]);
    }
    if FLEETING.contains(&&*home.file_system) {
        let follows = "apps and logs are forgotten with the next boot";
        return Finding::at(Level::Note, id, found, follows).fix([other]);
    }
    Finding::ok(id, found)
}

fn kernel(system: &System) -> Finding {
    let System { kernel, machine, cpus, .. } = system;
    let cpus = if *cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") };
    Finding::ok("kernel", format!("{kernel} on {machine}, {cpus}"))
}

fn container(system: &System) -> Finding {
    let (id, first) = ("container", &system.first_process);
    let Some(kind) = &system.container else {
        return Finding::ok(id, format!("none; process 1 is `{first}`"));
    };
    let found = format!("{kind}; process 1 is `{first}`");
    if INITS.contains(&first.as_str()) {
        return Finding::ok(id, found);
    }
    let follows = format!("the container ends with `{first}`, whatever bunpilot runs beside it");
    Finding::at(Level::Note, id, found, follows)
        .fix([r#"`ENTRYPOINT ["bunpilot", "run", "--config", "…"]`"#])
}

fn user(system: &System) -> Finding {
    let uid = system.uid;
    let who = if uid == 0 { "root".to_owned() } else { format!("uid {uid}") };
    let inside = if system.mapped { " of a user namespace" } else { "" };
    let others = if system.can("SETUID") && system.can("SETGID") {
        "apps may have any `user`"
    } else {
        "apps cannot have a `user`: all run as this one"
    };
    Finding::ok("user", format!("{who}{inside}; {others}"))
}

fn clock(system: &System) -> Finding {
    let id = "clock";
    if system.unix_seconds >= CLOCK_MIN {
        return Finding::ok(id, "set");
    }
    let found = format!("{} seconds since 1970: it was never set", system.unix_seconds);
    let follows = "times in logs are wrong; `logs --since` and `rotateEvery` go by them";
    Finding::at(Level::Warn, id, found, follows)
        .fix([format!("`{}timedatectl set-ntp true`, or chrony", remedy::sudo(system))])
}

fn overcommit(system: &System) -> Finding {
    let id = "overcommit";
    let Some(2) = system.overcommit else {
        return Finding::ok(id, "memory may be promised beyond what there is");
    };
    let follows = "runtimes that reserve much more memory than they use (bun, node, deno, Go) may \
                   fail to start";
    Finding::at(Level::Note, id, "`vm.overcommit_memory` is 2", follows).fix(remedy::sysctl(
        system,
        "vm.overcommit_memory",
        0,
    ))
}

fn switches(facts: &Facts) -> Option<Finding> {
    let named = facts.switches.iter().map(|(name, value)| format!("`{name}` is `{value}`"));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return None;
    }
    let unset: Vec<_> = facts.switches.iter().map(|(name, _)| name.as_str()).collect();
    let follows = "a daemon started from this environment uses less than the machine offers";
    let fix = format!("`unset {}`", unset.join(" "));
    Some(Finding::at(Level::Note, "environment", named.join(", "), follows).fix([fix]))
}

/// A size in the unit that fits.
pub(super) fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = units.into_iter().find(|(_, shift)| count >= 1 << shift);
    fits.map_or_else(|| format!("{count} B"), |(unit, shift)| format!("{} {unit}", count >> shift))
}
