//! Actions that take their time: each is a task of the control runtime that ends in one event.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    listen::{self, Patience},
    probe as http,
    world::Shared,
};
use crate::{
    domain::{AppSpec, ClientId, Keep, WorkerId},
    logs::{Stream, files},
    world::{Event, LogsOf, Probe, Tidied, Tidying},
};

/// First pause between two looks at whether a worker listens.
const LOOK_MIN: Duration = Duration::from_millis(4);

/// Longest pause: a look reads `/proc` and costs tens of microseconds.
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Longest pause between two looks at whether a worker has opened its port by now.
const SETTLE_LOOK_MAX: Duration = Duration::from_millis(250);

/// Pause between two signs of life for the kernel, which believes us for three seconds.
const BEAT: Duration = Duration::from_secs(1);

/// Looks at a retired worker that wait for clients to fall silent, and those that wait for less;
/// then an answer is enough.
const PATIENT_LOOKS: u32 = 20;
const SHORT_LOOKS: u32 = 150;

/// Pause between two looks at whether a retired worker's queue is empty.
///
/// A look walks the kernel's table of connections: about a millisecond.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Longest time from a client's SYN to its ACK that a reload waits for at least; longer ones are
/// seen as soon as they are in the queue.
const HANDSHAKE: Duration = Duration::from_millis(50);

/// Waits until no connection waits for `worker` and none is open, where others get the new ones;
/// where they do not, waiting would have no end.
pub(super) async fn drain(shared: Rc<Shared>, worker: WorkerId) {
    // A handshake that began before the kernel was told still ends up with this worker.
    if shared.ports.borrow().is_retired(worker) {
        tokio::time::sleep(HANDSHAKE).await;
    }
    let mut looks: u32 = 0;
    while is_busy(&shared, worker, patience(looks)) {
        looks = looks.saturating_add(1);
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    shared.inbox.push(Event::Drained(worker));
}

/// How idle a worker must look after so many looks.
const fn patience(looks: u32) -> Patience {
    match looks {
        ..PATIENT_LOOKS => Patience::Some,
        PATIENT_LOOKS..SHORT_LOOKS => Patience::Little,
        _ => Patience::None,
    }
}

fn is_busy(shared: &Shared, worker: WorkerId, patience: Patience) -> bool {
    let ports = shared.ports.borrow();
    let Some(pid) = shared.workers.pid(worker).filter(|_| ports.is_retired(worker)) else {
        return false;
    };
    let Some(port) = shared.workers.launch(worker).and_then(|it| it.spec.port) else {
        return false;
    };
    ports.is_awaited(worker, pid, port.get()) || listen::serving(pid, port.get(), patience)
}

/// Looks for the sockets of a worker until it listens, where that is what governs them.
pub(super) async fn settle(shared: Rc<Shared>, worker: WorkerId) {
    let mut pause = LOOK_MIN;
    while shared.ports.borrow().is_unsettled(worker) {
        if let Some(pid) = shared.workers.pid(worker) {
            let kept = shared.ports.borrow_mut().settle(worker, pid);
            for (key, socket) in kept {
                shared.keep(key, socket);
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f32(1.1).min(SETTLE_LOOK_MAX);
    }
}

/// Tells the kernel that we live, and looks after those that wait.
pub(super) async fn tend(shared: Rc<Shared>) {
    loop {
        shared.ports.borrow().tend();
        tokio::time::sleep(BEAT).await;
    }
}

/// Looks whether `worker` serves its app's port, until it does or its time to be ready is over.
pub(super) async fn await_listen(shared: Rc<Shared>, worker: WorkerId) {
    let Some(launch) = shared.workers.launch(worker) else { return };
    if launch.spec.port.is_none() {
        return;
    }
    let mut pause = LOOK_MIN;
    let mut waited = Duration::ZERO;
    while let Some(pid) = shared.workers.pid(worker)
        && waited < launch.spec.ready_timeout
    {
        if shared.ports.borrow().is_served(worker, pid, &launch.spec) {
            shared.inbox.push(Event::Listening(worker));
            return;
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = pause.mul_f32(1.3).min(LOOK_MAX);
    }
}

/// Sends one probe to `worker`, if it can be addressed alone.
pub(super) async fn probe(shared: Rc<Shared>, worker: WorkerId) {
    let Some(launch) = shared.workers.launch(worker) else { return };
    let spec = &launch.spec;
    let (Some(port), Some(health)) = (spec.port, &spec.health) else { return };
    let source = shared.ports.borrow().probe_source(worker);
    let seen = if shared.ports.borrow().is_unseated(worker) {
        Probe::Sick("it does not listen".to_owned())
    } else if source.is_some() || shared.workers.is_alone(worker) {
        let (path, timeout) = (health.path.clone(), health.timeout);
        http::probe(&http::Target { port: port.get(), source, path, timeout }).await
    } else {
        Probe::Unreachable
    };
    shared.inbox.push(Event::Probed(worker, seen));
}

/// Reads the ends of an app's log files on a thread that may block.
pub(super) async fn tail(
    shared: Rc<Shared>,
    client: ClientId,
    id: String,
    spec: Arc<AppSpec>,
    lines: u32,
) {
    let instances = 0..spec.instances.get();
    let streams = instances.flat_map(|index| [(index, Stream::Out), (index, Stream::Err)]);
    let mut paths: Vec<PathBuf> =
        streams.map(|(index, stream)| files::paths(&shared.logs, &spec, index, stream)).collect();
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || {
        paths.iter().flat_map(|path| super::tail::last_lines(path, count)).collect()
    });
    let lines = read.await.unwrap_or_default();
    shared.inbox.push(Event::Tailed(client, id, lines));
}

/// Has log files emptied or rotated by the one who writes them.
pub(super) async fn tidy(
    shared: Rc<Shared>,
    client: ClientId,
    id: String,
    what: Tidying,
    of: Vec<LogsOf>,
) {
    let rows: BTreeMap<_, _> = of.iter().flat_map(|of| rows(&shared, of)).collect();
    let (tell, told) = oneshot::channel();
    let done = move |tidied| {
        // Fails only once nobody is left to hear it.
        let _ending = tell.send(tidied);
    };
    let rows = rows.into_iter().collect();
    let given = shared.pump.borrow().as_ref().map(|pump| pump.tidy(what, rows, done));
    let failed = |why: &str| Tidied { faults: vec![why.to_owned()], ..Tidied::default() };
    let tidied = match given {
        Some(Ok(())) => told.await.unwrap_or_else(|_gone| failed("the log pump has ended")),
        Some(Err(error)) => failed(&error.to_string()),
        None => failed("the daemon is shutting down"),
    };
    shared.inbox.push(Event::Tidied(client, id, tidied));
}

/// The current files that are meant, with how each is kept. Of a whole app, also those of places
/// it had once.
fn rows(shared: &Shared, of: &LogsOf) -> Vec<(PathBuf, Keep)> {
    let LogsOf { spec, index } = of;
    let places = index.map_or_else(|| 0..spec.instances.get(), |index| index..index + 1);
    let streams = places.flat_map(|place| Stream::BOTH.map(|stream| (place, stream)));
    let mut paths: Vec<PathBuf> =
        streams.map(|(place, stream)| files::paths(&shared.logs, spec, place, stream)).collect();
    if index.is_none() {
        let folder = shared.logs.join(spec.name.as_str());
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let own = names.filter(|name| files::identify(spec.name.as_str(), name).is_some());
        paths.extend(own.map(|name| folder.join(name)));
    }
    paths.into_iter().map(|path| (path, spec.logs.keep)).collect()
}
