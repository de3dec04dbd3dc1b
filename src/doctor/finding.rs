//! One thing the doctor has to say.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something works another way than it could; nothing is lost.
    Note,
    /// Something will hurt one day.
    Warn,
    /// Bunpilot cannot do its work.
    Bad,
}

impl Level {
    /// The word for it; part of the interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What was found, what follows, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Names what was looked at; part of the interface.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What follows for the user; empty if nothing does.
    pub consequence: String,
    /// What to do, each line complete; empty if there is nothing to do.
    pub fix: Vec<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(id: &'static str, found: impl Into<String>) -> Self {
        let (consequence, fix) = (String::new(), Vec::new());
        Self { id, level: Level::Ok, found: found.into(), consequence, fix }
    }

    /// Not as it should be, and what follows.
    pub(super) fn at(
        level: Level,
        id: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Self {
        Self { level, consequence: consequence.into(), ..Self::ok(id, found) }
    }

    /// With something to do about it.
    pub(super) fn fix<S: Into<String>>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.fix.extend(lines.into_iter().map(Into::into));
        self
    }
}
