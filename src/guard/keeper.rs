//! The daemon's process and the guard's end of the line to it.
//!
//! Decides how a daemon is started and when its successor is; not what it may order.

use std::{
    collections::VecDeque,
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};

use super::{
    backoff::{Backoff, Cause, Death},
    harmless,
    link::FD_VARIABLE,
    respawn::HANDOVER_VARIABLE,
    say,
    socket::{Frame, Socket, State},
    tree::MARK_VARIABLE,
};
use crate::{
    domain::{Exit, Pid, Signal},
    platform::sys::{self, Bind, Parent, Plan, SpawnError, Step},
};

/// The daemon, as its guard sees it.
#[derive(Debug)]
pub(super) struct Keeper {
    argv: Vec<OsString>,
    pub(super) process: Process,
    pub(super) socket: Option<Socket>,
    pub(super) rule: Rule,
    started: Duration,
    backoff: Backoff,
    /// A signal that came while nobody was in control.
    pub(super) pending: Option<Signal>,
}

/// The daemon's process.
#[derive(Debug)]
pub(super) enum Process {
    /// Our child.
    Child(Pid),
    /// It started us, after the guard before us died.
    Senior(OwnedFd),
    /// None, until then.
    Due(Duration),
}

/// How far the daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// No daemon of this guard has asked for the inventory yet.
    Never,
    /// An earlier one had, this one has not.
    Lost,
    /// It has, and gets every notice.
    Control,
    /// It is about to end for good.
    Leaving,
}

/// What the end of a daemon means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// Another one will start.
    Restart,
    /// The guard's work is done; it exits with the same.
    End(Exit),
}

impl Keeper {
    /// Keeps a daemon that is still to be started.
    pub(super) fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            process: Process::Due(Duration::ZERO),
            socket: None,
            rule: Rule::Never,
            started: Duration::ZERO,
            backoff: Backoff::default(),
            pending: None,
        }
    }

    /// Keeps the daemon that started us.
    pub(super) fn with_senior(argv: Vec<OsString>, socket: Socket, process: OwnedFd) -> Self {
        let (process, socket) = (Process::Senior(process), Some(socket));
        // it was in control of the guard before
        Self { process, socket, rule: Rule::Lost, ..Self::new(argv) }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        match self.process {
            Process::Child(pid) => Some(pid),
            Process::Senior(_) | Process::Due(_) => None,
        }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.process {
            Process::Due(moment) => Some(moment),
            Process::Child(_) | Process::Senior(_) => None,
        }
    }

    /// Starts the daemon if it is time.
    pub(super) fn start_if_due(&mut self, now: Duration) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        self.started = now;
        match start(&self.argv) {
            Ok((pid, socket)) => {
                self.process = Process::Child(pid);
                self.socket = Some(socket);
            }
            Err(error) => {
                let delay = self.backoff.after(Death { uptime: Duration::ZERO, cause: Cause::Own });
                let program = self.argv.first().map(|word| word.display().to_string());
                let program = program.unwrap_or_default();
                say(format_args!(
                    "cannot start the daemon as `{program}`, will try again: {error}"
                ));
                // even the first retry: nothing has changed since
                self.process = Process::Due(now + delay.max(Duration::from_millis(100)));
            }
        }
    }

    /// Books the end of the daemon's process. Call it once all it ever sent was received.
    pub(super) fn ended(&mut self, exit: Exit, now: Duration, nothing_to_guard: bool) -> Aftermath {
        self.socket = None;
        let gave_up = self.rule == Rule::Never && nothing_to_guard && matches!(exit, Exit::Code(_));
        // somebody wants an end, and no daemon has lived long enough to hear of it
        let unheard = nothing_to_guard && self.pending.is_some_and(|it| it != Signal::HUP);
        if self.rule == Rule::Leaving || gave_up || unheard {
            return Aftermath::End(exit);
        }
        let killed = self.rule == Rule::Control && exit == Exit::Signal(Signal::KILL.0);
        let cause = if killed { Cause::Killed } else { Cause::Own };
        let uptime = now.saturating_sub(self.started);
        self.process = Process::Due(now + self.backoff.after(Death { uptime, cause }));
        self.rule = self.rule.min(Rule::Lost);
        Aftermath::Restart
    }

    /// Receives frames; a daemon that breaks the protocol loses its line.
    pub(super) fn receive(&mut self, frames: &mut VecDeque<Frame>, frames_max: usize) {
        let Some(socket) = &mut self.socket else { return };
        let state = socket.receive(frames, frames_max).unwrap_or_else(|error| {
            say(format_args!("cannot understand the daemon: {error}"));
            State::Closed
        });
        if state == State::Closed {
            self.socket = None;
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // it may just have ended, which we are about to hear
        harmless(match &self.process {
            Process::Child(pid) => sys::kill(*pid, signal),
            Process::Senior(pidfd) => sys::pidfd_signal(pidfd.as_fd(), signal),
            Process::Due(_) => Ok(()),
        });
    }
}

fn start(argv: &[OsString]) -> Result<(Pid, Socket), SpawnError> {
    let prepare = |source: io::Error| SpawnError { step: Step::Prepare, source };
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|errno| prepare(errno.into()))?;
    let socket = Socket::new(ours).map_err(prepare)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| prepare(errno.into()))?;
    let (out, err) = (io::stdout(), io::stderr());
    let fds = vec![null.as_fd(), out.as_fd(), err.as_fd(), theirs.as_fd()];
    let plan = own_plan(argv, (FD_VARIABLE, "3"), fds, Parent::Caller).map_err(prepare)?;
    Ok((sys::spawn(plan)?.pid, socket))
}

/// The plan of a process of bunpilot itself: same user, same folder, same environment.
pub(super) fn own_plan<'a>(
    argv: &[OsString],
    variable: (&str, &str),
    fds: Vec<std::os::fd::BorrowedFd<'a>>,
    parent: Parent,
) -> io::Result<Plan<'a>> {
    let ours = |name: &OsString| {
        [FD_VARIABLE, HANDOVER_VARIABLE, MARK_VARIABLE].iter().any(|ours| name == *ours)
    };
    let env = std::env::vars_os().filter(|(name, _)| !ours(name));
    let entry = |(name, value): (OsString, OsString)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        CString::new(entry)
    };
    let argv: Vec<_> = argv.iter().map(|w| CString::new(w.as_bytes())).collect::<Result<_, _>>()?;
    Ok(Plan {
        programs: argv.iter().take(1).cloned().collect(),
        argv,
        env: env
            .chain([(variable.0.into(), variable.1.into())])
            .map(entry)
            .collect::<Result<_, _>>()?,
        pid_entries: Vec::new(),
        cwd: None,
        fds,
        limits: Vec::new(),
        user: None,
        cgroup: None,
        parent,
        bind: Bind::Free,
    })
}
