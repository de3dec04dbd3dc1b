//! The only place with `unsafe`: one call per block, safe types around it.

#[cfg(target_os = "linux")]
pub mod ring;
