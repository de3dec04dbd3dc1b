//! The outside on Linux: `io_uring` where the kernel lets us, readiness where it does not.
//!
//! [`world`] is the door the daemon's loop uses; everything else here serves it.

pub mod runtime;

mod clients;
mod inbox;
mod outbox;
