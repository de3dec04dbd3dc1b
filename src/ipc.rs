//! What daemon and worker say to each other: the JSON channel, `sd_notify`, the environment.
//!
//! Decides what a worker's bytes mean. Never decides what to do about them, never trusts them:
//! anything a worker sends becomes a value, and garbage is one of the values.
//!
//! Quiet: no I/O, no clock, no threads.

pub mod channel;
pub mod contract;
pub mod notify;
