//! The line to the guard, on the control thread's runtime.
//!
//! Orders go out at once where the socket takes them, else as soon as it does.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use crate::guard::{
    GuardError,
    link::{Link, Progress, State},
    wire::{Notice, Order},
};

/// The line itself; clones share it.
#[derive(Clone)]
pub(super) struct Guardian(Rc<Inner>);

struct Inner {
    link: RefCell<Link>,
    unsent: Notify,
}

/// What the guard said, with the descriptors that came along.
pub(super) type Said = (Notice, Vec<OwnedFd>);

/// Waits until the guard says something; before the runtime runs.
///
/// # Errors
///
/// If the guard is gone or speaks another language.
pub(super) fn hear(link: &mut Link) -> Result<Vec<Said>, GuardError> {
    loop {
        link.flush().map_err(GuardError::Link)?;
        let mut said = Vec::new();
        let state = link.receive(&mut said)?;
        if !said.is_empty() {
            return Ok(said);
        }
        if state == State::Closed {
            return Err(GuardError::Link(io::ErrorKind::UnexpectedEof.into()));
        }
        let flags = if link.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::new(link, flags)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(GuardError::Link(error.into())),
        }
    }
}

impl Guardian {
    pub(super) fn new(link: Link) -> Self {
        Self(Rc::new(Inner { link: RefCell::new(link), unsent: Notify::new() }))
    }

    /// Gives an order. A guard that cannot take it is noticed by [`Guardian::listen`].
    pub(super) fn order(&self, order: &Order) {
        self.order_with(order, Vec::new());
    }

    /// Gives an order about descriptors.
    pub(super) fn order_with(&self, order: &Order, fds: Vec<OwnedFd>) {
        let mut link = self.0.link.borrow_mut();
        if let Err(error) = link.send(order, fds) {
            tracing::error!(%error, "the guard did not get an order");
            return;
        }
        match link.flush() {
            Ok(Progress::Done) => (),
            Ok(Progress::Blocked | Progress::Starved) | Err(_) => self.0.unsent.notify_one(),
        }
    }

    /// Hands everything the guard says to `take`, until the guard is gone.
    ///
    /// # Errors
    ///
    /// If the guard died, or speaks another language.
    pub(super) async fn listen(&self, mut take: impl FnMut(Said)) -> Result<(), GuardError> {
        let fd = self.0.link.borrow().as_fd().try_clone_to_owned().map_err(GuardError::Link)?;
        let ready = crate::platform::sys::watch(fd).map_err(GuardError::Link)?;
        loop {
            self.send_rest(&ready).await.map_err(GuardError::Link)?;
            let mut said = Vec::new();
            let state = self.0.link.borrow_mut().receive(&mut said)?;
            let nothing = said.is_empty();
            said.into_iter().for_each(&mut take);
            if state == State::Closed {
                return Err(GuardError::Link(io::ErrorKind::UnexpectedEof.into()));
            }
            if nothing {
                self.rest(&ready).await.map_err(GuardError::Link)?;
            }
        }
    }

    /// Flushes, waiting only if the socket is full.
    async fn send_rest(&self, ready: &AsyncFd<OwnedFd>) -> io::Result<()> {
        while self.0.link.borrow().wants_write() {
            let progress = self.0.link.borrow_mut().flush()?;
            match progress {
                Progress::Done => return Ok(()),
                Progress::Starved => tokio::time::sleep(super::STARVED_REST).await,
                Progress::Blocked => {
                    // While we wait to be heard, the guard may wait to be heard, too.
                    let mut either = ready.ready(Interest::READABLE | Interest::WRITABLE).await?;
                    let is_readable = either.ready().is_readable();
                    either.clear_ready();
                    if is_readable {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until the guard says something or an order is left over.
    async fn rest(&self, ready: &AsyncFd<OwnedFd>) -> io::Result<()> {
        tokio::select! {
            readable = ready.readable() => readable?.clear_ready(),
            () = self.0.unsent.notified() => (),
        }
        Ok(())
    }
}
