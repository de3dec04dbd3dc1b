//! Who may write to a file, how much, and when it is rotated.
//!
//! One [`Outlet`] per path. While a single pipe feeds it, bytes pass unseen except near the
//! limit. While several do, lines stay whole: half a line waits in its pipe for its other half.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::io::ioctl_fionread;

use crate::{
    domain::{Moment, WorkerId},
    logs::{
        Stream,
        cut::{Before, Cut, cut, whole_lines},
    },
};

use super::{
    PumpNotice,
    peek::{Peek, Seen},
    reaper::Reaper,
    sink::{Moved, Sink},
    tally::Tally,
};

/// Rotations one pipe may bring about before others get their turn.
const ROTATIONS_PER_TURN_MAX: usize = 16;

/// How long half a line may keep the other writers of a file waiting, or wait itself.
const HALF_LINE_PATIENCE: Duration = Duration::from_secs(1);

/// Rest before a writer of a shared file that had to wait looks again.
const SHARE_AGAIN: Duration = Duration::from_millis(10);

/// Rest before a terminal that takes no more is tried again.
const DEVICE_AGAIN: Duration = Duration::from_millis(20);

/// A pipe with less free than this may be full: a writer that waits for a whole page.
const FULL_MARGIN_BYTES: usize = 4096;

/// A pipe a worker writes to.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) key: u64,
    pub(super) pipe: OwnedFd,
    pub(super) worker: WorkerId,
    pub(super) stream: Stream,
    pub(super) outlet: u64,
    pub(super) capacity: usize,
    pub(super) tally: Arc<Tally>,
    /// Bytes still to be moved once the worker is gone; what others write later is not its.
    pub(super) last_words: Option<usize>,
    /// When the pipe is looked at next without waiting for readability.
    pub(super) due: Option<Moment>,
    /// Since when the file cannot be written, up to what is already counted.
    pub(super) stuck: Option<Moment>,
    /// Length of the half line at the head of the pipe, and since when it has not grown.
    pub(super) half_line: Option<(usize, Moment)>,
}

impl Inlet {
    pub(super) fn waiting_bytes(&self) -> usize {
        ioctl_fionread(&self.pipe).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    fn allowance(&self) -> usize {
        self.last_words.unwrap_or(usize::MAX).min(self.capacity)
    }

    fn moved(&mut self, bytes: usize) {
        self.tally.moved(bytes);
        if let Some(left) = &mut self.last_words {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Whether half a line of `len` bytes must go to the file as it is.
    fn is_overdue(&mut self, len: usize, now: Moment) -> bool {
        let since = match self.half_line {
            Some((seen, since)) if seen == len => since,
            Some(_) | None => now,
        };
        self.half_line = Some((len, since));
        self.last_words.is_some()
            || len.saturating_add(FULL_MARGIN_BYTES) > self.capacity
            || now.since(since) >= HALF_LINE_PATIENCE
    }
}

/// What came of a pipe's turn.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So many bytes are in the file; there may be more.
    Moved(usize),
    /// Nothing waits.
    Empty,
    /// Nothing will ever come.
    Ended,
    /// It is not this pipe's turn.
    Later(Duration),
    /// The file cannot be written.
    Stuck(io::Error),
}

/// What all outlets use.
pub(super) struct Tools {
    pub(super) peek: Peek,
    pub(super) reaper: Reaper,
    pub(super) tell: Box<dyn Fn(PumpNotice) + Send>,
}

/// A file and those who write to it.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) sink: Sink,
    /// Pipes that feed it.
    pub(super) writers: usize,
    /// Since when it cannot be written.
    pub(super) trouble: Option<Moment>,
    /// When its chores are on the timer.
    pub(super) chores_at: Option<Moment>,
    holder: Option<Holder>,
    rotation: Rotation,
}

/// The pipe whose half line ends a shared file, and until when the others wait for the rest.
#[derive(Clone, Copy, Debug)]
struct Holder {
    key: u64,
    until: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    Works,
    Fails,
}

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            writers: 0,
            trouble: None,
            chores_at: None,
            holder: None,
            rotation: Rotation::Works,
        }
    }

    /// Lets one more pipe write; `other` wrote alone until now.
    pub(super) fn join(&mut self, other: Option<u64>, now: Moment) {
        self.writers += 1;
        if let Some(key) = other
            && matches!(self.sink.before(), Ok(Before::HalfLine))
        {
            self.holder = Some(Holder { key, until: now.after(HALF_LINE_PATIENCE) });
        }
    }

    /// Forgets the pipe `key`.
    pub(super) fn leave(&mut self, key: u64) {
        self.writers = self.writers.saturating_sub(1);
        if self.writers < 2 || self.holder.is_some_and(|holder| holder.key == key) {
            self.holder = None;
        }
    }

    /// Moves what waits in `inlet` to the file, at most one pipe-full.
    pub(super) fn advance(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        if inlet.last_words == Some(0) {
            return Outcome::Ended;
        }
        if let Err(error) = self.sink.prepare(now) {
            return Outcome::Stuck(error);
        }
        if self.writers > 1 {
            return self.share(inlet, tools, now);
        }
        let allowance = inlet.allowance();
        let room = usize::try_from(self.sink.room_bytes(now)).unwrap_or(usize::MAX);
        if room > allowance {
            return self.splice(inlet, allowance);
        }
        let waiting = inlet.waiting_bytes().min(allowance);
        if (1..=room).contains(&waiting) {
            return self.splice(inlet, waiting);
        }
        let Tools { peek, reaper, tell } = tools;
        match peek.look(inlet.pipe.as_fd(), allowance) {
            Ok(Seen::Bytes(seen)) => self.fill(inlet, seen, reaper, tell, now),
            Ok(Seen::Nothing) => Outcome::Empty,
            Ok(Seen::End) => Outcome::Ended,
            Err(error) => Outcome::Stuck(error),
        }
    }

    /// As [`Outlet::advance`], for a file with other writers: moves whole lines.
    fn share(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        let held = self.holder.filter(|holder| now < holder.until).map(|holder| holder.key);
        if held.is_some_and(|key| key != inlet.key) {
            return Outcome::Later(SHARE_AGAIN);
        }
        let Tools { peek, reaper, tell } = tools;
        let seen = match peek.look(inlet.pipe.as_fd(), inlet.allowance()) {
            Ok(Seen::Bytes(seen)) => seen,
            Ok(Seen::Nothing) => return Outcome::Empty,
            Ok(Seen::End) => return Outcome::Ended,
            Err(error) => return Outcome::Stuck(error),
        };
        let take = match whole_lines(seen) {
            0 if held.is_some() || inlet.is_overdue(seen.len(), now) => seen.len(),
            0 => return Outcome::Later(SHARE_AGAIN),
            whole => whole,
        };
        inlet.half_line = None;
        let taken = &seen[..take];
        let outcome = self.fill(inlet, taken, reaper, tell, now);
        let half = self.sink.before().is_ok_and(|before| before == Before::HalfLine);
        let key = inlet.key;
        self.holder = half.then(|| Holder { key, until: now.after(HALF_LINE_PATIENCE) });
        outcome
    }

    /// Moves the bytes `seen` at the head of the pipe, rotating wherever a file is full.
    fn fill(
        &mut self,
        inlet: &mut Inlet,
        mut seen: &[u8],
        reaper: &mut Reaper,
        tell: &dyn Fn(PumpNotice),
        now: Moment,
    ) -> Outcome {
        let mut moved = 0;
        for _ in 0..ROTATIONS_PER_TURN_MAX {
            let before = match self.sink.before() {
                Ok(before) => before,
                Err(error) => return Outcome::Stuck(error),
            };
            let (take, full) = match cut(seen, self.sink.room_bytes(now), before) {
                Cut::All => (seen.len(), false),
                Cut::At(take) => (take, true),
            };
            if let Err(outcome) = self.splice_all(inlet, take) {
                return outcome;
            }
            moved += take;
            seen = &seen[take..];
            if full && let Err(error) = self.rotate(inlet, reaper, tell, now) {
                return Outcome::Stuck(error);
            }
            if seen.is_empty() {
                break;
            }
        }
        Outcome::Moved(moved)
    }

    /// Rotates. A rotation that fails is told once and tried again later; only a file that can no
    /// longer be opened at all is an error.
    fn rotate(
        &mut self,
        inlet: &Inlet,
        reaper: &mut Reaper,
        tell: &dyn Fn(PumpNotice),
        now: Moment,
    ) -> io::Result<()> {
        let Err(error) = self.sink.rotate(now, reaper) else {
            self.rotation = Rotation::Works;
            inlet.tally.rotated();
            return Ok(());
        };
        self.rotation_failed(&error, tell);
        self.sink.prepare(now)
    }

    pub(super) fn rotation_failed(&mut self, error: &io::Error, tell: &dyn Fn(PumpNotice)) {
        if self.rotation == Rotation::Works {
            self.rotation = Rotation::Fails;
            let path = self.sink.path().to_owned();
            tell(PumpNotice::RotationFailed { path, reason: error.to_string() });
        }
    }

    fn splice(&mut self, inlet: &mut Inlet, len_max: usize) -> Outcome {
        match self.sink.splice(inlet.pipe.as_fd(), len_max) {
            Moved::Bytes(bytes) => {
                inlet.moved(bytes);
                Outcome::Moved(bytes)
            }
            Moved::Empty if self.sink.is_device() && inlet.waiting_bytes() > 0 => {
                Outcome::Later(DEVICE_AGAIN)
            }
            Moved::Empty => Outcome::Empty,
            Moved::Ended => Outcome::Ended,
            Moved::Stuck(error) => Outcome::Stuck(error),
        }
    }

    /// Moves exactly `len` bytes, or says why not all of them.
    fn splice_all(&mut self, inlet: &mut Inlet, len: usize) -> Result<(), Outcome> {
        let mut left = len;
        while left > 0 {
            match self.splice(inlet, left) {
                Outcome::Moved(bytes) => left -= bytes,
                outcome @ (Outcome::Empty
                | Outcome::Ended
                | Outcome::Later(_)
                | Outcome::Stuck(_)) => return Err(outcome),
            }
        }
        Ok(())
    }
}

/// Throws away what waits in `pipe`, up to `len` bytes, and counts it.
pub(super) fn discard(pipe: BorrowedFd<'_>, len: usize) -> io::Result<u64> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    let flags = rustix::pipe::SpliceFlags::NONBLOCK;
    let dropped = rustix::pipe::splice(pipe, None, &null, None, len, flags)?;
    Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
}
