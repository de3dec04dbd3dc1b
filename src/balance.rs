//! Who gets the next connection: by rules that say whose turn it is, for the kernel's programs and
//! for whoever accepts connections itself.
//!
//! Quiet. Decides the order of turns; not who may be chosen, which the supervisor does, nor what a
//! connection is.

mod rule;

pub use rule::{READY_MAX, Rule, TURNS_MAX, turns};
