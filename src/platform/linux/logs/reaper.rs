//! What is done about files nobody writes any more, on threads of their own.
//!
//! The last close of a removed 10 MB file takes a millisecond or more, and forcing one to the disk
//! as long as the disk likes; done by the pump either would halve its throughput.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use super::{
    packer::{Job, Packer, Parcel},
    row::{self, Row},
};
use crate::{
    domain::Compression,
    logs::{
        index,
        rotation::{FileId, Slot},
    },
};

/// Errands that may wait; one more is done by the caller.
const WAITING_MAX: usize = 64;

/// Frees, syncs and packs elsewhere. Each thread starts with the first errand and ends with its
/// owner.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    errands: Option<SyncSender<Errand>>,
    packer: Packer,
    /// Folder of the indexes.
    indexes: Option<PathBuf>,
}

#[derive(Debug)]
enum Errand {
    /// Closes a file that was removed.
    Free(File),
    /// Forces a full file to the disk.
    Sync(File),
}

impl Errand {
    fn run(self) {
        match self {
            Self::Free(file) => drop(file),
            Self::Sync(file) => {
                if let Err(error) = file.sync_data() {
                    tracing::warn!(%error, "a full log file cannot be forced to the disk");
                }
            }
        }
    }
}

impl Reaper {
    /// Knows where the indexes are, and rings `bell` whenever [`Reaper::packed`] has something.
    pub(super) fn new(indexes: PathBuf, bell: OwnedFd) -> Self {
        let packer = Packer::new(Some(bell));
        Self { errands: None, packer, indexes: Some(indexes) }
    }

    /// Closes `file` soon, or at once if too many wait or no thread can be had.
    pub(super) fn drop_later(&mut self, file: File) {
        self.send(Errand::Free(file));
    }

    /// Forces what is in `file` to the disk soon, or at once if too many wait.
    pub(super) fn sync_later(&mut self, file: File) {
        self.send(Errand::Sync(file));
    }

    /// Forgets the times of the lines of a file that is gone.
    pub(super) fn forget_index(&self, file: FileId) {
        if let Some(folder) = &self.indexes {
            // Most often there is none.
            drop(fs::remove_file(index::path(folder, file)));
        }
    }

    /// Has a plain file of `row` packed, if that can be done now.
    pub(super) fn pack(&mut self, row: &Row, number: u16, how: Compression) {
        let path = Slot::Rotated(number).path(row.path());
        let Ok(plain) = row::open(&path) else { return };
        let Ok(facts) = plain.metadata() else { return };
        if facts.is_file() {
            let job = Job { row: row.clone(), plain, how, indexes: self.indexes.clone() };
            self.packer.pack(row::id(&facts), job);
        }
    }

    /// Which file of `row` is being packed.
    pub(super) fn packs(&self, row: &Row) -> Option<FileId> {
        self.packer.packs(row)
    }

    /// The next file that was packed, or could not be.
    pub(super) fn packed(&mut self) -> Option<Parcel> {
        self.packer.next()
    }

    fn send(&mut self, errand: Errand) {
        if self.errands.is_none() {
            self.errands = start();
        }
        let refused = match &self.errands {
            Some(errands) => errands.try_send(errand).err().map(|refused| match refused {
                TrySendError::Full(errand) | TrySendError::Disconnected(errand) => errand,
            }),
            None => Some(errand),
        };
        if let Some(errand) = refused {
            errand.run();
        }
    }
}

fn start() -> Option<SyncSender<Errand>> {
    let (sender, receiver) = sync_channel::<Errand>(WAITING_MAX);
    let work = move || receiver.into_iter().for_each(Errand::run);
    thread::Builder::new().name("logs-reaper".into()).stack_size(1 << 16).spawn(work).ok()?;
    Some(sender)
}
