//! The only unsafe code of the house: one small wrapper per system call that no safe crate offers.
//!
//! Decides nothing: each wrapper takes borrowed descriptors, returns owned ones and turns `errno`
//! into [`std::io::Error`]. What the calls are for is their callers' business.

#[cfg(target_os = "linux")]
pub mod bpf;
mod clock;
#[cfg(target_os = "linux")]
mod code;
mod descriptor;
mod pidfd;
#[cfg(target_os = "linux")]
pub mod reuseport;
#[cfg(target_os = "linux")]
pub mod ring;
pub mod seccomp;
mod signal;
pub mod sockopt;
mod spawn;
mod watch;

pub use clock::{monotonic_now, process_cpu};
#[cfg(target_os = "linux")]
pub use code::{forget_code, forget_heap};
pub use descriptor::take_inherited;
pub use pidfd::pidfd_exit_status;
pub use signal::{block_signals, kill, pidfd_signal, read_signal};
pub use spawn::{Bind, Born, Parent, Plan, SpawnError, Step, spawn};
pub use watch::watch;
