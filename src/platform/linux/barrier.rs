//! What must not happen before the database knows of it.
//!
//! A daemon may die between any two lines of its code. So what was decided is on disk first, then
//! it is done, then it is said: the next daemon never undoes what somebody was told or has felt.
//! Keeps the order of what it holds back; never looks at the clock, for the database answers for
//! each record, written or not.

use crate::world::{Action, Record};

/// Actions that wait for records.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    /// The newest record anything may rest on.
    last: u64,
    /// The newest record of what an app should be.
    decision: u64,
    /// All up to this one are on disk, or will never be.
    flushed: u64,
    held: Vec<(u64, Action)>,
}

impl Barrier {
    /// Takes note of a record on its way to disk; yields its number, if anything may rest on it.
    pub(super) fn record(&mut self, record: &Record) -> Option<u64> {
        match record {
            Record::App(_) | Record::AppGone(_) => {
                self.last += 1;
                self.decision = self.last;
                Some(self.last)
            }
            Record::Ended(_) => {
                self.last += 1;
                Some(self.last)
            }
            Record::Instance(_) | Record::Sample { .. } => None,
        }
    }

    /// Gives `action` back if it may be carried out now, else holds it back.
    pub(super) fn pass(&mut self, action: Action) -> Option<Action> {
        let needed = self.needed(&action);
        if needed <= self.flushed {
            return Some(action);
        }
        self.held.push((needed, action));
        None
    }

    /// Every record up to this one was dealt with.
    pub(super) fn flushed(&mut self, number: u64) {
        self.flushed = self.flushed.max(number);
    }

    /// What may be carried out by now, in order.
    pub(super) fn release(&mut self) -> Vec<Action> {
        let flushed = self.flushed;
        self.held.extract_if(.., |(needed, _)| *needed <= flushed).map(|(_, it)| it).collect()
    }

    /// Everything that waits still: there is no time left to wait.
    pub(super) fn give_in(&mut self) -> Vec<Action> {
        self.flushed = self.last;
        self.release()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn needed(&self, action: &Action) -> u64 {
        match action {
            // What workers feel, what the next daemon reads, what people are told.
            Action::Spawn(_)
            | Action::Signal(..)
            | Action::Channel(..)
            | Action::Note(..)
            | Action::Reply(..)
            | Action::Hangup(_) => self.decision,
            // An end the guard has forgotten must be known to the database.
            Action::Forget(_) | Action::Exit => self.last,
            Action::Adopt(_)
            | Action::Admit(_)
            | Action::Retire(_)
            | Action::AwaitListen(_)
            | Action::Probe(_)
            | Action::Sample(..)
            | Action::Tail(..)
            | Action::Tidy(..)
            | Action::Answer(..)
            | Action::Persist(_)
            | Action::Listen(..)
            | Action::Unlisten(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::{AppId, ClientId, Moment, WorkerId},
        world::Ended,
    };

    fn reply(number: u64) -> Action {
        Action::Reply(ClientId(number), Vec::new())
    }

    fn forget() -> Action {
        Action::Forget(WorkerId::new(AppId(1), 0, 1))
    }

    fn ended() -> Record {
        Record::Ended(Ended {
            worker: WorkerId::new(AppId(1), 0, 1),
            app: "api".parse().unwrap(),
            pid: None,
            exit: None,
            uptime: Duration::ZERO,
            reason: "stop",
            unix_millis: Moment::START.millis(),
        })
    }

    #[test]
    fn a_decision_is_written_before_it_is_told_and_the_order_is_kept() {
        let mut barrier = Barrier::default();
        assert_eq!(barrier.pass(reply(0)), Some(reply(0)));
        let number = barrier.record(&Record::AppGone(AppId(1))).unwrap();
        assert_eq!(barrier.pass(reply(1)), None);
        assert_eq!(barrier.pass(Action::Hangup(ClientId(1))), None);
        assert_eq!(barrier.pass(Action::Unlisten(AppId(1))), Some(Action::Unlisten(AppId(1))));
        assert_eq!(barrier.release(), []);
        barrier.flushed(number);
        assert_eq!(barrier.release(), [reply(1), Action::Hangup(ClientId(1))]);
        assert_eq!(barrier.pass(reply(2)), Some(reply(2)));
    }

    #[test]
    fn an_end_is_written_before_it_is_forgotten_and_holds_up_nothing_else() {
        let mut barrier = Barrier::default();
        let number = barrier.record(&ended()).unwrap();
        assert_eq!(barrier.pass(forget()), None);
        assert_eq!(barrier.pass(reply(1)), Some(reply(1)));
        barrier.flushed(number);
        assert_eq!(barrier.release(), [forget()]);
        assert!(barrier.is_empty());
    }

    #[test]
    fn a_later_record_holds_up_nothing_that_was_before_it() {
        let mut barrier = Barrier::default();
        let first = barrier.record(&Record::AppGone(AppId(1))).unwrap();
        assert_eq!(barrier.pass(reply(1)), None);
        barrier.record(&Record::AppGone(AppId(2)));
        assert_eq!(barrier.pass(reply(2)), None);
        barrier.flushed(first);
        assert_eq!(barrier.release(), [reply(1)]);
        assert_eq!(barrier.give_in(), [reply(2)]);
    }
}
