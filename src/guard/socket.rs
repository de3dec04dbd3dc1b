//! Frames with descriptors over the stream socket between daemon and guard.
//!
//! Decides how a frame and its descriptors travel: the body's length, the number of descriptors,
//! the body; the descriptors go with the frame's first byte (`unix(7)`, `SCM_RIGHTS`), so they
//! are there before the body is. Never blocks and never says what a frame means.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Longest body: more than the longest argument list and environment the kernel takes.
pub(super) const FRAME_MAX: usize = 8 << 20;
/// Most descriptors of one frame.
pub(super) const FDS_MAX: usize = 8;
/// Most bytes taken by one `recvmsg(2)`.
const CHUNK_MAX: usize = 8 << 10;
/// Length and number of descriptors.
const HEADER: usize = 5;

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// Bytes received that are not yet a whole frame.
    received: Vec<u8>,
    /// Descriptors received whose frame is not complete yet.
    received_fds: VecDeque<OwnedFd>,
    /// What is left to send of the frame under way; empty between frames.
    sending: Vec<u8>,
}

/// How far writing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it is with the kernel.
    Done,
    /// The rest must wait until the socket can take more.
    Blocked,
    /// The kernel keeps too many descriptors in flight already; try again in a moment. The
    /// socket may claim to be writable all the while.
    Starved,
}

/// Whether the other end is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More may come.
    Open,
    /// The other end is closed; what it had sent has been received.
    Closed,
}

/// A frame as it came.
pub(super) type Frame = (Vec<u8>, Vec<OwnedFd>);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Takes over a connected stream socket.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let (received, received_fds, sending) = (Vec::new(), VecDeque::new(), Vec::new());
        Ok(Self { fd, received, received_fds, sending })
    }

    /// Whether a frame has begun that is not wholly sent.
    pub(super) fn mid_frame(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Begins a new frame, after the one before was wholly sent. `Starved`, and `Blocked`
    /// without [`Socket::mid_frame`], mean that nothing was sent: offer it again.
    pub(super) fn offer(&mut self, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<Progress> {
        debug_assert!(!self.mid_frame(), "one frame at a time");
        if body.len() > FRAME_MAX || fds.len() > FDS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let [a, b, c, d] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let header = [a, b, c, d, u8::try_from(fds.len()).unwrap_or(u8::MAX)];
        let sent = match self.send(&header, body, fds) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => return Ok(Progress::Blocked),
            Err(Errno::TOOMANYREFS) => return Ok(Progress::Starved),
            Err(error) => return Err(error.into()),
        };
        if sent == header.len() + body.len() {
            return Ok(Progress::Done);
        }
        self.sending.extend_from_slice(header.get(sent..).unwrap_or_default());
        let body_sent = sent.saturating_sub(header.len());
        self.sending.extend_from_slice(body.get(body_sent..).unwrap_or_default());
        self.finish()
    }

    /// Sends the rest of the frame under way.
    pub(super) fn finish(&mut self) -> io::Result<Progress> {
        while self.mid_frame() {
            match self.send(&self.sending, &[], &[]) {
                Ok(sent) => drop(self.sending.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(Progress::Blocked),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Progress::Done)
    }

    fn send(&self, head: &[u8], body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(fds));
            debug_assert!(fits, "FDS_MAX descriptors have room");
        }
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::io::retry_on_intr(|| sendmsg(&self.fd, &parts, &mut control, flags))
    }

    /// Receives until nothing more is there and appends every complete frame to `frames`, but
    /// stops once there are `frames_max` of them.
    ///
    /// Fails if the other side breaks the rules.
    pub(super) fn receive(
        &mut self,
        frames: &mut VecDeque<Frame>,
        frames_max: usize,
    ) -> io::Result<State> {
        let mut chunk = [0; CHUNK_MAX];
        while frames.len() < frames_max {
            match self.receive_some(&mut chunk) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(State::Closed),
                Ok(count) => {
                    self.received.extend_from_slice(chunk.get(..count).unwrap_or_default());
                }
                Err(Errno::AGAIN) => return Ok(State::Open),
                Err(error) => return Err(error.into()),
            }
            self.split(frames)?;
        }
        Ok(State::Open)
    }

    fn receive_some(&mut self, chunk: &mut [u8]) -> Result<usize, Errno> {
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = rustix::io::retry_on_intr(|| {
            recvmsg(&self.fd, &mut [IoSliceMut::new(chunk)], &mut control, flags)
        })?;
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = ancillary {
                self.received_fds.extend(fds);
            }
        }
        // descriptors were lost: more than a frame may have, or our own table is full
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE);
        }
        Ok(message.bytes)
    }

    /// Cuts complete frames off what was received.
    fn split(&mut self, frames: &mut VecDeque<Frame>) -> io::Result<()> {
        let mut rest = self.received.as_slice();
        while let Some(([a, b, c, d, count], after)) = rest.split_first_chunk::<HEADER>() {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let count = usize::from(*count);
            if length > FRAME_MAX || count > FDS_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some((body, next)) = after.split_at_checked(length) else { break };
            if count > self.received_fds.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            frames.push_back((body.to_vec(), self.received_fds.drain(..count).collect()));
            rest = next;
        }
        let used = self.received.len() - rest.len();
        self.received.drain(..used);
        // what is left belongs to one unfinished frame
        if self.received_fds.len() > FDS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}
