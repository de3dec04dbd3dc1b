//! What the kernel would let us do with seccomp, tried without consequences.

#![expect(unsafe_code, reason = "seccomp(2) is in no safe crate")]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    thread,
};

const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
const NEW_LISTENER: u32 = 1 << 3;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
/// `BPF_RET | BPF_K` of `<linux/bpf_common.h>`.
const RETURN: u16 = 0x06;

/// Whether system calls can be answered by another process, `seccomp_unotify(2)`: the kernel knows
/// how, and no filter above us has a listener already.
///
/// A thread of its own puts a filter that allows everything before itself, and ends.
///
/// # Errors
///
/// What `seccomp(2)` says; `EBUSY` if there is a listener above us.
pub fn seccomp_listener() -> io::Result<()> {
    let trial = thread::spawn(|| {
        seccomp(GET_ACTION_AVAIL, 0, &mut RET_USER_NOTIF.to_ne_bytes())?;
        // `struct seccomp_notif_sizes`: three numbers of 16 bits
        seccomp(GET_NOTIF_SIZES, 0, &mut [0_u8; 6])?;
        rustix::thread::set_no_new_privs(true)?;
        let mut allow = [libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: RET_ALLOW }];
        let mut program = libc::sock_fprog { len: 1, filter: allow.as_mut_ptr() };
        let listener = seccomp(SET_MODE_FILTER, NEW_LISTENER, &mut program)?;
        let listener = RawFd::try_from(listener).map_err(io::Error::other)?;
        // SAFETY: the kernel just made it, for us alone.
        drop(unsafe { OwnedFd::from_raw_fd(listener) });
        Ok(())
    });
    trial.join().unwrap_or_else(|_panic| Err(io::Error::other("the trial's thread died")))
}

/// `argument` is what `operation` reads or writes, and as long.
fn seccomp<A>(operation: u32, flags: u32, argument: &mut A) -> io::Result<i64> {
    let argument: *mut A = argument;
    // SAFETY: private, and each call above passes what its operation wants: an action, a
    // `seccomp_notif_sizes`, or a program whose instructions outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_no_filter_on_us() {
        let filtered = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let lines =
                status.lines().filter(|it| it.starts_with("Seccomp") || it.starts_with("NoNew"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = filtered();
        drop(seccomp_listener());
        assert_eq!(filtered(), before);
    }
}
