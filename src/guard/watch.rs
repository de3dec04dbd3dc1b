//! The guard's loop: wait, reap, obey, tell.
//!
//! Decides the order of these, so that no exit status is lost, nobody is signalled who is not
//! meant, and a stuck daemon holds up nothing.

mod orders;
mod traps;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, WaitOptions, getpid, getrlimit, setrlimit};

use super::{
    GuardConfig, GuardError, Mode, exit_of, harmless,
    keeper::{Aftermath, Keeper, Process, Rule},
    launch::Nofile,
    outbox::{Outbox, Pending, WAITING_MAX},
    procfs,
    respawn::{self, Origin},
    say,
    socket::Progress,
    table::{Leader, Sentence, Table, Worker},
    trap::Looks,
    tree::{self, Forest, Tree, cgroup, session::Census},
    ward::Ward,
};
use crate::{
    domain::{Exit, Pid, Signal},
    platform::sys,
};

/// The guard.
#[derive(Debug)]
pub(super) struct Watch {
    signals: OwnedFd,
    keeper: Keeper,
    table: Table,
    held: BTreeMap<String, OwnedFd>,
    outbox: Outbox,
    forest: Forest,
    nofile: Nofile,
    looks: Looks,
    /// When the kernel may be asked again to take descriptors.
    starved_until: Option<Duration>,
    /// When all processes may be looked at again, on the session rung.
    next_census: Duration,
}

/// Shortest time between two looks at all processes.
const CENSUS_MIN: Duration = Duration::from_millis(20);
/// How many times as long as a look took to rest after it: at most a fifth of one CPU.
const CENSUS_REST: u32 = 4;
/// How long to wait while too many descriptors are in flight.
const STARVED: Duration = Duration::from_millis(10);
/// SIGQUIT is what a terminal sends for Ctrl-\; the last two would end us.
const SIGNALS: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

impl Watch {
    pub(super) fn new(config: GuardConfig) -> Result<Self, GuardError> {
        let origin = respawn::origin()?;
        if config.mode == Mode::Detached {
            // fails if we lead a group already, and then no terminal is near either
            harmless(rustix::process::setsid());
        }
        rustix::process::set_child_subreaper(Some(getpid())).map_err(|errno| {
            GuardError::Prepare { what: "adoption of orphans", source: errno.into() }
        })?;
        let own = getrlimit(Resource::Nofile);
        // every worker costs up to six descriptors; where this is refused, fewer fit
        harmless(setrlimit(Resource::Nofile, Rlimit { current: own.maximum, ..own }));
        let signals = sys::block_signals(&SIGNALS)
            .map_err(|source| GuardError::Prepare { what: "its signals", source })?;
        let looks =
            Looks::new().map_err(|source| GuardError::Prepare { what: "its bell", source })?;
        let argv = config.daemon_argv;
        let (keeper, soft) = match origin {
            Origin::First => (Keeper::new(argv), own.current),
            Origin::Handover { socket, daemon, nofile_soft } => {
                (Keeper::with_senior(argv, socket, daemon), nofile_soft)
            }
        };
        Ok(Self {
            signals,
            keeper,
            table: Table::default(),
            held: BTreeMap::new(),
            outbox: Outbox::default(),
            forest: Forest::new(&config.home, config.grip),
            nofile: Nofile { soft },
            looks,
            starved_until: None,
            next_census: Duration::ZERO,
        })
    }

    pub(super) fn run(mut self) -> ExitCode {
        self.keeper.start_if_due(sys::monotonic_now());
        sys::forget_code();
        loop {
            self.keeper.start_if_due(sys::monotonic_now());
            self.tell();
            let ready = self.wait();
            let mut end = None;
            while let Ok(Some(signal)) = sys::read_signal(self.signals.as_fd()) {
                end = end.or(self.signalled(Signal(signal)));
            }
            end = end.or(self.reap());
            self.obey(WAITING_MAX);
            end = end.or(self.look_after_wards(&ready));
            self.look_after_trees();
            self.look_after_traps(&ready);
            if let Some(exit) = end {
                self.tell();
                self.forest.remove();
                return exit_code(exit);
            }
        }
    }

    /// Takes note of every child that ended, strangers included.
    fn reap(&mut self) -> Option<Exit> {
        let mut end = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let (pid, exit) = (Pid(pid.as_raw_nonzero().get()), exit_of(status));
            if self.keeper.pid() == Some(pid) {
                end = self.daemon_ended(exit);
            } else if let Some(label) = self.table.reaped(pid, exit) {
                self.notify(Pending::Exited(label));
            }
        }
        end
    }

    fn daemon_ended(&mut self, exit: Exit) -> Option<Exit> {
        self.outbox.clear();
        // what it ordered with its last breath still counts
        self.obey(usize::MAX);
        self.outbox.clear();
        match self.keeper.ended(exit, sys::monotonic_now(), self.guards_nothing()) {
            Aftermath::Restart => {
                say(format_args!("the daemon ended ({exit:?}), starting it again"));
                None
            }
            Aftermath::End(exit) => Some(exit),
        }
    }

    fn guards_nothing(&self) -> bool {
        self.table.is_empty() && self.held.is_empty()
    }

    fn notify(&mut self, pending: Pending) {
        if self.keeper.rule >= Rule::Control {
            self.outbox.push(pending);
        }
    }

    /// Sends what waits, as far as the daemon takes it.
    fn tell(&mut self) {
        let now = sys::monotonic_now();
        if self.starved_until.is_some_and(|until| now < until) {
            return;
        }
        self.starved_until = None;
        let Some(socket) = &mut self.keeper.socket else { return };
        loop {
            let progress = match socket.finish() {
                Ok(Progress::Done) => {
                    let first = self.outbox.first(&self.table, &self.held);
                    let Some((body, fds)) = first else { return };
                    let progress = socket.offer(&body, &fds);
                    if matches!(progress, Ok(Progress::Done)) || socket.mid_frame() {
                        self.outbox.pop();
                    }
                    progress
                }
                other => other,
            };
            match progress {
                Ok(Progress::Done) => {}
                Ok(Progress::Blocked) => return,
                Ok(Progress::Starved) => {
                    self.starved_until = Some(now + STARVED);
                    return;
                }
                // the daemon is dead or dying; its end will tell
                Err(_) => {
                    self.outbox.clear();
                    return;
                }
            }
        }
    }

    /// Passes a signal on to the daemon, as soon as one can take it.
    fn signalled(&mut self, signal: Signal) -> Option<Exit> {
        let signal = match signal.0 {
            libc::SIGHUP | libc::SIGINT | libc::SIGTERM => signal,
            libc::SIGQUIT => Signal::TERM,
            _ => return None,
        };
        if self.keeper.rule >= Rule::Control {
            self.keeper.signal(signal);
            return None;
        }
        if signal != Signal::HUP && self.keeper.deadline().is_some() && self.guards_nothing() {
            return Some(Exit::Signal(signal.0)); // the next daemon would only be told to leave
        }
        let insists = self.keeper.pending.is_some_and(|before| before != Signal::HUP);
        if insists && signal != Signal::HUP {
            return Some(self.give_up(signal));
        }
        self.keeper.pending = Some(self.keeper.pending.filter(|_| insists).unwrap_or(signal));
        None
    }

    /// Ends everything without a daemon: none comes up, and somebody asked twice.
    fn give_up(&mut self, signal: Signal) -> Exit {
        say(format_args!("no daemon answers to {signal}; killing every worker"));
        self.keeper.signal(Signal::KILL);
        let labels: Vec<_> = self.table.labels().collect();
        for label in labels {
            self.signal_tree(&label, Signal::KILL);
        }
        Exit::Signal(signal.0)
    }

    fn signal_tree(&mut self, label: &str, signal: Signal) {
        let others = self.others(label);
        let Some(worker) = self.table.find_mut(label).filter(|worker| !worker.life.gone) else {
            return;
        };
        let aftermath = self.forest.signal(&worker.tree, &worker.life, &others, signal);
        if aftermath == tree::Aftermath::Repeat && signal == Signal::KILL {
            worker.sentence = Sentence::Death;
        }
    }

    /// Processes that belong to no worker, or to another one than `label`.
    fn others(&self, label: &str) -> BTreeSet<i32> {
        let mut others = self.table.other_leaders(label);
        others.insert(getpid().as_raw_nonzero().get());
        others.extend(self.keeper.pid().map(|pid| pid.0));
        others
    }

    fn look_after_wards(&mut self, ready: &wait::Ready) -> Option<Exit> {
        let now = sys::monotonic_now();
        let mut ended = Vec::new();
        for worker in self.table.iter_mut() {
            if let Leader::Ward(ward) = &mut worker.leader
                && (ready.wards.contains(&worker.life.label) || ward.deadline().is_some())
                && let Some(exit) = ward.ended(now)
            {
                worker.ended(exit);
                ended.push(worker.life.label.clone());
            }
        }
        for label in ended {
            self.notify(Pending::Exited(label));
        }
        match &self.keeper.process {
            Process::Senior(pidfd) if ready.senior => {
                // usually init has not reaped it yet, and its code only matters if it left
                let exit = Ward::new(rustix::io::dup(pidfd).ok()?).ended(now);
                self.daemon_ended(exit.unwrap_or(Exit::Unknown))
            }
            Process::Senior(_) | Process::Child(_) | Process::Due(_) => None,
        }
    }

    /// Finds out which workers have no process left, and kills who is born too late.
    fn look_after_trees(&mut self) {
        let mut gone = Vec::new();
        let mut condemned = Vec::new();
        let mut by_census = Vec::new();
        for worker in self.table.iter().filter(|worker| worker.lingers()) {
            let label = worker.life.label.clone();
            match (&worker.tree, &worker.events) {
                (Tree::Cgroup(_), Some(events)) if cgroup::populated(events) => {
                    if worker.sentence == Sentence::Death {
                        condemned.push(label);
                    }
                }
                (Tree::Cgroup(_), _) => gone.push(label),
                (Tree::Session(orphans), _) => by_census.push((label, *orphans)),
            }
        }
        let now = sys::monotonic_now();
        if !by_census.is_empty() && now >= self.next_census {
            let census = Census::new(procfs::Process::all());
            for (label, orphans) in by_census {
                let Some(worker) = self.table.find(&label) else { continue };
                let others = self.others(&label);
                if self.forest.members(&census, orphans, &worker.life, &others).is_empty() {
                    gone.push(label);
                } else if worker.sentence == Sentence::Death {
                    condemned.push(label);
                }
            }
            let rest = sys::monotonic_now().saturating_sub(now) * CENSUS_REST;
            self.next_census = sys::monotonic_now() + rest.max(CENSUS_MIN);
        }
        for label in condemned {
            self.signal_tree(&label, Signal::KILL);
        }
        for label in gone {
            self.mark_gone(label);
        }
    }

    fn mark_gone(&mut self, label: String) {
        if let Some(worker) = self.table.find_mut(&label) {
            worker.life.gone = true;
            worker.events = None;
            worker.tree.remove();
            self.notify(Pending::Gone(label));
        }
    }
}

fn exit_code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Exit::Unknown => ExitCode::SUCCESS,
    }
}
