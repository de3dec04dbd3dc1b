//! How many lines went to the files, though nobody looked at the bytes.
//!
//! What is spliced is never seen. The pump only notes where in a file it went ([`Lines::wrote`]);
//! the census, a thread at the lowest priority, reads those places again once somebody asks, or
//! once many wait. By then the file may be rotated away or removed: its descriptor is held until it
//! is counted.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use memchr::memchr_iter;
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

use super::tally::Tally;

/// Spans of one stream that wait before they are counted unasked: those of full files, which may
/// have been removed and take up space until then.
const SPANS_ENOUGH: usize = 4;

/// Spans of one stream that may wait. Where even the census falls behind by that many files, lines
/// are no longer known.
const SPANS_MAX: usize = 64;

/// Streams that may wait to be counted: a few times what a thousand workers have.
const QUEUE_MAX: usize = 8192;

/// Bytes read at a time: they fit into a core's own cache, and so are there for the second look.
const CHUNK_BYTES: usize = 128 << 10;

/// The census's thread never takes a CPU that somebody else wants.
const NICE: i32 = 19;

/// How many lines one stream wrote.
#[derive(Debug, Default)]
pub(super) struct Lines {
    counted: AtomicU64,
    /// Something could not be counted, and never will be.
    unknown: AtomicBool,
    /// Waits in the census's queue.
    queued: AtomicBool,
    uncounted: Mutex<VecDeque<Span>>,
}

/// A place in a file that holds uncounted output.
#[derive(Clone, Debug)]
struct Span {
    file: Arc<File>,
    from: u64,
    to: u64,
}

/// How much waits to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// It can wait until somebody asks.
    Short,
    /// It should be counted now.
    Long,
}

impl Lines {
    /// Counts what was written and seen.
    pub(super) fn seen(&self, bytes: &[u8]) {
        self.counted.fetch_add(ends(bytes), Relaxed);
    }

    /// Notes that the bytes `from..to` of `file` were written and not seen. Costs a lock that is
    /// never held for longer than it takes to note something.
    pub(super) fn wrote(&self, file: &Arc<File>, from: u64, to: u64) -> Backlog {
        let mut uncounted = self.uncounted();
        if let Some(last) = uncounted.back_mut()
            && last.to == from
            && Arc::ptr_eq(&last.file, file)
        {
            last.to = to;
            return Backlog::Short;
        }
        if uncounted.len() >= SPANS_MAX {
            self.unknown.store(true, Relaxed);
            uncounted.clear();
        }
        uncounted.push_back(Span { file: Arc::clone(file), from, to });
        if uncounted.len() > SPANS_ENOUGH { Backlog::Long } else { Backlog::Short }
    }

    /// Notes that something was written where nobody can read it again.
    pub(super) fn lost(&self) {
        self.unknown.store(true, Relaxed);
    }

    /// Ends of lines counted until now; `None` if some will never be.
    pub(super) fn read(&self) -> Option<u64> {
        (!self.unknown.load(Relaxed)).then(|| self.counted.load(Relaxed))
    }

    fn is_counted(&self) -> bool {
        self.uncounted().is_empty()
    }

    fn uncounted(&self) -> MutexGuard<'_, VecDeque<Span>> {
        // Nobody panics in the middle of a change.
        self.uncounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and counts one chunk, if one waits.
    fn count_some(&self, buffer: &mut [u8]) -> Option<()> {
        // Not under the lock: the pump must not wait for a disk.
        let Span { file, from, to } = self.uncounted().front().cloned()?;
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_at(&file, &mut buffer[..wanted], from).unwrap_or(0);
        let ends = ends(&buffer[..read]);
        let mut uncounted = self.uncounted();
        let first = uncounted.front_mut()?;
        if !Arc::ptr_eq(&first.file, &file) || first.from != from {
            return Some(()); // given up meanwhile
        }
        if read == 0 {
            // Somebody cut the file, or it cannot be read.
            self.unknown.store(true, Relaxed);
            first.from = first.to;
        } else {
            self.counted.fetch_add(ends, Relaxed);
            first.from += u64::try_from(read).unwrap_or(0);
        }
        if first.from >= first.to {
            uncounted.pop_front();
        }
        Some(())
    }
}

/// How many lines end in `bytes`.
fn ends(bytes: &[u8]) -> u64 {
    u64::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(u64::MAX)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// What the thread is told.
#[derive(Debug)]
enum Task {
    Count(Arc<Tally>),
    /// Say when all tasks before this one are done.
    Tell(oneshot::Sender<()>),
}

/// The way to the thread, which starts with the first task and ends with the last copy of this.
#[derive(Clone, Debug, Default)]
pub(super) struct Census(Arc<OnceLock<Option<SyncSender<Task>>>>);

impl Census {
    /// Has what `tally` has not counted counted soon; whether there is anything. If too much is to
    /// be done, the next one who asks is luckier.
    pub(super) fn ask(&self, tally: &Arc<Tally>) -> bool {
        if tally.lines.is_counted() {
            return false;
        }
        if !tally.lines.queued.swap(true, Relaxed) && !self.send(Task::Count(Arc::clone(tally))) {
            tally.lines.queued.store(false, Relaxed);
        }
        true
    }

    /// Tells when all asked for until now is counted; is dropped if that will not be told.
    pub(super) fn done(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.send(Task::Tell(tell));
        told
    }

    fn send(&self, task: Task) -> bool {
        let queue = self.0.get_or_init(start);
        queue.as_ref().is_some_and(|queue| queue.try_send(task).is_ok())
    }
}

fn start() -> Option<SyncSender<Task>> {
    let (queue, tasks) = sync_channel(QUEUE_MAX);
    let work = move || work(&tasks);
    thread::Builder::new().name("logs-census".into()).stack_size(1 << 16).spawn(work).ok()?;
    Some(queue)
}

fn work(tasks: &Receiver<Task>) {
    // For this thread alone. If it is refused, the work is the same.
    let _refused = setpriority_process(None, NICE);
    let mut buffer = Vec::new();
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Count(tally) => {
                // Before the work: what is written during it may be asked for again.
                tally.lines.queued.store(false, Relaxed);
                buffer.resize(CHUNK_BYTES, 0);
                while tally.lines.count_some(&mut buffer).is_some() {}
            }
            Task::Tell(tell) => {
                buffer = Vec::new();
                let _nobody_waits = tell.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
