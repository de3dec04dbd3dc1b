//! Workers that wait for an answer to their bind(2).

use std::os::fd::AsFd as _;

use super::{Pending, Watch, harmless};
use crate::{
    guard::{
        trap::{self, Found, Look, Origin, Seat, Wish},
        wire::Role,
    },
    platform::sys::seccomp::{Answer, answer, is_waiting, substitute},
};

impl Watch {
    /// Begins to look at workers that ask, and answers those that were looked at.
    pub(super) fn look_after_traps(&mut self, ready: &super::wait::Ready) {
        for label in &ready.silent {
            // nobody is left who could ask
            if let Some(worker) = self.table.find_mut(label) {
                worker.fds.remove(&Role::Trap);
            }
        }
        for label in &ready.asking {
            let Some(worker) = self.table.find(label) else { continue };
            if let (Some(trap), Some(fd)) = (&worker.life.trap, worker.fds.get(&Role::Trap)) {
                self.looks.begin(label, fd.as_fd(), trap.port);
            }
        }
        for found in self.looks.take() {
            self.answer(found);
        }
    }

    fn answer(&mut self, Found { label, id, look }: Found) {
        let reply = match look {
            Look::Other => Answer::Continue,
            Look::Odd(reason) => self.leave_alone(&label, reason),
            Look::Wish(wish) => self.grant(&label, id, &wish),
        };
        let worker = self.table.find(&label);
        if let Some(fd) = worker.and_then(|worker| worker.fds.get(&Role::Trap)) {
            // it may have died meanwhile
            harmless(answer(fd.as_fd(), id, reply));
        }
    }

    /// Puts a held socket in the place of the worker's own.
    fn grant(&mut self, label: &str, id: u64, wish: &Wish) -> Answer {
        let Some(worker) = self.table.find_mut(label) else { return Answer::Continue };
        let (Some(port), Some(fd)) = (&worker.life.trap, worker.fds.get(&Role::Trap)) else {
            return Answer::Continue;
        };
        // else what was seen may be somebody else's who has its number now
        if !is_waiting(fd.as_fd(), id) {
            return Answer::Continue;
        }
        let Seat { key, origin } = match trap::fulfil(wish, port, &mut self.held) {
            Ok(seat) => seat,
            Err(errno) => return Answer::Fails(errno),
        };
        let Some(socket) = self.held.get(&key) else { return Answer::Continue };
        let (number, closes) = (wish.number, wish.closes_on_exec);
        if let Err(error) = substitute(fd.as_fd(), id, socket.as_fd(), number, closes) {
            if origin == Origin::Opened {
                // nobody listens, and the daemon has not heard of it
                self.held.remove(&key);
            }
            return self.leave_alone(label, format!("its socket cannot be replaced: {error}"));
        }
        if !worker.life.listens.contains(&key) {
            worker.life.listens.push(key.clone());
        }
        self.notify(Pending::Took { label: label.to_owned(), key });
        Answer::Done
    }

    fn leave_alone(&mut self, label: &str, reason: String) -> Answer {
        self.notify(Pending::Untrapped { label: label.to_owned(), reason });
        Answer::Continue
    }
}
