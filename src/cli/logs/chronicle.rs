//! Remembers the files a row went through while the follower cannot look: it may wait for whoever
//! reads its output.
//!
//! A thread that wakes when a file gets a name, and else sleeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{self, PipeReader, PipeWriter},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::logs::{
    chain::{Chain, Link, Missed},
    rotation::Slot,
};

use super::{
    row::{self, Identity},
    tail::Gap,
};

/// Events taken from the kernel at a time.
const EVENTS_BYTES: usize = 4096;

/// The chains of some rows, kept up to date.
pub(super) struct Chronicle {
    shared: Arc<Shared>,
    /// Closed to end the thread.
    rope: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    inotify: OwnedFd,
    chains: Mutex<BTreeMap<PathBuf, Chain<Identity>>>,
}

impl Chronicle {
    /// Begins without a row.
    pub(super) fn begin() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { inotify, chains: Mutex::default() });
        let (end, rope) = io::pipe()?;
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new().name("chronicle".into());
        let thread = thread.spawn(move || its.keep(&end))?;
        Ok(Self { shared, rope: Some(rope), thread: Some(thread) })
    }

    /// Keeps the row whose current file is `path`, too; its folder may be another one than before.
    pub(super) fn add(&self, path: &Path) {
        if let Some(folder) = path.parent() {
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            // Without a watch the row is looked at when somebody asks.
            let _unwatched = inotify::add_watch(&self.shared.inotify, folder, flags);
        }
        let mut chains = self.shared.chains();
        if !chains.contains_key(path) {
            look(path, chains.entry(path.to_owned()).or_default());
        }
    }

    /// How much of a row was removed between two files.
    pub(super) fn missed(&self, path: &Path, gap: &Gap) -> Missed {
        let mut chains = self.shared.chains();
        let Some(chain) = chains.get_mut(path) else { return Missed::AtLeast(0) };
        look(path, chain);
        chain.missed(&gap.from, &gap.to)
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        self.rope.take();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn chains(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Chain<Identity>>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at rows in which something changed, until `end` is closed.
    fn keep(&self, end: &PipeReader) {
        loop {
            let mut fds =
                [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(end, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            if fds[1].revents().contains(PollFlags::HUP) {
                return;
            }
            let names = self.names();
            for (path, chain) in self.chains().iter_mut() {
                let current = path.file_name().unwrap_or_default();
                let is_of = |name: &OsString| Slot::identify(current, name).is_some();
                if names.as_ref().is_none_or(|names| names.iter().any(is_of)) {
                    look(path, chain);
                }
            }
        }
    }

    /// The names that appeared; `None` if some are not known.
    fn names(&self) -> Option<BTreeSet<OsString>> {
        let mut names = Some(BTreeSet::new());
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                names = None;
            }
            if let (Some(names), Some(name)) = (&mut names, event.file_name()) {
                names.insert(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
        }
        names
    }
}

fn look(path: &Path, chain: &mut Chain<Identity>) {
    // A row that cannot be read now is looked at again.
    let mut row = row::row(path).unwrap_or_default();
    row.reverse();
    let link = |found: &row::Found| {
        let plain = row::packing(found.slot).is_none();
        Link { id: found.identity, bytes: plain.then_some(found.bytes) }
    };
    let row: Vec<_> = row.iter().map(link).collect();
    if !row.is_empty() {
        chain.look(&row);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Waits until the thread has seen who is current.
    fn wait_for_current(chronicle: &Chronicle, path: &Path) -> Identity {
        let current = row::row(path).unwrap()[0].identity;
        loop {
            let seen = chronicle.shared.chains()[path].newest();
            if seen.is_some_and(|seen| seen == current) {
                return current;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn files_that_came_and_went_are_counted() {
        let name = format!("bunpilot-chronicle-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("log");
        fs::write(&path, "first").unwrap();
        let chronicle = Chronicle::begin().unwrap();
        chronicle.add(&path);
        let mut known = vec![wait_for_current(&chronicle, &path)];
        for bytes in 1..20 {
            fs::write(folder.join("log.rotating"), "").unwrap();
            fs::rename(&path, folder.join("log.1")).unwrap();
            fs::rename(folder.join("log.rotating"), &path).unwrap();
            known.push(wait_for_current(&chronicle, &path));
            fs::write(&path, "x".repeat(bytes)).unwrap();
        }
        let gap = |from: usize, to: usize| Gap { from: known[from], to: known[to], several: true };
        assert_eq!(chronicle.missed(&path, &gap(0, 18)), Missed::Exactly((1..18).sum()));
        assert_eq!(chronicle.missed(&path, &gap(17, 18)), Missed::Exactly(0));
        drop(chronicle);
        fs::remove_dir_all(folder).unwrap();
    }
}
