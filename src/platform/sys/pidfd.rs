//! Exit statuses of processes that are not our children.

#![expect(unsafe_code, reason = "PIDFD_GET_INFO is in no safe crate")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `struct pidfd_info` of `linux/pidfd.h`, first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
const _: () = assert!(size_of::<Info>() == 64, "the size is part of the ioctl's number");

/// Asks for the wait status (as `waitpid(2)` gives it) of a process that ended and was reaped.
///
/// `None` while it has not been reaped. Fails with `ENOTTY` or `EINVAL` on kernels before 6.15,
/// and with `ESRCH` where the kernel no longer knows. Follows `ioctl_pidfd(2)`.
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel writes at most the 64 bytes its number names to `info`.
    if unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}
