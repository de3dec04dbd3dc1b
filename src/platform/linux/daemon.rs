//! The daemon's outside, put together: takes over from the one before, opens what is missing.
//!
//! Every descriptor that must outlive the daemon is with the guard: after a crash it comes back
//! from there, so that no client and no scraper is ever refused in between.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::DirBuilderExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    barrier::Barrier,
    bpf::gate::Gate,
    clients::Clients,
    clock,
    doors::{CONTROL_KEY, HTTP_KEY, Held, control_socket, http_socket},
    facts::facts,
    guardian::{Guardian, hear},
    hatchery::Arrival,
    inbox::Inbox,
    keepsakes::Keepsakes,
    lock::{LockError, PidFile},
    logs::{JOURNAL_KEY, Pump, PumpNotice, STAGE_KEY, Setup, Stage},
    meters::Meters,
    ports::{Left, Ports},
    pump,
    runtime::Runtime,
    scrapes::Scrapes,
    succession::{self, Heritage},
    workers::Workers,
    world::{LinuxWorld, Shared},
};
use crate::{
    api,
    domain::{AppId, Signal, WorkerId},
    guard::{
        GuardError,
        link::Link,
        wire::{Notice, Order, Rung},
    },
    logs::files,
    platform::sys,
    store::{OpenNote, Store, StoreError, StoreNotice},
    world::{Event, Fate, Life, Saved, Start, Survivor},
};

/// Where the daemon keeps its files, and where it serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything else.
    pub home: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Port of the metrics server on the loopback address.
    pub http_port: HttpPort,
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug)]
pub enum HttpPort {
    /// Nowhere.
    Off,
    /// On this port.
    At(u16),
    /// Where an app wishes it (`metrics.httpPort`), else on the usual port.
    AsConfigured(fn(&Saved) -> u16),
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It was not started by a guard.
    #[error("the daemon is started by its guard; use `bunpilot daemon start`")]
    NoGuard(#[source] GuardError),
    /// The guard speaks another language, or is gone.
    #[error("cannot talk to the guard")]
    Guard(#[source] GuardError),
    /// The pid file cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// A folder cannot be made.
    #[error("cannot make the folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The database is beyond us.
    #[error(transparent)]
    Store(StoreError),
    /// The control socket cannot be opened.
    #[error("cannot listen on `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The runtime or the log pump cannot be started.
    #[error("cannot {what}")]
    Start {
        /// What we tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// What the guard kept.
struct Inventory {
    workers: BTreeMap<WorkerId, Arrival>,
    held: Held,
    rung: Rung,
    nofile_soft: Option<u64>,
}

/// Pause between two looks at whether every worker's output is written.
const FAREWELL_LOOK: Duration = Duration::from_millis(10);

/// Looks before the daemon ends all the same: five seconds; a file may be on a full disk.
const FAREWELL_LOOKS_MAX: u32 = 500;

/// A daemon that has all it needs: turn it until it is over, then [`Opened::farewell`].
#[derive(Debug)]
pub struct Opened {
    /// The door of its loop.
    pub world: LinuxWorld,
    config: Config,
    /// Held while the daemon runs.
    _lock: PidFile,
}

/// Puts the daemon together and finds out what an earlier one left, which is judged by `fate`.
///
/// `None`, without harm, if another daemon serves this home.
///
/// # Errors
///
/// [`DaemonError`]; the guard starts the daemon again.
pub fn open(
    config: Config,
    fate: impl Fn(&Saved, WorkerId) -> Fate,
) -> Result<Option<(Opened, Start)>, DaemonError> {
    let mut link = Link::from_env().map_err(DaemonError::NoGuard)?;
    let lock = match PidFile::take(&config.home.join("bunpilot.pid")) {
        Ok(lock) => lock,
        Err(held @ LockError::Held { .. }) => {
            tracing::info!(%held, "nothing to do");
            last_order(&mut link)?;
            return Ok(None);
        }
        Err(error) => return Err(DaemonError::Lock(error)),
    };
    let inventory = take_inventory(&mut link).map_err(DaemonError::Guard)?;
    let (world, start) = assemble(&config, link, inventory, fate)?;
    sys::forget_heap();
    sys::forget_code();
    Ok(Some((Opened { world, config, _lock: lock }, start)))
}

impl Opened {
    /// Says what is left to say to clients, and leaves nothing behind that promises a daemon.
    pub fn farewell(self) {
        let Self { mut world, config, _lock } = self;
        for _ in 0..FAREWELL_LOOKS_MAX {
            // The last replies go out, the last output is written.
            world.runtime.block_on(async { tokio::time::sleep(FAREWELL_LOOK).await });
            if world.is_done() {
                break;
            }
        }
        world.give_in();
        if let Some(pump) = world.shared.pump.borrow_mut().take() {
            pump.shutdown();
        }
        for path in [&config.socket, &config.home.join("bunpilot.pid")] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "nothing to remove");
            }
        }
    }
}

fn assemble(
    config: &Config,
    mut link: Link,
    mut inventory: Inventory,
    fate: impl Fn(&Saved, WorkerId) -> Fate,
) -> Result<(LinuxWorld, Start), DaemonError> {
    let life = if inventory.held.contains_key(CONTROL_KEY) { Life::Next } else { Life::First };
    let (told, hear) = unbounded_channel();
    let (store, saved, notes) = open_store(config, told.clone())?;
    if life == Life::First {
        inventory.workers = succession::gather(&mut link, &config.home, |it| fate(&saved, it))
            .map_err(DaemonError::Guard)?;
    }
    let logs = folder(&config.home.join("logs"))?;
    let (pump, staged) = open_pump(&mut inventory.held, logs.join(files::INDEX_FOLDER), told)
        .map_err(|source| DaemonError::Start { what: "start the log pump", source })?;
    let runtime = Runtime::start()
        .map_err(|source| DaemonError::Start { what: "start the control runtime", source })?;
    let control = control_socket(config, &mut inventory.held)?;
    let http_port = match config.http_port {
        HttpPort::Off => None,
        HttpPort::At(port) => Some(port),
        HttpPort::AsConfigured(of) => Some(of(&saved)),
    };
    let (http, http_state) = http_socket(http_port, &mut inventory.held);
    let (meters, unread) =
        Meters::open(&mut inventory.held, &inventory.workers, inventory.rung, &config.home);
    let notes =
        notes.iter().map(ToString::to_string).chain(http_state.as_ref().err().cloned()).collect();

    let inbox = Inbox::default();
    let next_client = Rc::new(Cell::new(1));
    let mut keepsakes = Keepsakes::default();
    let (ports, needless) = open_ports(config, &mut inventory, &saved, &mut keepsakes);
    let facts = facts(&runtime, &pump, inventory.rung, &meters, &ports, &http_state);
    let survivors = inventory.workers.values().map(survivor).collect();
    let shared = Rc::new(Shared {
        guardian: RefCell::new(Guardian::new(link)),
        heritage: Heritage { home: config.home.clone(), nofile_soft: inventory.nofile_soft },
        keepsakes: RefCell::new(keepsakes),
        workers: Workers::new(runtime.mode(), inbox.clone()),
        clients: RefCell::new(None),
        scrapes: Scrapes::new(inbox.clone(), Rc::clone(&next_client)),
        ports: RefCell::new(ports),
        meters: RefCell::new(meters),
        pump: RefCell::new(Some(pump)),
        store,
        logs,
        notify: folder(&config.home.join("notify"))?,
        barrier: RefCell::new(Barrier::default()),
        closing: RefCell::default(),
        unclaimed: RefCell::new(inventory.workers),
        inbox,
    });
    keep_programs(&shared);
    for key in needless.into_iter().chain(unread) {
        shared.order(&Order::Release { key });
    }
    keep(&shared, CONTROL_KEY, &control);
    for (key, copy) in staged {
        keep_copy(&shared, key, copy);
    }
    let mut world = LinuxWorld::new(runtime, Rc::clone(&shared));
    if let Some(http) = http {
        keep(&shared, HTTP_KEY, &http);
        world.begin(serve_http(Rc::clone(&shared), http));
    }
    world.begin(succession::listen(Rc::clone(&shared)));
    world.begin(super::tasks::tend(Rc::clone(&shared)));
    world.begin(listen_to_threads(Rc::clone(&shared), hear));
    let mode = world.runtime.mode();
    world.begin(async move {
        listen_to_signals(&shared);
        serve_clients(&shared, mode, control, next_client);
    });
    Ok((world, Start { now: clock::now(), facts, life, saved, survivors, notes }))
}

/// Every app's port, and the names of what the guard need not keep any more.
fn open_ports(
    config: &Config,
    inventory: &mut Inventory,
    saved: &Saved,
    keepsakes: &mut Keepsakes,
) -> (Ports, Vec<String>) {
    let apps = saved.apps.iter().map(|it| it.id).collect();
    let alive = inventory.workers.iter().filter(|(_, it)| !it.life.gone);
    let workers: Vec<WorkerId> = alive.map(|(worker, _)| *worker).collect();
    let left = Left { held: &mut inventory.held, apps: &apps, workers: &workers };
    Ports::open(left, &config.home, |it, fd| keepsakes.socket(it, fd))
}

fn open_store(
    config: &Config,
    told: UnboundedSender<Told>,
) -> Result<(Store, Saved, Vec<OpenNote>), DaemonError> {
    Store::open(&config.home.join("bunpilot.db"), move |notice| {
        // Fails only once the control thread is gone, and with it everybody who would listen.
        let _ending = told.send(Told::Store(notice));
    })
    .map_err(DaemonError::Store)
}

/// What an earlier daemon left half-written, or nothing.
fn open_stage(held: &mut Held) -> io::Result<Stage> {
    match (held.remove(STAGE_KEY), held.remove(JOURNAL_KEY)) {
        (Some(pipe), Some(journal)) => Stage::kept(pipe, journal),
        (_, _) => Stage::new(),
    }
}

/// A descriptor the guard is to keep, and its name there.
type Copy = (&'static str, io::Result<OwnedFd>);

/// Starts the pump; with it come those of its descriptors that are to be kept.
fn open_pump(
    held: &mut Held,
    indexes: PathBuf,
    told: UnboundedSender<Told>,
) -> io::Result<(Pump, [Copy; 2])> {
    let stage = open_stage(held)?;
    let keepsakes = stage.keepsakes().map(|(key, fd)| (key, fd.try_clone_to_owned()));
    let pump = Pump::start(Setup { stage, indexes }, move |notice| {
        let _ending = told.send(Told::Pump(notice));
    })?;
    Ok((pump, keepsakes))
}

/// What other threads say.
enum Told {
    Store(StoreNotice),
    Pump(PumpNotice),
}

fn folder(path: &Path) -> Result<PathBuf, DaemonError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| DaemonError::Folder { path: path.to_owned(), source })?;
    Ok(path.to_owned())
}

/// Another daemon serves this home: lets the guard end, too.
fn last_order(link: &mut Link) -> Result<(), DaemonError> {
    link.send(&Order::Exit, Vec::new()).map_err(DaemonError::Guard)?;
    link.flush().map_err(|source| DaemonError::Guard(GuardError::Link(source)))?;
    Ok(())
}

fn take_inventory(link: &mut Link) -> Result<Inventory, GuardError> {
    link.send(&Order::Inventory, Vec::new())?;
    let mut workers = BTreeMap::new();
    let mut held = BTreeMap::new();
    loop {
        for (notice, fds) in hear(link)? {
            match notice {
                Notice::Worker(life, roles) => {
                    if let Ok(worker) = life.label.parse() {
                        workers.insert(worker, Arrival::new(life, roles, fds));
                    }
                }
                Notice::Held { key } => held.extend(fds.into_iter().next().map(|fd| (key, fd))),
                Notice::InventoryEnd { rung, nofile_soft } => {
                    return Ok(Inventory { workers, held, rung, nofile_soft });
                }
                // About workers told before; the notice of their life says it as well.
                Notice::Exited { .. }
                | Notice::Gone { .. }
                | Notice::SpawnFailed { .. }
                | Notice::Took { .. }
                | Notice::Untrapped { .. } => (),
            }
        }
    }
}

fn survivor(arrival: &Arrival) -> Survivor {
    let life = &arrival.life;
    Survivor {
        // The inventory keeps only labels that parse.
        worker: life.label.parse().unwrap_or(WorkerId::new(AppId(0), 0, 0)),
        pid: life.pid,
        spawned: life.spawned,
        note: life.note.clone(),
        exit: life.exit,
        gone: life.gone,
    }
}

/// Leaves a copy of one of the daemon's own sockets with the guard.
fn keep(shared: &Shared, key: &str, fd: &impl AsFd) {
    keep_copy(shared, key, fd.as_fd().try_clone_to_owned());
}

/// Leaves programs in the kernel with the guard, so that they go on while there is no daemon.
fn keep_programs(shared: &Shared) {
    let (meters, ports) = (shared.meters.borrow(), shared.ports.borrow());
    let gate = ports.gate().into_iter().flat_map(Gate::keepsakes);
    for (key, fd) in meters.keepsakes().chain(gate) {
        keep_copy(shared, &key, fd.try_clone_to_owned());
    }
}

fn keep_copy(shared: &Shared, key: &str, copy: io::Result<OwnedFd>) {
    match copy {
        Ok(copy) => shared.keep(key.to_owned(), copy),
        Err(error) => tracing::warn!(key, %error, "the guard cannot keep this descriptor"),
    }
}

fn serve_clients(
    shared: &Shared,
    mode: super::runtime::Mode,
    listener: UnixListener,
    next: Rc<Cell<u64>>,
) {
    match Clients::serve(mode, shared.inbox.clone(), listener, next) {
        Ok(clients) => *shared.clients.borrow_mut() = Some(clients),
        Err(error) => tracing::error!(%error, "nobody can reach the daemon"),
    }
}

async fn serve_http(shared: Rc<Shared>, listener: TcpListener) {
    let asked = Rc::clone(&shared);
    let served = api::serve(listener, move |question| {
        let shared = Rc::clone(&asked);
        async move { shared.scrapes.ask(question).await }
    });
    let Err(error) = served.await;
    tracing::error!(%error, "the metrics server ended");
}

async fn listen_to_threads(shared: Rc<Shared>, mut hear: UnboundedReceiver<Told>) {
    while let Some(told) = hear.recv().await {
        match told {
            Told::Pump(notice) => pump::said(&shared, notice),
            Told::Store(StoreNotice::Flushed(token)) => {
                shared.barrier.borrow_mut().flushed(token);
                shared.inbox.wake();
            }
            Told::Store(StoreNotice::Failed { reason }) => {
                shared.inbox.push(Event::StoreFailed(reason));
            }
            Told::Store(StoreNotice::Recovered { dropped, notes }) => {
                tracing::info!(dropped, ?notes, "the database is written again");
                shared.inbox.push(Event::StoreRecovered);
            }
        }
    }
}

fn listen_to_signals(shared: &Rc<Shared>) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::hangup(), Signal::HUP),
    ];
    for (kind, number) in kinds {
        match signal(kind) {
            Ok(mut stream) => {
                let shared = Rc::clone(shared);
                tokio::task::spawn_local(async move {
                    while stream.recv().await.is_some() {
                        shared.inbox.push(Event::Signalled(number));
                    }
                });
            }
            Err(error) => tracing::warn!(%error, %number, "the signal is not handled"),
        }
    }
}
