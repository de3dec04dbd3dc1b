//! Frees the space of removed files on a thread of its own.
//!
//! The last close of a removed 10 MB file takes a millisecond or more; done by the pump it would
//! halve its throughput.

use std::{
    fs::File,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// Files that may wait to be freed; one more is freed by the caller.
const WAITING_MAX: usize = 64;

/// Drops files elsewhere. The thread starts with the first file and ends with its owner.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    waiting: Option<SyncSender<File>>,
}

impl Reaper {
    /// Closes `file` soon, or at once if too many wait or no thread can be had.
    pub(super) fn drop_later(&mut self, file: File) {
        if self.waiting.is_none() {
            self.waiting = start();
        }
        if let Some(waiting) = &self.waiting
            && let Err(refused) = waiting.try_send(file)
        {
            drop(refused);
        }
    }
}

fn start() -> Option<SyncSender<File>> {
    let (sender, receiver) = sync_channel::<File>(WAITING_MAX);
    let free = move || receiver.into_iter().for_each(drop);
    thread::Builder::new().name("logs-reaper".into()).stack_size(1 << 16).spawn(free).ok()?;
    Some(sender)
}
