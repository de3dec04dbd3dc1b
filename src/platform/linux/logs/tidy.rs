//! Files emptied or rotated because somebody says so.

use std::{fmt, path::PathBuf};

use crate::{
    domain::Keep,
    world::{Tidied, Tidying},
};

/// What is to be done, to which files, and whom to tell.
pub(super) struct TidyOrder {
    pub(super) what: Tidying,
    pub(super) rows: Vec<(PathBuf, Keep)>,
    pub(super) done: Box<dyn FnOnce(Tidied) + Send>,
}

impl fmt::Debug for TidyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, rows, done: _ } = self;
        f.debug_struct("TidyOrder").field("what", what).field("rows", rows).finish_non_exhaustive()
    }
}

/// What became of a file that was to be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotated {
    /// It is.
    Now,
    /// A line is being written; it will be at its end.
    AtLineEnd,
    /// There was nothing in it.
    NotAtAll,
}
