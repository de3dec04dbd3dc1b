//! Readiness of a descriptor on the tokio runtime.

#![expect(unsafe_code, reason = "tokio asks for a promise about descriptors that `OwnedFd` keeps")]

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// Watches `fd` for becoming readable and writable. Called within a tokio runtime.
///
/// # Errors
///
/// If the runtime's reactor does not take it.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always the same one, and closed by nobody else while the
    // `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register(fd) };
    watched.map_err(io::Error::from)
}
