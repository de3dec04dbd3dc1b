//! How long a client may take: little to send a request it began, longer between two.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// From the first byte of a request to the last of its head; also from connecting to that byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the daemon's answer to the next request; the client must have read it by then.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// From a request to the daemon's answer, which has a shorter limit of its own.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Reading,
    Asking,
}

/// The clock of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    phase: Cell<Phase>,
    deadline: Cell<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Reading),
            deadline: Cell::new(Instant::now() + HEAD_TIMEOUT),
        }
    }

    /// Returns once the client took too long.
    pub(super) async fn run_out(&self) {
        while Instant::now() < self.deadline.get() {
            sleep_until(self.deadline.get()).await;
        }
    }

    pub(super) fn asked(&self) {
        self.enter(Phase::Asking, ASK_TIMEOUT);
    }

    pub(super) fn answered(&self) {
        self.enter(Phase::Idle, IDLE_TIMEOUT);
    }

    fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Reading, HEAD_TIMEOUT);
        }
    }

    fn enter(&self, phase: Phase, limit: Duration) {
        self.phase.set(phase);
        self.deadline.set(Instant::now() + limit);
    }
}

/// A stream that tells the clock when bytes arrive.
#[derive(Debug)]
pub(super) struct Watched {
    io: TokioIo<TcpStream>,
    patience: Rc<Patience>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, patience: Rc<Patience>) -> Self {
        Self { io: TokioIo::new(stream), patience }
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            self.patience.received();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }
}
