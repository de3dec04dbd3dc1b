//! Who is meant: identities that can never be mixed up.
//!
//! Everything is keyed by (app, instance, generation), never by a bare number.

use std::{fmt, str::FromStr};

/// One app the user declared. Never reused, not even across the lives of several daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub u32);

/// A place for one worker of an app: what `instances: 4` counts.
///
/// Its index is what users see as `BUNPILOT_WORKER_ID` and as the `worker` metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The app this place belongs to.
    pub app: AppId,
    /// Position, `0..instances`.
    pub index: u16,
}

/// One life of one process: an [`InstanceId`] and how many lives that place has seen.
///
/// Written and read as `app/index#generation`, e.g. `3/0#12`; the guard keeps that text as the
/// worker's label, so a new daemon knows who is who.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The place this process fills.
    pub instance: InstanceId,
    /// Counts from 1; a late event about an older life can thus be told apart.
    pub generation: u32,
}

impl WorkerId {
    /// Names generation `generation` of place `index` of `app`.
    #[must_use]
    pub const fn new(app: AppId, index: u16, generation: u32) -> Self {
        Self { instance: InstanceId { app, index }, generation }
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance: InstanceId { app: AppId(app), index }, generation } = self;
        write!(f, "{app}/{index}#{generation}")
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a [`WorkerId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker is written `app/index#generation`, e.g. `3/0#12`")]
pub struct WorkerIdError;

impl FromStr for WorkerId {
    type Err = WorkerIdError;

    fn from_str(text: &str) -> Result<Self, WorkerIdError> {
        let (app, rest) = text.split_once('/').ok_or(WorkerIdError)?;
        let (index, generation) = rest.split_once('#').ok_or(WorkerIdError)?;
        let app = AppId(number(app)?);
        Ok(Self::new(app, number(index)?, number(generation)?))
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, WorkerIdError> {
    text.parse().or(Err(WorkerIdError))
}

/// Which of the two listening sockets of an instance a worker accepts from.
///
/// Under [`Strategy::Inherit`](super::Strategy::Inherit) every instance owns two sockets of the
/// app's `SO_REUSEPORT` group. A worker that replaces another takes the lane the other does not
/// use, so each of the two can be selected, probed and drained on its own. A worker that comes
/// back after a crash takes the lane its predecessor had, and with it the connections that wait
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The first socket.
    #[default]
    A,
    /// The second socket.
    B,
}

impl Lane {
    /// The lane this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// One connection to the control socket or one HTTP request, unique within a daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_id_survives_writing_and_reading() {
        let id = WorkerId::new(AppId(3), 7, 12);
        assert_eq!(id.to_string(), "3/7#12");
        assert_eq!("3/7#12".parse(), Ok(id));
    }

    #[test]
    fn other_text_is_no_worker_id() {
        for text in ["", "3", "3/7", "3/7#", "/7#1", "3/70000#1", "3/7#1 ", "-3/7#1"] {
            assert_eq!(text.parse::<WorkerId>(), Err(WorkerIdError), "{text:?}");
        }
    }
}
