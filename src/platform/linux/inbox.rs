//! What happened, on its way from the tasks of the control thread to the daemon's loop.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use tokio::sync::Notify;

use crate::world::Event;

/// Events that may wait for the loop. Readers of clients and channels pause beyond it, so that
/// no peer can fill memory; the rare facts about processes are always taken.
const EVENTS_MAX: usize = 4_096;

/// One queue of events; clones share it.
#[derive(Clone, Default)]
pub(super) struct Inbox(Rc<Inner>);

#[derive(Default)]
struct Inner {
    events: RefCell<VecDeque<Event>>,
    woken: Cell<bool>,
    filled: Notify,
    emptied: Notify,
}

impl Inbox {
    /// Adds an event that cannot wait.
    pub(super) fn push(&self, event: Event) {
        self.0.events.borrow_mut().push_back(event);
        self.0.filled.notify_one();
    }

    /// Adds an event of a peer that can be made to wait.
    pub(super) async fn offer(&self, event: Event) {
        while self.0.events.borrow().len() >= EVENTS_MAX {
            self.0.emptied.notified().await;
        }
        self.push(event);
    }

    /// Ends a wait although nothing is there: the world has something to do.
    pub(super) fn wake(&self) {
        self.0.woken.set(true);
        self.0.filled.notify_one();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.events.borrow().is_empty()
    }

    /// Waits until something is there.
    pub(super) async fn filled(&self) {
        while self.is_empty() && !self.0.woken.take() {
            self.0.filled.notified().await;
        }
    }

    /// Moves at most `count` events to `events`, oldest first.
    pub(super) fn take(&self, count: usize, events: &mut Vec<Event>) {
        let mut queue = self.0.events.borrow_mut();
        let count = count.min(queue.len());
        events.extend(queue.drain(..count));
        self.0.emptied.notify_waiters();
    }
}
