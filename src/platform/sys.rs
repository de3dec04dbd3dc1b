//! The only unsafe code of the house: one small wrapper per system call that no safe crate offers.
//!
//! Decides nothing: each wrapper takes borrowed descriptors, returns owned ones and turns `errno`
//! into [`std::io::Error`]. What the calls are for is their callers' business.

#[cfg(target_os = "linux")]
pub mod cpu_clock;
#[cfg(target_os = "linux")]
pub mod reuseport;
#[cfg(target_os = "linux")]
pub mod ring;
