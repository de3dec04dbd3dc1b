//! Clients that never rest: each request on a connection of its own.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    num::NonZeroU16,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How many clients there are.
pub(super) const CLIENTS: usize = 16;

/// Longest wait for an answer; after it a request counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(5);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n";

/// The clients, at work until dropped.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
}

/// What the clients have seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that ended, well or not.
    pub(super) sent: u64,
    /// Those without a whole answer of status 200.
    pub(super) failed: u64,
}

impl Tally {
    /// What happened since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { sent: self.sent - earlier.sent, failed: self.failed - earlier.failed }
    }
}

impl Load {
    /// Lets the clients loose on a port of this machine.
    pub(super) fn on(port: NonZeroU16) -> Self {
        let shared = Arc::new(Shared::default());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()));
        let client = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.ask_on(address))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { shared, clients }
    }

    /// What they have seen so far.
    pub(super) fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        // Failures first: a request that fails in between is then counted as sent at least.
        let failed = read(&self.shared.failed);
        Tally { sent: read(&self.shared.sent), failed }
    }

    /// The first failure, in words, since this was last asked.
    pub(super) fn take_error(&self) -> Option<String> {
        self.shared.first_error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _panicked = client.join();
        }
    }
}

impl Shared {
    fn ask_on(&self, address: SocketAddr) {
        while !self.ended.load(Ordering::Relaxed) {
            let result = ask(address);
            self.sent.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = result {
                self.failed.fetch_add(1, Ordering::SeqCst);
                let mut first = self.first_error.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error.to_string());
            }
        }
    }
}

fn ask(address: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    server.set_read_timeout(Some(ANSWER_MAX))?;
    server.write_all(REQUEST)?;
    let mut reply = Vec::with_capacity(256);
    server.read_to_end(&mut reply)?;
    if reply.starts_with(b"HTTP/1.1 200 ") && reply.ends_with(b"\n") {
        Ok(())
    } else {
        let line = reply.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Err(io::Error::other(format!("answer `{}`", String::from_utf8_lossy(line))))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn failures_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
        let load = Load::on(port);
        // Two connections are closed without an answer, and then the port itself.
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
        drop(listener);
        while load.tally().sent < 40 {
            thread::yield_now();
        }
        let tally = load.tally();
        assert_eq!(tally.failed, tally.failed.min(tally.sent));
        assert!(tally.failed >= 40, "{tally:?}");
        assert!(load.take_error().is_some());
    }
}
