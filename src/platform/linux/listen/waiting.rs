//! Which sockets one process holds, and for which of them a thread of it waits.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use procfs::{FromRead as _, process::Syscall};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::domain::Pid;

/// Entries of one `poll`, or descriptors of one `select`, we look at.
const POLLED_MAX: u64 = 4096;
/// Bytes of one `struct pollfd`: `i32 fd, i16 events, i16 revents`.
const POLLFD_BYTES: u64 = 8;
/// `EPOLLIN` of `epoll_ctl(2)`.
const EPOLLIN: u32 = 1;
/// `POLLIN` of `poll(2)`.
const POLLIN: i16 = 1;

/// Whether `pid` has one of the sockets `inodes` open.
pub(super) fn holds(pid: Pid, inodes: &[u64]) -> bool {
    descriptors(pid).any(|(_fd, target)| match target {
        Target::Socket(inode) => inodes.contains(&inode),
        Target::Epoll | Target::Other => false,
    })
}

/// A copy of the socket `inode` of `pid`.
pub(super) fn copy(pid: Pid, inode: u64) -> Option<OwnedFd> {
    let is_it = |target: &Target| matches!(target, Target::Socket(other) if *other == inode);
    let (fd, _) = descriptors(pid).find(|(_, target)| is_it(target))?;
    let process = rustix::process::Pid::from_raw(pid.0)?;
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty()).ok()?;
    rustix::process::pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()
}

/// Whether a thread of `pid` waits for connections to the listening socket `inode`.
pub(super) fn waits(pid: Pid, inode: u64) -> bool {
    let (mut ours, mut epolls) = (Vec::new(), Vec::new());
    for (fd, target) in descriptors(pid) {
        match target {
            Target::Socket(other) if other == inode => ours.push(fd),
            Target::Epoll => epolls.push(fd),
            Target::Socket(_) | Target::Other => {}
        }
    }
    if epolls.into_iter().any(|epoll| watches(pid, epoll, inode)) {
        return true;
    }
    !ours.is_empty() && threads(pid).any(|thread| sleeps_for(pid, thread, &ours))
}

/// What a descriptor refers to.
enum Target {
    Socket(u64),
    Epoll,
    Other,
}

fn descriptors(pid: Pid) -> impl Iterator<Item = (i32, Target)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        let link = fs::read_link(entry.path()).ok()?;
        Some((fd, target(link.to_str()?)))
    })
}

fn target(link: &str) -> Target {
    if link == "anon_inode:[eventpoll]" {
        return Target::Epoll;
    }
    let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
    inode.and_then(|inode| inode.parse().ok()).map_or(Target::Other, Target::Socket)
}

/// Whether the epoll instance `epoll` of `pid` watches the socket `inode` for input, `proc(5)`.
fn watches(pid: Pid, epoll: i32, inode: u64) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}")).unwrap_or_default();
    info.lines().filter(|line| line.starts_with("tfd:")).any(|line| {
        let events = u32::from_str_radix(field(line, "events:").unwrap_or_default(), 16);
        let watched = u64::from_str_radix(field(line, "ino:").unwrap_or_default(), 16);
        watched == Ok(inode) && events.is_ok_and(|events| events & EPOLLIN != 0)
    })
}

/// The word after `name`, with or without a space between.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_before, rest) = line.split_once(name)?;
    rest.split_whitespace().next()
}

fn threads(pid: Pid) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether the thread sleeps in a system call that ends when a connection comes to one of `fds`.
fn sleeps_for(pid: Pid, thread: i32, fds: &[i32]) -> bool {
    let call = fs::File::open(format!("/proc/{pid}/task/{thread}/syscall"))
        .map_err(procfs::ProcError::from)
        .and_then(Syscall::from_read);
    match call {
        Ok(Syscall::Blocked { syscall_number, argument_registers, .. }) => {
            call_ends(pid, syscall_number, argument_registers, fds)
        }
        Ok(_running) => false,
        Err(_refused) => in_accept(pid, thread),
    }
}

/// Whether the thread sleeps in `accept`, on whichever socket: all we may know without ptrace.
fn in_accept(pid: Pid, thread: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/task/{thread}/wchan"))
        .is_ok_and(|place| place.trim_end().starts_with("inet_csk_accept"))
}

fn call_ends(pid: Pid, number: i64, arguments: [u64; 6], fds: &[i32]) -> bool {
    let [first, second, ..] = arguments;
    match call(number) {
        Some(Call::Accept) => fds.iter().any(|&fd| u64::try_from(fd) == Ok(first)),
        Some(Call::Poll) => {
            let set = memory(pid, first, second.min(POLLED_MAX) * POLLFD_BYTES);
            set.is_ok_and(|set| polls(&set, fds))
        }
        Some(Call::Select) => {
            // The kernel reads whole words.
            let set = memory(pid, second, first.min(POLLED_MAX).div_ceil(64) * 8);
            set.is_ok_and(|bits| fds.iter().any(|&fd| has_bit(&bits, fd)))
        }
        None => false,
    }
}

/// System calls that wait for a connection.
enum Call {
    Accept,
    Poll,
    Select,
}

fn call(number: i64) -> Option<Call> {
    match number {
        libc::SYS_accept | libc::SYS_accept4 => Some(Call::Accept),
        libc::SYS_ppoll => Some(Call::Poll),
        libc::SYS_pselect6 => Some(Call::Select),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Some(Call::Poll),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Some(Call::Select),
        _ => None,
    }
}

/// Whether one of `fds` is polled for input in this array of `struct pollfd`.
fn polls(set: &[u8], fds: &[i32]) -> bool {
    set.as_chunks::<8>().0.iter().any(|&[a, b, c, d, e, f, _, _]| {
        fds.contains(&i32::from_ne_bytes([a, b, c, d])) && i16::from_ne_bytes([e, f]) & POLLIN != 0
    })
}

/// Whether `fd` is in this `fd_set`, an array of 64-bit words.
fn has_bit(set: &[u8], fd: i32) -> bool {
    let Ok(fd) = usize::try_from(fd) else { return false };
    let word = set.as_chunks::<8>().0.get(fd / 64);
    word.is_some_and(|&word| u64::from_ne_bytes(word) >> (fd % 64) & 1 == 1)
}

fn memory(pid: Pid, address: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    fs::File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut buffer, address)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use super::*;

    #[test]
    fn a_thread_in_accept_is_seen_without_ptrace() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = mpsc::channel();
        let server = thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            listener.accept().unwrap();
        });
        let pid = Pid(rustix::process::getpid().as_raw_nonzero().get());
        let thread = told.recv().unwrap();
        // It is about to sleep; a look costs it the processor soon enough.
        let seen = (0..100_000).any(|_| in_accept(pid, thread));
        assert!(seen || fs::read("/proc/self/wchan").is_err());
        drop(TcpStream::connect(address).unwrap());
        server.join().unwrap();
    }

    #[test]
    fn epoll_lines_are_read() {
        let line = "tfd:        7 events: 80000019 data: 7f00000007  pos:0 ino:1b2c sdev:8";
        assert_eq!(field(line, "events:"), Some("80000019"));
        assert_eq!(field(line, "ino:"), Some("1b2c"));
        assert_eq!(field("tfd: 7", "ino:"), None);
    }

    #[test]
    fn poll_sets_are_read() {
        let mut set = vec![0; 16];
        set[8..12].copy_from_slice(&5_i32.to_ne_bytes());
        assert!(!polls(&set, &[5]), "not for input");
        set[12..14].copy_from_slice(&POLLIN.to_ne_bytes());
        assert!(polls(&set, &[5]));
        assert!(!polls(&set, &[4]));
    }

    #[test]
    fn select_sets_are_read() {
        let set: Vec<u8> =
            [1_u64 << 9, 1 << 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(has_bit(&set, 9) && has_bit(&set, 66));
        assert!(!has_bit(&set, 8) && !has_bit(&set, 128) && !has_bit(&set, -1));
    }
}
