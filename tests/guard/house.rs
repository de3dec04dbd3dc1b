//! One builder: a home, a guard, and this process as its daemon.

use std::{
    cell::Cell,
    ffi::OsString,
    fs,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use bunpilot::{
    domain::{Exit, Pid, Signal},
    guard::{
        Grip, Link,
        link::State,
        respawn,
        wire::{Channel, Life, Notice, Order, Output, Role, Rung, Spawn},
    },
    platform::sys::monotonic_now,
    world::Reach,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let count = COUNT.replace(COUNT.get() + 1);
        let name = format!("bunpilot-guard-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) struct House {
    pub(crate) home: Folder,
    pub(crate) link: Link,
    pub(crate) guard: Pid,
    pub(crate) grip: Grip,
    notices: Vec<(Notice, Vec<OwnedFd>)>,
    state: State,
}

/// A worker and its output.
pub(crate) struct Started {
    pub(crate) life: Life,
    pub(crate) roles: Vec<Role>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Started {
    pub(crate) fn take(&mut self, role: Role) -> OwnedFd {
        let index = self.roles.iter().position(|known| *known == role).unwrap();
        self.roles.remove(index);
        self.fds.remove(index)
    }

    /// Reads its standard output to the end of a line.
    pub(crate) fn line(&self) -> String {
        let index = self.roles.iter().position(|known| *known == Role::Out).unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            wait_readable(&self.fds[index]);
            let mut byte = [0];
            assert_eq!(rustix::io::read(&self.fds[index], &mut byte), Ok(1), "{line:?}");
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }
}

pub(crate) fn guard_argv(home: &Path, grip: Grip, role: &str) -> Vec<OsString> {
    let exe = std::env::current_exe().unwrap().into_os_string();
    let grip = if grip == Grip::Best { "best" } else { "session" };
    vec![exe, "as-guard".into(), home.into(), grip.into(), role.into()]
}

impl House {
    pub(crate) fn new(grip: Grip) -> Self {
        let home = Folder::new();
        let (link, guard) = respawn(&guard_argv(&home.0, grip, "as-undertaker"), Some(99)).unwrap();
        let state = State::Open;
        let mut house = Self { home, link, guard, grip, notices: Vec::new(), state };
        house.inventory();
        house
    }

    /// Starts another guard for the same home.
    pub(crate) fn new_guard(&mut self) {
        let argv = guard_argv(&self.home.0, self.grip, "as-undertaker");
        (self.link, self.guard) = respawn(&argv, Some(99)).unwrap();
        self.notices.clear();
        self.state = State::Open;
    }

    pub(crate) fn send(&mut self, order: &Order, fds: Vec<OwnedFd>) {
        self.link.send(order, fds).unwrap();
        self.link.flush().unwrap();
    }

    pub(crate) fn spawn_order(label: &str, script: &str) -> Spawn {
        Spawn {
            label: label.into(),
            note: format!("note of {label}"),
            argv: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            cwd: "/".into(),
            user: None,
            limits: Vec::new(),
            listen: Vec::new(),
            channel: Channel::Off,
            notify: None,
            out: Output::Pipe { bytes: 256 << 10 },
            err: Output::Pipe { bytes: 256 << 10 },
            trap: None,
        }
    }

    pub(crate) fn start(&mut self, spawn: Spawn) -> Started {
        let label = spawn.label.clone();
        self.send(&Order::Spawn(Box::new(spawn)), Vec::new());
        self.started(&label)
    }

    pub(crate) fn started(&mut self, wanted: &str) -> Started {
        self.find(wanted, |notice, fds| match notice {
            Notice::Worker(life, roles) if life.label == wanted => {
                Some(Started { life, roles, fds })
            }
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn refused(&mut self, spawn: Spawn) -> String {
        let label = spawn.label.clone();
        self.send(&Order::Spawn(Box::new(spawn)), Vec::new());
        self.find(&label, |notice, _| match notice {
            Notice::SpawnFailed { reason, .. } => Some(reason),
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn exited(&mut self, label: &str) -> Exit {
        self.find(label, |notice, _| match notice {
            Notice::Exited { exit, .. } => Some(exit),
            other => panic!("{other:?}"),
        })
    }

    /// The next held socket the worker was given, and its key.
    pub(crate) fn took(&mut self, label: &str) -> (String, OwnedFd) {
        self.find(label, |notice, mut fds| match notice {
            Notice::Took { key, .. } => Some((key, fds.pop().unwrap())),
            other => panic!("{other:?}"),
        })
    }

    /// Why the worker opens its port itself.
    pub(crate) fn untrapped(&mut self, label: &str) -> String {
        self.find(label, |notice, _| match notice {
            Notice::Untrapped { reason, .. } => Some(reason),
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn gone(&mut self, label: &str) {
        self.find(label, |notice, _| match notice {
            Notice::Gone { .. } => Some(()),
            other => panic!("{other:?}"),
        });
    }

    /// Nothing was said that no test has asked for.
    pub(crate) fn nothing_more(&self) {
        assert!(self.notices.is_empty(), "{:?}", self.notices);
    }

    /// Kills a worker's whole tree, waits for the end of it and forgets it.
    pub(crate) fn bury(&mut self, label: &str) {
        self.signal(label, Signal::KILL, Reach::Tree);
        self.find(label, |notice, _| matches!(notice, Notice::Gone { .. }).then_some(()));
        self.send(&Order::Forget { label: label.into() }, Vec::new());
    }

    pub(crate) fn signal(&mut self, label: &str, signal: Signal, reach: Reach) {
        self.send(&Order::Signal { label: label.into(), signal, reach }, Vec::new());
    }

    /// The next notice about `label`, which `take` may drop by answering `None`.
    fn find<T>(
        &mut self,
        label: &str,
        mut take: impl FnMut(Notice, Vec<OwnedFd>) -> Option<T>,
    ) -> T {
        let about = |notice: &Notice| match notice {
            Notice::Worker(life, _) => life.label == label,
            Notice::SpawnFailed { label: about, .. }
            | Notice::Exited { label: about, .. }
            | Notice::Took { label: about, .. }
            | Notice::Untrapped { label: about, .. }
            | Notice::Gone { label: about } => about == label,
            Notice::Held { .. } | Notice::InventoryEnd { .. } => false,
        };
        let deadline = monotonic_now() + PATIENCE;
        loop {
            if let Some(index) = self.notices.iter().position(|(notice, _)| about(notice)) {
                let (notice, fds) = self.notices.remove(index);
                if let Some(found) = take(notice, fds) {
                    return found;
                }
                continue;
            }
            self.receive(deadline, label);
        }
    }

    #[track_caller]
    fn receive(&mut self, deadline: Duration, what: &str) {
        assert!(self.state == State::Open, "the guard is dead; waited for {what}");
        let now = monotonic_now();
        assert!(now < deadline, "nothing about {what}, only {:?}", self.notices);
        let mut interest = PollFlags::IN;
        if self.link.wants_write() {
            interest |= PollFlags::OUT;
        }
        poll(&mut [PollFd::new(&self.link, interest)], Some(&timespec(deadline - now))).unwrap();
        self.link.flush().unwrap();
        self.state = self.link.receive(&mut self.notices).unwrap();
    }

    /// Asks for everything: the workers' lives by label, the keys that are held, the rung.
    pub(crate) fn inventory(&mut self) -> (Vec<Started>, Vec<(String, OwnedFd)>, Rung) {
        self.send(&Order::Inventory, Vec::new());
        let deadline = monotonic_now() + PATIENCE;
        let end = |(notice, _): &(Notice, _)| matches!(notice, Notice::InventoryEnd { .. });
        let count = loop {
            match self.notices.iter().position(end) {
                Some(index) => break index + 1,
                None => self.receive(deadline, "the inventory"),
            }
        };
        let (mut workers, mut held) = (Vec::new(), Vec::new());
        for (notice, mut fds) in self.notices.drain(..count) {
            match notice {
                Notice::Worker(life, roles) => workers.push(Started { life, roles, fds }),
                Notice::Held { key } => held.push((key, fds.pop().unwrap())),
                Notice::InventoryEnd { rung, nofile_soft } => {
                    assert_eq!(nofile_soft, Some(99));
                    return (workers, held, rung);
                }
                Notice::SpawnFailed { .. }
                | Notice::Exited { .. }
                | Notice::Took { .. }
                | Notice::Untrapped { .. }
                | Notice::Gone { .. } => {}
            }
        }
        panic!("the inventory has an end")
    }
}

impl Drop for House {
    /// Ends every worker by way of the guard, so that a failed test leaves nothing behind.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // the guard sees its daemon alive, so ask it directly; ignore whatever is broken
            let labels: Vec<_> = {
                drop(self.link.send(&Order::Inventory, Vec::new()));
                drop(self.link.flush());
                wait_readable(&self.link);
                drop(self.link.receive(&mut self.notices));
                let label = |(notice, _): &(Notice, _)| match notice {
                    Notice::Worker(life, _) => Some(life.label.clone()),
                    _ => None,
                };
                self.notices.iter().filter_map(label).collect()
            };
            for label in labels {
                let (signal, reach) = (Signal::KILL, Reach::Tree);
                drop(self.link.send(&Order::Signal { label, signal, reach }, Vec::new()));
            }
        }
        drop(self.link.send(&Order::Exit, Vec::new()));
        drop(self.link.flush());
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Waits until reading would not block.
pub(crate) fn wait_readable(fd: impl std::os::fd::AsFd) {
    let fd = fd.as_fd();
    let count = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timespec(PATIENCE)));
    assert_eq!(count, Ok(1), "nothing to read");
}

/// Reads until every writer is gone.
pub(crate) fn read_all(fd: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&fd, false).unwrap();
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Waits until `check` holds, looking every few milliseconds; for facts nobody announces.
#[track_caller]
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = monotonic_now() + PATIENCE;
    while !check() {
        assert!(monotonic_now() < deadline, "waited in vain: {what}");
        poll(&mut [], Some(&timespec(Duration::from_millis(3)))).unwrap();
    }
}

/// The living processes whose environment has `entry`.
pub(crate) fn processes_with(entry: &str) -> Vec<i32> {
    let carries = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(carries).filter(|pid| alive(*pid)).collect()
}

pub(crate) fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
