//! The judgement: when to spawn, signal, restart, reload and give up.
//!
//! Quiet: no I/O, no clock, no threads. Requests, events and what workers say come in; wishes
//! ([`Action`]) and news ([`Notice`]) come out. Drive it in this order, forever: drain
//! [`Supervisor::next_notice`] and [`Supervisor::next_action`], sleep until
//! [`Supervisor::deadline`], [`Supervisor::observe`] what happened, [`Supervisor::tick`].
//!
//! It never reads bytes: what a worker says reaches it as [`Word`]s.

mod adopt;
mod app;
mod health;
mod note;
mod notice;
mod outbox;
mod place;
mod reload;
mod request;
mod restart;
mod version;
mod view;
mod worker;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    adopt::{Legacy, SavedPlace},
    notice::{Cause, Ending, Notice, Speech, Step, Word},
    request::{Manner, Outcome, Refusal, Request, Ticket},
    view::{AppView, PlaceView, State, Status, WorkerView},
};
use self::{app::App, outbox::Outbox};
use crate::{
    domain::{AppId, AppSpec, Moment, WorkerId},
    world::{Action, Event},
};

/// Decides for every app of the daemon.
#[derive(Debug, Default)]
pub struct Supervisor {
    apps: BTreeMap<AppId, App>,
    closing: Closing,
    out: Outbox,
}

/// Whether the daemon is about to end.
#[derive(Debug, Default)]
enum Closing {
    #[default]
    No,
    /// Once the last worker is gone, this is finished.
    For(Ticket),
    Done,
}

impl Supervisor {
    /// Takes in a new app, at rest. An app with this id is replaced.
    pub fn add(&mut self, id: AppId, spec: Arc<AppSpec>) {
        self.apps.insert(id, App::new(id, spec));
    }

    /// Takes in an app that an earlier daemon looked after, and what is left of it.
    ///
    /// Every survivor is answered by [`Action::Adopt`], also those that ended: their last words
    /// may still be in the pipe. Nothing that lives is started again.
    pub fn adopt(&mut self, now: Moment, id: AppId, spec: Arc<AppSpec>, legacy: Legacy) {
        let mut app = App::new(id, spec);
        app.adopt(now, legacy, &mut self.out);
        self.apps.insert(id, app);
        self.look_back(id);
    }

    /// Applies a user's wish. Its end arrives later as [`Notice::Finished`], exactly once.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the wish makes no sense now; nothing has changed then.
    pub fn request(
        &mut self,
        now: Moment,
        id: AppId,
        ticket: Ticket,
        request: Request,
    ) -> Result<(), Refusal> {
        if !matches!(self.closing, Closing::No) {
            return Err(Refusal::ShuttingDown);
        }
        let app = self.apps.get_mut(&id).ok_or(Refusal::NoSuchApp)?;
        app.request(now, ticket, request, &mut self.out)?;
        self.look_back(id);
        Ok(())
    }

    /// Takes every worker of every app down and keeps the goals, so that the next daemon starts
    /// what ran. Requests under way are superseded, later ones refused. Asked again, it is the
    /// later ticket that is [`Outcome::Done`].
    pub fn stop_all(&mut self, now: Moment, ticket: Ticket, manner: Manner) {
        if let Closing::For(earlier) = self.closing {
            self.out.tell(Notice::Finished(earlier, Outcome::Superseded));
        }
        self.closing = Closing::For(ticket);
        for app in self.apps.values_mut() {
            app.close(now, manner, &mut self.out);
        }
        self.finish_closing();
    }

    /// Takes note of something that happened outside.
    ///
    /// Events about workers nobody remembers are dropped: they are late, not wrong.
    pub fn observe(&mut self, now: Moment, event: &Event) {
        match event {
            Event::Spawned(worker, _)
            | Event::SpawnFailed(worker, _)
            | Event::Exited(worker, _)
            | Event::Gone(worker)
            | Event::Listening(worker)
            | Event::Drained(worker)
            | Event::Probed(worker, _)
            | Event::ChannelClosed(worker) => {
                let id = worker.instance.app;
                if let Some(app) = self.apps.get_mut(&id) {
                    app.observe(now, *worker, event, &mut self.out);
                    self.look_back(id);
                }
            }
            Event::ListenFailed(id, why) => {
                if let Some(app) = self.apps.get_mut(id) {
                    app.listen_failed(now, why, &mut self.out);
                    self.look_back(*id);
                }
            }
            Event::Channel(..)
            | Event::Notify(..)
            | Event::Sampled(..)
            | Event::Parted(..)
            | Event::Tailed(..)
            | Event::Tidied(..)
            | Event::Client(..)
            | Event::ClientClosed(_)
            | Event::Asked(..)
            | Event::LogBlocked(_)
            | Event::LogResumed(_)
            | Event::StoreFailed(_)
            | Event::StoreRecovered
            | Event::Signalled(_) => (),
        }
    }

    /// Takes note of something a worker said. From workers nobody remembers it is dropped.
    pub fn heard(&mut self, now: Moment, worker: WorkerId, word: Word) {
        if let Some(app) = self.apps.get_mut(&worker.instance.app) {
            app.heard(now, worker, word, &mut self.out);
        }
    }

    /// Fires every timer due by `now`. Calling it early or twice does nothing.
    pub fn tick(&mut self, now: Moment) {
        for app in self.apps.values_mut() {
            if app.deadline().is_some_and(|due| due <= now) {
                app.tick(now, &mut self.out);
            }
        }
    }

    /// When [`Self::tick`] must run next, if ever; later than the last `tick`.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.apps.values().filter_map(App::deadline).min()
    }

    /// The next thing to do outside; drain until `None`.
    #[must_use]
    pub fn next_action(&mut self) -> Option<Action> {
        self.out.next_action()
    }

    /// The next thing to tell others; drain until `None`, before the actions: what is written
    /// down because of a notice must be on its way before [`Action::Forget`].
    #[must_use]
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.out.next_notice()
    }

    /// Every app, in the order of their numbers.
    pub fn apps(&self) -> impl Iterator<Item = AppView<'_>> {
        self.apps.values().map(AppView)
    }

    /// One app.
    #[must_use]
    pub fn app(&self, id: AppId) -> Option<AppView<'_>> {
        self.apps.get(&id).map(AppView)
    }

    /// Forgets an app that is deleted and empty; ends the shutdown with the last worker.
    fn look_back(&mut self, id: AppId) {
        if self.apps.get(&id).is_some_and(App::is_over) {
            self.apps.remove(&id);
            self.out.tell(Notice::AppGone(id));
        }
        self.finish_closing();
    }

    fn finish_closing(&mut self) {
        let Closing::For(ticket) = self.closing else { return };
        if self.apps.values().all(|app| app.workers().next().is_none()) {
            self.closing = Closing::Done;
            self.out.tell(Notice::Finished(ticket, Outcome::Done));
        }
    }
}
