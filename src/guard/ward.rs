//! A process that is not our child, watched until it ends.
//!
//! Decides where to learn its exit status: from `/proc` until its parent takes note of its end,
//! from the kernel (6.15 and later) after that.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use rustix::event::PollFlags;

use super::procfs;
use crate::{domain::Exit, platform::sys};

/// A process that is not our child.
#[derive(Debug)]
pub(super) struct Ward {
    pub(super) pidfd: OwnedFd,
    /// When it was first seen to have ended.
    ended: Option<Duration>,
}

/// How long its parent, usually init, gets to take note of the end of another user's process.
const REAP_MAX: Duration = Duration::from_millis(200);

impl Ward {
    pub(super) fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd, ended: None }
    }

    /// What to poll its descriptor for: its end, then its being reaped, which always polls.
    pub(super) fn interest(&self) -> PollFlags {
        if self.ended.is_none() { PollFlags::IN } else { PollFlags::empty() }
    }

    /// When to stop waiting for its exit status.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.ended.map(|ended| ended + REAP_MAX)
    }

    /// Books that it ended, at `now` or before; tells how once that is known or never will be.
    pub(super) fn ended(&mut self, now: Duration) -> Option<Exit> {
        let status = procfs::zombie_status(self.pidfd.as_fd())
            .or_else(|| sys::pidfd_exit_status(self.pidfd.as_fd()).ok().flatten());
        if let Some(status) = status {
            return Some(exit_of_raw(status));
        }
        let ended = *self.ended.get_or_insert(now);
        (now >= ended + REAP_MAX).then_some(Exit::Unknown)
    }
}

fn exit_of_raw(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_statuses() {
        #[track_caller]
        fn check(status: i32, exit: Exit) {
            assert_eq!(exit_of_raw(status), exit);
        }
        check(0, Exit::Code(0));
        check(7 << 8, Exit::Code(7));
        check(9, Exit::Signal(9));
        check(128 + 11, Exit::Signal(11));
    }
}
