//! What becomes of output while its file cannot grow: room is made, or output is thrown away and
//! counted. Waiting, the default, needs nothing of this.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    domain::{Moment, OnFull},
    logs::{
        cut::{Before, whole_lines},
        record::{Form, Tail, time},
        rotation,
    },
};

use super::{
    PumpNotice,
    mover::STUCK_AGAIN,
    outlet::{Inlet, Outcome, Outlet, Tools},
    peek::Seen,
    row,
};

/// Rest between two looks at a pipe whose output is thrown away.
const LOSE_AGAIN: Duration = Duration::from_millis(5);

/// Output of one file being thrown away.
#[derive(Debug)]
pub(super) struct Loss {
    /// So far.
    bytes: u64,
    /// Why, in the system's words.
    reason: String,
    /// Whether what was thrown away ends within a line: its rest must go, too.
    rest: Rest,
    /// When to see next whether the file can be written again.
    look_at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    OfLine,
}

impl Outlet {
    /// Makes room by removing the oldest rotated file, if that is this file's policy and there is
    /// one; says whether it did.
    pub(super) fn makes_room(&self, error: &io::Error, tools: &Tools) -> bool {
        if self.on_full != OnFull::Evict || !is_full(error) {
            return false;
        }
        let Some(path) = oldest(self.sink.path()) else { return false };
        // Here and now, unlike a rotation: the space is needed at once.
        let file = row::identity(&path);
        let removed = fs::remove_file(&path).is_ok();
        if removed {
            if let Some(file) = file {
                tools.reaper.forget_index(file);
            }
            (tools.tell)(PumpNotice::Evicted { path });
        }
        removed
    }

    /// Begins to throw output away.
    pub(super) fn begin_loss(&mut self, error: &io::Error, tools: &Tools, now: Moment) {
        let reason = error.to_string();
        let path = self.sink.path().to_owned();
        (tools.tell)(PumpNotice::Dropping { path, reason: reason.clone() });
        let look_at = now.after(STUCK_AGAIN);
        self.loss = Some(Loss { bytes: 0, reason, rest: Rest::Nothing, look_at });
        self.trouble = Some(now);
    }

    /// Tries, now and then, whether the file can be written again; then says there what is
    /// missing.
    pub(super) fn is_over(&mut self, inlet: &Inlet, tools: &mut Tools, now: Moment) -> bool {
        let Some(loss) = &mut self.loss else { return true };
        if now < loss.look_at || loss.rest == Rest::OfLine {
            return false;
        }
        loss.look_at = now.after(STUCK_AGAIN);
        self.sink.reopen();
        if self.sink.prepare(now).is_err() || self.say_what_is_missing(inlet, tools).is_err() {
            return false;
        }
        self.end_loss(tools, now);
        true
    }

    /// The last one who could say what is missing goes.
    pub(super) fn give_up_loss(&mut self, inlet: &Inlet, tools: &mut Tools, now: Moment) {
        if self.loss.is_some() {
            // If even this does not fit, the notice has the number.
            let _missing =
                self.sink.prepare(now).and_then(|()| self.say_what_is_missing(inlet, tools));
            self.end_loss(tools, now);
        }
    }

    fn end_loss(&mut self, tools: &Tools, now: Moment) {
        let since = self.trouble.take().unwrap_or(now);
        if let Some(Loss { bytes, .. }) = self.loss.take() {
            let (path, after) = (self.sink.path().to_owned(), now.since(since));
            (tools.tell)(PumpNotice::Resumed { path, after, dropped_bytes: bytes });
        }
    }

    fn say_what_is_missing(&mut self, inlet: &Inlet, tools: &mut Tools) -> io::Result<()> {
        let Some(Loss { bytes, reason, .. }) = &self.loss else { return Ok(()) };
        if *bytes == 0 {
            return Ok(());
        }
        let line = format!("[bunpilot] {bytes} bytes of output dropped here: {reason}\n");
        let half = self.sink.before()? == Before::HalfLine;
        let form = inlet.form.as_ref().unwrap_or(&Form::Plain);
        let mut text = Vec::new();
        if half {
            form.close(&mut text);
        }
        let stamp = time(tools.unix_micros);
        let (before, room) = (Before::Nothing, u64::MAX);
        form.transcribe(line.as_bytes(), before, room, Tail::Last, &stamp, &mut text);
        self.sink.append(&text)
    }

    /// Throws away what waits in `inlet`, in whole lines if it can.
    pub(super) fn lose(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        let Some(loss) = &mut self.loss else { return Outcome::Empty };
        if inlet.last_words == Some(0) {
            return Outcome::Ended;
        }
        let seen = match tools.peek.look(inlet.pipe.as_fd(), inlet.allowance()) {
            Ok(Seen::Bytes(seen)) => seen,
            Ok(Seen::Nothing) if inlet.last_words.is_some() => return Outcome::Empty,
            Ok(Seen::Nothing) => return Outcome::Later(STUCK_AGAIN),
            Ok(Seen::End) => return Outcome::Ended,
            Err(error) => return Outcome::Stuck(error),
        };
        let (take, rest) = match whole_lines(seen) {
            0 if inlet.is_overdue(seen.len(), now) => (seen.len(), Rest::OfLine),
            0 => return Outcome::Later(LOSE_AGAIN),
            whole => (whole, Rest::Nothing),
        };
        inlet.half_line = None;
        match tools.stage.discard(inlet.pipe.as_fd(), take) {
            Ok(bytes) => {
                loss.bytes += bytes;
                loss.rest = rest;
                inlet.lost(bytes);
                Outcome::Later(if inlet.last_words.is_some() { Duration::ZERO } else { LOSE_AGAIN })
            }
            Err(error) => Outcome::Stuck(error),
        }
    }
}

/// Whether there is no space, or none for us (`EDQUOT`).
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Finds the oldest rotated file of the row at `current`.
fn oldest(current: &Path) -> Option<PathBuf> {
    let files = rotation::row(|slot| slot.path(current).exists());
    files.last().map(|slot| slot.path(current))
}
