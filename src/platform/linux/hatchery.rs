//! Where workers come to life: orders to the guard, and what it says about them.

use std::{collections::BTreeMap, ffi::OsString, os::fd::OwnedFd, path::PathBuf};

use super::{
    bpf::books::Origin,
    guardian::Said,
    logs::{PIPE_BYTES, Target},
    workers::Ends,
    world::Shared,
};
use crate::{
    domain::{AppSpec, Exit, Pid, WorkerId},
    guard::wire::{Channel, Life, Notice, Order, Output, Role, Spawn},
    ipc::contract,
    logs::{Stream, files},
    world::{Event, Launch},
};

/// Longest path of a unix socket, its closing NUL included (`unix(7)`).
const SOCKET_PATH_MAX: usize = 108;

/// A worker the guard knows, with the descriptors that belong to it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) life: Life,
    pub(super) fds: BTreeMap<Role, OwnedFd>,
}

impl Arrival {
    pub(super) fn new(life: Life, roles: Vec<Role>, fds: Vec<OwnedFd>) -> Self {
        Self { life, fds: roles.into_iter().zip(fds).collect() }
    }
}

/// Asks the guard for a worker.
pub(super) fn spawn(shared: &Shared, launch: Launch) {
    let worker = launch.worker;
    let inherited = shared.ports.borrow_mut().expect(worker, launch.lane, &launch.spec);
    match inherited {
        Ok(key) => {
            let spawn = plan(shared, &launch, key);
            shared.workers.expect(launch);
            shared.order(&Order::Spawn(Box::new(spawn)));
        }
        Err(why) => shared.inbox.push(Event::SpawnFailed(worker, why)),
    }
}

fn plan(shared: &Shared, launch: &Launch, listen: Option<String>) -> Spawn {
    let spec = &launch.spec;
    let text = |it: (String, String)| (OsString::from(it.0), OsString::from(it.1));
    Spawn {
        label: launch.worker.to_string(),
        note: launch.note.clone(),
        argv: contract::command(spec),
        env: contract::environment(spec, launch.worker).into_iter().map(text).collect(),
        cwd: spec.cwd.clone(),
        user: spec.user,
        limits: spec.limits.iter().map(|(name, limit)| (name.clone(), *limit)).collect(),
        listen: listen.into_iter().collect(),
        channel: Channel::Json,
        notify: notify_path(shared, launch.worker),
        out: output(spec, Stream::Out),
        err: output(spec, Stream::Err),
    }
}

/// Without a pipe what is discarded costs nobody anything.
fn output(spec: &AppSpec, stream: Stream) -> Output {
    if files::is_discarded(&spec.logs, stream) {
        return Output::Nowhere;
    }
    Output::Pipe { bytes: u32::try_from(PIPE_BYTES).unwrap_or(u32::MAX) }
}

/// Where the worker's `NOTIFY_SOCKET` is; none if the home's path is too long for a socket.
fn notify_path(shared: &Shared, worker: WorkerId) -> Option<PathBuf> {
    let WorkerId { instance, generation } = worker;
    let name = format!("{}-{}-{generation}", instance.app.0, instance.index);
    Some(shared.notify.join(name)).filter(|it| it.as_os_str().len() < SOCKET_PATH_MAX)
}

/// Takes over a worker the guard kept: from now on it can be admitted, retired and forgotten, and
/// what it printed is read. Returns what is left for [`converse`], if the guard knows it.
pub(super) fn adopt(shared: &Shared, launch: Launch) -> Option<Voice> {
    let worker = launch.worker;
    // The sockets were adopted before.
    if let Err(why) = shared.ports.borrow_mut().resume(worker, launch.lane, &launch.spec) {
        tracing::warn!(%worker, why, "the worker's socket is not known any more");
    }
    shared.workers.expect(launch);
    let arrival = shared.unclaimed.borrow_mut().remove(&worker)?;
    shared.meters.borrow_mut().follow(worker, arrival.life.pid, Origin::Found);
    Some(attend(shared, worker, arrival))
}

/// Carries what the guard says. Called within the runtime.
pub(super) fn said(shared: &Shared, (notice, fds): Said) {
    match notice {
        Notice::Worker(life, roles) => {
            let Ok(worker) = life.label.parse::<WorkerId>() else { return };
            let (pid, exit, gone) = (life.pid, life.exit, life.gone);
            // A new guard tells of workers we know.
            if shared.workers.pid(worker).is_none() {
                shared.meters.borrow_mut().follow(worker, pid, Origin::Born);
                let voice = attend(shared, worker, Arrival::new(life, roles, fds));
                converse(shared, worker, voice);
                shared.inbox.push(Event::Spawned(worker, pid));
            }
            ended(shared, worker, exit, gone);
        }
        Notice::SpawnFailed { label, reason } => {
            if let Ok(worker) = label.parse() {
                shared.inbox.push(Event::SpawnFailed(worker, reason));
            }
        }
        Notice::Exited { label, exit } => {
            if let Ok(worker) = label.parse() {
                ended(shared, worker, Some(exit), false);
            }
        }
        Notice::Gone { label } => {
            if let Ok(worker) = label.parse() {
                ended(shared, worker, None, true);
            }
        }
        // Both belong to the inventory, which is complete before the loop begins.
        Notice::Held { .. } | Notice::InventoryEnd { .. } => (),
    }
}

/// Tells what is new about the end of a worker.
fn ended(shared: &Shared, worker: WorkerId, exit: Option<Exit>, gone: bool) {
    let mut keepsakes = shared.keepsakes.borrow_mut();
    if let Some(exit) = exit
        && keepsakes.exited(worker, exit)
    {
        shared.inbox.push(Event::Exited(worker, exit));
    }
    if gone && keepsakes.gone(worker) {
        if let Some(parting) = shared.ports.borrow_mut().parted(worker) {
            shared.inbox.push(Event::Parted(worker, parting));
        }
        shared.inbox.push(Event::Gone(worker));
    }
}

/// What a worker is spoken to through.
pub(super) struct Voice {
    pid: Pid,
    ends: Ends,
}

/// Begins to read what a worker prints.
fn attend(shared: &Shared, worker: WorkerId, arrival: Arrival) -> Voice {
    let Arrival { life, mut fds } = arrival;
    shared.keepsakes.borrow_mut().worker(worker, &life, &fds);
    let out = fds.remove(&Role::Out).map(|fd| (Stream::Out, fd));
    let err = fds.remove(&Role::Err).map(|fd| (Stream::Err, fd));
    for (stream, fd) in out.into_iter().chain(err) {
        capture(shared, worker, stream, fd);
    }
    let ends = Ends { channel: fds.remove(&Role::Channel), notify: fds.remove(&Role::Notify) };
    Voice { pid: life.pid, ends }
}

/// Begins to read what a worker says. Called within the runtime.
pub(super) fn converse(shared: &Shared, worker: WorkerId, voice: Voice) {
    shared.workers.arrived(worker, voice.pid, voice.ends);
}

fn capture(shared: &Shared, worker: WorkerId, stream: Stream, fd: OwnedFd) {
    let Some(Launch { spec, .. }) = shared.workers.launch(worker) else { return };
    let path = files::paths(&shared.logs, &spec, worker.instance.index, stream);
    let target = Target::new(path, &spec.name, &spec.logs);
    let mut pump = shared.pump.borrow_mut();
    match pump.as_mut().map(|it| it.capture(worker, stream, fd, target)) {
        Some(Ok(())) => shared.opened(worker),
        None => (), // the daemon ends; the next one reads on
        Some(Err(error)) => {
            tracing::error!(%worker, %error, "the worker's output waits in its pipe");
        }
    }
}
