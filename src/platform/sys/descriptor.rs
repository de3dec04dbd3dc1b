//! Descriptors that come by number.

#![expect(unsafe_code, reason = "only unsafe code can own a descriptor known by its number")]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

/// Takes ownership of an inherited descriptor, and closes it on the next `execve(2)`.
///
/// Fails with `EBADF` if the process that started us left no descriptor of this number. Call it
/// at most once per number, before anything else may have been opened under it.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an int and touches no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above) and, as the caller promises, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_nobody_opened_is_refused() {
        let error = take_inherited(1 << 20).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
