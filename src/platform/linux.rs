//! The outside as Linux shows it.

pub mod listen;
pub mod probe;
pub mod selector;
pub mod usage;
