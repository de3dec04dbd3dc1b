//! Streams whose lines are written as records: with a time before them, or as JSON.
//!
//! Half a line waits in its pipe for its end, so that a record comes in one piece; only a line that
//! is longer than the pipe is written in several, and the file is its own until it ends.

use std::{os::fd::AsFd as _, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use crate::{
    domain::Moment,
    logs::{
        cut::{Before, whole_lines},
        record::{Tail, time},
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
    /// As [`Outlet::advance`], for an inlet with a form.
    pub(super) fn compose(&mut self, inlet: &mut Inlet, tools: &mut Tools, now: Moment) -> Outcome {
        if tools.stage.is_taken() && tools.stage.recover(&mut tools.peek, now).is_err() {
            return Outcome::Later(STAGE_AGAIN);
        }
        if self.is_held(inlet.key, now) {
            return Outcome::Later(SHARE_AGAIN);
        }
        if let Err(error) = self.end_orphan(inlet) {
            return Outcome::Stuck(error);
        }
        let seen = match tools.peek.look(inlet.pipe.as_fd(), inlet.allowance()) {
            Ok(Seen::Bytes(seen)) => seen,
            Ok(Seen::Nothing) => return self.end_last(inlet, Outcome::Empty),
            Ok(Seen::End) => return self.end_last(inlet, Outcome::Ended),
            Err(error) => return Outcome::Stuck(error),
        };
        let tail = if inlet.ends_after(seen) { Tail::Last } else { Tail::More };
        let take = match whole_lines(seen) {
            _ if tail == Tail::Last => seen.len(),
            0 if self.is_half() || inlet.is_stuffed(seen.len(), now) => seen.len(),
            0 => return Outcome::Later(inlet.patience(now)),
            whole => whole,
        };
        inlet.half_line = None;
        let outcome = self.write_records(inlet, take, tail, tools, now);
        let until = now.after(HALF_LINE_PATIENCE);
        self.hold(self.is_half().then_some((inlet.key, until)));
        outcome
    }

    /// Writes the records of the first `take` bytes of the last look, rotating wherever a file is
    /// full.
    fn write_records(
        &mut self,
        inlet: &mut Inlet,
        take: usize,
        tail: Tail,
        tools: &mut Tools,
        now: Moment,
    ) -> Outcome {
        let Some(form) = inlet.form.clone() else { return Outcome::Empty };
        let Tools { peek, stage, reaper, tell, records, unix_micros, .. } = tools;
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
                let made = Records { taken: done.taken, bytes: records, form: &form, tail };
                if let Err(error) = stage.commit(inlet.pipe.as_fd(), &made, &mut self.sink) {
                    return Outcome::Stuck(error);
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

    /// Ends a record that its writer left open in a file of several: its end would be lost in what
    /// the others write.
    fn end_orphan(&mut self, inlet: &Inlet) -> std::io::Result<()> {
        if self.writers > 1 && self.is_half() && !self.is_holder(inlet.key) {
            return self.end_record(inlet);
        }
        Ok(())
    }

    /// Ends the record of a stream that says no more.
    fn end_last(&mut self, inlet: &Inlet, outcome: Outcome) -> Outcome {
        if inlet.last_words.is_some()
            && self.is_half()
            && let Err(error) = self.end_record(inlet)
        {
            return Outcome::Stuck(error);
        }
        outcome
    }

    fn end_record(&mut self, inlet: &Inlet) -> std::io::Result<()> {
        let mut end = Vec::new();
        if let Some(form) = &inlet.form {
            form.close(&mut end);
        }
        self.sink.append(&end)
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
