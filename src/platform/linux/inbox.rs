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
    /// Events ever added, and ever taken.
    added: Cell<u64>,
    taken: Cell<u64>,
}

impl Inbox {
    /// Adds an event that cannot wait.
    pub(super) fn push(&self, event: Event) {
        self.0.events.borrow_mut().push_back(event);
        self.0.added.update(|it| it + 1);
        self.0.filled.notify_one();
    }

    /// Adds an event of a peer that can be made to wait.
    pub(super) async fn offer(&self, event: Event) {
        while self.0.events.borrow().len() >= EVENTS_MAX {
            self.0.emptied.notified().await;
        }
        self.push(event);
    }

    /// Adds an event of a peer that may cause much work, and waits until the loop has taken it:
    /// however much such a peer sends, the next one's turn comes after one event.
    pub(super) async fn hand_over(&self, event: Event) {
        self.offer(event).await;
        let number = self.0.added.get();
        while self.0.taken.get() < number {
            self.0.emptied.notified().await;
        }
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
        self.0.taken.update(|it| it + u64::try_from(count).unwrap_or(u64::MAX));
        self.0.emptied.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{future, task::Poll};

    use super::*;
    use crate::domain::ClientId;

    #[tokio::test]
    async fn who_hands_over_waits_for_its_turn() {
        let inbox = Inbox::default();
        inbox.push(Event::StoreFailed("earlier".to_owned()));
        let mut handing = Box::pin(inbox.hand_over(Event::Client(ClientId(1), vec![b'x'])));
        let mut is_over = async || {
            let poll = |context: &mut std::task::Context<'_>| {
                Poll::Ready(handing.as_mut().poll(context).is_ready())
            };
            future::poll_fn(poll).await
        };
        assert!(!is_over().await);
        let mut events = Vec::new();
        inbox.take(1, &mut events);
        assert!(!is_over().await, "only the earlier one was taken");
        inbox.take(1, &mut events);
        assert!(is_over().await);
        assert_eq!(events.len(), 2);
    }
}
