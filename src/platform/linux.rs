//! The outside on Linux: `io_uring` where the kernel lets us, readiness where it does not.
//!
//! [`daemon`] builds it all; [`world`] is the door the loop uses; everything
//! else here serves it.

mod balanced;
mod barrier;
pub mod bpf;
mod clients;
mod clock;
pub mod daemon;
mod doors;
pub mod examine;
mod facts;
mod guardian;
mod hatchery;
mod inbox;
mod keepsakes;
pub mod listen;
mod listeners;
pub mod lock;
pub mod logs;
mod meters;
mod outbox;
mod ports;
pub mod probe;
mod pump;
mod runtime;
mod scrapes;
pub mod selector;
mod succession;
mod tail;
mod tasks;
pub mod usage;
mod workers;
pub mod world;

use std::time::Duration;

/// Rest while the system is out of buffers or descriptors.
const STARVED_REST: Duration = Duration::from_millis(10);
