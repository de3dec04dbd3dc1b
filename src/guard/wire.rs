//! What daemon and guard say to each other, and its bytes.
//!
//! Quiet. Decides the format of one frame's body; [`super::link`] and the guard's own side move
//! the frames and the descriptors that go with them.

mod codec;
mod fields;

use std::{ffi::OsString, path::PathBuf};

pub use codec::WireError;
use codec::{Reader, Writer};
use fields::{read_exit, read_life, read_role, read_spawn, write_exit, write_spawn, write_worker};

use crate::{
    domain::{Exit, Moment, Pid, Signal, User},
    world::Reach,
};

/// From the daemon to the guard.
///
/// Orders are carried out in the order they came. Those about an unknown label do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Tell everything. A daemon's first order: before it the guard sends nothing, and by giving
    /// it the daemon says that it can take signals now. Answered by one [`Notice::Worker`] per
    /// worker, one [`Notice::Held`] per held descriptor, then [`Notice::InventoryEnd`].
    Inventory,
    /// Start a worker. Answered by [`Notice::Worker`] or [`Notice::SpawnFailed`].
    Spawn(Box<Spawn>),
    /// Watch over a worker another guard started. Its descriptors come with it, one per role.
    /// Answered like [`Order::Spawn`].
    Adopt(Life, Vec<Role>),
    /// Send a signal.
    Signal {
        /// To whom.
        label: String,
        /// Which.
        signal: Signal,
        /// How far.
        reach: Reach,
    },
    /// Replace a worker's note.
    Note {
        /// Whose.
        label: String,
        /// What the next daemon must know.
        note: String,
    },
    /// Drop a worker that is gone, and every descriptor held for it.
    Forget {
        /// Which.
        label: String,
    },
    /// Keep the descriptor that comes with this order, beyond the daemon's life. Replaces the
    /// one kept under the same key.
    Hold {
        /// What to keep it as.
        key: String,
    },
    /// Close a held descriptor.
    Release {
        /// Which.
        key: String,
    },
    /// The daemon is about to end for good, and so shall the guard once it has.
    Exit,
}

/// What to start, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its name; opaque to the guard, never used twice.
    pub label: String,
    /// First content of its note.
    pub note: String,
    /// The program and its arguments. A program without `/` is looked for on `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment, before the guard adds what belongs to the descriptors.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Whom to run as; `None`: as the guard.
    pub user: Option<User>,
    /// Resource limits: name as in `prlimit(1)` and soft = hard value; `None` is unlimited.
    pub limits: Vec<(String, Option<u64>)>,
    /// Keys of held descriptors it inherits as 3, 4, … (`sd_listen_fds(3)`).
    pub listen: Vec<String>,
    /// Whether it gets a message channel.
    pub channel: Channel,
    /// Where to bind its `NOTIFY_SOCKET`, if it gets one. The folder exists.
    pub notify: Option<PathBuf>,
    /// Where its standard output goes.
    pub out: Output,
    /// Where its standard error goes.
    pub err: Output,
    /// Whether its port is opened for it without its knowledge.
    pub trap: Option<Trap>,
}

/// A port a worker opens with bind(2) and finds opened already: its socket is replaced by one
/// the guard holds, which listens on the address it asked for.
///
/// Everything else it binds is its own. The sockets are held as `<key>/<number>`, one for each
/// address; numbers grow in the order in which sockets of all workers began to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The TCP port, of any address.
    pub port: u16,
    /// What its sockets' keys begin with.
    pub key: String,
}

/// Where a stream of a worker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into a pipe that the guard keeps the read end of.
    Pipe {
        /// The pipe's size, as far as the machine allows.
        bytes: u32,
    },
    /// To `/dev/null`; no descriptor comes with the worker for it.
    Nowhere,
}

/// Whether a worker gets a message channel (`NODE_CHANNEL_FD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A socket, JSON framing.
    Json,
    /// None.
    Off,
}

/// A worker as the guard knows it; enough for another guard to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub label: String,
    /// The daemon's note.
    pub note: String,
    /// Its process.
    pub pid: Pid,
    /// When the kernel says that process started, in clock ticks since boot: field 22 of
    /// `proc_pid_stat(5)`. Together with `pid` it names one process for ever.
    pub started_ticks: u64,
    /// When it was spawned.
    pub spawned: Moment,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    /// Whether no process of it is left.
    pub gone: bool,
    /// The port that is opened for it; the guard has the descriptor ([`Role::Trap`]).
    pub trap: Option<Trap>,
    /// Keys of the held sockets it has been given in place of its own.
    pub listens: Vec<String>,
}

/// What a descriptor that comes with a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read end of its standard output, unless that goes nowhere; does not block.
    Out,
    /// Read end of its standard error, unless that goes nowhere; does not block.
    Err,
    /// The daemon's end of its message channel; does not block.
    Channel,
    /// The bound datagram socket of its `NOTIFY_SOCKET`; does not block, reports credentials.
    Notify,
    /// Where its bind(2) waits for an answer, see [`Trap`].
    Trap,
}

/// How the guard knows which processes belong to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Each worker has its own cgroup (version 2): exact.
    Cgroup,
    /// Session, process group, parentage and a mark in the environment: a process escapes only
    /// if it starts a session of its own, outlives its parent and clears its environment.
    Session,
}

/// From the guard to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A worker exists. Its descriptors come with it, one per role.
    Worker(Life, Vec<Role>),
    /// A worker never came to be.
    SpawnFailed {
        /// Which.
        label: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A worker's process ended; its descendants may live on.
    Exited {
        /// Which.
        label: String,
        /// How.
        exit: Exit,
    },
    /// No process of a worker is left. Comes once, after [`Notice::Exited`].
    Gone {
        /// Which.
        label: String,
    },
    /// A worker now listens on a held socket, of which a copy comes with this notice. Whoever
    /// releases it must shut it down as well.
    Took {
        /// Which worker.
        label: String,
        /// Under which key it is held.
        key: String,
    },
    /// A worker opens its port itself, although a [`Trap`] was ordered.
    Untrapped {
        /// Which.
        label: String,
        /// Why, in words.
        reason: String,
    },
    /// A held descriptor; a copy of it comes with this notice.
    Held {
        /// Under which key.
        key: String,
    },
    /// The answer to [`Order::Inventory`] is complete.
    InventoryEnd {
        /// How the guard tells whose process is whose.
        rung: Rung,
        /// Soft limit of open files that workers get, as it was before the guard raised its own.
        nofile_soft: Option<u64>,
    },
}

impl Order {
    /// The order's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Inventory => to.u8(0),
            Self::Spawn(spawn) => {
                to.u8(1);
                write_spawn(&mut to, spawn);
            }
            Self::Adopt(life, roles) => {
                to.u8(2);
                write_worker(&mut to, life, roles);
            }
            Self::Signal { label, signal, reach } => {
                to.u8(3);
                to.text(label);
                to.i32(signal.0);
                to.u8(match reach {
                    Reach::Leader => 0,
                    Reach::Tree => 1,
                });
            }
            Self::Note { label, note } => {
                to.u8(4);
                to.text(label);
                to.text(note);
            }
            Self::Forget { label } => tagged(&mut to, 5, label),
            Self::Hold { key } => tagged(&mut to, 6, key),
            Self::Release { key } => tagged(&mut to, 7, key),
            Self::Exit => to.u8(8),
        }
        to.0
    }

    /// Reads what [`Order::encode`] wrote.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut from = Reader(body);
        let order = match from.u8()? {
            0 => Self::Inventory,
            1 => Self::Spawn(Box::new(read_spawn(&mut from)?)),
            2 => Self::Adopt(read_life(&mut from)?, from.list(read_role)?),
            3 => Self::Signal {
                label: from.text()?,
                signal: Signal(from.i32()?),
                reach: if from.flag()? { Reach::Tree } else { Reach::Leader },
            },
            4 => Self::Note { label: from.text()?, note: from.text()? },
            5 => Self::Forget { label: from.text()? },
            6 => Self::Hold { key: from.text()? },
            7 => Self::Release { key: from.text()? },
            8 => Self::Exit,
            tag => return Err(WireError::Tag(tag)),
        };
        from.end()?;
        Ok(order)
    }
}

impl Notice {
    /// The notice's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Worker(life, roles) => {
                to.u8(0);
                write_worker(&mut to, life, roles);
            }
            Self::SpawnFailed { label, reason } => {
                tagged(&mut to, 1, label);
                to.text(reason);
            }
            Self::Exited { label, exit } => {
                tagged(&mut to, 2, label);
                write_exit(&mut to, *exit);
            }
            Self::Gone { label } => tagged(&mut to, 3, label),
            Self::Held { key } => tagged(&mut to, 4, key),
            Self::InventoryEnd { rung, nofile_soft } => {
                to.u8(5);
                to.u8(match rung {
                    Rung::Cgroup => 0,
                    Rung::Session => 1,
                });
                to.option(*nofile_soft, Writer::u64);
            }
            Self::Took { label, key } => {
                tagged(&mut to, 6, label);
                to.text(key);
            }
            Self::Untrapped { label, reason } => {
                tagged(&mut to, 7, label);
                to.text(reason);
            }
        }
        to.0
    }

    /// Reads what [`Notice::encode`] wrote.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut from = Reader(body);
        let notice = match from.u8()? {
            0 => Self::Worker(read_life(&mut from)?, from.list(read_role)?),
            1 => Self::SpawnFailed { label: from.text()?, reason: from.text()? },
            2 => Self::Exited { label: from.text()?, exit: read_exit(&mut from)? },
            3 => Self::Gone { label: from.text()? },
            4 => Self::Held { key: from.text()? },
            5 => Self::InventoryEnd {
                rung: if from.flag()? { Rung::Session } else { Rung::Cgroup },
                nofile_soft: from.option(Reader::u64)?,
            },
            6 => Self::Took { label: from.text()?, key: from.text()? },
            7 => Self::Untrapped { label: from.text()?, reason: from.text()? },
            tag => return Err(WireError::Tag(tag)),
        };
        from.end()?;
        Ok(notice)
    }
}

fn tagged(to: &mut Writer, tag: u8, text: &str) {
    to.u8(tag);
    to.text(text);
}

#[cfg(test)]
mod tests;
