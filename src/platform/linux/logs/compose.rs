//! Streams whose lines are written as records: with a time before them, as JSON, or plain in a file
//! that others write to.
//!
//! Half a line waits in its pipe for its end, so that a record comes in one piece; only a line that
//! is longer than the pipe is written in several, and the file is its own until it ends.

use std::{io, os::fd::AsFd as _, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use crate::{
    domain::{LogFiles, Moment},
    logs::{
        cut::{Before, whole_lines},
        record::{Form, Tail, time},
    },
};

use super::{
    outlet::{
        HALF_LINE_PATIENCE, Inlet, Outcome, Outlet, ROTATIONS_PER_TURN_MAX, SHARE_AGAIN, Tools,
    },
    peek::Seen,
    stage::Records,
};

/// Rest while a batch of an earlier daemon waits for its file.
const STAGE_AGAIN: Duration = Duration::from_millis(200);

/// Longest rest before half a line is looked at again. It is found readable at once, so it cannot
/// be watched.
const HALF_LINE_AGAIN_MAX: Duration = Duration::from_millis(250);

/// Time after which half a line that does not grow may be all its pipe can hold: one of small
/// writes can be full with half the bytes it could hold.
const STUFFED_PATIENCE: Duration = Duration::from_millis(100);

impl Outlet {
    /// As [`Outlet::advance`], for lines that are written as records of this form.
    pub(super) fn compose(
        &mut self,
        inlet: &mut Inlet,
        form: &Form,
        tools: &mut Tools,
        now: Moment,
    ) -> Outcome {
        if tools.stage.is_taken() && tools.stage.recover(&mut tools.peek, now).is_err() {
            return Outcome::Later(STAGE_AGAIN);
        }
        if self.is_held(inlet.key, now) {
            return Outcome::Later(SHARE_AGAIN);
        }
        if let Err(error) = self.end_orphan(inlet.key, form) {
            return Outcome::Stuck(error);
        }
        let seen = match tools.peek.look(inlet.pipe.as_fd(), inlet.allowance()) {
            Ok(Seen::Bytes(seen)) => seen,
            Ok(Seen::Nothing) => return self.end_last(inlet, form, Outcome::Empty),
            Ok(Seen::End) => return self.end_last(inlet, form, Outcome::Ended),
            Err(error) => return Outcome::Stuck(error),
        };
        let tail = if inlet.ends_after(seen) { Tail::Last } else { Tail::More };
        let take = match whole_lines(seen) {
            _ if tail == Tail::Last => seen.len(),
            0 if self.is_half() || self.is_due(inlet, form, seen.len(), now) => seen.len(),
            0 => return Outcome::Later(inlet.patience(now)),
            whole => whole,
        };
        inlet.half_line = None;
        let tail = if self.may_end_lines(form) { tail } else { Tail::More };
        let outcome = self.write_records(inlet, form, (take, tail), tools, now);
        let until = now.after(HALF_LINE_PATIENCE);
        self.hold(self.is_half().then_some((inlet.key, until)));
        outcome
    }

    /// Writes the records of the first `take` bytes of the last look, rotating wherever a file is
    /// full.
    fn write_records(
        &mut self,
        inlet: &mut Inlet,
        form: &Form,
        (take, tail): (usize, Tail),
        tools: &mut Tools,
        now: Moment,
    ) -> Outcome {
        let Tools { peek, stage, reaper, tell, records, unix_micros, indexes, .. } = tools;
        let seen = &peek.seen()[..take];
        let stamp = time(*unix_micros);
        let mut moved = 0;
        for _ in 0..ROTATIONS_PER_TURN_MAX {
            let before = match self.sink.before() {
                Ok(before) => before,
                Err(error) => return Outcome::Stuck(error),
            };
            records.clear();
            let (rest, room) = (&seen[moved..], self.sink.room_bytes(now));
            let done = form.transcribe(rest, before, room, tail, &stamp, records);
            if done.taken > 0 {
                let made = Records { taken: done.taken, bytes: records, form, tail };
                let position = self.sink.position();
                if let Err(error) = stage.commit(inlet.pipe.as_fd(), &made, &mut self.sink) {
                    return Outcome::Stuck(error);
                }
                if let (Form::Plain, Some((_, offset))) = (form, position) {
                    self.times.note(indexes, &self.sink, offset, *unix_micros);
                }
                inlet.moved(done.taken, *unix_micros);
                inlet.tally.lines.seen(&rest[..done.taken]);
                moved += done.taken;
            }
            if done.full
                && let Err(error) = self.rotate(inlet, reaper, tell, now)
            {
                return Outcome::Stuck(error);
            }
            if moved == take || (done.taken == 0 && !done.full) {
                break;
            }
        }
        if moved > 0 { Outcome::Moved(moved) } else { Outcome::Later(SHARE_AGAIN) }
    }

    /// Ends what its writer left open in a file of several: its end would be lost in what the others
    /// write.
    fn end_orphan(&mut self, key: u64, form: &Form) -> io::Result<()> {
        if self.is_shared() && self.is_half() && !self.is_holder(key) {
            return self.end_record(form);
        }
        Ok(())
    }

    /// Ends the record of a stream that says no more.
    fn end_last(&mut self, inlet: &Inlet, form: &Form, outcome: Outcome) -> Outcome {
        if inlet.last_words.is_some()
            && self.may_end_lines(form)
            && self.is_half()
            && let Err(error) = self.end_record(form)
        {
            return Outcome::Stuck(error);
        }
        outcome
    }

    fn end_record(&mut self, form: &Form) -> io::Result<()> {
        let mut end = Vec::new();
        form.close(&mut end);
        self.sink.append(&end)
    }

    /// Whether a line gets an end that its writer did not write. Plain bytes stay what they are,
    /// unless instances share the file.
    fn may_end_lines(&self, form: &Form) -> bool {
        *form != Form::Plain || self.files == LogFiles::Merged
    }

    /// Whether half a line of `len` bytes is written as it is, rather than waited for.
    fn is_due(&self, inlet: &mut Inlet, form: &Form, len: usize, now: Moment) -> bool {
        if self.may_end_lines(form) {
            return inlet.is_stuffed(len, now);
        }
        inlet.is_overdue(len, now)
    }

    fn is_half(&self) -> bool {
        self.sink.before().is_ok_and(|before| before == Before::HalfLine)
    }
}

impl Inlet {
    /// Whether nothing will come after `seen`: the worker is gone, or has closed its stream.
    fn ends_after(&self, seen: &[u8]) -> bool {
        if let Some(left) = self.last_words {
            return left == seen.len();
        }
        let mut watch = [PollFd::new(&self.pipe, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !seen.ends_with(b"\n")
            && poll(&mut watch, Some(&now)).is_ok()
            && watch[0].revents().contains(PollFlags::HUP)
            && self.waiting_bytes() == seen.len()
    }

    /// Whether half a line of `len` bytes fills the pipe, so that its end can never come.
    fn is_stuffed(&mut self, len: usize, now: Moment) -> bool {
        let since = self.half_line_since(len, now);
        self.is_full(len) || (self.is_full(len * 2) && now.since(since) >= STUFFED_PATIENCE)
    }

    /// Rest before half a line is looked at again: the longer it waits, the longer.
    fn patience(&self, now: Moment) -> Duration {
        let waited = self.half_line.map_or(Duration::ZERO, |(_, since)| now.since(since));
        (waited / 4).clamp(SHARE_AGAIN, HALF_LINE_AGAIN_MAX)
    }
}
