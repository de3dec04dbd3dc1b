//! What a child says to its parent between fork and exec: at most one trap, at most one failure.
//!
//! One message each over a socket that execve(2) closes. The child's side allocates nothing.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use super::{Failure, Step};

/// What was heard of a child.
#[derive(Default)]
pub(super) struct Report {
    pub(super) trap: Option<OwnedFd>,
    pub(super) failure: Option<Failure>,
}

/// A failure: its step, and the number of the error. The message of a trap is shorter.
type FailureBytes = [u8; 5];

/// The child's last words. If they fail nobody is left to listen.
pub(super) fn tell_failure(report: &OwnedFd, (step, errno): Failure) {
    let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
    let bytes: FailureBytes = [step.code(), a, b, c, d];
    let _told = rustix::io::write(report, &bytes);
}

/// Hands the parent where the child asks before it binds.
pub(super) fn tell_trap(report: &OwnedFd, trap: &OwnedFd) -> Result<(), Errno> {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let fds = [trap.as_fd()];
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(fits, "one descriptor has room");
    sendmsg(report, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Blocks until the child has replaced itself by its program, which closes the socket, or failed.
pub(super) fn read_report(report: &OwnedFd) -> Report {
    let mut heard = Report::default();
    loop {
        let mut bytes: FailureBytes = [0; 5];
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let message = rustix::io::retry_on_intr(|| {
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            recvmsg(report, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let Ok(count) = message.map(|it| it.bytes) else { return heard };
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = ancillary {
                heard.trap = fds.next();
            }
        }
        match count {
            0 => return heard,
            5 => {
                let [step, errno @ ..] = bytes;
                let step = Step::ALL.get(usize::from(step)).copied().unwrap_or(Step::Execute);
                let errno = Errno::from_raw_os_error(i32::from_ne_bytes(errno));
                heard.failure = Some((step, errno));
            }
            _ => {}
        }
    }
}
