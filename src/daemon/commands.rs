//! What clients ask, carried out: each command becomes requests to the supervisor, and the
//! answers find their way back.

use std::{num::NonZeroU16, sync::Arc};

use serde_json::{Value, json};

use super::{
    Core,
    answers::Question,
    apps::Entry,
    jobs::{Asker, Draft},
    scrape::Went,
};
use crate::{
    config::{Base, Trust, raw::RawApp, resolve},
    control::wire::{Code, Command, Force, Reply, Target},
    domain::{AppId, AppSpec, Moment, Signal, WorkerId},
    supervisor::{Manner, Outcome, Refusal, Request, Step, Ticket},
    world::{Action, Goal, Reach},
};

/// What to do if the failed reload of an app on a port has the likeliest of reasons.
const SHARE_HINT: &str = " (if the new worker says the address is in use: let it listen with \
                          reusePort, set `clustering.strategy` to `inherit`, or `restart`)";

/// A command turned away: what kind, and in words.
pub(super) type Refused = (Code, String);

impl Core {
    /// Carries out one command, or answers why not.
    pub(super) fn command(&mut self, now: Moment, asker: &Asker, command: Command) {
        let result = match command {
            Command::Ping => {
                let ts = self.facts.clock.unix_millis(now);
                self.reply(asker, Reply::Done(json!({ "pong": true, "ts": ts })));
                Ok(())
            }
            Command::List => {
                self.question(now, asker, Question::List);
                Ok(())
            }
            Command::Status(target) => self.status(now, asker, &target),
            Command::Metrics(Some(name)) => {
                self.known(&name).map(|_| self.question(now, asker, Question::Metrics(Some(name))))
            }
            Command::Metrics(None) => {
                self.question(now, asker, Question::Metrics(None));
                Ok(())
            }
            Command::Exposition => {
                self.question(now, asker, Question::Exposition);
                Ok(())
            }
            Command::Dump => {
                self.question(now, asker, Question::Dump);
                Ok(())
            }
            Command::Start { name, config, config_path } => {
                self.start(now, asker, &name, config, config_path)
            }
            Command::Stop(target, force) => {
                self.each(now, asker, "stopped", &target, &Request::Stop(manner(force)))
            }
            Command::Restart(target, force) => {
                self.each(now, asker, "restarted", &target, &Request::Restart(None, manner(force)))
            }
            Command::Delete(target, force) => {
                self.each(now, asker, "deleted", &target, &Request::Delete(manner(force)))
            }
            Command::Reload { target, config } => self.reload(now, asker, &target, config),
            Command::Scale { name, instances } => self.scale(now, asker, &name, instances),
            Command::Signal(target, signal) => self.signal(asker, &target, &signal),
            Command::Logs { name, lines } => self.logs(asker, &name, lines),
            Command::Tidy(what, target) => self.tidy(asker, what, target),
            Command::Resurrect => {
                self.resurrect(now, asker);
                Ok(())
            }
            Command::KillDaemon => {
                self.reply(asker, Reply::Done(json!({ "action": "shutting-down" })));
                self.leave(now);
                Ok(())
            }
        };
        if let Err((code, why)) = result {
            self.reply(asker, Reply::<()>::Failed(code, why));
        }
    }

    /// Reloads every running app, as SIGHUP asks.
    pub(super) fn reload_all(&mut self, now: Moment) {
        let draft = self.jobs.begin(None, "reloaded", "all");
        for id in self.running() {
            self.request(now, draft, id, &Request::Reload(None));
        }
        let answer = self.jobs.seal(draft);
        self.answered(answer);
    }

    fn start(
        &mut self,
        now: Moment,
        asker: &Asker,
        name: &str,
        config: Option<Value>,
        config_path: Option<String>,
    ) -> Result<(), Refused> {
        let spec = config.map(|it| parse(name, it)).transpose()?;
        let id = match (self.apps.find(name), &spec) {
            (Some(id), _) => id,
            (None, Some(spec)) => self.add(now, spec)?,
            (None, None) => return Err(no_such_app(name)),
        };
        let draft = self.jobs.begin(Some(asker.clone()), "started", name);
        if self.request(now, draft, id, &Request::Start(spec)) == Answer::Accepted
            && let Some(entry) = self.apps.entry_mut(id)
            && config_path.is_some()
        {
            entry.config_path = config_path;
        }
        let answer = self.jobs.seal(draft);
        self.answered(answer);
        Ok(())
    }

    /// Takes in an app that can be started.
    fn add(&mut self, now: Moment, spec: &Arc<AppSpec>) -> Result<AppId, Refused> {
        self.port_is_free(None, spec)?;
        if self.is_leaving() {
            return Err((code(Refusal::ShuttingDown), Refusal::ShuttingDown.to_string()));
        }
        let id = self.apps.add(Entry {
            name: spec.name.clone(),
            config_path: None,
            created_unix_millis: self.facts.clock.unix_millis(now),
            asleep: false,
        });
        self.supervisor.add(id, Arc::clone(spec));
        Ok(id)
    }

    /// Whether no other app that runs serves this port.
    fn port_is_free(&self, own: Option<AppId>, spec: &AppSpec) -> Result<(), Refused> {
        let Some(port) = spec.port else { return Ok(()) };
        let taken = self
            .running()
            .into_iter()
            .filter(|id| Some(*id) != own)
            .find(|id| self.supervisor.app(*id).is_some_and(|it| it.spec().port == Some(port)));
        match taken.and_then(|id| self.apps.name(id)) {
            Some(other) => Err((
                Code::Config,
                format!("port {port} is already served by app `{other}`; choose another one"),
            )),
            None => Ok(()),
        }
    }

    fn reload(
        &mut self,
        now: Moment,
        asker: &Asker,
        target: &Target,
        config: Option<Value>,
    ) -> Result<(), Refused> {
        let Some(config) = config else {
            return self.each(now, asker, "reloaded", target, &Request::Reload(None));
        };
        let Target::App(name) = target else {
            return Err((Code::Usage, "a new configuration is for one app".to_owned()));
        };
        let spec = parse(name, config)?;
        let id = self.known(name)?;
        if let Some(old) = self.supervisor.app(id).filter(|it| it.goal() == Goal::Run) {
            can_replace(old.spec(), &spec)?;
        }
        self.each(now, asker, "reloaded", target, &Request::Reload(Some(spec)))
    }

    fn scale(
        &mut self,
        now: Moment,
        asker: &Asker,
        name: &str,
        instances: u16,
    ) -> Result<(), Refused> {
        let instances = NonZeroU16::new(instances)
            .ok_or_else(|| (Code::Usage, "an app has at least one instance".to_owned()))?;
        let target = Target::App(name.to_owned());
        self.each(now, asker, "scaled", &target, &Request::Scale(instances))
    }

    fn signal(&mut self, asker: &Asker, target: &Target, signal: &str) -> Result<(), Refused> {
        let signal: Signal = signal
            .parse()
            .map_err(|error: crate::domain::SignalError| (Code::Usage, error.to_string()))?;
        let workers = self.workers_of(target)?;
        if workers.is_empty() {
            return Err((Code::NotRunning, format!("App \"{target}\" is not running.")));
        }
        for worker in &workers {
            self.act(Action::Signal(*worker, signal, Reach::Leader));
        }
        let data = json!({
            "name": target.to_string(),
            "action": "signalled",
            "signal": signal.to_string(),
            "workers": workers.len(),
        });
        self.reply(asker, Reply::Done(data));
        Ok(())
    }

    fn logs(&mut self, asker: &Asker, name: &str, lines: u32) -> Result<(), Refused> {
        let id = self.known(name)?;
        let Some(spec) = self.supervisor.app(id).map(|it| Arc::clone(it.spec())) else {
            return Err(no_such_app(name));
        };
        self.questions.tail(asker.clone());
        self.act(Action::Tail(asker.client, asker.id.clone(), spec, lines));
        Ok(())
    }

    fn resurrect(&mut self, now: Moment, asker: &Asker) {
        let draft = self.jobs.begin(Some(asker.clone()), "started", "all");
        for (id, _) in self.apps.by_name() {
            if self.apps.entry(id).is_some_and(|it| it.asleep) {
                self.request(now, draft, id, &Request::Start(None));
            }
        }
        let answer = self.jobs.seal(draft);
        self.answered(answer);
    }

    /// Makes the same request of every app that is meant.
    fn each(
        &mut self,
        now: Moment,
        asker: &Asker,
        word: &'static str,
        target: &Target,
        request: &Request,
    ) -> Result<(), Refused> {
        let ids = match target {
            Target::All => self.concerned(request),
            Target::App(name) => vec![self.known(name)?],
            Target::Instance(name, index) => return Err(not_one(name, *index)),
        };
        let draft = self.jobs.begin(Some(asker.clone()), word, &target.to_string());
        for id in ids {
            self.request(now, draft, id, request);
        }
        let answer = self.jobs.seal(draft);
        self.answered(answer);
        Ok(())
    }

    /// The apps `all` means for this request: those it makes sense for.
    fn concerned(&self, request: &Request) -> Vec<AppId> {
        match request {
            Request::Delete(_) | Request::Stop(_) => {
                self.apps.by_name().into_iter().map(|(id, _)| id).collect()
            }
            Request::Start(_) | Request::Restart(..) | Request::Reload(_) | Request::Scale(_) => {
                self.running()
            }
        }
    }

    /// The apps whose workers are to run, in the order of their names.
    fn running(&self) -> Vec<AppId> {
        let runs = |id: AppId| self.supervisor.app(id).is_some_and(|it| it.goal() == Goal::Run);
        self.apps.by_name().into_iter().map(|(id, _)| id).filter(|id| runs(*id)).collect()
    }

    /// Makes one request of the supervisor; if it is refused, so is this part of the command.
    fn request(&mut self, now: Moment, draft: Draft, id: AppId, request: &Request) -> Answer {
        let name = self.apps.name(id).map(ToString::to_string).unwrap_or_default();
        let ticket = self.jobs.ticket(draft, &name);
        let asked = self.may_serve(id, request).and_then(|()| {
            let asked = self.supervisor.request(now, id, ticket, request.clone());
            asked.map_err(|refusal| (code(refusal), refused(&name, refusal)))
        });
        match asked {
            Ok(()) => {
                self.accepted(now, id, ticket, request);
                Answer::Accepted
            }
            Err((code, why)) => {
                let answer = self.jobs.fail(ticket, code, why);
                self.answered(answer);
                Answer::Refused
            }
        }
    }

    /// Whether the port is free for an app that is about to run.
    fn may_serve(&self, id: AppId, request: &Request) -> Result<(), Refused> {
        let Some(app) = self.supervisor.app(id) else { return Ok(()) };
        match request {
            Request::Start(spec) | Request::Restart(spec, _) => {
                self.port_is_free(Some(id), spec.as_ref().unwrap_or(app.spec()))
            }
            Request::Stop(_) | Request::Reload(_) | Request::Scale(_) | Request::Delete(_) => {
                Ok(())
            }
        }
    }

    /// Sees to what goes with a request the supervisor has accepted.
    fn accepted(&mut self, now: Moment, id: AppId, ticket: Ticket, request: &Request) {
        match request {
            Request::Start(_) | Request::Restart(..) => {
                self.wake(id);
                self.open_sockets(id);
            }
            Request::Stop(_) | Request::Delete(_) => self.wake(id),
            Request::Reload(_) => {
                self.reloads.insert(ticket, (id, now));
                self.open_sockets(id);
            }
            Request::Scale(_) => self.open_sockets(id),
        }
    }

    /// From now on the app is what somebody asked for, not what it was before a reboot.
    fn wake(&mut self, id: AppId) {
        if let Some(entry) = self.apps.entry_mut(id) {
            entry.asleep = false;
        }
    }

    pub(super) fn finished(&mut self, now: Moment, ticket: Ticket, outcome: Outcome) {
        let reloaded = self.reloads.remove(&ticket);
        let shares = reloaded.is_none_or(|(app, _)| self.hands_over(app));
        if let Some((app, began)) = reloaded {
            let went = if outcome == Outcome::Done { Went::Well } else { Went::Wrong };
            self.tallies.reloaded(app, now.since(began), went);
        }
        let answer = match outcome {
            Outcome::Done => self.jobs.close(ticket),
            Outcome::Failed(why) => self.jobs.fail_at_work(ticket, Code::Failed, &why),
            Outcome::RolledBack(why) => {
                let hint = if shares { "" } else { SHARE_HINT };
                let why = format!("{why}; rolled back, the old workers go on{hint}");
                self.jobs.fail_at_work(ticket, Code::Failed, &why)
            }
            Outcome::Superseded => {
                let why = "a later command took its place";
                self.jobs.fail_at_work(ticket, Code::Busy, why)
            }
        };
        self.answered(answer);
    }

    /// Whether a new worker can surely listen while the old one does.
    fn hands_over(&self, app: AppId) -> bool {
        let app = self.supervisor.app(app);
        app.is_none_or(|it| it.spec().port.is_none() || it.spec().inherits())
    }

    pub(super) fn progressed(&mut self, ticket: Ticket, worker: WorkerId, step: Step) {
        let step = self.step(worker, step);
        let answer = self.jobs.step(ticket, &step);
        self.answered(answer);
    }

    pub(super) fn known(&self, name: &str) -> Result<AppId, Refused> {
        self.apps.find(name).ok_or_else(|| no_such_app(name))
    }

    /// The living workers that are meant.
    fn workers_of(&self, target: &Target) -> Result<Vec<WorkerId>, Refused> {
        let (app, index) = match target {
            Target::All => (None, None),
            Target::App(name) => (Some(self.known(name)?), None),
            Target::Instance(name, index) => (Some(self.known(name)?), Some(*index)),
        };
        let meant = |it: &WorkerId| {
            app.is_none_or(|app| it.instance.app == app)
                && index.is_none_or(|index| it.instance.index == index)
        };
        Ok(self.alive().map(|it| it.id).filter(meant).collect())
    }
}

/// What came of a request to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Refused,
}

/// Whether workers of `new` can serve beside workers of `old`, as they do during a reload.
fn can_replace(old: &AppSpec, new: &AppSpec) -> Result<(), Refused> {
    let what = if old.port != new.port {
        "the port"
    } else if (old.cluster.enabled, old.inherits()) != (new.cluster.enabled, new.inherits()) {
        "how workers share the port"
    } else {
        return Ok(());
    };
    let why = format!("a reload cannot change {what}; `stop` the app and `start` it as it is now");
    Err((Code::Config, why))
}

/// Reads a configuration that was resolved at the caller, or one written by hand.
fn parse(name: &str, config: Value) -> Result<Arc<AppSpec>, Refused> {
    let mut raw: RawApp = serde_json::from_value(config)
        .map_err(|error| (Code::Config, format!("Invalid config for app \"{name}\": {error}")))?;
    raw.name.get_or_insert_with(|| name.to_owned());
    let spec = resolve::app(&raw, &Base::default(), &Trust).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        (Code::Config, format!("Invalid config for app \"{name}\": {}", faults.join("; ")))
    })?;
    if spec.name.as_str() != name {
        let why = format!("the configuration is for app `{}`, not for `{name}`", spec.name);
        return Err((Code::Config, why));
    }
    Ok(Arc::new(spec))
}

fn manner(force: Force) -> Manner {
    match force {
        Force::Gentle => Manner::Gently,
        Force::Kill => Manner::Forcibly,
    }
}

fn no_such_app(name: &str) -> Refused {
    (Code::NoSuchApp, format!("App \"{name}\" not found."))
}

fn not_one(name: &str, index: u16) -> Refused {
    let why = format!(
        "this works on whole apps; write `{name}` instead of `{name}:{index}`, or use `signal`"
    );
    (Code::Usage, why)
}

fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NoSuchApp => Code::NoSuchApp,
        Refusal::Busy(_) | Refusal::ShuttingDown => Code::Busy,
        Refusal::AlreadyRunning => Code::AlreadyRunning,
        Refusal::NotRunning => Code::NotRunning,
    }
}

/// The original's words where it had some.
fn refused(name: &str, refusal: Refusal) -> String {
    match refusal {
        Refusal::NoSuchApp => format!("App \"{name}\" not found."),
        Refusal::AlreadyRunning => format!("App \"{name}\" is already running."),
        Refusal::NotRunning => format!("App \"{name}\" is not running."),
        Refusal::Busy(_) | Refusal::ShuttingDown => format!("App \"{name}\": {refusal}"),
    }
}
