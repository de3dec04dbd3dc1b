//! One cfg chooses how the outside is reached.

pub mod host;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod sys;
