//! Log files emptied or rotated because somebody asks for it: who waits for what.

use std::sync::Arc;

use serde_json::json;

use super::{Core, commands::Refused, jobs::Asker};
use crate::{
    control::wire::{Code, Reply, Target},
    domain::{ClientId, LogFiles},
    supervisor::Refusal,
    world::{Action, LogsOf, Tidied, Tidying},
};

/// Everyone who waits.
#[derive(Debug, Default)]
pub(super) struct Tidyings(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    what: Tidying,
    target: Target,
    apps: Vec<String>,
}

impl Tidyings {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn waits(&self, client: ClientId) -> bool {
        self.0.iter().any(|it| it.asker.client == client)
    }

    fn take(&mut self, client: ClientId, id: &str) -> Option<Waiting> {
        let is_it = |it: &Waiting| it.asker.client == client && it.asker.id == id;
        self.0.iter().position(is_it).map(|at| self.0.remove(at))
    }
}

/// The word for what was done, as replies have it.
const fn done(what: Tidying) -> &'static str {
    match what {
        Tidying::Flush => "flushed",
        Tidying::Rotate => "rotated",
    }
}

impl Core {
    /// Has the log files of those apps emptied or rotated, whether or not they run.
    pub(super) fn tidy(
        &mut self,
        asker: &Asker,
        what: Tidying,
        target: Target,
    ) -> Result<(), Refused> {
        let (ids, index) = match &target {
            Target::All => (self.apps.by_name().into_iter().map(|(id, _)| id).collect(), None),
            Target::App(name) => (vec![self.known(name)?], None),
            Target::Instance(name, index) => (vec![self.known(name)?], Some(*index)),
        };
        let specs = ids.into_iter().filter_map(|id| self.supervisor.app(id));
        let specs: Vec<_> = specs.map(|app| Arc::clone(app.spec())).collect();
        if let (Some(index), Some(spec)) = (index, specs.first()) {
            if index >= spec.instances.get() {
                let why = format!("App \"{}\" has no instance {index}.", spec.name);
                return Err((Code::NoSuchApp, why));
            }
            if spec.logs.files == LogFiles::Merged {
                let name = &spec.name;
                let why = format!("all instances of `{name}` write to one file; write `{name}`");
                return Err((Code::Usage, why));
            }
        }
        let apps = specs.iter().map(|spec| spec.name.to_string()).collect();
        let of = specs.into_iter().map(|spec| LogsOf { spec, index }).collect();
        self.tidyings.0.push(Waiting { asker: asker.clone(), what, target, apps });
        self.act(Action::Tidy(asker.client, asker.id.clone(), what, of));
        Ok(())
    }

    pub(super) fn tidied(&mut self, client: ClientId, id: &str, tidied: &Tidied) {
        let Some(waiting) = self.tidyings.take(client, id) else { return };
        let Waiting { asker, what, target, apps } = waiting;
        if !tidied.faults.is_empty() {
            let why = tidied.faults.join("; ");
            return self.reply(&asker, Reply::<()>::Failed(Code::Failed, why));
        }
        let mut data = json!({
            "name": target.to_string(),
            "action": done(what),
            "apps": apps,
            "files": tidied.files,
        });
        match what {
            Tidying::Flush => data["freedBytes"] = json!(tidied.bytes),
            Tidying::Rotate => data["atLineEnd"] = json!(tidied.waiting),
        }
        self.reply(&asker, Reply::Done(data));
    }

    /// The daemon ends: nobody will hear of it any more.
    pub(super) fn give_up_tidying(&mut self) {
        for Waiting { asker, .. } in std::mem::take(&mut self.tidyings.0) {
            let why = Refusal::ShuttingDown.to_string();
            self.reply(&asker, Reply::<()>::Failed(Code::Busy, why));
        }
    }
}
