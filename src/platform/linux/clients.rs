//! The control socket: accepts clients, checks who they are, carries their bytes.
//!
//! Decides nothing about what they ask; [`crate::control`] reads it.

use std::{
    cell::RefCell, collections::BTreeMap, io, os::unix::net::UnixListener as StdListener, rc::Rc,
};

use rustix::net::sockopt::socket_peercred;
use tokio::net::UnixListener;

use super::{
    inbox::Inbox,
    outbox::{Full, Outbox},
    runtime::{Mode, Stream},
};
use crate::{domain::ClientId, world::Event};

/// Clients at once. A CLI command is one client for its duration; beyond it connections wait in
/// the socket's backlog.
const CLIENTS_MAX: usize = 1_024;

/// Bytes that may wait for a client that does not read: the list of a thousand workers is 1 MiB.
const OUTPUT_MAX: usize = 32 << 20;

/// Bytes of replies that may wait before a client's next requests are read: who asks without
/// listening is made to wait, and costs the others nothing.
const UNREAD_MAX: usize = 64 << 10;

/// Bytes taken from a client at a time.
const READ_BYTES: usize = 16 << 10;

/// Rest after `accept(2)` failed for want of descriptors or memory.
const ACCEPT_REST: std::time::Duration = std::time::Duration::from_millis(100);

/// Every client of the control socket.
#[derive(Clone)]
pub(super) struct Clients(Rc<Inner>);

struct Inner {
    mode: Mode,
    inbox: Inbox,
    open: RefCell<BTreeMap<ClientId, Outbox>>,
    left: tokio::sync::Notify,
    next: Rc<std::cell::Cell<u64>>,
}

impl Clients {
    /// Begins to accept on `listener`. Called within the runtime.
    ///
    /// # Errors
    ///
    /// If the listener cannot be watched.
    pub(super) fn serve(
        mode: Mode,
        inbox: Inbox,
        listener: StdListener,
        next: Rc<std::cell::Cell<u64>>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let clients = Self(Rc::new(Inner {
            mode,
            inbox,
            open: RefCell::default(),
            left: tokio::sync::Notify::new(),
            next,
        }));
        tokio::task::spawn_local(clients.clone().accept(listener));
        Ok(clients)
    }

    /// Writes to a client. One that left is ignored; one that does not read is cut off.
    pub(super) fn send(&self, client: ClientId, bytes: Vec<u8>) {
        let full = self.0.open.borrow().get(&client).map(|outbox| outbox.push(bytes));
        if full == Some(Err(Full)) {
            tracing::warn!(client = client.0, "client does not read its replies, cut off");
            self.0.open.borrow_mut().remove(&client);
            self.0.left.notify_one();
        }
    }

    /// Ends a client once everything is written.
    pub(super) fn finish(&self, client: ClientId) {
        if let Some(outbox) = self.0.open.borrow_mut().remove(&client) {
            outbox.finish();
            self.0.left.notify_one();
        }
    }

    async fn accept(self, listener: UnixListener) {
        loop {
            while self.0.open.borrow().len() >= CLIENTS_MAX {
                self.0.left.notified().await;
            }
            match listener.accept().await {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control client");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn welcome(&self, stream: tokio::net::UnixStream) {
        if !is_ours(&stream) {
            tracing::warn!("a control client of another user was turned away");
            return;
        }
        let stream = match stream.into_std().and_then(|it| Stream::new(self.0.mode, it)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot serve a control client");
                return;
            }
        };
        let client = ClientId(self.0.next.get());
        self.0.next.set(client.0 + 1);
        self.0.open.borrow_mut().insert(client, Outbox::open(stream.clone(), OUTPUT_MAX));
        tokio::task::spawn_local(self.clone().read(client, stream));
    }

    async fn read(self, client: ClientId, stream: Stream) {
        loop {
            let relief = self.0.open.borrow().get(&client).map(|it| it.relief(UNREAD_MAX));
            if let Some(relief) = relief {
                relief.await;
            }
            match stream.read(Vec::with_capacity(READ_BYTES)).await {
                Ok(bytes) if !bytes.is_empty() => {
                    self.0.inbox.hand_over(Event::Client(client, bytes)).await;
                }
                Ok(_) | Err(_) => break,
            }
        }
        // A client may close its writing side and still wait for replies: the core hangs up.
        self.0.inbox.offer(Event::ClientClosed(client)).await;
    }
}

/// Whether the peer runs as our user, or as root.
fn is_ours(stream: &tokio::net::UnixStream) -> bool {
    socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}
