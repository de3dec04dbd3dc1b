//! One cfg chooses how the outside is reached.

#[cfg(target_os = "linux")]
pub mod linux;
pub mod sys;
