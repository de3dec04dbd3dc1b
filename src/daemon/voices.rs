//! What workers say of themselves: channel messages and `sd_notify` datagrams.
//!
//! Decides which of it the supervisor must hear, and keeps the rest for `status` and metrics.
//! Garbage is logged and dropped: a worker can never harm the daemon.

use std::collections::BTreeMap;

use super::Core;
use crate::{
    domain::{Moment, WorkerId},
    ipc::{
        channel::{Decoder, Dialect, Message, Report},
        notify::{self, Notice},
    },
    supervisor::{Speech, Word},
};

/// Garbage lines of one worker that are logged; later ones are only counted.
const GARBAGE_LOGGED_MAX: u32 = 10;

/// What is known of every worker's words.
#[derive(Debug, Default)]
pub(super) struct Voices(BTreeMap<WorkerId, Voice>);

/// One worker's words.
#[derive(Debug, Default)]
pub(super) struct Voice {
    decoder: Decoder,
    garbage: u32,
    /// The last report of its own.
    pub(super) report: Option<Report>,
    /// The last `STATUS=`.
    pub(super) status: Option<String>,
}

impl Voices {
    /// What a worker said so far.
    pub(super) fn of(&self, worker: WorkerId) -> Option<&Voice> {
        self.0.get(&worker)
    }

    /// Workers that said something.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }

    fn voice(&mut self, worker: WorkerId) -> &mut Voice {
        self.0.entry(worker).or_default()
    }
}

impl Voice {
    fn garbage(&mut self, worker: WorkerId, why: &str) {
        self.garbage = self.garbage.saturating_add(1);
        if self.garbage <= GARBAGE_LOGGED_MAX {
            tracing::warn!(%worker, why, "the worker sent garbage, dropped");
        }
    }
}

/// How a worker that says it is ready wants to be asked to exit.
fn speech(dialect: Dialect) -> Speech {
    match dialect {
        Dialect::Ours => Speech::Sdk,
        // The original's SDK never says whether it handles the message, so it gets the chance.
        Dialect::Original => Speech::SdkHandlesShutdown,
    }
}

impl Core {
    pub(super) fn channel(&mut self, now: Moment, worker: WorkerId, bytes: &[u8]) {
        if !self.remembers(worker) {
            return;
        }
        let mut messages = Vec::new();
        self.voices.voice(worker).decoder.feed(bytes, &mut messages);
        for message in messages {
            self.message(now, worker, message);
        }
    }

    fn message(&mut self, now: Moment, worker: WorkerId, message: Message) {
        match message {
            Message::Ready(dialect) => {
                self.hear(now, worker, Word::Speaks(speech(dialect)));
                self.hear(now, worker, Word::Ready);
            }
            Message::BareReady => {
                self.hear(now, worker, Word::Speaks(Speech::Bare));
                self.hear(now, worker, Word::Ready);
            }
            Message::ShutdownHandler => {
                self.hear(now, worker, Word::Speaks(Speech::SdkHandlesShutdown));
            }
            Message::Stopping => self.hear(now, worker, Word::Stopping),
            Message::Heartbeat(_) => self.hear(now, worker, Word::Alive),
            Message::Metrics(report) => {
                self.hear(now, worker, Word::Speaks(Speech::Sdk));
                self.voices.voice(worker).report = Some(report);
            }
            Message::Custom { channel, .. } => tracing::debug!(%worker, channel, "custom message"),
            Message::Unknown(excerpt) => tracing::debug!(%worker, excerpt, "unknown message"),
            Message::Garbage(why) => self.voices.voice(worker).garbage(worker, &why),
        }
    }

    pub(super) fn notify(&mut self, now: Moment, worker: WorkerId, datagram: &[u8]) {
        if !self.remembers(worker) {
            return;
        }
        for notice in notify::parse(datagram) {
            match notice {
                Notice::Ready => self.hear(now, worker, Word::Ready),
                Notice::Stopping => self.hear(now, worker, Word::Stopping),
                Notice::Watchdog => self.hear(now, worker, Word::Alive),
                Notice::WatchdogTrigger => self.hear(now, worker, Word::Failing),
                Notice::WatchdogPeriod(period) => self.hear(now, worker, Word::Watchdog(period)),
                Notice::Status(text) => self.voices.voice(worker).status = Some(text),
                Notice::Errno(number) => tracing::warn!(%worker, number, "the worker failed"),
                Notice::Refused(what) => tracing::warn!(%worker, what, "refused to the worker"),
                // Timeouts are the user's to set, and the barrier is kept by whoever reads.
                Notice::Reloading | Notice::ExtendTimeout(_) | Notice::Barrier => {
                    tracing::debug!(%worker, ?notice, "noticed");
                }
            }
        }
    }

    /// Whether anything is left of the worker; else what it says comes late.
    fn remembers(&self, worker: WorkerId) -> bool {
        let app = self.supervisor.app(worker.instance.app);
        app.is_some_and(|it| it.workers().any(|it| it.id == worker))
    }

    fn hear(&mut self, now: Moment, worker: WorkerId, word: Word) {
        self.supervisor.heard(now, worker, word);
    }
}
