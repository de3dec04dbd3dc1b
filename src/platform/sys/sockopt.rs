//! Socket options by number, where a table of them is copied from one socket to another.

#![expect(unsafe_code, reason = "getsockopt(2) and setsockopt(2) take plain pointers")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// An option whose value is an `int`: its level and its name.
pub type Numeric = (i32, i32);

/// Reads an option.
pub fn number(socket: BorrowedFd<'_>, (level, name): Numeric) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length: libc::socklen_t = 4;
    // SAFETY: `value` has the four bytes that `length` names, and both outlive the call.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if status == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option.
pub fn set_number(socket: BorrowedFd<'_>, (level, name): Numeric, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes from `value`.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names the network namespace a socket is in; kernels before 5.14 do not tell.
pub fn network(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: `value` has the eight bytes that `length` names, and both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
