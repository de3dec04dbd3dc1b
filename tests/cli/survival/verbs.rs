//! What is asked of the app `job`, and how to see that it was done.

use std::process::Command;

use super::scribe;
use crate::test::{Home, Luck, wait_for};

/// What `job` should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is unknown.
    None,
    Stopped(u16),
    /// That many workers are online.
    Running(u16),
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
    Scale(u16),
    Delete,
    List,
}

impl Verb {
    /// One that makes sense.
    pub(super) fn pick(luck: &mut Luck, wanted: Wanted) -> Self {
        let size = 1 + u16::try_from(luck.below(4)).unwrap();
        match (wanted, luck.below(8)) {
            (Wanted::None | Wanted::Stopped(_), 0..6) => Self::Start,
            (Wanted::Running(_), 0) => Self::Stop,
            (Wanted::Running(_), 1) | (Wanted::Stopped(_), 6) => Self::Delete,
            (Wanted::Running(_), 2 | 3) => Self::Reload,
            (Wanted::Running(_), 4) => Self::Restart,
            (Wanted::Running(now), 5 | 6) if size != now => Self::Scale(size),
            _ => Self::List,
        }
    }

    pub(super) fn command(self, home: &Home) -> Command {
        let start = serde_json::json!({ "apps": [scribe("job", "0.01", 2)] });
        match self {
            Self::Start => {
                home.write("job.json", &start.to_string());
                home.command(["start", "--config", "job.json"])
            }
            Self::Stop => home.command(["stop", "job"]),
            Self::Restart => home.command(["restart", "job"]),
            Self::Reload => home.command(["reload", "job"]),
            Self::Scale(size) => home.command(["scale", "job", &size.to_string()]),
            Self::Delete => home.command(["delete", "job"]),
            Self::List => home.command(["list"]),
        }
    }

    /// The command for an order that was begun, and broken off.
    pub(super) fn again(self, home: &Home) -> Command {
        let known =
            home.control().ask("status", &serde_json::json!({ "name": "job" }))["ok"] == true;
        match self {
            Self::Start if known => home.command(["restart", "job"]),
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Reload
            | Self::Scale(_)
            | Self::Delete
            | Self::List => self.command(home),
        }
    }
}

impl Wanted {
    /// What it should be once `verb` is done.
    pub(super) fn after(self, verb: Verb) -> Self {
        match (verb, self) {
            (Verb::Start, _) => Self::Running(2),
            (Verb::Stop, Self::Running(size) | Self::Stopped(size)) => Self::Stopped(size),
            (Verb::Scale(size), _) => Self::Running(size),
            (Verb::Delete, _) | (Verb::Stop, Self::None) => Self::None,
            (Verb::Restart | Verb::Reload | Verb::List, wanted) => wanted,
        }
    }

    /// Whether it is so, once the app has settled.
    #[track_caller]
    pub(super) fn holds(self, home: &Home) -> bool {
        let states = settled(home);
        let all = |state: &str, size: u16| {
            states.len() == usize::from(size) && states.iter().all(|it| it == state)
        };
        match self {
            Self::None => states.is_empty(),
            Self::Stopped(size) => all("stopped", size),
            Self::Running(size) => all("online", size),
        }
    }
}

/// The states of the app's workers once it is at rest.
#[track_caller]
fn settled(home: &Home) -> Vec<String> {
    let rows = wait_for("the app to settle", || home.at_rest("job"));
    rows.into_iter().map(|it| it.state).collect()
}
