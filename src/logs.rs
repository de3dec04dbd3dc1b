//! Where a worker's output is kept, when a file of it is full, and which lines of it are asked for.
//!
//! Quiet: decides on names, cuts and orders; opens, moves and deletes nothing. `platform` moves
//! the bytes and `cli` shows them; both ask here.

pub mod cut;
pub mod files;
pub mod index;
pub mod line;
pub mod packed;
pub mod period;
pub mod query;
pub mod record;
pub mod retention;
pub mod rotation;
pub mod sieve;
pub mod stamp;
pub mod when;

use std::fmt;

/// One of the two streams a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output, file descriptor 1.
    Out,
    /// Standard error, file descriptor 2.
    Err,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// Its part in a file's name: `out` or `err`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
