//! Where wishes and notices wait until the daemon collects them.

use std::collections::VecDeque;

use super::{Notice, Outcome, Step, Ticket};
use crate::{domain::WorkerId, world::Action};

/// Both queues are emptied every turn; what one turn can add is bounded by workers and events.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    notices: VecDeque<Notice>,
    /// The request under way in the app at work, for progress.
    ticket: Option<Ticket>,
}

impl Outbox {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// Reports progress from now on to the holder of `ticket`.
    pub(super) fn serve(&mut self, ticket: Option<Ticket>) {
        self.ticket = ticket;
    }

    pub(super) fn step(&mut self, worker: WorkerId, step: Step) {
        if let Some(ticket) = self.ticket {
            self.tell(Notice::Progress(ticket, worker, step));
        }
    }

    /// Ends the request served; from then on nobody listens to progress.
    pub(super) fn finish(&mut self, ticket: Option<Ticket>, outcome: Outcome) {
        self.ticket = None;
        if let Some(ticket) = ticket {
            self.tell(Notice::Finished(ticket, outcome));
        }
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}
