//! The control thread's runtime: `tokio-uring`, or plain tokio where `io_uring` is refused.
//!
//! Decides once, at start, by asking the kernel for a ring; Docker's default seccomp profile, for
//! one, refuses it. The difference ends here: [`Stream`] reads and writes the same either way.

use std::{io, os::unix::net::UnixStream as StdStream, rc::Rc};

use tokio::task::LocalSet;

/// Entries of the control ring: a read per client and worker is in flight, more queue in the ring.
const RING_ENTRIES: u32 = 64;

/// The one thread's executor.
pub(super) enum Runtime {
    /// Reads and writes complete in an `io_uring`.
    Uring(tokio_uring::Runtime),
    /// Reads and writes wait for readiness.
    Plain(tokio::runtime::Runtime, LocalSet),
}

impl Runtime {
    /// Starts the best runtime the kernel allows.
    ///
    /// # Errors
    ///
    /// If not even an epoll instance can be had.
    pub(super) fn start() -> io::Result<Self> {
        match tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
            Ok(runtime) => Ok(Self::Uring(runtime)),
            Err(refused) => {
                tracing::warn!(%refused, "no io_uring for the control thread, using epoll");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(Self::Plain(runtime, LocalSet::new()))
            }
        }
    }

    /// Runs `future`, and with it every task spawned before, until it is done.
    ///
    /// Tasks are suspended, not lost, between two calls.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Plain(runtime, local) => runtime.block_on(local.run_until(future)),
        }
    }

    /// What `daemon status` calls it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Plain(..) => "epoll",
        }
    }

    /// How a socket is read on this runtime.
    pub(super) const fn mode(&self) -> Mode {
        match self {
            Self::Uring(_) => Mode::Completion,
            Self::Plain(..) => Mode::Readiness,
        }
    }
}

/// How sockets are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By the ring.
    Completion,
    /// By epoll.
    Readiness,
}

/// One connected unix stream, read and written by two tasks at once.
#[derive(Clone)]
pub(super) enum Stream {
    Completion(Rc<tokio_uring::net::UnixStream>),
    Readiness(Rc<tokio::net::UnixStream>),
}

impl Stream {
    /// Takes over a connected socket. Called within the runtime.
    ///
    /// # Errors
    ///
    /// If the socket cannot be switched to the mode the runtime needs.
    pub(super) fn new(mode: Mode, socket: StdStream) -> io::Result<Self> {
        match mode {
            Mode::Completion => {
                // A ring answers EAGAIN at once on a nonblocking socket instead of waiting.
                socket.set_nonblocking(false)?;
                Ok(Self::Completion(Rc::new(tokio_uring::net::UnixStream::from_std(socket))))
            }
            Mode::Readiness => {
                socket.set_nonblocking(true)?;
                Ok(Self::Readiness(Rc::new(tokio::net::UnixStream::from_std(socket)?)))
            }
        }
    }

    /// Reads what there is into `buffer`, at most its capacity; no bytes: the peer is done.
    ///
    /// # Errors
    ///
    /// As `read(2)`.
    pub(super) async fn read(&self, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Completion(stream) => {
                let (count, mut buffer) = stream.read(buffer).await;
                buffer.truncate(count?);
                Ok(buffer)
            }
            Self::Readiness(stream) => {
                let mut buffer = buffer;
                buffer.clear();
                loop {
                    stream.readable().await?;
                    match stream.try_read_buf(&mut buffer) {
                        Ok(_) => return Ok(buffer),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As `write(2)`; how much was written is not known then.
    pub(super) async fn write_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Completion(stream) => stream.write_all(bytes).await.0,
            Self::Readiness(stream) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    stream.writable().await?;
                    match stream.try_write(rest) {
                        Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends both directions, so that a read in flight comes back.
    pub(super) fn shut(&self) {
        // The peer may be gone already; nothing is left to do then.
        let _already_closed = match self {
            Self::Completion(stream) => stream.shutdown(std::net::Shutdown::Both),
            Self::Readiness(stream) => {
                rustix::net::shutdown(stream.as_ref(), rustix::net::Shutdown::Both)
                    .map_err(io::Error::from)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Runtime {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Runtime::Plain(runtime, LocalSet::new())
    }

    #[track_caller]
    fn check(runtime: &Runtime) {
        let (ours, theirs) = StdStream::pair().unwrap();
        let mode = runtime.mode();
        runtime.block_on(async {
            let stream = Stream::new(mode, ours).unwrap();
            let reader = stream.clone();
            let reading = tokio::task::spawn_local(async move {
                let mut all = Vec::new();
                loop {
                    let bytes = reader.read(Vec::with_capacity(16)).await.unwrap();
                    if bytes.is_empty() {
                        return all;
                    }
                    all.extend(bytes);
                }
            });
            let big = vec![7_u8; 1 << 20];
            let peer = std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let mut theirs = theirs;
                theirs.write_all(b"a line of more than sixteen bytes\n").unwrap();
                let mut got = vec![0; 1 << 20];
                theirs.read_exact(&mut got).unwrap();
                got.iter().all(|it| *it == 7)
            });
            stream.write_all(big).await.unwrap();
            assert_eq!(reading.await.unwrap(), b"a line of more than sixteen bytes\n");
            assert!(peer.join().unwrap());
        });
    }

    #[test]
    fn streams_carry_bytes_both_ways_on_either_runtime() {
        check(&plain());
        check(&Runtime::start().unwrap());
    }

    #[test]
    fn shutting_a_stream_ends_a_read_in_flight() {
        for runtime in [plain(), Runtime::start().unwrap()] {
            let (ours, _theirs) = StdStream::pair().unwrap();
            let mode = runtime.mode();
            runtime.block_on(async {
                let stream = Stream::new(mode, ours).unwrap();
                let reader = stream.clone();
                let reading =
                    tokio::task::spawn_local(
                        async move { reader.read(Vec::with_capacity(16)).await },
                    );
                tokio::task::yield_now().await;
                stream.shut();
                assert!(reading.await.unwrap().unwrap().is_empty());
            });
        }
    }
}
