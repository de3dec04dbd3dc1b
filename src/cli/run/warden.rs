//! Who listens to signals while everything runs in the foreground, and buries the dead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait, waitpid};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    cli::{
        client::Daemon,
        clock,
        failure::{Failure, Outcome},
        home::Home,
        launch::{self, Bond},
    },
    control::wire::{Command, Force, Target},
};

/// Longest wait for the guard to end: the longest `killTimeout` there can be, and some.
const END_MAX: Duration = Duration::from_secs(150);

/// Time between two looks whether it has.
const GLANCE: Duration = Duration::from_millis(10);

/// Keeps the guard, and knows what signals came.
#[derive(Debug)]
pub(super) struct Warden {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    daemon: Daemon,
    guard: Pid,
    /// How often the end was asked for.
    asked: AtomicU32,
    guard_gone: AtomicBool,
}

impl Warden {
    /// Starts the guard and listens from then on.
    pub(super) fn begin(home: &Home) -> Result<Self, Failure> {
        // Before there is a child: its end must not be missed.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])
            .map_err(Failure::io("watch for signals"))?;
        let child = launch::guard(home, Bond::Kept)?;
        let guard = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| Failure::Local("the guard has no process id".to_owned()))?;
        let shared = Arc::new(Shared {
            daemon: Daemon::of(home),
            guard,
            asked: AtomicU32::new(0),
            guard_gone: AtomicBool::new(false),
        });
        let listener = Arc::clone(&shared);
        thread::spawn(move || {
            for signal in &mut signals {
                listener.hear(signal);
            }
        });
        Ok(Self { shared })
    }

    /// Whether the end was asked for.
    pub(super) fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst) > 0
    }

    /// Whether the guard, and with it everything, has ended.
    pub(super) fn guard_gone(&self) -> bool {
        self.shared.guard_gone.load(Ordering::SeqCst)
    }

    /// Stops all apps and ends the daemon, if that is not under way already; waits for it.
    pub(super) fn end(&self) -> Outcome {
        if !self.guard_gone() && !self.asked() {
            self.shared.stop();
        }
        let start = clock::now();
        while !self.guard_gone() {
            if clock::now().saturating_sub(start) > END_MAX {
                self.shared.signal_guard(Signal::KILL);
                let seconds = END_MAX.as_secs();
                return Err(Failure::Local(format!("the guard did not end within {seconds} s")));
            }
            clock::sleep(GLANCE);
        }
        Ok(())
    }
}

impl Shared {
    fn hear(self: &Arc<Self>, signal: i32) {
        match signal {
            SIGCHLD => self.bury(),
            SIGHUP => self.aside(Self::reload),
            _ if self.asked.fetch_add(1, Ordering::SeqCst) == 0 => self.aside(Self::stop),
            _ => self.aside(Self::kill),
        }
    }

    /// Does something that may take long without missing the next signal.
    fn aside(self: &Arc<Self>, what: fn(&Self)) {
        let shared = Arc::clone(self);
        thread::spawn(move || what(&shared));
    }

    /// Collects the dead: as process 1 everybody's orphans, else the guard alone.
    fn bury(&self) {
        let next = || {
            if getpid().is_init() {
                wait(WaitOptions::NOHANG)
            } else {
                waitpid(Some(self.guard), WaitOptions::NOHANG)
            }
        };
        while let Ok(Some((pid, _))) = next() {
            if pid == self.guard {
                self.guard_gone.store(true, Ordering::SeqCst);
            }
        }
    }

    fn stop(&self) {
        if self.daemon.order(Command::KillDaemon, &mut |_| Ok(())).is_err() {
            // No daemon answers: the guard knows how to end without one.
            self.signal_guard(Signal::TERM);
        }
    }

    fn kill(&self) {
        let stop = Command::Stop(Target::All, Force::Kill);
        if self.daemon.order(stop, &mut |_| Ok(())).is_err() {
            self.signal_guard(Signal::TERM);
        }
    }

    fn reload(&self) {
        let reload = Command::Reload { target: Target::All, config: None };
        // What came of it is in the daemon's log.
        let _told_there = self.daemon.order(reload, &mut |_| Ok(()));
    }

    fn signal_guard(&self, signal: Signal) {
        if !self.guard_gone.load(Ordering::SeqCst) {
            let _gone_meanwhile = kill_process(self.guard, signal);
        }
    }
}
