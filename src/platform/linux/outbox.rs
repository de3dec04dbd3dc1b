//! What is still to be written to one peer.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use tokio::sync::Notify;

use super::runtime::Stream;

/// The writing side of one stream. Dropping it ends the stream at once.
pub(super) struct Outbox {
    inner: Rc<Inner>,
    bytes_max: usize,
}

struct Inner {
    stream: Stream,
    queue: RefCell<VecDeque<Vec<u8>>>,
    bytes: Cell<usize>,
    state: Cell<State>,
    bell: Notify,
    relieved: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more will be added; end the stream once the queue is written.
    Finishing,
    Dead,
}

/// The peer does not read: what waits for it would pass the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    /// Begins to write to `stream`. At most `bytes_max` bytes wait. Called within the runtime.
    pub(super) fn open(stream: Stream, bytes_max: usize) -> Self {
        let inner = Rc::new(Inner {
            stream,
            queue: RefCell::default(),
            bytes: Cell::new(0),
            state: Cell::new(State::Open),
            bell: Notify::new(),
            relieved: Notify::new(),
        });
        tokio::task::spawn_local(write(Rc::clone(&inner)));
        Self { inner, bytes_max }
    }

    /// Queues `bytes`.
    ///
    /// # Errors
    ///
    /// [`Full`], and nothing is queued then. A single message larger than the bound is taken if
    /// nothing else waits.
    pub(super) fn push(&self, bytes: Vec<u8>) -> Result<(), Full> {
        let waiting = self.inner.bytes.get();
        if waiting > 0 && waiting + bytes.len() > self.bytes_max {
            return Err(Full);
        }
        if self.inner.state.get() == State::Open {
            self.inner.bytes.set(waiting + bytes.len());
            self.inner.queue.borrow_mut().push_back(bytes);
            self.inner.bell.notify_one();
        }
        Ok(())
    }

    /// Waits until at most `bytes` wait to be written, or the stream is over.
    pub(super) fn relief(&self, bytes: usize) -> impl Future<Output = ()> + use<> {
        let inner = Rc::clone(&self.inner);
        async move {
            while inner.state.get() == State::Open && inner.bytes.get() > bytes {
                inner.relieved.notified().await;
            }
        }
    }

    /// Ends the stream once everything is written.
    pub(super) fn finish(&self) {
        if self.inner.state.get() == State::Open {
            self.inner.enter(State::Finishing);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // A finishing stream ends by itself; its last bytes belong to the peer.
        if self.inner.state.get() == State::Open {
            self.inner.enter(State::Dead);
            self.inner.stream.shut();
        }
    }
}

impl Inner {
    fn enter(&self, state: State) {
        self.state.set(state);
        self.bell.notify_one();
        self.relieved.notify_waiters();
    }
}

async fn write(inner: Rc<Inner>) {
    loop {
        let next = inner.queue.borrow_mut().pop_front();
        match (next, inner.state.get()) {
            (_, State::Dead) => return,
            (Some(bytes), State::Open | State::Finishing) => {
                let count = bytes.len();
                if inner.stream.write_all(bytes).await.is_err() {
                    inner.enter(State::Dead);
                    inner.stream.shut();
                    return;
                }
                inner.bytes.update(|it| it.saturating_sub(count));
                inner.relieved.notify_waiters();
            }
            (None, State::Finishing) => {
                inner.enter(State::Dead);
                inner.stream.shut();
                return;
            }
            (None, State::Open) => inner.bell.notified().await,
        }
    }
}
