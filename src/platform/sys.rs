//! The only unsafe code: one call per block, behind functions that cannot be misused.

#[cfg(target_os = "linux")]
pub mod cpu_clock;
#[cfg(target_os = "linux")]
pub mod reuseport;
