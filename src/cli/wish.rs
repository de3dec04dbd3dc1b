//! What an order wants to be true, judged by what is: needed when the daemon dies over it.
//!
//! Quiet: states in, a verdict out.

use crate::control::{
    status::{AppStatus, WorkerStatus},
    wire::{Command, Target},
};

/// What should be so once an order is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    target: Target,
    goal: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Every worker is online.
    Up,
    /// Every worker is online and began after this Unix time in milliseconds.
    Renewed(u64),
    /// No worker runs.
    Down,
    /// The app is unknown.
    Gone,
    /// So many workers are online.
    Count(u16),
    /// No daemon runs.
    NoDaemon,
    /// It leaves no trace to judge by.
    Untraceable,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The daemon is still at it.
    NotYet,
    /// It came true.
    Granted,
    /// It did not; what is instead.
    Refused(String),
}

impl Wish {
    /// What `command`, given at `now_unix_millis`, wants.
    pub(crate) fn of(command: &Command, now_unix_millis: u64) -> Self {
        let (target, goal) = match command {
            Command::Start { name, .. } => (Target::App(name.clone()), Goal::Up),
            Command::Stop(target, _) => (target.clone(), Goal::Down),
            Command::Restart(target, _) | Command::Reload { target, .. } => {
                (target.clone(), Goal::Renewed(now_unix_millis))
            }
            Command::Delete(target, _) => (target.clone(), Goal::Gone),
            Command::Scale { name, instances } => {
                (Target::App(name.clone()), Goal::Count(*instances))
            }
            Command::Signal(target, _) | Command::Tidy(_, target) => {
                (target.clone(), Goal::Untraceable)
            }
            Command::KillDaemon => (Target::All, Goal::NoDaemon),
            Command::Ping
            | Command::List
            | Command::Status(_)
            | Command::Metrics(_)
            | Command::Exposition
            | Command::Resurrect
            | Command::Logs { .. }
            | Command::Dump => (Target::All, Goal::Untraceable),
        };
        Self { target, goal }
    }

    /// Whom it is about.
    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the daemon's end is what is wanted.
    pub(crate) fn ends_daemon(&self) -> bool {
        self.goal == Goal::NoDaemon
    }

    /// Compares it with those of the apps it is about.
    pub(crate) fn judge(&self, apps: &[AppStatus]) -> Settled {
        let workers: Vec<&WorkerStatus> = apps.iter().flat_map(|it| self.meant(it)).collect();
        if apps.iter().any(|it| it.busy.is_some()) || workers.iter().any(|it| in_motion(it)) {
            return Settled::NotYet;
        }
        let granted = match self.goal {
            Goal::Up => !apps.is_empty() && workers.iter().all(|it| online(it)),
            Goal::Renewed(since) => {
                let renewed =
                    |it: &&WorkerStatus| online(it) && it.started_at.is_some_and(|at| at >= since);
                !apps.is_empty() && workers.iter().all(renewed)
            }
            Goal::Down => workers.iter().all(|it| it.state == "stopped"),
            Goal::Gone => apps.is_empty(),
            Goal::Count(count) => {
                workers.iter().filter(|it| online(it)).count() == usize::from(count)
            }
            Goal::NoDaemon | Goal::Untraceable => false,
        };
        if granted { Settled::Granted } else { Settled::Refused(self.instead(apps)) }
    }

    fn meant<'a>(&'a self, app: &'a AppStatus) -> impl Iterator<Item = &'a WorkerStatus> {
        app.workers.iter().filter(|it| match self.target {
            Target::All | Target::App(_) => true,
            Target::Instance(_, index) => it.id == index,
        })
    }

    fn instead(&self, apps: &[AppStatus]) -> String {
        if self.goal == Goal::Untraceable {
            return "whether it was done cannot be told".to_owned();
        }
        let states: Vec<String> = apps
            .iter()
            .flat_map(|app| {
                self.meant(app).map(|it| format!("`{}:{}` is {}", app.name, it.id, it.state))
            })
            .collect();
        if states.is_empty() {
            format!("`{}` is unknown to the new one", self.target)
        } else {
            states.join(", ")
        }
    }
}

fn online(worker: &WorkerStatus) -> bool {
    worker.state == "online"
}

fn in_motion(worker: &WorkerStatus) -> bool {
    matches!(worker.state.as_str(), "spawning" | "starting" | "draining" | "stopping")
}
