//! What a machine offers bunpilot, and what to do about the rest.
//!
//! Quiet: the platform tries things and looks them up ([`Facts`]), [`judge`] says what follows
//! for the user ([`Finding`]). Knows no version of any kernel: what counts is what was tried.

pub mod facts;

mod apps;
mod finding;
mod guard;
mod house;
mod kernel;
mod limits;
mod network;
mod remedy;

#[cfg(test)]
mod tests;

pub use facts::Facts;
pub use finding::{Finding, Level};

/// Judges everything, in the order a person wants to read it.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let rooms = [
        house::judge(facts),
        kernel::judge(facts),
        guard::judge(facts),
        limits::judge(facts),
        network::judge(facts),
        apps::judge(facts),
    ];
    rooms.into_iter().flatten().collect()
}
