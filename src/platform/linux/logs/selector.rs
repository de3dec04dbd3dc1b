//! Waking up when a descriptor is readable: by `epoll(7)` here, by a ring in `platform::sys`.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
};

use crate::platform::sys::ring::PollRing;

/// One-shot watches for readability or hang-up, each with a key of its own.
pub(super) trait Selector {
    /// Watches `fd` once under `key`, which no other armed watch has.
    fn arm(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()>;

    /// Ends all watching of `fd` under `key`, before `fd` is closed.
    fn disarm(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()>;
}

impl Selector for PollRing {
    fn arm(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Self::arm(self, fd, key)
    }

    fn disarm(&mut self, _fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Self::disarm(self, key)
    }
}

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 64;

/// Watches with `EPOLLONESHOT`.
pub(super) struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { fd, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Sleeps until a watch comes true and appends the keys of those that did.
    pub(super) fn wait(&mut self, keys: &mut Vec<u64>) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        keys.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}

impl Selector for Epoll {
    fn arm(&mut self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let data = EventData::new_u64(key);
        match epoll::modify(&self.fd, fd, data, flags) {
            Err(Errno::NOENT) => Ok(epoll::add(&self.fd, fd, data, flags)?),
            changed => Ok(changed?),
        }
    }

    fn disarm(&mut self, fd: BorrowedFd<'_>, _key: u64) -> io::Result<()> {
        match epoll::delete(&self.fd, fd) {
            Err(Errno::NOENT) => Ok(()),
            deleted => Ok(deleted?),
        }
    }
}
