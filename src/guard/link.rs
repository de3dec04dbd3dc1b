//! The daemon's end of the line to its guard.
//!
//! Decides nothing: orders go out in order, notices come in in order, each with its descriptors.
//! Knows no runtime; wait for the descriptor to become readable, and writable while
//! [`Link::wants_write`].

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    GuardError,
    socket::{FDS_MAX, FRAME_MAX, Socket},
    wire::{Notice, Order},
};

pub use super::socket::{Progress, State};

/// Most bytes of orders that wait for the guard. A guard that takes none for so long is broken.
const QUEUE_MAX: usize = 64 << 20;
/// Most notices one [`Link::receive`] returns, so that a busy guard cannot hold up the daemon.
const NOTICES_MAX: usize = 1024;
/// Environment variable that names the descriptor.
pub(super) const FD_VARIABLE: &str = "BUNPILOT_GUARD_FD";

/// The daemon's end of the line to its guard.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    queued_bytes: usize,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    /// Takes over the descriptor the guard left for the daemon it started.
    ///
    /// Call it once, at the very beginning of the process. Fails if no guard started us.
    pub fn from_env() -> Result<Self, GuardError> {
        let number = std::env::var(FD_VARIABLE)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(GuardError::NoGuard)?;
        let fd = crate::platform::sys::take_inherited(number).or(Err(GuardError::NoGuard))?;
        Self::new(fd)
    }

    pub(super) fn new(fd: OwnedFd) -> Result<Self, GuardError> {
        let socket = Socket::new(fd).map_err(GuardError::Link)?;
        Ok(Self { socket, queue: VecDeque::new(), queued_bytes: 0 })
    }

    /// Queues an order together with its descriptors; sends nothing yet.
    ///
    /// Fails, and queues nothing, if the order is larger than the wire takes (8 MiB and 8
    /// descriptors), or if the guard has not taken 64 MiB of earlier ones.
    pub fn send(&mut self, order: &Order, fds: Vec<OwnedFd>) -> Result<(), GuardError> {
        let body = order.encode();
        if body.len() > FRAME_MAX || fds.len() > FDS_MAX {
            return Err(GuardError::TooLarge { bytes: body.len(), fds: fds.len() });
        }
        if self.queued_bytes + body.len() > QUEUE_MAX {
            return Err(GuardError::Stuck);
        }
        self.queued_bytes += body.len();
        self.queue.push_back((body, fds));
        Ok(())
    }

    /// Sends as much as the socket takes.
    ///
    /// Fails with `EPIPE` if the guard is dead: start a new one with [`respawn`](super::respawn()).
    pub fn flush(&mut self) -> std::io::Result<Progress> {
        loop {
            match self.socket.finish()? {
                Progress::Done => {}
                waiting @ (Progress::Blocked | Progress::Starved) => return Ok(waiting),
            }
            let Some((body, fds)) = self.queue.front() else { return Ok(Progress::Done) };
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let progress = self.socket.offer(body, &borrowed)?;
            if progress == Progress::Done || self.socket.mid_frame() {
                self.queued_bytes -= body.len();
                self.queue.pop_front();
            }
            if progress != Progress::Done {
                return Ok(progress);
            }
        }
    }

    /// Whether orders wait for the socket to take more.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.socket.mid_frame() || !self.queue.is_empty()
    }

    /// Appends every notice that has arrived, with its descriptors, but at most 1024; so call it
    /// again while it returns that many.
    ///
    /// Fails if the guard breaks the protocol, that is if it is of another version.
    pub fn receive(
        &mut self,
        notices: &mut Vec<(Notice, Vec<OwnedFd>)>,
    ) -> Result<State, GuardError> {
        let mut frames = VecDeque::new();
        let state = self.socket.receive(&mut frames, NOTICES_MAX).map_err(GuardError::Link)?;
        for (body, fds) in frames {
            notices.push((Notice::decode(&body).map_err(GuardError::Wire)?, fds));
        }
        Ok(state)
    }
}
