//! All pipes and files of the pump, and whose turn it is. Both engines drive this very code.
//!
//! Never sleeps: what to wait for, it arms at a [`Selector`]; how long to rest, it returns.

mod chores;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::{
    domain::{Keep, LogFiles, Moment, WorkerId},
    logs::Stream,
};

use super::{
    super::clock::{now, unix_micros},
    PumpNotice, STRANDED_MAX, Setup, Target,
    budget::Budget,
    census::Census,
    outlet::{Inlet, Outcome, Outlet, Tools},
    pace::{Batch, Pace, Pacer},
    peek::Peek,
    reaper::Reaper,
    selector::Selector,
    sink::Sink,
    tally::Tally,
    tidy::TidyOrder,
};

/// Key of the pipe that announces commands.
const COMMANDS: u64 = 0;

/// Key of the timer.
const TIMER: u64 = 1;

/// First key of a pipe or file. Keys are never used twice.
const FIRST_KEY: u64 = 2;

/// Rest before a file that cannot be written is tried again; below the 250 ms we promise.
pub(super) const STUCK_AGAIN: Duration = Duration::from_millis(200);

/// Pipe-fulls a worker that writes faster than we move may have moved before others get their turn.
const FULL_BATCHES_MAX: usize = 16;

/// Rest before a pipe is looked at again that the selector refused to watch.
const UNWATCHED_AGAIN: Duration = Duration::from_millis(50);

/// What the control thread asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Boxed: the queue has room for its bound of commands from the start.
    Capture(Box<Capture>),
    Retire(WorkerId),
    Reopen,
    Tidy(Box<TidyOrder>),
}

/// A pipe to capture.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) worker: WorkerId,
    pub(super) stream: Stream,
    pub(super) pipe: OwnedFd,
    pub(super) target: Target,
    pub(super) tally: Arc<Tally>,
}

/// Whether more commands may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    All,
    Last,
}

/// The pump's state.
pub(super) struct Mover {
    commands: Receiver<Command>,
    bell: OwnedFd,
    timer: OwnedFd,
    timer_set_to: Option<Moment>,
    inlets: BTreeMap<u64, Inlet>,
    keys: BTreeMap<(WorkerId, Stream), u64>,
    outlets: BTreeMap<u64, Outlet>,
    paths: BTreeMap<PathBuf, u64>,
    due: BTreeSet<(Moment, u64)>,
    next_key: u64,
    budget: Budget,
    pacer: Pacer,
    tools: Tools,
}

impl Mover {
    pub(super) fn new(
        commands: Receiver<Command>,
        (bell, ring): (OwnedFd, OwnedFd),
        setup: Setup,
        census: Census,
        tell: Box<dyn Fn(PumpNotice) + Send>,
    ) -> io::Result<Self> {
        let Setup { stage, indexes } = setup;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            commands,
            bell,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            timer_set_to: None,
            inlets: BTreeMap::new(),
            keys: BTreeMap::new(),
            outlets: BTreeMap::new(),
            paths: BTreeMap::new(),
            due: BTreeSet::new(),
            next_key: FIRST_KEY,
            budget: Budget::read(),
            pacer: Pacer::default(),
            tools: Tools {
                peek: Peek::new()?,
                stage,
                reaper: Reaper::new(indexes.clone(), ring),
                census,
                tell,
                indexes,
                records: Vec::new(),
                unix_micros: unix_micros(),
            },
        })
    }

    /// Arms what is watched for the pump's whole life.
    pub(super) fn begin(&mut self, selector: &mut impl Selector) -> io::Result<()> {
        let Tools { stage, peek, .. } = &mut self.tools;
        // If its file cannot be written now, those who need the stage try again.
        let _later = stage.recover(peek, now());
        selector.arm(self.bell.as_fd(), COMMANDS)?;
        selector.arm(self.timer.as_fd(), TIMER)
    }

    /// Serves all that is `ready`. Fails only if `selector` is broken.
    pub(super) fn turn(&mut self, selector: &mut impl Selector, ready: &[u64]) -> io::Result<Pace> {
        let now = now();
        self.tools.unix_micros = unix_micros();
        let mut batch = Batch::None;
        // Commands first: what a worker writes after a command was given must obey it.
        if ready.contains(&COMMANDS) {
            match self.obey(selector, now)? {
                Heard::All => batch = Batch::Endless,
                Heard::Last => return Ok(Pace::Stop),
            }
        }
        for key in ready {
            batch = batch.max(match *key {
                COMMANDS => continue,
                TIMER => self.serve_due(selector, now)?,
                key => self.serve(selector, key, now),
            });
        }
        self.set_timer()?;
        Ok(self.pacer.after(batch, ready.len()))
    }

    /// Reports something.
    pub(super) fn tell(&self, notice: PumpNotice) {
        (self.tools.tell)(notice);
    }

    fn obey(&mut self, selector: &mut impl Selector, now: Moment) -> io::Result<Heard> {
        silence(&self.bell)?;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Capture(capture)) => self.capture(selector, *capture, now),
                Ok(Command::Retire(worker)) => self.retire(selector, worker, now),
                Ok(Command::Reopen) => self.outlets.values_mut().for_each(|o| o.sink.reopen()),
                Ok(Command::Tidy(order)) => self.tidy(*order, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.finish(now);
                    return Ok(Heard::Last);
                }
            }
        }
        self.adopt_packed();
        selector.arm(self.bell.as_fd(), COMMANDS)?;
        Ok(Heard::All)
    }

    fn capture(&mut self, selector: &mut impl Selector, capture: Capture, now: Moment) {
        let Capture { worker, stream, pipe, target, tally } = capture;
        if let Some(replaced) = self.keys.get(&(worker, stream)).copied() {
            self.close(selector, replaced);
        }
        let form = target.form(worker, stream);
        let key = self.new_key();
        let capacity = self.budget.widen(key, &pipe, target.pipe_bytes);
        // A look must not see more than the stage can take.
        let capacity_staged = self.tools.stage.fit(capacity);
        self.tools.peek.fit(capacity_staged);
        let seen_whole = form.is_none() && target.files == LogFiles::Each;
        let capacity = if seen_whole { capacity } else { capacity.min(capacity_staged) };
        let outlet = self.outlet_for(&target.path, target.keep);
        let alone = self.inlets.values().find(|i| i.outlet == outlet).map(|inlet| inlet.key);
        if let Some(outlet) = self.outlets.get_mut(&outlet) {
            outlet.join(alone, now);
            outlet.on_full = target.on_full;
            outlet.files = target.files;
        }
        self.soon_keep_house(outlet, now);
        self.keys.insert((worker, stream), key);
        self.inlets.insert(
            key,
            Inlet {
                key,
                pipe,
                worker,
                stream,
                outlet,
                form,
                capacity,
                tally,
                last_words: None,
                due: None,
                stuck: None,
                half_line: None,
            },
        );
        self.watch(selector, key, now);
    }

    fn outlet_for(&mut self, path: &Path, keep: Keep) -> u64 {
        if let Some(key) = self.paths.get(path)
            && let Some(outlet) = self.outlets.get_mut(key)
        {
            outlet.sink.keep(keep);
            return *key;
        }
        let key = self.new_key();
        self.paths.insert(path.to_owned(), key);
        self.outlets.insert(key, Outlet::new(Sink::new(path.to_owned(), keep)));
        key
    }

    fn new_key(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        key
    }

    fn retire(&mut self, selector: &mut impl Selector, worker: WorkerId, now: Moment) {
        for stream in Stream::BOTH {
            let Some(key) = self.keys.get(&(worker, stream)).copied() else { continue };
            let Some(inlet) = self.inlets.get_mut(&key) else { continue };
            inlet.last_words = Some(inlet.waiting_bytes());
            self.serve(selector, key, now);
        }
    }

    fn serve_due(&mut self, selector: &mut impl Selector, now: Moment) -> io::Result<Batch> {
        silence(&self.timer)?;
        self.timer_set_to = None;
        let mut batch = Batch::None;
        while let Some((moment, key)) = self.due.first().copied()
            && moment <= now
        {
            self.due.remove(&(moment, key));
            if self.outlets.contains_key(&key) {
                self.keep_house(key, now);
                continue;
            }
            if let Some(inlet) = self.inlets.get_mut(&key) {
                inlet.due = None;
            }
            batch = batch.max(self.serve(selector, key, now));
        }
        selector.arm(self.timer.as_fd(), TIMER)?;
        Ok(batch)
    }

    /// Gives one pipe its turn.
    fn serve(&mut self, selector: &mut impl Selector, key: u64, now: Moment) -> Batch {
        let Some(inlet) = self.inlets.get_mut(&key) else { return Batch::None };
        let Some(outlet) = self.outlets.get_mut(&inlet.outlet) else { return Batch::None };
        let (mut fullest, mut full) = (Batch::None, 0);
        loop {
            let outcome = outlet.advance(inlet, &mut self.tools, now);
            outlet.schedule(inlet.outlet, &mut self.due);
            match outcome {
                Outcome::Moved(bytes) => {
                    unstick(inlet, outlet, &self.tools, now);
                    if inlet.last_words.is_some() {
                        continue;
                    }
                    let batch = Batch::of(bytes, inlet.capacity);
                    fullest = fullest.max(batch);
                    if batch == Batch::Full {
                        full += 1;
                        if full < FULL_BATCHES_MAX {
                            continue;
                        }
                        fullest = Batch::Endless;
                    }
                    self.watch(selector, key, now);
                    return fullest;
                }
                Outcome::Empty if inlet.last_words.is_none() => self.watch(selector, key, now),
                Outcome::Empty | Outcome::Ended => self.close(selector, key),
                Outcome::Later(rest) => self.park(key, now.after(rest)),
                Outcome::Stuck(error) => self.stick(selector, key, &error, now),
            }
            return fullest;
        }
    }

    fn watch(&mut self, selector: &mut impl Selector, key: u64, now: Moment) {
        let Some(inlet) = self.inlets.get(&key) else { return };
        if selector.arm(inlet.pipe.as_fd(), key).is_err() {
            self.park(key, now.after(UNWATCHED_AGAIN));
        }
    }

    /// Looks at `key` again at `moment`, whether or not it is readable.
    fn park(&mut self, key: u64, moment: Moment) {
        let Some(inlet) = self.inlets.get_mut(&key) else { return };
        if let Some(before) = inlet.due.replace(moment) {
            self.due.remove(&(before, key));
        }
        self.due.insert((moment, key));
    }

    fn stick(&mut self, selector: &mut impl Selector, key: u64, error: &io::Error, now: Moment) {
        let Some(inlet) = self.inlets.get_mut(&key) else { return };
        let Some(outlet) = self.outlets.get_mut(&inlet.outlet) else { return };
        if let Some(since) = inlet.stuck.replace(now) {
            inlet.tally.blocked(now.since(since));
        }
        outlet.sink.reopen();
        if outlet.trouble.is_none() {
            outlet.trouble = Some(now);
            let path = outlet.sink.path().to_owned();
            (self.tools.tell)(PumpNotice::Blocked { path, reason: error.to_string() });
        }
        let outlet = inlet.outlet;
        self.park(key, now.after(STUCK_AGAIN));
        self.drop_stranded(selector, outlet);
    }

    /// Keeps at most [`STRANDED_MAX`] pipes of ended workers waiting for one file.
    fn drop_stranded(&mut self, selector: &mut impl Selector, outlet: u64) {
        let stranded = |inlet: &&Inlet| inlet.outlet == outlet && inlet.last_words.is_some();
        if self.inlets.values().filter(stranded).count() <= STRANDED_MAX {
            return;
        }
        let Some(oldest) = self.inlets.values().find(stranded) else { return };
        let len = oldest.last_words.unwrap_or(0);
        let bytes = self.tools.stage.discard(oldest.pipe.as_fd(), len).unwrap_or(0);
        oldest.tally.dropped(bytes);
        let (worker, stream, key) = (oldest.worker, oldest.stream, oldest.key);
        (self.tools.tell)(PumpNotice::Dropped { worker, stream, bytes });
        self.close(selector, key);
    }

    fn close(&mut self, selector: &mut impl Selector, key: u64) {
        let Some(inlet) = self.inlets.remove(&key) else { return };
        if let Some(moment) = inlet.due {
            self.due.remove(&(moment, key));
        }
        let forgotten = selector.disarm(inlet.pipe.as_fd(), key);
        debug_assert!(forgotten.is_ok(), "{forgotten:?}");
        self.keys.remove(&(inlet.worker, inlet.stream));
        self.budget.release(key);
        if let Some(outlet) = self.outlets.get_mut(&inlet.outlet) {
            if outlet.writers == 1 {
                outlet.give_up_loss(&inlet, &mut self.tools, now());
            }
            outlet.leave(key);
            if outlet.writers == 0 {
                forgive(outlet, &self.tools, now());
                self.due.extract_if(.., |(_, key)| *key == inlet.outlet).for_each(drop);
                self.paths.remove(outlet.sink.path());
                self.outlets.remove(&inlet.outlet);
            }
        }
        if self.inlets.is_empty() {
            self.tools.peek.forget();
        }
        let Inlet { worker, stream, pipe, tally, .. } = inlet;
        // Nobody may ask about a worker that is gone, and its files would be held.
        self.tools.census.ask(&tally);
        drop((pipe, tally));
        (self.tools.tell)(PumpNotice::Closed(worker, stream));
    }

    /// Moves what waits now, and leaves the rest in the pipes for the next daemon.
    fn finish(&mut self, now: Moment) {
        for inlet in self.inlets.values_mut() {
            let Some(outlet) = self.outlets.get_mut(&inlet.outlet) else { continue };
            let mut left = inlet.waiting_bytes();
            while left > 0
                && let Outcome::Moved(bytes) = outlet.advance(inlet, &mut self.tools, now)
            {
                left = left.saturating_sub(bytes);
            }
        }
    }

    fn set_timer(&mut self) -> io::Result<()> {
        let first = self.due.first().map(|(moment, _)| *moment);
        if first == self.timer_set_to {
            return Ok(());
        }
        self.timer_set_to = first;
        let moment = first.map_or(Duration::ZERO, Moment::since_boot);
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(moment).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}

fn unstick(inlet: &mut Inlet, outlet: &mut Outlet, tools: &Tools, now: Moment) {
    if let Some(since) = inlet.stuck.take() {
        inlet.tally.blocked(now.since(since));
    }
    forgive(outlet, tools, now);
}

/// The file is written again, or nobody wants to write it any more.
fn forgive(outlet: &mut Outlet, tools: &Tools, now: Moment) {
    if let Some(since) = outlet.trouble.take() {
        let path = outlet.sink.path().to_owned();
        let after = now.since(since);
        (tools.tell)(PumpNotice::Resumed { path, after, dropped_bytes: 0 });
    }
}

/// Reads what a bell or timer has to say; what is left is heard the next time.
fn silence(fd: &OwnedFd) -> io::Result<()> {
    let mut said = [0; 256];
    match rustix::io::read(fd, &mut said) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
