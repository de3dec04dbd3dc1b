//! What the pump counts per stream, readable from any thread while it goes on counting.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::census::Lines;

/// What happened to one stream of a place since it was first captured, whoever filled the place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes moved to the file.
    pub bytes: u64,
    /// Splices those bytes took.
    pub batches: u64,
    /// Ends of lines moved to the file, as far as they are counted: see [`Pump::recount`]; `None`
    /// if some never will be.
    ///
    /// [`Pump::recount`]: super::Pump::recount
    pub lines: Option<u64>,
    /// Rotations this stream brought about.
    pub rotations: u64,
    /// Bytes thrown away: see [`OnFull::Drop`](crate::domain::OnFull::Drop) and
    /// [`STRANDED_MAX`](super::STRANDED_MAX).
    pub dropped_bytes: u64,
    /// When bytes were last moved, in microseconds since the Unix epoch; 0: never.
    pub last_write_unix_micros: u64,
    /// How long the stream had to wait because its file could not be written: no space, no
    /// permission, an I/O error. Grows while it waits.
    pub blocked: Duration,
}

/// [`Counters`] as they are being counted. Only the pump's thread adds, but for lines.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: AtomicU64,
    batches: AtomicU64,
    rotations: AtomicU64,
    dropped_bytes: AtomicU64,
    last_write_unix_micros: AtomicU64,
    blocked_micros: AtomicU64,
    pub(super) lines: Lines,
}

impl Tally {
    pub(super) fn moved(&self, bytes: usize, unix_micros: u64) {
        self.last_write_unix_micros.store(unix_micros, Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    pub(super) fn rotated(&self) {
        self.rotations.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, bytes: u64) {
        self.dropped_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn blocked(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.blocked_micros.fetch_add(micros, Relaxed);
    }

    pub(super) fn read(&self) -> Counters {
        Counters {
            bytes: self.bytes.load(Relaxed),
            batches: self.batches.load(Relaxed),
            lines: self.lines.read(),
            rotations: self.rotations.load(Relaxed),
            dropped_bytes: self.dropped_bytes.load(Relaxed),
            last_write_unix_micros: self.last_write_unix_micros.load(Relaxed),
            blocked: Duration::from_micros(self.blocked_micros.load(Relaxed)),
        }
    }
}
