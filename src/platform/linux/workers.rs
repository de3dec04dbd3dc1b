//! What the control thread holds for each worker: its channel, its notify socket, its facts.
//!
//! Carries bytes both ways and decides nothing; [`crate::ipc`] reads them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram as StdDatagram, UnixStream as StdStream},
    },
    rc::Rc,
};

use tokio::{net::UnixDatagram, task::JoinHandle};

use super::{
    inbox::Inbox,
    outbox::{Full, Outbox},
    runtime::{Mode, Stream},
};
use crate::{
    domain::{AppId, Pid, WorkerId},
    ipc::notify::DATAGRAM_MAX,
    world::{Event, Launch},
};

/// Bytes that may wait for a worker that does not read its channel; what we send is tiny.
const CHANNEL_MAX: usize = 256 << 10;

/// Bytes taken from a worker's channel at a time: room for a few messages, since every worker has
/// a read in flight.
const READ_BYTES: usize = 1 << 10;

/// The same while a worker says more than that.
const READ_BYTES_MAX: usize = 16 << 10;

/// The workers this daemon started or took over.
#[derive(Clone)]
pub(super) struct Workers(Rc<Inner>);

struct Inner {
    mode: Mode,
    inbox: Inbox,
    held: RefCell<BTreeMap<WorkerId, Held>>,
}

/// One worker.
struct Held {
    launch: Launch,
    pid: Option<Pid>,
    channel: Option<Outbox>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The ends of a worker's channel and notify socket that stay with the manager.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Stream socket of the JSON channel.
    pub(super) channel: Option<OwnedFd>,
    /// Datagram socket bound to `NOTIFY_SOCKET`.
    pub(super) notify: Option<OwnedFd>,
}

impl Workers {
    /// None yet.
    pub(super) fn new(mode: Mode, inbox: Inbox) -> Self {
        Self(Rc::new(Inner { mode, inbox, held: RefCell::default() }))
    }

    /// Remembers what was asked for, so that the answer finds it.
    pub(super) fn expect(&self, launch: Launch) {
        let worker = launch.worker;
        let held = Held { launch, pid: None, channel: None, tasks: Vec::new() };
        self.0.held.borrow_mut().insert(worker, held);
    }

    /// Forgets a worker; its channel is closed.
    pub(super) fn forget(&self, worker: WorkerId) {
        self.0.held.borrow_mut().remove(&worker);
    }

    /// Workers that were asked for and have no process yet.
    pub(super) fn unborn(&self) -> Vec<WorkerId> {
        let held = self.0.held.borrow();
        held.iter().filter(|(_, held)| held.pid.is_none()).map(|(worker, _)| *worker).collect()
    }

    /// What was asked for, if the worker is known.
    pub(super) fn launch(&self, worker: WorkerId) -> Option<Launch> {
        self.0.held.borrow().get(&worker).map(|held| held.launch.clone())
    }

    /// Apps with a worker for which `is_it` holds.
    pub(super) fn apps(&self, is_it: impl Fn(&Launch) -> bool) -> BTreeSet<AppId> {
        let held = self.0.held.borrow();
        let found = held.iter().filter(|(_, held)| is_it(&held.launch));
        found.map(|(worker, _)| worker.instance.app).collect()
    }

    /// Its process, once there is one.
    pub(super) fn pid(&self, worker: WorkerId) -> Option<Pid> {
        self.0.held.borrow().get(&worker).and_then(|held| held.pid)
    }

    /// Whether no other worker of its app is there, so that its port leads to it alone.
    pub(super) fn is_alone(&self, worker: WorkerId) -> bool {
        let held = self.0.held.borrow();
        held.keys().filter(|it| it.instance.app == worker.instance.app).count() == 1
    }

    /// Ties a task's life to the worker's. Called within the runtime.
    pub(super) fn attend(&self, worker: WorkerId, task: impl Future<Output = ()> + 'static) {
        if let Some(held) = self.0.held.borrow_mut().get_mut(&worker) {
            held.tasks.retain(|task| !task.is_finished());
            held.tasks.push(tokio::task::spawn_local(task));
        }
    }

    /// The worker's process exists: begins to read what it says. Called within the runtime.
    pub(super) fn arrived(&self, worker: WorkerId, pid: Pid, ends: Ends) {
        if let Some(held) = self.0.held.borrow_mut().get_mut(&worker) {
            held.pid = Some(pid);
        }
        if let Some(channel) = ends.channel
            && let Err(error) = self.open_channel(worker, channel)
        {
            tracing::warn!(%worker, %error, "cannot read the worker's channel");
        }
        if let Some(notify) = ends.notify
            && let Err(error) = self.open_notify(worker, notify)
        {
            tracing::warn!(%worker, %error, "cannot read the worker's notify socket");
        }
    }

    /// Writes to the worker's channel, if it has one and reads it.
    pub(super) fn say(&self, worker: WorkerId, line: Vec<u8>) {
        let held = self.0.held.borrow();
        let channel = held.get(&worker).and_then(|held| held.channel.as_ref());
        if channel.map(|it| it.push(line)) == Some(Err(Full)) {
            tracing::warn!(%worker, "the worker does not read its channel, a message was dropped");
        }
    }

    fn open_channel(&self, worker: WorkerId, channel: OwnedFd) -> io::Result<()> {
        let stream = Stream::new(self.0.mode, StdStream::from(channel))?;
        if let Some(held) = self.0.held.borrow_mut().get_mut(&worker) {
            held.channel = Some(Outbox::open(stream.clone(), CHANNEL_MAX));
        }
        self.attend(worker, read_channel(self.0.inbox.clone(), worker, stream));
        Ok(())
    }

    fn open_notify(&self, worker: WorkerId, notify: OwnedFd) -> io::Result<()> {
        let socket = StdDatagram::from(notify);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        self.attend(worker, read_notify(self.0.inbox.clone(), worker, socket));
        Ok(())
    }
}

async fn read_channel(inbox: Inbox, worker: WorkerId, stream: Stream) {
    let mut room = READ_BYTES;
    while let Ok(bytes) = stream.read(Vec::with_capacity(room)).await
        && !bytes.is_empty()
    {
        room = if bytes.len() >= room { READ_BYTES_MAX } else { READ_BYTES };
        inbox.offer(Event::Channel(worker, bytes)).await;
    }
    inbox.offer(Event::ChannelClosed(worker)).await;
}

/// Descriptors that come along (`BARRIER=1`, `FDSTORE=1`) are closed by the kernel, since no
/// room is given for them: that is the answer a barrier waits for.
async fn read_notify(inbox: Inbox, worker: WorkerId, socket: UnixDatagram) {
    while socket.readable().await.is_ok() {
        match receive(&socket) {
            Ok(datagram) => inbox.offer(Event::Notify(worker, datagram)).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            Err(_) => return,
        }
    }
}

/// Takes one datagram. The room for it is the thread's, not one for each silent worker.
fn receive(socket: &UnixDatagram) -> io::Result<Vec<u8>> {
    let mut buffer = [0; DATAGRAM_MAX];
    let count = socket.try_recv(&mut buffer)?;
    Ok(buffer.get(..count).unwrap_or_default().to_vec())
}
