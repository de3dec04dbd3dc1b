//! The database: what outlives the daemon, in one `SQLite` file.
//!
//! Decides how [`Record`]s become rows, when they are on disk, and what to do about a file that
//! is old, damaged or cannot be written. Never decides what is worth writing, and never makes its
//! caller wait: one thread owns the connection, and while the disk is in trouble it keeps what
//! matters in bounded memory and tries again.
//!
//! Two daemons must not share the file; whoever opens it holds a lock elsewhere.

mod disk;
mod notice;
mod open;
mod pending;
mod rows;
mod salvage;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

pub use notice::{OpenNote, StoreError, StoreNotice};

use crate::world::{Record, Saved};
use writer::{Inbox, Writer};

/// The open database. Dropping it writes what is queued and waits for that.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Store {
    /// Opens `path`, making the file (0600) and its folder (0700) if they are missing, and reads
    /// all that is saved there.
    ///
    /// An original's database is migrated. A damaged one is moved aside, and its apps are
    /// salvaged into a new one; the notes say so. One that cannot be written for now is read, and
    /// written once that is possible again. `notify` is called on the store's own thread and must
    /// return soon.
    ///
    /// # Errors
    ///
    /// When going on would mean to forget or to overwrite: the path is no file, nobody may read
    /// it, or a newer bunpilot wrote it.
    pub fn open(
        path: &Path,
        notify: impl Fn(StoreNotice) + Send + 'static,
    ) -> Result<(Self, Saved, Vec<OpenNote>), StoreError> {
        let opened = open::open(path)?;
        let inbox = Arc::new(Inbox::default());
        let writer = Writer::new(path, &opened.saved, opened.connection, Box::new(notify));
        let body = {
            let inbox = Arc::clone(&inbox);
            move || writer.run(&inbox)
        };
        let builder = thread::Builder::new().name("bunpilot-store".to_owned());
        let thread = builder.spawn(body).map_err(StoreError::Thread)?;
        let store = Self { path: path.to_owned(), inbox, thread: Some(thread) };
        Ok((store, opened.saved, opened.notes))
    }

    /// Queues `record`; returns at once.
    ///
    /// A newer state of the same app or instance replaces one still queued. While the disk cannot
    /// keep up, old measurements and ends of workers are dropped and counted; states never are.
    pub fn write(&self, record: Record) {
        self.inbox.write(record);
    }

    /// Asks to hear [`StoreNotice::Flushed`] with this `token` once all that was queued before is
    /// committed, or could not be.
    ///
    /// Committed means safe from the death of the daemon at any moment; `synchronous = NORMAL`
    /// leaves the last moments before a loss of power to the file system.
    pub fn barrier(&self, token: u64) {
        self.inbox.barrier(token);
    }

    /// Writes what is queued and closes the file.
    ///
    /// # Errors
    ///
    /// When the disk still refuses; what was queued is lost.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.inbox.close();
        thread.join().unwrap_or_else(|_panic| Err(StoreError::Died { path: self.path.clone() }))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!(%error, "the database was not closed in order");
        }
    }
}
