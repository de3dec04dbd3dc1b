//! HTTP requests on their way through the daemon's loop.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use tokio::sync::oneshot;

use super::inbox::Inbox;
use crate::{
    domain::ClientId,
    world::{Answer, Event, Question},
};

/// Requests that wait for their answer.
pub(super) struct Scrapes {
    inbox: Inbox,
    next: Rc<Cell<u64>>,
    waiting: RefCell<BTreeMap<ClientId, oneshot::Sender<Answer>>>,
}

impl Scrapes {
    pub(super) fn new(inbox: Inbox, next: Rc<Cell<u64>>) -> Self {
        Self { inbox, next, waiting: RefCell::default() }
    }

    /// Asks the core; answers with 503 if the daemon ends first.
    pub(super) async fn ask(&self, question: Question) -> Answer {
        let client = ClientId(self.next.get());
        self.next.set(client.0 + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(client, sender);
        self.inbox.offer(Event::Asked(client, question)).await;
        receiver.await.unwrap_or_else(|_ending| Answer {
            status: 503,
            content_type: "application/json",
            body: br#"{"error":"the daemon is ending"}"#.to_vec(),
        })
    }

    /// Gives a request its answer; one that gave up waiting is ignored.
    pub(super) fn answer(&self, client: ClientId, answer: Answer) {
        if let Some(sender) = self.waiting.borrow_mut().remove(&client) {
            let _the_client_may_have_left = sender.send(answer);
        }
    }
}
