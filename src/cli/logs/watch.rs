//! Sleeps until something happens in the folders of log files, by `inotify(7)`.

use std::{
    collections::BTreeSet,
    ffi::{CStr, OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::logs::rotation::Slot;

/// Events taken from the kernel at a time.
const EVENTS_BYTES: usize = 4096;

/// Why the sleeper woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Woken {
    /// Nothing happened for the time given.
    Timeout,
    /// A file was written.
    Written,
    /// A file of a known row got its name.
    Rotated,
    /// Another name appeared, a folder went, or events were lost.
    Stranger,
    /// Nobody reads the output any more.
    Hangup,
}

/// Folders being watched.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    folders: BTreeSet<PathBuf>,
    /// Names of current files.
    names: BTreeSet<OsString>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, folders: BTreeSet::new(), names: BTreeSet::new() })
    }

    /// Watches the folder of `path`. While that is missing, its parent tells when it appears;
    /// a folder that cannot be watched is looked at once per timeout.
    pub(super) fn add(&mut self, path: &Path) {
        self.names.extend(path.file_name().map(OsStr::to_owned));
        let folders = path.ancestors().skip(1);
        for folder in folders {
            if self.folders.contains(folder) {
                return;
            }
            let flags = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.inotify, folder, flags) {
                Ok(_) => {
                    self.folders.insert(folder.to_owned());
                    return;
                }
                Err(Errno::NOENT) => {}
                Err(_) => return,
            }
        }
    }

    /// Sleeps until something happens, at most `timeout`, or until `hangup` has no reader.
    pub(super) fn wait(
        &mut self,
        timeout: Duration,
        hangup: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        let mut fds = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        fds.extend(hangup.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty())));
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::ERR | PollFlags::HUP;
        if fds.iter().skip(1).any(|fd| fd.revents().intersects(gone)) {
            return Ok(Woken::Hangup);
        }
        self.drain()
    }

    fn drain(&mut self) -> io::Result<Woken> {
        let mut woken = Woken::Timeout;
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    // A watched folder is gone; whoever comes back under its name is watched anew.
                    self.folders.clear();
                    woken = Woken::Stranger;
                }
                Ok(event) if event.events() == ReadFlags::MODIFY => {
                    woken = woken.max(Woken::Written);
                }
                Ok(event) if event.file_name().is_some_and(|name| self.knows(name)) => {
                    woken = woken.max(Woken::Rotated);
                }
                Ok(_) => woken = Woken::Stranger,
                Err(Errno::AGAIN) => return Ok(woken),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a name is one of a known row.
    fn knows(&self, name: &CStr) -> bool {
        let name = OsStr::from_bytes(name.to_bytes());
        self.names.iter().any(|current| Slot::identify(current, name).is_some())
    }
}
