//! What the user wrote, and what it means.
//!
//! [`raw`] mirrors the file, [`resolve`] gives it meaning and holds every default, [`load()`] reads
//! files of all formats and points at what is wrong in them. Quiet: everything asked of the
//! machine goes through [`Host`].

mod evaluate;
mod fault;
mod host;
mod load;
mod pm2;
pub mod raw;
pub mod resolve;
mod runtime;
mod schema;
pub mod settings;
mod shape;
mod tree;

pub use fault::{Aim, Fault, Look, Problem, Rejected, Segment, Source, write_problem};
pub use host::{FileKind, Host, Ran, Trust};
pub use load::{Engine, Loaded, NAMES, discover, from_value, is_config, load, schema};
pub use resolve::Base;

#[cfg(test)]
mod paper;
#[cfg(test)]
mod tests;
