//! The plan of the house: who may use whom, and which rooms are quiet.

use super::{
    Fault, Page,
    source::{Named, names},
};

/// Whether a room may do I/O, read a clock, wait or start a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Quiet,
    Noisy,
}
use Voice::{Noisy, Quiet};

/// The wrapped system calls: a room inside `platform`, below every other noisy one.
const SYS: &str = "platform::sys";

/// Each room, its voice, and the rooms it may use, in reading order.
const ROOMS: &[(&str, Voice, &[&str])] = &[
    ("domain", Quiet, &[]),
    ("world", Quiet, &["domain"]),
    ("config", Quiet, &["domain"]),
    ("control", Quiet, &["domain", "world"]),
    ("ipc", Quiet, &["domain", "world"]),
    ("balance", Quiet, &["domain"]),
    ("doctor", Quiet, &[]),
    ("logs", Quiet, &["domain"]),
    ("metrics", Quiet, &["domain", "world"]),
    ("supervisor", Quiet, &["domain", "world"]),
    (
        "daemon",
        Quiet,
        &[
            "domain",
            "world",
            "config",
            "control",
            "ipc",
            "balance",
            "logs",
            "metrics",
            "supervisor",
        ],
    ),
    (SYS, Noisy, &["domain"]),
    ("guard", Noisy, &["domain", "world", "ipc", SYS]),
    ("store", Noisy, &["domain", "world", SYS]),
    ("api", Noisy, &["domain", "world", SYS]),
    (
        "platform",
        Noisy,
        &[
            "domain", "world", "config", "ipc", "balance", "doctor", "logs", SYS, "guard", "store",
            "api",
        ],
    ),
    (
        "cli",
        Noisy,
        &[
            "domain", "world", "config", "control", "ipc", "balance", "doctor", "logs", "metrics",
            "daemon", SYS, "guard", "store", "api", "platform", "sdk",
        ],
    ),
    ("sdk", Noisy, &[]),
];

/// Paths that begin with these do what a quiet room may not.
const NOISY_CRATES: &[&[&str]] = &[
    &["std", "env"],
    &["std", "fs"],
    &["std", "io", "stderr"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "sync", "mpsc"],
    &["std", "thread"],
    &["aya"],
    &["glommio"],
    &["hyper"],
    &["io_uring"],
    &["libc"],
    &["procfs"],
    &["rusqlite"],
    &["rustix"],
    &["socket2"],
    &["tokio"],
    &["tokio_uring"],
];

/// Words that are noise wherever they stand in a path.
const NOISE: &[&[&str]] = &[
    &["async"],
    &["await"],
    &["Instant"],
    &["SystemTime"],
    &["UNIX_EPOCH"],
    &["jiff", "Timestamp", "now"],
    &["jiff", "Zoned", "now"],
];

pub(super) fn check(page: &Page) -> Vec<Fault> {
    let named = names(&page.text);
    let mut faults = unsafe_places(page, &named);
    let Some(inside) = page.path.strip_prefix("src/") else {
        return faults;
    };
    let name = match inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs") {
        "lib" | "main" => return faults,
        "platform" if is_sys(&page.path) => SYS,
        name => name,
    };
    let Some((room, voice, may_use)) = ROOMS.iter().find(|(room, ..)| *room == name) else {
        faults.push(Fault::file(
            &page.path,
            format!("room `{name}` is not on the plan in xtask/src/tidy/rooms.rs"),
        ));
        return faults;
    };
    let test_file = inside.ends_with("/tests.rs") || inside.contains("/tests/");
    for it in &named {
        if let Some(used) = room_of(it, inside).filter(|used| used != room)
            && !may_use.contains(&used)
        {
            faults.push(Fault::line(&page.path, it.line, format!("`{room}` may not use `{used}`")));
        }
        if *voice == Quiet && !it.in_tests && !test_file && is_noise(it) {
            let path = it.segments.join("::");
            let what = format!("`{room}` is quiet, it may not say `{path}`");
            faults.push(Fault::line(&page.path, it.line, what));
        }
    }
    faults
}

fn is_noise(named: &Named) -> bool {
    NOISY_CRATES.iter().any(|it| named.begins(it)) || NOISE.iter().any(|it| named.holds(it))
}

/// The room a path leads into, if it leads into one: through `crate::`, or by more `super`s than
/// the file is deep.
fn room_of(named: &Named, inside: &str) -> Option<&'static str> {
    let segments = &named.segments;
    let climbs = segments.iter().take_while(|it| *it == "super").count();
    let depth = inside.split('/').count();
    let next = match segments.first().map(String::as_str) {
        Some("crate") => segments.get(1),
        Some("super") if climbs > depth => segments.get(climbs),
        Some(_) | None => None,
    }?;
    if next == "platform" && named.holds(&["platform", "sys"]) {
        return Some(SYS);
    }
    ROOMS.iter().map(|(room, ..)| *room).find(|room| room == next)
}

fn is_sys(path: &str) -> bool {
    path == "src/platform/sys.rs" || path.starts_with("src/platform/sys/")
}

/// `unsafe` has one address.
fn unsafe_places(page: &Page, named: &[Named]) -> Vec<Fault> {
    let path = page.path.as_str();
    if is_sys(path) || path.starts_with("ebpf/") {
        return Vec::new();
    }
    let said = named.iter().filter(|it| it.holds(&["unsafe"]));
    said.map(|it| Fault::line(path, it.line, "`unsafe` belongs in src/platform/sys")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn faults(path: &str, text: &str, expected: &[&str]) {
        let page = Page { path: path.to_owned(), text: text.to_owned() };
        let found: Vec<_> =
            check(&page).iter().map(|Fault { place, what }| format!("{place}: {what}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_room_uses_only_rooms_before_it() {
        for (at, (room, _, may_use)) in ROOMS.iter().enumerate() {
            for used in *may_use {
                let place = ROOMS.iter().position(|(it, ..)| it == used);
                assert!(place < Some(at) || *used == "sdk", "`{room}` uses `{used}`");
            }
        }
    }

    #[test]
    fn upward_use_is_a_fault_in_every_spelling() {
        let fault = "`domain` may not use `daemon`";
        faults(
            "src/domain.rs",
            "use crate::{\n    world,\n    daemon::{turn, Core},\n};\n",
            &["src/domain.rs:2: `domain` may not use `world`"]
                .into_iter()
                .chain([&*format!("src/domain.rs:3: {fault}"); 2])
                .collect::<Vec<_>>(),
        );
        faults(
            "src/domain/app.rs",
            "crate::daemon::turn();",
            &[&format!("src/domain/app.rs:1: {fault}")],
        );
        faults(
            "src/domain/app.rs",
            "use super::super::super::daemon;",
            &[&format!("src/domain/app.rs:1: {fault}")],
        );
    }

    #[test]
    fn allowed_use_is_none() {
        faults(
            "src/daemon/core.rs",
            "use crate::{domain::App, supervisor};\nuse super::turn;",
            &[],
        );
        faults("src/main.rs", "bunpilot::cli::run()", &[]);
    }

    #[test]
    fn the_cli_never_judges() {
        faults(
            "src/cli/list.rs",
            "use crate::supervisor;",
            &["src/cli/list.rs:1: `cli` may not use `supervisor`"],
        );
    }

    #[test]
    fn noise_in_a_quiet_room_is_a_fault() {
        let path = "src/supervisor/app.rs";
        for (text, said) in [
            ("use std::{fs, collections::BTreeMap};", "std::fs"),
            ("Instant::now()", "Instant::now"),
            ("std::time::SystemTime::now()", "std::time::SystemTime::now"),
            ("async fn f() {}", "async"),
            ("use tokio::net::UnixStream;", "tokio::net::UnixStream"),
            ("use std::os::fd::OwnedFd;", "std::os::fd::OwnedFd"),
        ] {
            faults(
                path,
                text,
                &[&format!("{path}:1: `supervisor` is quiet, it may not say `{said}`")],
            );
        }
        faults("src/guard.rs", "use std::fs;", &[]);
        faults(path, "//! std::fs\nlet words = \"std::fs\";\n#[cfg(test)]\nuse std::fs;", &[]);
    }

    #[test]
    fn system_calls_are_below_the_noisy_rooms() {
        faults("src/guard.rs", "use crate::platform::sys::{self, Plan};", &[]);
        faults(
            "src/guard.rs",
            "use crate::platform::{linux, sys};",
            &["src/guard.rs:1: `guard` may not use `platform`"],
        );
        let quiet = "src/logs.rs:1: `logs` may not use `platform::sys`";
        faults("src/logs.rs", "use crate::platform::sys;", &[quiet]);
        let upward = "src/platform/sys/fds.rs:1: `platform::sys` may not use `guard`";
        faults("src/platform/sys/fds.rs", "use crate::guard;", &[upward]);
    }

    #[test]
    fn a_new_room_needs_a_place_on_the_plan() {
        let fault = "src/attic.rs: room `attic` is not on the plan in xtask/src/tidy/rooms.rs";
        faults("src/attic.rs", "", &[fault]);
    }

    #[test]
    fn unsafe_has_one_address() {
        faults("src/platform/sys/bpf.rs", "unsafe { f() }", &[]);
        faults(
            "src/guard.rs",
            "// unsafe\nunsafe { f() }",
            &["src/guard.rs:2: `unsafe` belongs in src/platform/sys"],
        );
        faults("tests/cli/test.rs", "#![expect(unsafe_code)]", &[]);
    }
}
