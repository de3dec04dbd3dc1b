//! What this binary is when it is not the tests.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::house::House;
use bunpilot::{
    domain::{Pid, Signal},
    guard::{
        self, Grip, GuardConfig, Link, Mode,
        link::State,
        wire::{Notice, Order, Role, Spawn},
    },
    platform::sys,
    world::Reach,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    pipe::{SpliceFlags, splice},
};

/// The role the arguments ask for.
pub(crate) fn play(arguments: &[String]) -> Option<ExitCode> {
    let folder = || PathBuf::from(&arguments[1]);
    match arguments.first()?.as_str() {
        "as-guard" => return Some(be_guard(arguments)),
        "as-undertaker" => bury_all(),
        "as-recorder" => record(&folder()),
        "as-heir" => inherit(&folder()),
        "as-speaker" => speak(&folder()),
        "as-waiter" => wait_for_signal(),
        "as-server" => crate::ports::be_server(&arguments[1..]),
        "as-failure" => return Some(ExitCode::from(33)),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// `as-guard <home> best|session <daemon's role> [foreground]`.
fn be_guard(words: &[String]) -> ExitCode {
    let exe = std::env::current_exe().unwrap().into_os_string();
    let daemon: [OsString; 3] = [exe, words[3].clone().into(), words[1].clone().into()];
    guard::run(GuardConfig {
        home: words[1].clone().into(),
        daemon_argv: daemon.to_vec(),
        mode: if words.len() > 4 { Mode::Foreground } else { Mode::Detached },
        grip: if words[2] == "best" { Grip::Best } else { Grip::Session },
    })
}

/// A daemon's loop: `act` sees every notice and ends the loop by answering `false`.
fn serve(
    link: &mut Link,
    watched: &mut dyn FnMut(&mut Link) -> Vec<OwnedFd>,
    act: &mut dyn FnMut(&mut Link, Notice, Vec<OwnedFd>) -> bool,
) {
    link.send(&Order::Inventory, Vec::new()).unwrap();
    loop {
        link.flush().unwrap();
        let others = watched(link);
        let mut interest = PollFlags::IN;
        if link.wants_write() {
            interest |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(link, interest)];
        fds.extend(others.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        poll(&mut fds, None).unwrap();
        let mut notices = Vec::new();
        let state = link.receive(&mut notices).unwrap();
        for (notice, fds) in notices {
            if !act(link, notice, fds) {
                return;
            }
        }
        assert_eq!(state, State::Open, "the guard died");
    }
}

fn finish(link: &mut Link, code: i32) -> ! {
    link.send(&Order::Exit, Vec::new()).unwrap();
    link.flush().unwrap();
    std::process::exit(code)
}

/// Ends every worker, then all.
fn bury_all() {
    let mut link = Link::from_env().unwrap();
    let mut living = std::collections::BTreeSet::new();
    serve(&mut link, &mut |_| Vec::new(), &mut |link, notice, _| {
        match notice {
            Notice::Worker(life, _) if !life.gone => {
                living.insert(life.label.clone());
                let (label, signal, reach) = (life.label, Signal::KILL, Reach::Tree);
                link.send(&Order::Signal { label, signal, reach }, Vec::new()).unwrap();
            }
            Notice::Gone { label } => drop(living.remove(&label)),
            Notice::InventoryEnd { .. } if living.is_empty() => return false,
            Notice::Worker(..)
            | Notice::SpawnFailed { .. }
            | Notice::Exited { .. }
            | Notice::Took { .. }
            | Notice::Untrapped { .. }
            | Notice::Held { .. }
            | Notice::InventoryEnd { .. } => return true,
        }
        !living.is_empty()
    });
    finish(&mut link, 0)
}

/// The first life stops the guard, orders a worker and dies; the second looks whether it is
/// there.
fn speak(home: &Path) {
    let mut link = Link::from_env().unwrap();
    let said = home.join("said");
    if !said.exists() {
        fs::write(said, "").unwrap();
        let guard = Pid(rustix::process::getppid().unwrap().as_raw_nonzero().get());
        sys::kill(guard, Signal(libc::SIGSTOP)).unwrap();
        let spawn = House::spawn_order("last", "exec sleep 1000");
        link.send(&Order::Spawn(Box::new(spawn)), Vec::new()).unwrap();
        link.flush().unwrap();
        tell("said");
        sys::kill(Pid(i32::try_from(std::process::id()).unwrap()), Signal::KILL).unwrap();
    }
    let mut found = false;
    let mut over = false;
    serve(&mut link, &mut |_| Vec::new(), &mut |link, notice, _| {
        match notice {
            Notice::Worker(life, _) => {
                found = life.label == "last";
                let (label, signal, reach) = (life.label, Signal::KILL, Reach::Tree);
                link.send(&Order::Signal { label, signal, reach }, Vec::new()).unwrap();
            }
            Notice::Gone { .. } => over = true,
            Notice::InventoryEnd { .. } => over = !found,
            Notice::SpawnFailed { .. }
            | Notice::Exited { .. }
            | Notice::Took { .. }
            | Notice::Untrapped { .. }
            | Notice::Held { .. } => {}
        }
        !over
    });
    tell(if found { "heard" } else { "deaf" });
    finish(&mut link, 0)
}

/// Takes SIGTERM through the guard and leaves with 5.
fn wait_for_signal() {
    let signals = sys::block_signals(&[15]).unwrap();
    let mut link = Link::from_env().unwrap();
    let mut watched = |link: &mut Link| {
        if sys::read_signal(signals.as_fd()).unwrap() == Some(15) {
            finish(link, 5);
        }
        vec![rustix::io::dup(&signals).unwrap()]
    };
    serve(&mut link, &mut watched, &mut |_, notice, _| {
        if matches!(notice, Notice::InventoryEnd { .. }) {
            tell("ready");
        }
        true
    });
}

/// Starts a guard for itself, hands it every stray and waits to be killed.
fn inherit(home: &Path) {
    let argv = crate::house::guard_argv(home, Grip::Best, "as-undertaker");
    let (mut link, _) = guard::respawn(&argv, Some(99)).unwrap();
    for stray in guard::strays(home) {
        link.send(&Order::Adopt(stray.life, stray.roles), stray.fds).unwrap();
    }
    serve(&mut link, &mut |_| Vec::new(), &mut |_, notice, _| {
        if matches!(notice, Notice::InventoryEnd { .. }) {
            tell("adopted");
        }
        true
    });
}

fn tell(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text} {}", std::process::id()).unwrap();
    out.flush().unwrap();
}

/// How many workers the recorder starts.
pub(crate) const RECORDED: usize = 4;

/// What a recorded worker runs: it counts until there is a file `stop`, at most three million.
const COUNTING: &str =
    "i=0; while [ ! -e stop ] && [ $i -lt 3000000 ]; do echo $i; i=$((i+1)); done
    echo end $i; exit 7";

/// Starts four workers, moves what they write to files with splice(2), and writes down their
/// pids and exit statuses. It may be killed at any moment.
fn record(folder: &Path) {
    let mut link = Link::from_env().unwrap();
    let mut pipes = BTreeMap::<String, OwnedFd>::new();
    let mut known = 0;
    let mut over = 0;
    let append = |name: &str| {
        fs::OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap()
    };
    // splice(2) does not append, so remember where the file ends
    let mover = |label: &str, pipe: &OwnedFd| {
        let path = folder.join(format!("{label}.out"));
        let file = fs::OpenOptions::new()
            .create(true)
            .append(false)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.unwrap();
        let mut offset = file.metadata().unwrap().len();
        loop {
            match splice(pipe, None, &file, Some(&mut offset), 1 << 20, SpliceFlags::NONBLOCK) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(Errno::AGAIN) => return true,
                Err(error) => panic!("{error}"),
            }
        }
    };
    link.send(&Order::Inventory, Vec::new()).unwrap();
    loop {
        link.flush().unwrap();
        let mut fds = vec![PollFd::new(&link, PollFlags::IN)];
        fds.extend(pipes.values().map(|fd| PollFd::new(fd, PollFlags::IN)));
        poll(&mut fds, None).unwrap();
        pipes.retain(|label, pipe| mover(label, pipe));
        let mut notices = Vec::new();
        let state = link.receive(&mut notices).unwrap();
        assert_eq!(state, State::Open, "the guard died");
        for (notice, fds) in notices {
            match notice {
                Notice::Worker(life, roles) => {
                    known += 1;
                    over += usize::from(life.gone);
                    writeln!(append("pids"), "{} {}", life.label, life.pid).unwrap();
                    if let Some(exit) = life.exit {
                        writeln!(append("exits"), "{} {exit:?}", life.label).unwrap();
                    }
                    let out = roles.into_iter().zip(fds).find(|(role, _)| *role == Role::Out);
                    pipes.insert(life.label, out.unwrap().1);
                }
                Notice::Exited { label, exit } => {
                    writeln!(append("exits"), "{label} {exit:?}").unwrap();
                }
                Notice::Gone { .. } => over += 1,
                Notice::InventoryEnd { .. } => {
                    tell("ready");
                    for n in known..RECORDED {
                        let cwd = folder.to_owned();
                        let label = format!("w{n}");
                        let spawn = Spawn { cwd, ..House::spawn_order(&label, COUNTING) };
                        link.send(&Order::Spawn(Box::new(spawn)), Vec::new()).unwrap();
                    }
                }
                Notice::SpawnFailed { reason, .. } => panic!("{reason}"),
                Notice::Took { .. } | Notice::Untrapped { .. } | Notice::Held { .. } => {}
            }
        }
        if over == RECORDED && pipes.is_empty() {
            tell("done");
            finish(&mut link, 0);
        }
    }
}
