//! Who may write to a file, how much, and when it is rotated.
//!
//! One [`Outlet`] per path. While a single pipe feeds it, bytes pass unseen except near the
//! limit. While several do, lines stay whole: half a line waits in its pipe for its other half.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::io::ioctl_fionread;

use crate::{
    domain::{LogFiles, Moment, OnFull, WorkerId},
    logs::{
        Stream,
        cut::{Before, Cut, cut},
        record::Form,
    },
};

use super::{
    PumpNotice,
    census::{Backlog, Census},
    full::Loss,
    peek::{Peek, Seen},
    reaper::Reaper,
    sink::{Moved, Sink},
    stage::Stage,
    tally::Tally,
    times::Times,
};

/// Rotations one pipe may bring about before others get their turn.
pub(super) const ROTATIONS_PER_TURN_MAX: usize = 16;

/// How long half a line may keep the other writers of a file waiting, or wait itself.
pub(super) const HALF_LINE_PATIENCE: Duration = Duration::from_secs(1);

/// Rest before a writer of a shared file that had to wait looks again.
pub(super) const SHARE_AGAIN: Duration = Duration::from_millis(10);

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
    /// What its lines are written as; `None`: as they are, in a file of its own unseen.
    pub(super) form: Option<Form>,
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

    pub(super) fn allowance(&self) -> usize {
        self.last_words.unwrap_or(usize::MAX).min(self.capacity)
    }

    pub(super) fn moved(&mut self, bytes: usize, unix_micros: u64) {
        self.tally.moved(bytes, unix_micros);
        if let Some(left) = &mut self.last_words {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Counts bytes thrown away.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.tally.dropped(bytes);
        if let Some(left) = &mut self.last_words {
            *left = left.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
    }

    /// Whether half a line of `len` bytes must go to the file as it is.
    pub(super) fn is_overdue(&mut self, len: usize, now: Moment) -> bool {
        let since = self.half_line_since(len, now);
        self.last_words.is_some() || self.is_full(len) || now.since(since) >= HALF_LINE_PATIENCE
    }

    /// Since when the half line at the head of the pipe has been `len` bytes long.
    pub(super) fn half_line_since(&mut self, len: usize, now: Moment) -> Moment {
        let since = match self.half_line {
            Some((seen, since)) if seen == len => since,
            Some(_) | None => now,
        };
        self.half_line = Some((len, since));
        since
    }

    /// Whether `bytes` may be all the pipe can hold.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        bytes.saturating_add(FULL_MARGIN_BYTES) > self.capacity
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
    pub(super) stage: Stage,
    pub(super) reaper: Reaper,
    pub(super) census: Census,
    pub(super) tell: Box<dyn Fn(PumpNotice) + Send>,
    /// Where indexes are kept.
    pub(super) indexes: PathBuf,
    /// Records being made.
    pub(super) records: Vec<u8>,
    /// When this turn began, since the Unix epoch.
    pub(super) unix_micros: u64,
}

/// Where and when moved bytes are noted.
struct Ledger<'a> {
    indexes: &'a Path,
    unix_micros: u64,
}

impl<'a> Ledger<'a> {
    fn of(tools: &'a Tools) -> Self {
        Self { indexes: &tools.indexes, unix_micros: tools.unix_micros }
    }
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
    /// What happens to output while the file cannot be written.
    pub(super) on_full: OnFull,
    /// Whether more may come to write to it.
    pub(super) files: LogFiles,
    /// Output being thrown away.
    pub(super) loss: Option<Loss>,
    pub(super) times: Times,
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
            on_full: OnFull::Block,
            files: LogFiles::Each,
            loss: None,
            times: Times::default(),
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

    /// Whether another pipe than `key` has the file for itself.
    pub(super) fn is_held(&self, key: u64, now: Moment) -> bool {
        self.holder.is_some_and(|holder| now < holder.until && holder.key != key)
    }

    /// Whether half a line of the pipe `key` ends the file.
    pub(super) fn is_holder(&self, key: u64) -> bool {
        self.holder.is_some_and(|holder| holder.key == key)
    }

    /// Whose half line ends the file, and until when the others wait for the rest.
    pub(super) fn hold(&mut self, holder: Option<(u64, Moment)>) {
        self.holder = holder.map(|(key, until)| Holder { key, until });
    }

    /// Moves what waits in `inlet` to the file, at most one pipe-full, or says why not. Where the
    /// file cannot be written, its policy comes first.
    pub(super) fn advance(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        if self.loss.is_some() && !self.is_over(inlet, tools, now) {
            return self.lose(inlet, tools, now);
        }
        loop {
            match self.step(inlet, tools, now) {
                Outcome::Stuck(error) if self.makes_room(&error, tools) => {}
                Outcome::Stuck(error) if self.on_full == OnFull::Drop => {
                    self.begin_loss(&error, tools, now);
                    return self.lose(inlet, tools, now);
                }
                outcome @ (Outcome::Moved(_)
                | Outcome::Empty
                | Outcome::Ended
                | Outcome::Later(_)
                | Outcome::Stuck(_)) => return outcome,
            }
        }
    }

    fn step(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        if inlet.last_words == Some(0) {
            return Outcome::Ended;
        }
        if let Err(error) = self.sink.prepare(now) {
            return Outcome::Stuck(error);
        }
        let plain = || self.is_shared().then_some(Form::Plain);
        if let Some(form) = inlet.form.clone().or_else(plain) {
            return self.compose(inlet, &form, tools, now);
        }
        let allowance = inlet.allowance();
        let room = usize::try_from(self.sink.room_bytes(now)).unwrap_or(usize::MAX);
        if room > allowance {
            return self.splice_unseen(inlet, allowance, tools);
        }
        let waiting = inlet.waiting_bytes().min(allowance);
        if (1..=room).contains(&waiting) {
            return self.splice_unseen(inlet, waiting, tools);
        }
        match tools.peek.look(inlet.pipe.as_fd(), allowance) {
            Ok(Seen::Bytes(seen)) => {
                let take = seen.len();
                self.fill(inlet, take, tools, now)
            }
            Ok(Seen::Nothing) => Outcome::Empty,
            Ok(Seen::End) => Outcome::Ended,
            Err(error) => Outcome::Stuck(error),
        }
    }

    /// Whether lines of others may stand between this pipe's.
    pub(super) fn is_shared(&self) -> bool {
        self.writers > 1 || self.files == LogFiles::Merged
    }

    /// Moves the first `take` bytes of the last look, rotating wherever a file is full.
    fn fill(&mut self, inlet: &mut Inlet, take: usize, tools: &mut Tools, now: Moment) -> Outcome {
        let ledger = Ledger { indexes: &tools.indexes, unix_micros: tools.unix_micros };
        let mut seen = &tools.peek.seen()[..take];
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
            if let Err(outcome) = self.splice_all(inlet, &seen[..take], &ledger) {
                return outcome;
            }
            moved += take;
            seen = &seen[take..];
            if full && let Err(error) = self.rotate(inlet, &mut tools.reaper, &*tools.tell, now) {
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
    pub(super) fn rotate(
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

    fn splice(&mut self, inlet: &mut Inlet, len_max: usize, ledger: &Ledger<'_>) -> Outcome {
        let position = self.sink.position();
        match self.sink.splice(inlet.pipe.as_fd(), len_max) {
            Moved::Bytes(bytes) => {
                inlet.moved(bytes, ledger.unix_micros);
                if let Some((_, offset)) = position {
                    self.times.note(ledger.indexes, &self.sink, offset, ledger.unix_micros);
                }
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

    /// As [`Outlet::splice`], for bytes nobody looked at: their lines are counted later.
    fn splice_unseen(&mut self, inlet: &mut Inlet, len_max: usize, tools: &Tools) -> Outcome {
        let outcome = self.splice(inlet, len_max, &Ledger::of(tools));
        if let Outcome::Moved(bytes) = outcome {
            let moved = u64::try_from(bytes).unwrap_or(0);
            match self.sink.end() {
                Some((file, end)) => {
                    let backlog = inlet.tally.lines.wrote(file, end.saturating_sub(moved), end);
                    if backlog == Backlog::Long {
                        tools.census.ask(&inlet.tally);
                    }
                }
                None => inlet.tally.lines.lost(),
            }
        }
        outcome
    }

    /// Moves exactly the bytes `seen`, or says why not all of them.
    fn splice_all(
        &mut self,
        inlet: &mut Inlet,
        seen: &[u8],
        ledger: &Ledger<'_>,
    ) -> Result<(), Outcome> {
        let mut left = seen;
        while !left.is_empty() {
            match self.splice(inlet, left.len(), ledger) {
                Outcome::Moved(bytes) => {
                    inlet.tally.lines.seen(&left[..bytes]);
                    left = &left[bytes..];
                }
                outcome @ (Outcome::Empty
                | Outcome::Ended
                | Outcome::Later(_)
                | Outcome::Stuck(_)) => return Err(outcome),
            }
        }
        Ok(())
    }
}
