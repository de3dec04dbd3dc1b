//! The names the guard holds sockets by.

use std::fmt;

use crate::domain::{AppId, InstanceId, Lane};

/// What the guard holds a socket by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Inherited: number of the place.
    Inherited(AppId, usize),
    /// Given in exchange: number of the place, and of the socket in the order of listening.
    Trapped(AppId, usize, u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inherited(app, place) => write!(f, "listen/{}/{place}", app.0),
            Self::Trapped(app, place, number) => write!(f, "trap/{}/{place}/{number}", app.0),
        }
    }
}

impl Key {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('/');
        let kind = words.next()?;
        let (app, place) = (AppId(words.next()?.parse().ok()?), words.next()?.parse().ok()?);
        match (kind, words.next(), words.next()) {
            ("listen", None, _) => Some(Self::Inherited(app, place)),
            ("trap", Some(number), None) => Some(Self::Trapped(app, place, number.parse().ok()?)),
            _ => None,
        }
    }

    pub(super) fn app(self) -> AppId {
        let (Self::Inherited(app, _) | Self::Trapped(app, ..)) = self;
        app
    }
}

/// The number of a lane of an instance among all its app has.
pub(super) fn place(instance: InstanceId, lane: Lane) -> usize {
    let lane = match lane {
        Lane::A => 0,
        Lane::B => 1,
    };
    usize::from(instance.index) * 2 + lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, key: Option<Key>) {
        assert_eq!(Key::parse(text), key, "{text}");
        if let Some(key) = key {
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn keys_read_and_write() {
        check("listen/7/3", Some(Key::Inherited(AppId(7), 3)));
        check("trap/7/3/12", Some(Key::Trapped(AppId(7), 3, 12)));
        for other in ["listen/7", "listen/7/3/1", "trap/7/3", "trap/7/3/1/2", "trap/7/3/x", "http"]
        {
            check(other, None);
        }
    }
}
