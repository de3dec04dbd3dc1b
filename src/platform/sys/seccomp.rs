//! Answering bind(2) for another process: `seccomp_unotify(2)`.
//!
//! Decides that bind(2) alone is asked about, and only in the machine's own calling convention.
//! Needs no privilege. What the answer is, is the caller's business.

#![expect(unsafe_code, reason = "seccomp(2) and its ioctls are in no safe crate")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use rustix::io::Errno;

use crate::domain::Pid;

/// `AUDIT_ARCH_…` of `<linux/audit.h>`: how this program's own system calls are made.
const ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

// Codes from `<linux/bpf_common.h>`, and where `struct seccomp_data` has what they load.
const LD_W: u16 = 0x20;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

/// A thread waits for an answer to its bind(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the question.
    pub id: u64,
    /// The thread, in our pid namespace.
    pub thread: Pid,
    /// Number of its socket.
    pub socket: RawFd,
    /// Where in its memory the address is.
    pub address: u64,
    /// How long the address is, it says.
    pub length: i32,
}

/// What becomes of a thread's bind(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out as if nobody had asked.
    Continue,
    /// It succeeds, and nothing else happens.
    Done,
    /// It fails.
    Fails(Errno),
}

/// Has every later bind(2) of this process and its descendants asked about, through the returned
/// descriptor; it is closed by execve(2), and with its last copy such calls fail with `ENOSYS`.
///
/// Without `CAP_SYS_ADMIN` the process gives up gaining rights by execve(2) (`no_new_privs`).
/// Allocates nothing: callable between fork and exec. Fails with `EBUSY` if somebody else answers
/// for this process already, and with what a sandbox or an old kernel says.
pub(super) fn trap_bind() -> Result<OwnedFd, Errno> {
    match install() {
        Err(Errno::ACCESS) => {
            rustix::thread::set_no_new_privs(true)?;
            install()
        }
        result => result,
    }
}

/// Whether a child could have its bind(2) asked about; a thread that ends at once tries.
pub fn try_trap() -> Result<(), Errno> {
    let tried = std::thread::Builder::new().spawn(|| trap_bind().map(drop));
    let tried = tried.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
    tried.join().unwrap_or(Err(Errno::INVAL))
}

fn install() -> Result<OwnedFd, Errno> {
    // While it waits for the answer only death interrupts it; kernels before 5.19 do not know
    // how, and the call may begin anew.
    match filter(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::INVAL) => filter(0),
        result => result,
    }
}

fn filter(flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let arch = ARCH.ok_or(Errno::NOSYS)?;
    let bind = u32::try_from(libc::SYS_bind).unwrap_or(u32::MAX);
    let plain = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let unless = |k, jf| libc::sock_filter { code: JEQ, jt: 0, jf, k };
    let mut program = [
        plain(LD_W, ARCH_AT),
        unless(arch, 3),
        plain(LD_W, NUMBER_AT),
        unless(bind, 1),
        plain(RET, libc::SECCOMP_RET_USER_NOTIF),
        plain(RET, SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(program.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: `program` names `len` instructions that live during the call; the kernel copies them.
    let number = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    let Ok(number) = RawFd::try_from(number) else { return Err(Errno::INVAL) };
    if number < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just opened it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes one question; blocks if none waits, so poll before.
///
/// Fails with `ENOENT` if who asked died meanwhile.
pub fn receive(trap: BorrowedFd<'_>) -> io::Result<Question> {
    // SAFETY: the struct holds integers only, for which all zeroes is a value.
    let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to `told` as many bytes as the number of the call names.
    let status =
        unsafe { libc::ioctl(trap.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    let [socket, address, length, ..] = told.data.args;
    Ok(Question {
        id: told.id,
        thread: Pid(i32::try_from(told.pid).unwrap_or(0)),
        socket: low_half(socket),
        address,
        length: low_half(length),
    })
}

/// Whether who asked still waits; what was read of its memory before is its own then.
#[must_use]
pub fn is_waiting(trap: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads eight bytes from `id`.
    let status =
        unsafe { libc::ioctl(trap.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    status == 0
}

/// Puts a copy of `socket` in the place of descriptor `number` of who asked.
///
/// Fails with `EINVAL` on kernels before 5.9.
pub fn substitute(
    trap: BorrowedFd<'_>,
    id: u64,
    socket: BorrowedFd<'_>,
    number: RawFd,
    closes_on_exec: bool,
) -> io::Result<()> {
    let unsigned = |number| u32::try_from(number).map_err(io::Error::other);
    let order = libc::seccomp_notif_addfd {
        id,
        flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(1),
        srcfd: unsigned(socket.as_raw_fd())?,
        newfd: unsigned(number)?,
        newfd_flags: if closes_on_exec { unsigned(libc::O_CLOEXEC)? } else { 0 },
    };
    // SAFETY: the kernel reads from `order` as many bytes as the number of the call names.
    let status =
        unsafe { libc::ioctl(trap.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const order) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets who asked go on. Fails with `ENOENT` if it died.
pub fn answer(trap: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let (error, flags) = match answer {
        Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        Answer::Done => (0, 0),
        Answer::Fails(errno) => (-errno.raw_os_error(), 0),
    };
    let flags = u32::try_from(flags).unwrap_or(0);
    let mut reply = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads from `reply` as many bytes as the number of the call names.
    let status =
        unsafe { libc::ioctl(trap.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut reply) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An `int` as the kernel takes it from a register.
fn low_half(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
        os::fd::AsFd as _,
        sync::mpsc::channel,
        thread::{JoinHandle, spawn},
    };

    use rustix::net::{AddressFamily, SocketType, getsockname, socket};

    use super::*;

    /// A thread that asks before it binds; with it what it asks through.
    fn trapped<T: Send + 'static>(
        binds: impl FnOnce() -> T + Send + 'static,
    ) -> (OwnedFd, JoinHandle<T>) {
        let (give, take) = channel();
        let thread = spawn(move || {
            give.send(trap_bind().unwrap()).unwrap();
            binds()
        });
        (take.recv().unwrap(), thread)
    }

    fn bind_any() -> io::Result<SocketAddr> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        SocketAddr::try_from(getsockname(&socket)?).map_err(io::Error::from)
    }

    /// Port of a thread's bind(2), or number of its error.
    #[track_caller]
    #[expect(clippy::unwrap_in_result, reason = "the result is the thread's, a panic the test's")]
    fn check(reply: Answer) -> Result<u16, Option<i32>> {
        let (trap, thread) = trapped(bind_any);
        let question = receive(trap.as_fd()).unwrap();
        assert!(is_waiting(trap.as_fd(), question.id));
        assert_eq!(question.length, 16);
        answer(trap.as_fd(), question.id, reply).unwrap();
        let bound = thread.join().unwrap();
        assert!(!is_waiting(trap.as_fd(), question.id));
        bound.map(|address| address.port()).map_err(|error| error.raw_os_error())
    }

    #[test]
    fn trying_leaves_no_filter_on_us() {
        let filtered = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let lines =
                status.lines().filter(|it| it.starts_with("Seccomp") || it.starts_with("NoNew"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = filtered();
        try_trap().unwrap_or_default();
        assert_eq!(filtered(), before);
    }

    #[test]
    fn answers_are_what_the_thread_sees() {
        assert_ne!(check(Answer::Continue).unwrap(), 0);
        assert_eq!(check(Answer::Done).unwrap(), 0);
        assert_eq!(check(Answer::Fails(Errno::ADDRINUSE)), Err(Some(libc::EADDRINUSE)));
    }

    #[test]
    fn a_socket_is_replaced() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let expected = ours.local_addr().unwrap();
        let (trap, thread) = trapped(bind_any);
        let Question { id, socket, .. } = receive(trap.as_fd()).unwrap();
        substitute(trap.as_fd(), id, ours.as_fd(), socket, true).unwrap();
        answer(trap.as_fd(), id, Answer::Done).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), expected);
    }

    #[test]
    fn other_calls_are_not_asked_about() {
        let (trap, thread) = trapped(|| {
            let client = TcpListener::bind("127.0.0.1:0");
            drop(client);
            socket(AddressFamily::INET, SocketType::STREAM, None).map(drop)
        });
        let question = receive(trap.as_fd()).unwrap();
        answer(trap.as_fd(), question.id, Answer::Continue).unwrap();
        thread.join().unwrap().unwrap();
        drop(trap);
        // and with nobody left to ask, binds fail
        let (trap, thread) = trapped(|| UdpSocket::bind("127.0.0.1:0").map(drop));
        drop(trap);
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
    }

    #[test]
    fn two_cannot_answer_for_one() {
        let (_trap, thread) = trapped(|| trap_bind().map(drop));
        assert_eq!(thread.join().unwrap(), Err(Errno::BUSY));
    }
}
