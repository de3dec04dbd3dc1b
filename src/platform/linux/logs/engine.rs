//! The two ways the pump's thread waits. Which bytes move where is the [`Mover`]'s business.

use std::{io, sync::mpsc::SyncSender, thread, time::Duration};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use crate::platform::sys::ring::PollRing;

use super::{Engine, PumpNotice, mover::Mover, pace::Pace, selector::Epoll};

/// Memory glommio registers with the kernel, its minimum: the only I/O it does is the bell's.
const IO_MEMORY_BYTES: usize = 1 << 16;

/// Depth of glommio's rings.
const RING_DEPTH: usize = 16;

/// What the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The ring, and epoll where it is refused.
    Best,
    /// This one or none.
    Only(Engine),
}

/// Runs `mover` to its end on this thread. Says first at `started` which engine does.
pub(super) fn run(mut mover: Mover, choice: Choice, started: &SyncSender<io::Result<Engine>>) {
    let ended = match open(choice) {
        Ok(Opened::Ring(ring, executor)) => {
            report(started, Ok(Engine::IoUring));
            executor.run(on_ring(&mut mover, *ring))
        }
        Ok(Opened::Epoll(epoll)) => {
            report(started, Ok(Engine::Epoll));
            on_epoll(&mut mover, epoll)
        }
        Err(error) => return report(started, Err(error)),
    };
    if let Err(error) = ended {
        mover.tell(PumpNotice::Broken(error.to_string()));
    }
}

enum Opened {
    Ring(Box<PollRing>, LocalExecutor),
    Epoll(Epoll),
}

fn open(choice: Choice) -> io::Result<Opened> {
    match choice {
        Choice::Only(Engine::IoUring) => open_ring(),
        Choice::Only(Engine::Epoll) => open_epoll(),
        Choice::Best => open_ring().or_else(|_refused| open_epoll()),
    }
}

fn open_epoll() -> io::Result<Opened> {
    Epoll::new().map(Opened::Epoll)
}

fn report(started: &SyncSender<io::Result<Engine>>, engine: io::Result<Engine>) {
    // Nobody listens only if the caller died, and then nobody cares.
    drop(started.send(engine));
}

/// The poll ring comes first: where `io_uring` is forbidden it fails, glommio panics.
fn open_ring() -> io::Result<Opened> {
    let ring = PollRing::new()?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("logs")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Opened::Ring(Box::new(ring), executor))
}

async fn on_ring(mover: &mut Mover, mut ring: PollRing) -> io::Result<()> {
    let bell = ring.bell()?;
    mover.begin(&mut ring)?;
    let mut ready = Vec::new();
    loop {
        ready.clear();
        ring.reap(&mut ready)?;
        if ready.is_empty() {
            bell.read_at(0, 8).await.map_err(|error| io::Error::other(error.to_string()))?;
            continue;
        }
        match mover.turn(&mut ring, &ready)? {
            Pace::Stop => break,
            Pace::Go => {}
            Pace::Nap(rest) => nap(rest),
        }
    }
    bell.close().await.map_err(|error| io::Error::other(error.to_string()))
}

fn on_epoll(mover: &mut Mover, mut epoll: Epoll) -> io::Result<()> {
    mover.begin(&mut epoll)?;
    let mut ready = Vec::new();
    loop {
        ready.clear();
        epoll.wait(&mut ready)?;
        match mover.turn(&mut epoll, &ready)? {
            Pace::Stop => return Ok(()),
            Pace::Go => {}
            Pace::Nap(rest) => nap(rest),
        }
    }
}

/// Sleeps in one system call: a timer of glommio's costs ten, and a membarrier.
#[expect(clippy::disallowed_methods, reason = "this thread serves nothing else")]
fn nap(rest: Duration) {
    thread::sleep(rest);
}
