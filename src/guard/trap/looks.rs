//! Looking at a worker that waits for its bind(2), each time on a thread of its own.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    net::{AddressFamily, SocketType, ipproto, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{Place, Traits, Wish};
use crate::{
    guard::harmless,
    platform::sys::{
        seccomp::{Question, receive},
        sockopt::{network, number},
    },
};

/// Stack of a thread that looks: it calls little.
const STACK_BYTES: usize = 128 << 10;
/// Longest address we read: `struct sockaddr_in6`.
const ADDRESS_MAX: usize = 28;
/// Shortest the kernel takes: one without the scope (RFC 2133).
const ADDRESS_V6_MIN: usize = 24;
const ADDRESS_V4: usize = 16;

/// What was seen of a worker that waits.
#[derive(Debug)]
pub(in crate::guard) struct Found {
    /// Which worker.
    pub(in crate::guard) label: String,
    /// Which question.
    pub(in crate::guard) id: u64,
    pub(in crate::guard) look: Look,
}

/// What its bind(2) is about.
#[derive(Debug)]
pub(in crate::guard) enum Look {
    /// Not its app's port.
    Other,
    /// Its app's port, in a way we cannot take over; the kernel decides.
    Odd(String),
    /// Its app's port.
    Wish(Box<Wish>),
}

/// The looks under way.
#[derive(Debug)]
pub(in crate::guard) struct Looks {
    /// Workers somebody looks at.
    busy: BTreeSet<String>,
    told: Receiver<Found>,
    tell: Sender<Found>,
    /// Readable once something was told.
    bell: Arc<OwnedFd>,
}

impl Looks {
    pub(in crate::guard) fn new() -> io::Result<Self> {
        let (tell, told) = channel();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { busy: BTreeSet::new(), told, tell, bell: Arc::new(bell) })
    }

    /// Becomes readable when [`Looks::take`] has something.
    pub(in crate::guard) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Whether somebody looks at the worker; its next question has to wait.
    pub(in crate::guard) fn is_busy(&self, label: &str) -> bool {
        self.busy.contains(label)
    }

    /// Takes the worker's question, of which there is one, and looks what it is about.
    pub(in crate::guard) fn begin(&mut self, label: &str, trap: BorrowedFd<'_>, port: u16) {
        // who asked may have died since
        let Ok(question) = receive(trap) else { return };
        let (tell, bell) = (self.tell.clone(), Arc::clone(&self.bell));
        let owner = label.to_owned();
        let look = move || {
            let look = look(&question, port);
            let found = Found { label: owner, id: question.id, look };
            // only an ending guard does not listen
            harmless(tell.send(found));
            harmless(rustix::io::write(&bell, &1_u64.to_ne_bytes()));
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(look);
        match thread {
            Ok(_detached) => drop(self.busy.insert(label.to_owned())),
            Err(error) => {
                let look = Look::Odd(format!("the guard cannot start a thread: {error}"));
                let found = Found { label: label.to_owned(), id: question.id, look };
                harmless(self.tell.send(found));
                harmless(rustix::io::write(&self.bell, &1_u64.to_ne_bytes()));
            }
        }
    }

    /// What was seen since.
    pub(in crate::guard) fn take(&mut self) -> Vec<Found> {
        let mut count = [0; 8];
        // nobody may have rung
        harmless(rustix::io::read(&self.bell, &mut count));
        let found: Vec<_> = self.told.try_iter().collect();
        for Found { label, .. } in &found {
            self.busy.remove(label);
        }
        found
    }
}

/// Finds out what a question is about. May block.
fn look(question: &Question, port: u16) -> Look {
    match wish(question, port) {
        Ok(Some(wish)) => Look::Wish(Box::new(wish)),
        Ok(None) => Look::Other,
        Err(reason) => Look::Odd(reason),
    }
}

fn wish(question: &Question, port: u16) -> Result<Option<Wish>, String> {
    let address = match address(question) {
        Ok(Some(address)) if address.port() == port => address,
        Ok(_other) => return Ok(None),
        Err(error) => return Err(format!("the guard may not read its memory: {error}")),
    };
    let socket = socket(question)
        .map_err(|errno| format!("the guard may not look at its socket: {errno}"))?;
    let socket = socket.as_fd();
    if !is_tcp(socket, address) {
        return Ok(None);
    }
    let bound = rustix::net::getsockname(socket).ok().and_then(|it| SocketAddr::try_from(it).ok());
    if bound.is_some_and(|bound| bound.port() != 0) {
        return Ok(None); // the kernel will refuse
    }
    if number(socket, (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)).is_ok_and(|index| index != 0) {
        return Err("its socket is bound to one network interface".to_owned());
    }
    if !is_in_our_network(socket, question) {
        return Err("its socket is in a network namespace of its own".to_owned());
    }
    let only_v6 = address.is_ipv6()
        && sockopt::ipv6_v6only(socket)
            .map_err(|errno| format!("its socket does not tell which IP it is for: {errno}"))?;
    Ok(Some(Wish {
        number: question.socket,
        closes_on_exec: closes_on_exec(question),
        place: Place { address, only_v6 },
        traits: Traits::of(socket),
    }))
}

/// The address in the worker's memory; `None` if it is not one of IP.
fn address(question: &Question) -> io::Result<Option<SocketAddr>> {
    let length = usize::try_from(question.length).unwrap_or(0).min(ADDRESS_MAX);
    if length < ADDRESS_V4 {
        return Ok(None);
    }
    let mut bytes = [0; ADDRESS_MAX];
    let memory = File::open(format!("/proc/{}/mem", question.thread))?;
    let Some(room) = bytes.get_mut(..length) else { return Ok(None) };
    match memory.read_exact_at(room, question.address) {
        Ok(()) => Ok(parse(&bytes, length)),
        // the kernel will not be able to read it either
        Err(_) => Ok(None),
    }
}

fn parse(bytes: &[u8; ADDRESS_MAX], length: usize) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some(SocketAddr::from((Ipv4Addr::from(*flow), port))),
        libc::AF_INET6 if length >= ADDRESS_V6_MIN => {
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = rest.first_chunk::<4>()?;
            // as getsockname(2) would tell it: flow and scope mean nothing to other listeners
            let address = Ipv6Addr::from(*address);
            let scope =
                if address.is_unicast_link_local() { u32::from_ne_bytes(*scope) } else { 0 };
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => None,
    }
}

/// A copy of the descriptor it binds.
fn socket(question: &Question) -> Result<OwnedFd, Errno> {
    // a thread may have a table of its own; kernels before 6.9 only know processes
    let of_thread = PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits());
    let pidfd =
        pid(question.thread.0).and_then(|thread| pidfd_open(thread, of_thread)).or_else(|_| {
            pid(leader(question.thread.0)).and_then(|it| pidfd_open(it, PidfdFlags::empty()))
        })?;
    pidfd_getfd(pidfd, question.socket, PidfdGetfdFlags::empty())
}

fn pid(number: i32) -> Result<rustix::process::Pid, Errno> {
    rustix::process::Pid::from_raw(number).ok_or(Errno::SRCH)
}

/// The process a thread belongs to.
fn leader(thread: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(thread)
}

/// Multipath TCP included: its listeners serve plain TCP as well, and some runtimes ask for it
/// without being told.
fn is_tcp(socket: BorrowedFd<'_>, address: SocketAddr) -> bool {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let protocol = sockopt::socket_protocol(socket);
    sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_domain(socket) == Ok(family)
        && (protocol == Ok(Some(ipproto::TCP)) || protocol == Ok(Some(ipproto::MPTCP)))
}

fn is_in_our_network(socket: BorrowedFd<'_>, question: &Question) -> bool {
    let ours = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let ours = ours.map_err(io::Error::from).and_then(|ours| network(ours.as_fd()));
    if let (Ok(theirs), Ok(ours)) = (network(socket), ours) {
        return theirs == ours;
    }
    // kernels before 5.14: most likely it was opened where the thread is
    let theirs = fs::read_link(format!("/proc/{}/ns/net", question.thread));
    let ours = fs::read_link("/proc/self/ns/net");
    theirs.is_ok_and(|theirs| ours.is_ok_and(|ours| theirs == ours))
}

/// Whether the worker's own descriptor would not survive execve(2), `proc_pid_fdinfo(5)`.
fn closes_on_exec(question: &Question) -> bool {
    let Question { thread, socket, .. } = question;
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{socket}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    flags.unwrap_or(libc::O_CLOEXEC) & libc::O_CLOEXEC != 0
}
