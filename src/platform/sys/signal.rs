//! Signals: taken as bytes from a descriptor, sent by number.

#![expect(unsafe_code, reason = "signalfd(2), sigprocmask(2) and real-time signals")]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use crate::domain::{Pid, Signal};

/// Blocks `signals` for this thread and returns a descriptor they can be read from instead.
///
/// Call it in the only thread of a process. The descriptor does not block. Follows
/// `signalfd(2)`.
pub fn block_signals(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: initialises the whole of `set`.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for &signal in signals {
        // SAFETY: `set` was initialised above.
        if unsafe { libc::sigaddset(set.as_mut_ptr(), signal) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: reads `set`; a null third argument asks for no copy of the old mask.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: reads `set`; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes one signal from the descriptor of [`block_signals`]; `None` if none is pending.
pub fn read_signal(signals: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(signals, &mut record) {
        // `ssi_signo` is the first field, a u32
        Ok(_) => Ok(Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends `signal` to one process. Only for a child that has not been reaped: nobody else's
/// number is sure to be still theirs.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    if pid.0 <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes two ints.
    if unsafe { libc::kill(pid.0, signal.0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `signal` to the process `pidfd` stands for, and to no other. Follows
/// `pidfd_send_signal(2)`.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    let number = libc::SYS_pidfd_send_signal;
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) would.
    if unsafe { libc::syscall(number, pidfd.as_raw_fd(), signal.0, none, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
