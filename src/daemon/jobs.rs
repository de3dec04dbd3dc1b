//! Commands under way: who asked, which apps are still busy with it, what to answer in the end.
//!
//! One command of a client becomes one ticket per app. What a client asked for goes on when it
//! leaves.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    control::{
        status::Step,
        wire::{Code, Progress, Reply},
    },
    domain::{ClientId, Parting},
    supervisor::Ticket,
};

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The connection.
    pub(super) client: ClientId,
    /// The request's id.
    pub(super) id: String,
    /// Whether it wants to hear of every step.
    pub(super) progress: Progress,
}

/// A reply, and where it goes.
pub(super) type Addressed = (Asker, Reply);

/// Every command under way.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    open: BTreeMap<u64, Job>,
    tickets: BTreeMap<Ticket, (u64, String)>,
    last: u64,
}

#[derive(Debug)]
struct Job {
    asker: Option<Asker>,
    /// The original's word for the result: `started`, `stopped`, …
    word: &'static str,
    target: String,
    open: usize,
    /// Closed to further tickets: once none is open, the job is over.
    sealed: bool,
    apps: Vec<String>,
    faults: Vec<(Code, String)>,
    /// What became of connections meanwhile, where they are counted.
    parting: Option<Parting>,
}

/// A job that still takes tickets; [`Jobs::seal`] it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft(u64);

impl Jobs {
    /// Begins a command. It is answered with `word` about `target` once it is sealed and every
    /// ticket is closed.
    pub(super) fn begin(
        &mut self,
        asker: Option<Asker>,
        word: &'static str,
        target: &str,
    ) -> Draft {
        self.last += 1;
        let job = Job {
            asker,
            word,
            target: target.to_owned(),
            open: 0,
            sealed: false,
            apps: Vec::new(),
            faults: Vec::new(),
            parting: None,
        };
        self.open.insert(self.last, job);
        Draft(self.last)
    }

    /// A ticket for one app's part in the command.
    pub(super) fn ticket(&mut self, draft: Draft, app: &str) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        if let Some(job) = self.open.get_mut(&draft.0) {
            job.open += 1;
            job.apps.push(app.to_owned());
        }
        self.tickets.insert(ticket, (draft.0, app.to_owned()));
        ticket
    }

    /// The ticket was refused or has failed, and why.
    pub(super) fn fail(&mut self, ticket: Ticket, code: Code, why: String) -> Option<Addressed> {
        if let Some((job, _)) = self.tickets.get(&ticket)
            && let Some(job) = self.open.get_mut(job)
        {
            job.faults.push((code, why));
        }
        self.close(ticket)
    }

    /// The app's part was tried and did not work, and why: of which app is told, too, for a command
    /// may be about many.
    pub(super) fn fail_at_work(
        &mut self,
        ticket: Ticket,
        code: Code,
        why: &str,
    ) -> Option<Addressed> {
        let app = self.tickets.get(&ticket).map(|(_, app)| app.clone()).unwrap_or_default();
        self.fail(ticket, code, format!("App \"{app}\": {why}"))
    }

    /// A worker of an app has left.
    pub(super) fn parted(&mut self, app: &str, parting: Parting) {
        for (job, _) in self.tickets.values().filter(|(_, it)| it == app) {
            if let Some(job) = self.open.get_mut(job) {
                let sum = job.parting.get_or_insert_default();
                sum.moved += parting.moved;
                sum.cut += parting.cut;
            }
        }
    }

    /// The app's part is done.
    pub(super) fn close(&mut self, ticket: Ticket) -> Option<Addressed> {
        let (id, _) = self.tickets.remove(&ticket)?;
        let job = self.open.get_mut(&id)?;
        job.open = job.open.saturating_sub(1);
        self.finish(id)
    }

    /// No further tickets come; the answer, if none was needed or all are closed.
    pub(super) fn seal(&mut self, draft: Draft) -> Option<Addressed> {
        self.open.get_mut(&draft.0)?.sealed = true;
        self.finish(draft.0)
    }

    /// A step to tell, if whoever asked wants to hear it.
    pub(super) fn step(&self, ticket: Ticket, step: &Step) -> Option<Addressed> {
        let (job, _) = self.tickets.get(&ticket)?;
        let asker = self.open.get(job)?.asker.as_ref()?;
        if asker.progress == Progress::Silent {
            return None;
        }
        let data = serde_json::to_value(step).unwrap_or_default();
        Some((asker.clone(), Reply::Chunk(data)))
    }

    /// Whether the client waits for something under way.
    pub(super) fn waits(&self, client: ClientId) -> bool {
        self.open.values().filter_map(|it| it.asker.as_ref()).any(|it| it.client == client)
    }

    /// Commands and tickets under way.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.tickets.len()
    }

    fn finish(&mut self, id: u64) -> Option<Addressed> {
        if self.open.get(&id).is_none_or(|it| it.open > 0 || !it.sealed) {
            return None;
        }
        let job = self.open.remove(&id)?;
        let asker = job.asker?;
        let reply = match job.faults.as_slice() {
            [] => {
                let mut data = json!({ "name": job.target, "action": job.word, "apps": job.apps });
                if let Some(Parting { moved, cut }) = job.parting {
                    data["connections"] = json!({ "moved": moved, "cut": cut });
                }
                Reply::Done(data)
            }
            [(code, why)] => Reply::Failed(*code, why.clone()),
            [(code, _), ..] => {
                let whys: Vec<&str> = job.faults.iter().map(|(_, why)| why.as_str()).collect();
                Reply::Failed(*code, whys.join("; "))
            }
        };
        Some((asker, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker { client: ClientId(1), id: "7".into(), progress: Progress::Silent }
    }

    #[test]
    fn a_command_is_answered_once_all_its_apps_are_done() {
        let mut jobs = Jobs::default();
        let draft = jobs.begin(Some(asker()), "stopped", "all");
        let (one, two) = (jobs.ticket(draft, "a"), jobs.ticket(draft, "b"));
        assert_eq!(jobs.close(one), None, "b is still busy");
        assert_eq!(jobs.seal(draft), None);
        let (_, reply) = jobs.close(two).unwrap();
        let data = json!({ "name": "all", "action": "stopped", "apps": ["a", "b"] });
        assert_eq!(reply, Reply::Done(data));
        assert_eq!(jobs.close(two), None, "answered twice");
    }

    #[test]
    fn a_command_for_no_app_is_answered_at_once() {
        let mut jobs = Jobs::default();
        let draft = jobs.begin(Some(asker()), "stopped", "all");
        assert!(jobs.seal(draft).is_some());
    }

    #[test]
    fn one_fault_fails_the_command() {
        let mut jobs = Jobs::default();
        let draft = jobs.begin(Some(asker()), "started", "a");
        let ticket = jobs.ticket(draft, "a");
        jobs.seal(draft);
        assert!(jobs.waits(ClientId(1)));
        let (_, reply) = jobs.fail(ticket, Code::Failed, "boom".into()).unwrap();
        assert_eq!(reply, Reply::Failed(Code::Failed, "boom".into()));
        assert!(!jobs.waits(ClientId(1)));
    }
}
