//! A ring that only watches descriptors for readability, and its bell for glommio.
//!
//! Decides nothing about the descriptors it watches. No operation here hands memory to the
//! kernel; the worst a descriptor closed too early can do is wake somebody for nothing.
#![expect(unsafe_code, reason = "io_uring submissions and raw descriptors for glommio")]

use std::{
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd},
};

use glommio::io::BufferedFile;
use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, PollFlags, eventfd};

/// Submissions that fit the ring before it must enter the kernel.
const SUBMISSIONS_MAX: u32 = 256;

/// Completions the ring holds; more wait in the kernel (`IORING_FEAT_NODROP`).
const COMPLETIONS_MAX: u32 = 4096;

/// Marks completions nobody waits for.
const NOBODY: u64 = u64::MAX;

/// One-shot readability watches on an `io_uring` of its own, see `io_uring_setup(2)`:
/// `IORING_SETUP_SINGLE_ISSUER` and `IORING_SETUP_DEFER_TASKRUN`, so that a readable descriptor
/// costs no interrupt of the watching thread. Must stay on the thread that made it.
pub struct PollRing {
    ring: IoUring,
    bell: OwnedFd,
}

impl fmt::Debug for PollRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollRing").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl PollRing {
    /// Sets a ring up.
    ///
    /// # Errors
    ///
    /// `EPERM` or `ENOSYS` where `io_uring` is forbidden, `EINVAL` on Linux before 6.1.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS_MAX)
            .build(SUBMISSIONS_MAX)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        Ok(Self { ring, bell })
    }

    /// Opens the bell for glommio: reading 8 bytes of it waits until some watch may have come
    /// true since the last read.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn bell(&self) -> io::Result<BufferedFile> {
        let bell = self.bell.as_fd().try_clone_to_owned()?.into_raw_fd();
        // SAFETY: `bell` was just duplicated and released by its owner; the file alone closes it.
        Ok(unsafe { BufferedFile::from_raw_fd(bell) })
    }

    /// Watches `fd` until it is readable or hung up, once; [`PollRing::reap`] then returns `key`.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` says when the ring is full and cannot be submitted.
    pub fn arm(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        let watch =
            opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), u32::from(PollFlags::IN.bits()))
                .build()
                .user_data(key);
        self.push(&watch)
    }

    /// Ends the watch armed with `key`, if it is still armed.
    ///
    /// # Errors
    ///
    /// As for [`PollRing::arm`].
    pub fn disarm(&mut self, key: u64) -> io::Result<()> {
        self.push(&opcode::PollRemove::new(key).build().user_data(NOBODY))
    }

    /// Hands new watches to the kernel and appends to `keys` those that came true.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` says, except for `EINTR` and `EBUSY`: those are tried again by
    /// the next call.
    pub fn reap(&mut self, keys: &mut Vec<u64>) -> io::Result<()> {
        let queue = self.ring.submission();
        let idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        if !idle
            && let Err(error) = self.ring.submit()
            && !transient(&error)
        {
            return Err(error);
        }
        let completed = self.ring.completion().map(|entry| entry.user_data());
        keys.extend(completed.filter(|key| *key != NOBODY));
        Ok(())
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        let mut queue = self.ring.submission();
        // SAFETY: poll operations carry a number and a mask, no pointers.
        unsafe { queue.push(entry) }.map_err(io::Error::other)
    }
}

fn transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ResourceBusy)
}
