//! The thread that owns the connection.
//!
//! Decides when a batch is written and what happens after a failure. Never holds the inbox while
//! it writes, so that nobody waits for a disk.

use std::{
    fmt, mem,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};

use super::{
    disk,
    notice::{OpenNote, StoreError, StoreNotice},
    open,
    pending::{Pending, SAMPLES_MAX},
    rows, salvage,
};
use crate::world::{Record, Saved};

/// How long measurements wait for company: one commit instead of a hundred.
const SAMPLES_LINGER: Duration = Duration::from_secs(1);

/// Rest between two attempts to write while the disk refuses.
const RETRY: Duration = Duration::from_secs(2);

/// Rows of history written between two prunings.
const PRUNE_EVERY: usize = 1024;

/// What waits for the writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    pending: Pending,
    /// Bounded by those who wait for an answer.
    barriers: Vec<u64>,
    closing: bool,
}

impl Mail {
    /// Whether somebody waits.
    fn is_insistent(&self) -> bool {
        self.closing || !self.barriers.is_empty()
    }

    fn is_urgent(&self) -> bool {
        self.is_insistent() || self.pending.is_urgent() || self.pending.samples() > SAMPLES_MAX / 2
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.is_insistent()
    }
}

impl Inbox {
    pub(super) fn write(&self, record: Record) {
        let mut mail = self.lock();
        let (idle, urgent) = (mail.is_idle(), mail.is_urgent());
        mail.pending.push(record);
        if idle || urgent != mail.is_urgent() {
            self.wake.notify_one();
        }
    }

    pub(super) fn barrier(&self, token: u64) {
        self.lock().barriers.push(token);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits for something to write and takes all of it.
    fn next(&self) -> Mail {
        let mail = self.lock();
        let mail = self.wake.wait_while(mail, |mail| mail.is_idle());
        self.take_after(
            mail.unwrap_or_else(PoisonError::into_inner),
            SAMPLES_LINGER,
            Mail::is_urgent,
        )
    }

    /// Takes all there is as soon as somebody waits for it, at the latest after [`RETRY`].
    fn next_in_outage(&self) -> Mail {
        self.take_after(self.lock(), RETRY, Mail::is_insistent)
    }

    fn take_after(
        &self,
        mail: MutexGuard<'_, Mail>,
        longest: Duration,
        now: impl Fn(&Mail) -> bool,
    ) -> Mail {
        let waited = self.wake.wait_timeout_while(mail, longest, |mail| !now(mail));
        let (mut mail, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut mail)
    }

    /// No lock is held while anything can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owner of the connection.
pub(super) struct Writer {
    path: PathBuf,
    /// Which file the connection has open: another one may come to lie at the path.
    identity: Option<(u64, u64)>,
    connection: Option<Connection>,
    /// What is not written yet.
    backlog: Pending,
    /// The states as they should be on disk, for a file that has to be made anew.
    states: Pending,
    /// The reason of the outage, while there is one.
    outage: Option<String>,
    notes: Vec<OpenNote>,
    unpruned: usize,
    notify: Box<dyn Fn(StoreNotice) + Send>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        saved: &Saved,
        connection: Option<Connection>,
        notify: Box<dyn Fn(StoreNotice) + Send>,
    ) -> Self {
        let mut states = Pending::default();
        salvage::records(saved).for_each(|record| states.push(record));
        Self {
            path: path.to_owned(),
            identity: disk::identity(path),
            connection,
            backlog: Pending::default(),
            states,
            outage: None,
            notes: Vec::new(),
            unpruned: PRUNE_EVERY, // what grew old while nobody ran
            notify,
        }
    }

    /// Writes until the inbox is closed.
    pub(super) fn run(mut self, inbox: &Inbox) -> Result<(), StoreError> {
        if self.connection.is_none() {
            self.attempt();
        }
        loop {
            let mail = if self.outage.is_some() { inbox.next_in_outage() } else { inbox.next() };
            self.backlog.absorb(mail.pending);
            self.attempt();
            for token in mail.barriers {
                (self.notify)(StoreNotice::Flushed(token));
            }
            if mail.closing {
                return self.close();
            }
        }
    }

    /// Writes the backlog, if the disk lets it.
    fn attempt(&mut self) {
        match self.commit() {
            Ok(()) => self.succeed(),
            Err(reason) => self.fail(reason),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        if self.connection.is_some() && self.identity != disk::identity(&self.path) {
            self.connection = None; // somebody removed or replaced the file
        }
        if self.connection.is_none() {
            self.reopen()?;
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let written = write(connection, &self.backlog);
        written.map_err(|error| {
            if !is_passing(&error) {
                self.connection = None;
            }
            open::unwritable(&self.path, &error.to_string())
        })
    }

    /// Opens the file anew; all states are to be written again, for it may be another file.
    fn reopen(&mut self) -> Result<(), String> {
        let opened = open::open(&self.path).map_err(|error| error.to_string())?;
        for note in opened.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.connection = opened.connection;
        self.identity = disk::identity(&self.path);
        let mut all = self.states.states();
        all.absorb(mem::take(&mut self.backlog));
        self.backlog = all;
        if self.connection.is_some() {
            self.notes.retain(|note| !matches!(note, OpenNote::Unwritable { .. }));
            return Ok(());
        }
        let reason = self.notes.iter().rev().find_map(|note| match note {
            OpenNote::Unwritable { reason } => Some(reason.clone()),
            OpenNote::Migrated { .. }
            | OpenNote::MovedAside { .. }
            | OpenNote::Empty { .. }
            | OpenNote::Damaged { .. } => None,
        });
        Err(reason.unwrap_or_default())
    }

    fn succeed(&mut self) {
        let dropped = mem::take(&mut self.backlog.dropped);
        let written = mem::take(&mut self.backlog);
        self.unpruned += written.history();
        self.states.remember(written);
        let notes = mem::take(&mut self.notes);
        if self.outage.take().is_some() || dropped > 0 || !notes.is_empty() {
            (self.notify)(StoreNotice::Recovered { dropped, notes });
        }
        if self.unpruned >= PRUNE_EVERY {
            self.prune();
        }
    }

    fn fail(&mut self, reason: String) {
        if self.outage.is_none() {
            (self.notify)(StoreNotice::Failed { reason: reason.clone() });
        }
        self.outage = Some(reason);
    }

    /// Forgets history. When that fails, so will the next write, and that one is told.
    fn prune(&mut self) {
        self.unpruned = 0;
        if let Some(Err(error)) = self.connection.as_ref().map(rows::prune) {
            tracing::debug!(%error, "history was not pruned");
        }
    }

    fn close(self) -> Result<(), StoreError> {
        if let Some(reason) = self.outage
            && !self.backlog.is_empty()
        {
            return Err(StoreError::Unwritten { reason });
        }
        if let Some(Err((_, error))) = self.connection.map(Connection::close) {
            tracing::debug!(%error, "the database is written but was not closed");
        }
        Ok(())
    }
}

/// All of `batch`, or nothing.
fn write(connection: &mut Connection, batch: &Pending) -> rusqlite::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for record in batch.records() {
        rows::write(&transaction, record)?;
    }
    transaction.commit()
}

/// Whether the connection is as good as before.
fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
