//! What the next daemon must know about a worker, as the guard keeps it.
//!
//! A line of words, `1 online lane=b since=5123 print=9af…`: the format's number first, then the
//! stage, then whatever differs from the ordinary. Unknown words are skipped, so an older daemon
//! can take over from a newer one; a text that makes no sense at all reads as a worker about
//! which nothing is known.

use std::{fmt, str::FromStr, time::Duration};

use super::{Cause, Speech};
use crate::domain::{Lane, Moment, Stage};

/// The only format there has been.
const FORMAT: &str = "1";

/// What survives the daemon about one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) stage: Stage,
    /// When `stage` began, to the millisecond.
    pub(super) since: Moment,
    pub(super) lane: Lane,
    /// [`Version::print`](super::version::Version::print) of what it runs.
    pub(super) print: u64,
    /// Whether a reload under way is to replace it.
    pub(super) stale: bool,
    pub(super) ready_at: Option<Moment>,
    /// Why it is to end.
    pub(super) cause: Option<Cause>,
    pub(super) welcome: Welcome,
    pub(super) says_stopping: bool,
    pub(super) speech: Speech,
    /// The longest silence between heartbeats, if they are monitored.
    pub(super) pulse: Option<Duration>,
}

/// How far a worker came on its way into rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// It has not been heard of.
    Unknown,
    /// It said it is ready, or was seen listening.
    Called,
    /// New connections were let in; it may still have some.
    Admitted,
}

impl Note {
    /// What is known about a worker of which nothing is known: it is a process.
    const UNKNOWN: Self = Self {
        stage: Stage::Starting,
        since: Moment::START,
        lane: Lane::A,
        print: 0,
        stale: false,
        ready_at: None,
        cause: None,
        welcome: Welcome::Unknown,
        says_stopping: false,
        speech: Speech::Silent,
        pulse: None,
    };

    /// Reads what [`fmt::Display`] wrote; never fails.
    pub(super) fn parse(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace();
        let mut note = Self::UNKNOWN;
        if words.next() != Some(FORMAT) {
            return note;
        }
        for word in words {
            note.read(word);
        }
        note
    }

    fn read(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "stale" => self.stale = true,
            "called" => self.welcome = Welcome::Called,
            "admitted" => self.welcome = Welcome::Admitted,
            "leaving" => self.says_stopping = true,
            "since" => self.since = moment(value).unwrap_or(self.since),
            "ready" => self.ready_at = moment(value),
            "print" => self.print = u64::from_str_radix(value, 16).unwrap_or(0),
            "pulse" => self.pulse = number(value).map(Duration::from_millis),
            "lane" if value == "b" => self.lane = Lane::B,
            "why" => self.cause = Cause::ALL.into_iter().find(|it| it.word() == value),
            "speech" => self.speech = speech(value),
            _ => self.stage = STAGES.into_iter().find(|it| it.word() == key).unwrap_or(self.stage),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, since, print, .. } = *self;
        write!(f, "{FORMAT} {} since={} print={print:x}", stage.word(), since.millis())?;
        if self.lane == Lane::B {
            f.write_str(" lane=b")?;
        }
        if let Some(ready) = self.ready_at {
            write!(f, " ready={}", ready.millis())?;
        }
        if let Some(cause) = self.cause {
            write!(f, " why={}", cause.word())?;
        }
        for (word, holds) in [
            ("stale", self.stale),
            ("called", self.welcome == Welcome::Called),
            ("admitted", self.welcome == Welcome::Admitted),
            ("leaving", self.says_stopping),
        ] {
            if holds {
                write!(f, " {word}")?;
            }
        }
        if let Some(word) = speech_word(self.speech) {
            write!(f, " speech={word}")?;
        }
        match self.pulse {
            Some(pulse) => write!(f, " pulse={}", pulse.as_millis()),
            None => Ok(()),
        }
    }
}

const STAGES: [Stage; 5] =
    [Stage::Spawning, Stage::Starting, Stage::Online, Stage::Draining, Stage::Stopping];

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn moment(text: &str) -> Option<Moment> {
    number(text).map(Moment::from_millis)
}

fn speech_word(speech: Speech) -> Option<&'static str> {
    match speech {
        Speech::Silent => None,
        Speech::Bare => Some("bare"),
        Speech::Sdk => Some("sdk"),
        Speech::SdkHandlesShutdown => Some("shutdown"),
    }
}

fn speech(word: &str) -> Speech {
    [Speech::Bare, Speech::Sdk, Speech::SdkHandlesShutdown]
        .into_iter()
        .find(|it| speech_word(*it) == Some(word))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: Note = Note {
        stage: Stage::Draining,
        since: Moment::from_millis(5_123),
        lane: Lane::B,
        print: 0x9af,
        stale: true,
        ready_at: Some(Moment::from_millis(4_000)),
        cause: Some(Cause::Reload),
        welcome: Welcome::Admitted,
        says_stopping: true,
        speech: Speech::SdkHandlesShutdown,
        pulse: Some(Duration::from_secs(30)),
    };

    #[test]
    fn survives_writing_and_reading() {
        let called = Note { speech: Speech::Bare, welcome: Welcome::Called, ..Note::UNKNOWN };
        for note in [FULL, Note::UNKNOWN, called] {
            assert_eq!(Note::parse(&note.to_string()), note);
        }
        for stage in STAGES {
            let note = Note { stage, ..FULL };
            assert_eq!(Note::parse(&note.to_string()), note);
        }
        for cause in Cause::ALL {
            let note = Note { cause: Some(cause), ..FULL };
            assert_eq!(Note::parse(&note.to_string()), note);
        }
    }

    #[test]
    fn is_one_short_line() {
        let text = FULL.to_string();
        assert_eq!(
            text,
            "1 draining since=5123 print=9af lane=b ready=4000 why=reload stale admitted \
             leaving speech=shutdown pulse=30000"
        );
    }

    #[test]
    fn a_newer_daemons_words_are_skipped() {
        let text = format!("{FULL} colour=blue hat");
        assert_eq!(Note::parse(&text), FULL);
    }

    proptest! {
        #[test]
        fn garbage_is_a_worker_unknown(text in ".{0,80}") {
            prop_assert_eq!(Note::parse(&format!("x{text}")), Note::UNKNOWN);
        }

        #[test]
        fn no_text_panics(text in "1( [a-z]{0,8}(=[a-z0-9-]{0,30})?){0,12}") {
            let _note = Note::parse(&text);
        }
    }
}
