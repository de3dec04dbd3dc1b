//! One cfg chooses how the outside is reached.
//!
//! Here is everything the quiet rooms may not do: clocks, processes, sockets, rings. Both
//! platforms export the same names; policy never lives here.

pub mod host;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod sys;
