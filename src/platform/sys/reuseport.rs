//! Socket options of listeners that no safe crate wraps: the selector of an `SO_REUSEPORT` group,
//! and what a socket tells of itself.

#![expect(unsafe_code, reason = "setsockopt and getsockopt take plain pointers")]

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// One instruction of classic BPF, as `struct sock_filter` of `<linux/filter.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Makes `program` choose the socket of each new connection to the group `socket` belongs to, in
/// place of the program before; nothing is lost in between.
///
/// `SO_ATTACH_REUSEPORT_CBPF` of `socket(7)`; needs no privilege.
pub fn attach_selector(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut filters: Vec<libc::sock_filter> = program
        .iter()
        .map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
        .collect();
    let len = u16::try_from(filters.len()).map_err(io::Error::other)?;
    let value = libc::sock_fprog { len, filter: filters.as_mut_ptr() };
    // SAFETY: `value` names `len` instructions of `filters`, both alive during the call, and the
    // kernel copies them.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const value).cast(),
            size_of_u32::<libc::sock_fprog>(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The same with a loaded `sk_reuseport` program, `SO_ATTACH_REUSEPORT_EBPF`.
pub fn attach_program(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let value = program.as_raw_fd();
    // SAFETY: `value` is an int, alive during the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_EBPF,
            (&raw const value).cast(),
            size_of_u32::<libc::c_int>(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel drop what comes to the listening `socket` itself, so that clients try again a
/// second later; connections that exist, and those that wait to be accepted, go on.
///
/// `SO_ATTACH_FILTER` of `socket(7)`.
pub fn shut_door(socket: BorrowedFd<'_>) -> io::Result<()> {
    const DROP: libc::sock_filter = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let mut filter = DROP;
    let value = libc::sock_fprog { len: 1, filter: &raw mut filter };
    // SAFETY: `value` names one instruction that is alive during the call; the kernel copies it.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const value).cast(),
            size_of_u32::<libc::sock_fprog>(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes back [`shut_door`]; does nothing where it was not called.
pub fn open_door(socket: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = 0_i32;
    // SAFETY: the kernel reads four bytes from `nothing`, and ignores them.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const nothing).cast(),
            4,
        )
    };
    match io::Error::last_os_error() {
        error if status != 0 && error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Connections that wait in the accept queue of the listening `socket`.
///
/// `tcpi_unacked` of `TCP_INFO`, which for a listener is its backlog, `tcp(7)`.
pub fn accept_backlog(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: `tcp_info` holds integers only, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut len = size_of_u32::<libc::tcp_info>();
    // SAFETY: `info` is `len` bytes long and both outlive the call; older kernels write less.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    if status == 0 { Ok(info.tcpi_unacked) } else { Err(io::Error::last_os_error()) }
}

#[expect(clippy::expect_used, reason = "the kernel's structs are a few hundred bytes long")]
fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a kernel struct is shorter than 4 GiB")
}
