//! The door of the daemon's loop on Linux: every [`Action`] begins here, every [`Event`] comes
//! from here.
//!
//! One thread. Actions are carried out at once where that cannot block, else by a task of the
//! control runtime; the log pump and the database have threads of their own. Nothing is decided:
//! the order of things and what they mean is the core's.

use std::{
    cell::RefCell, collections::BTreeMap, io, path::PathBuf, pin::Pin, rc::Rc, time::Duration,
};

use tokio::sync::oneshot;

use super::{
    barrier::Barrier, clients::Clients, clock, guardian::Guardian, hatchery, inbox::Inbox,
    keepsakes::Keepsakes, logs::Pump, meters::Meters, ports::Ports, pump, runtime::Runtime,
    scrapes::Scrapes, succession::Heritage, workers::Workers,
};
use crate::{
    domain::{Moment, WorkerId},
    guard::wire::Order,
    store::Store,
    world::{Action, Depth, Event, Launch, Record, Sample, World},
};

/// Most events given to the loop at a time.
const EVENTS_PER_TURN: usize = 256;

/// Longest wait of a full measurement for log lines to be counted; what is not by then is in the
/// next one.
const RECOUNT_MAX: Duration = Duration::from_millis(50);

/// A task that waits for the runtime.
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Everything outside, on Linux.
pub struct LinuxWorld {
    pub(super) runtime: Runtime,
    pub(super) shared: Rc<Shared>,
    /// Tasks to begin as soon as the runtime runs.
    tasks: Vec<Task>,
}

/// What actions and tasks share.
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) guardian: RefCell<Guardian>,
    pub(super) heritage: Heritage,
    pub(super) keepsakes: RefCell<Keepsakes>,
    pub(super) workers: Workers,
    pub(super) clients: RefCell<Option<Clients>>,
    pub(super) scrapes: Scrapes,
    pub(super) ports: RefCell<Ports>,
    pub(super) meters: RefCell<Meters>,
    pub(super) pump: RefCell<Option<Pump>>,
    pub(super) store: Store,
    /// Folder of the apps' logs.
    pub(super) logs: PathBuf,
    /// Folder of the notify sockets.
    pub(super) notify: PathBuf,
    /// What must not take effect before the database is written.
    pub(super) barrier: RefCell<Barrier>,
    /// Output streams still being written, for each worker the core has let go of.
    pub(super) closing: RefCell<BTreeMap<WorkerId, Closing>>,
    /// Workers that came with the guard's inventory and wait to be taken over.
    pub(super) unclaimed: RefCell<BTreeMap<WorkerId, hatchery::Arrival>>,
}

/// How far a worker is from being forgotten.
#[derive(Clone, Copy, Default)]
pub(super) struct Closing {
    /// Streams the pump still reads.
    pub(super) open: u8,
    /// The core asked to forget it.
    pub(super) asked: bool,
}

impl std::fmt::Debug for LinuxWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxWorld").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl World for LinuxWorld {
    fn submit(&mut self, action: Action) {
        let passed = self.shared.barrier.borrow_mut().pass(action);
        if let Some(action) = passed {
            self.carry_out(action);
        }
    }

    fn wait(&mut self, deadline: Option<Moment>, events: &mut Vec<Event>) -> io::Result<Moment> {
        let inbox = self.shared.inbox.clone();
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(async {
            for task in tasks {
                tokio::task::spawn_local(task);
            }
            match deadline {
                Some(deadline) => {
                    let rest = deadline.since(clock::now());
                    // A timer may fire within the millisecond before it is due.
                    let rest = rest.saturating_add(Duration::from_millis(1));
                    let _elapsed_or_filled = tokio::time::timeout(rest, inbox.filled()).await;
                }
                None => inbox.filled().await,
            }
        });
        self.release();
        self.shared.inbox.take(EVENTS_PER_TURN, events);
        Ok(clock::now())
    }
}

impl LinuxWorld {
    pub(super) fn new(runtime: Runtime, shared: Rc<Shared>) -> Self {
        Self { runtime, shared, tasks: Vec::new() }
    }

    /// Begins a task with the next turn.
    pub(super) fn begin(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(Box::pin(task));
    }

    /// Whether nothing was left to carry out and every worker's output is written. What is carried
    /// out now takes effect as the runtime runs on.
    pub(super) fn is_done(&mut self) -> bool {
        let idle = self.shared.barrier.borrow().is_empty();
        self.release();
        idle && self.shared.closing.borrow().is_empty()
    }

    /// Carries out what the barrier held, once the database is written.
    fn release(&mut self) {
        let released = self.shared.barrier.borrow_mut().release();
        for action in released {
            self.carry_out(action);
        }
    }

    /// Carries out all that the barrier holds: the daemon ends.
    pub(super) fn give_in(&mut self) {
        let released = self.shared.barrier.borrow_mut().give_in();
        for action in released {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        let shared = Rc::clone(&self.shared);
        match action {
            Action::Spawn(launch) => {
                let worker = launch.worker;
                shared.spawn(launch);
                self.begin(super::tasks::settle(shared, worker));
            }
            Action::Adopt(launch) => {
                let worker = launch.worker;
                self.begin(super::tasks::settle(Rc::clone(&shared), worker));
                // Now: the next action may be to admit it, or to forget it with its last words unread.
                if let Some(voice) = hatchery::adopt(&shared, launch) {
                    self.begin(async move { hatchery::converse(&shared, worker, voice) });
                }
            }
            Action::Signal(worker, signal, reach) => {
                shared.order(&Order::Signal { label: worker.to_string(), signal, reach });
            }
            Action::Forget(worker) => shared.forget(worker),
            Action::Note(worker, note) => {
                shared.keepsakes.borrow_mut().note(worker, &note);
                shared.order(&Order::Note { label: worker.to_string(), note });
            }
            Action::Admit(worker) => shared.ports.borrow_mut().admit(worker),
            Action::Retire(worker) => {
                shared.ports.borrow_mut().retire(worker);
                self.begin(super::tasks::drain(shared, worker));
            }
            Action::AwaitListen(worker) => self.begin(super::tasks::await_listen(shared, worker)),
            Action::Probe(worker) => self.begin(super::tasks::probe(shared, worker)),
            Action::Channel(worker, line) => shared.workers.say(worker, line),
            Action::Sample(workers, depth) => {
                let recount = shared.recount(depth);
                let answer = move || {
                    let sample = shared.measure(&workers, depth);
                    shared.inbox.push(Event::Sampled(sample));
                };
                match recount {
                    None => answer(),
                    Some(done) => self.begin(async move {
                        let _done_or_late = tokio::time::timeout(RECOUNT_MAX, done).await;
                        answer();
                    }),
                }
            }
            Action::Tail(client, id, spec, lines) => {
                self.begin(super::tasks::tail(shared, client, id, spec, lines));
            }
            Action::Tidy(client, id, what, of) => {
                self.begin(super::tasks::tidy(shared, client, id, what, of));
            }
            Action::Reply(client, bytes) => shared.with_clients(|it| it.send(client, bytes)),
            Action::Hangup(client) => shared.with_clients(|it| it.finish(client)),
            Action::Answer(client, answer) => shared.scrapes.answer(client, answer),
            Action::Persist(record) => shared.persist(record),
            Action::Listen(app, spec) => shared.listen(app, &spec),
            Action::Unlisten(app) => {
                for key in shared.ports.borrow_mut().close(app) {
                    shared.keepsakes.borrow_mut().release(&key);
                    shared.order(&Order::Release { key });
                }
            }
            Action::Exit => shared.order(&Order::Exit),
        }
    }
}

impl Shared {
    pub(super) fn order(&self, order: &Order) {
        self.guardian.borrow().order(order);
    }

    fn with_clients(&self, act: impl FnOnce(&Clients)) {
        if let Some(clients) = self.clients.borrow().as_ref() {
            act(clients);
        }
    }

    /// Has log lines counted for a full measurement, if some are not.
    fn recount(&self, depth: Depth) -> Option<oneshot::Receiver<()>> {
        match depth {
            Depth::Cpu => None,
            Depth::Full => self.pump.borrow().as_ref()?.recount(),
        }
    }

    fn measure(&self, workers: &[WorkerId], depth: Depth) -> Sample {
        let mut meters = self.meters.borrow_mut();
        let logs = match depth {
            Depth::Cpu => Vec::new(),
            Depth::Full => self.pump.borrow().as_ref().map(pump::counted).unwrap_or_default(),
        };
        let mut workers = meters.measure(workers, depth, &self.workers);
        let ports = self.ports.borrow();
        for (worker, usage) in &mut workers {
            usage.connections = ports.connections(*worker);
        }
        Sample { workers, logs, daemon: meters.daemon(depth) }
    }

    fn persist(&self, record: Record) {
        if let (Record::AppGone(app), Some(pump)) = (&record, &mut *self.pump.borrow_mut()) {
            pump.forget(*app);
        }
        let number = self.barrier.borrow_mut().record(&record);
        self.store.write(record);
        if let Some(number) = number {
            self.store.barrier(number);
        }
    }

    fn listen(&self, app: crate::domain::AppId, spec: &crate::domain::AppSpec) {
        let opened = self.ports.borrow_mut().open_for(app, spec);
        match opened {
            Ok(sockets) => {
                for (key, socket) in sockets {
                    self.keep(key, socket);
                }
            }
            Err(why) => self.inbox.push(Event::ListenFailed(app, why)),
        }
    }

    /// Lets go of a worker: first its last output is written, then the guard forgets it.
    fn forget(&self, worker: WorkerId) {
        self.workers.forget(worker);
        self.ports.borrow_mut().forget(worker);
        self.meters.borrow_mut().forget(worker);
        if let Some(Err(error)) = self.pump.borrow().as_ref().map(|it| it.retire(worker)) {
            tracing::warn!(%worker, %error, "the worker's last output waits in its pipe");
        }
        let open = {
            let mut closing = self.closing.borrow_mut();
            let state = closing.entry(worker).or_default();
            state.asked = true;
            state.open
        };
        if open == 0 {
            self.forget_now(worker);
        }
    }

    /// A stream of the worker is being read.
    pub(super) fn opened(&self, worker: WorkerId) {
        self.closing.borrow_mut().entry(worker).or_default().open += 1;
    }

    /// A stream of the worker is all in its file.
    pub(super) fn stream_closed(&self, worker: WorkerId) {
        let over = {
            let mut closing = self.closing.borrow_mut();
            let Some(state) = closing.get_mut(&worker) else { return };
            state.open = state.open.saturating_sub(1);
            state.open == 0 && state.asked
        };
        if over {
            self.forget_now(worker);
        }
    }

    /// Leaves a socket with the guard.
    pub(super) fn keep(&self, key: String, socket: std::os::fd::OwnedFd) {
        self.keepsakes.borrow_mut().socket(&key, &socket);
        self.guardian.borrow().order_with(&Order::Hold { key }, vec![socket]);
    }

    fn forget_now(&self, worker: WorkerId) {
        self.closing.borrow_mut().remove(&worker);
        self.keepsakes.borrow_mut().forget(worker);
        self.order(&Order::Forget { label: worker.to_string() });
    }

    fn spawn(&self, launch: Launch) {
        hatchery::spawn(self, launch);
    }
}
