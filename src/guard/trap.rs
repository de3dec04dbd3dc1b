//! What a worker asks for when it binds its app's port, and the held socket it gets instead.
//!
//! Decides which binds are meant and what a held socket takes over from the worker's own. A look
//! at a worker may block for as long as the worker likes (its memory may be on a file system it
//! serves itself), so each look has a thread, at most one for each worker; it reads no more than
//! one address. Whatever a worker changes meanwhile only it is deceived by: what was read is what
//! is done.

mod looks;
mod traits;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

pub(super) use looks::{Found, Look, Looks};
use traits::Traits;

use super::wire::Trap;
use crate::platform::sys;

/// Connections that may wait at each socket; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// A socket the worker wants to listen with.
#[derive(Debug)]
pub(super) struct Wish {
    /// Its number in the worker.
    pub(super) number: i32,
    pub(super) closes_on_exec: bool,
    place: Place,
    traits: Traits,
}

/// Where a socket listens: sockets of one place share its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether an IPv6 socket leaves IPv4 to others.
    pub only_v6: bool,
}

impl Place {
    /// That of a socket; `None` if it is not one of IP.
    pub fn of(socket: &impl AsFd) -> Option<Self> {
        let address = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
        let only_v6 = address.is_ipv6() && sockopt::ipv6_v6only(socket).ok()?;
        Some(Self { address, only_v6 })
    }
}

/// A held socket that fits a wish.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) key: String,
    pub(super) origin: Origin,
}

/// Where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was held before.
    Held,
    /// It was opened just now.
    Opened,
}

/// Finds the held socket that fits the wish, or opens one.
///
/// Fails as the worker's own bind(2) would have.
pub(super) fn fulfil(
    wish: &Wish,
    trap: &Trap,
    held: &mut BTreeMap<String, OwnedFd>,
) -> Result<Seat, Errno> {
    let known = keys(held, &trap.key).find(|(_, socket)| Place::of(*socket) == Some(wish.place));
    let known = known.map(|(key, socket)| (key.clone(), sockopt::socket_acceptconn(socket)));
    match known {
        Some((key, Ok(true))) => {
            if let Some(socket) = held.get(&key) {
                wish.traits.give(socket.as_fd());
            }
            return Ok(Seat { key, origin: Origin::Held });
        }
        // a worker has shut it down; a new one is as good
        Some((key, _)) => drop(held.remove(&key)),
        None => {}
    }
    let socket = open(wish)?;
    let key = format!("{}/{}", trap.key, next_number(held));
    held.insert(key.clone(), socket);
    Ok(Seat { key, origin: Origin::Opened })
}

/// Whether binds of workers can be answered here; in words, why not.
pub fn can_trap() -> Result<(), String> {
    can_look()?;
    sys::seccomp::try_trap().map_err(explain)
}

/// Whether workers can be looked at here; in words, why not.
pub(super) fn can_look() -> Result<(), String> {
    let refused = |what: &'static str| move |errno: Errno| format!("`{what}` is refused: {errno}");
    let me = pidfd_open(getpid(), PidfdFlags::empty()).map_err(refused("pidfd_open"))?;
    let number = me.as_raw_fd();
    pidfd_getfd(&me, number, PidfdGetfdFlags::empty()).map_err(refused("pidfd_getfd"))?;
    Ok(())
}

/// Why no trap can be set, in words.
pub(super) fn explain(errno: Errno) -> String {
    match errno {
        Errno::BUSY => "somebody else answers bunpilot's system calls already (seccomp)".to_owned(),
        Errno::NOSYS | Errno::INVAL => {
            "this kernel has no seccomp notifications (Linux 5.5 and later have)".to_owned()
        }
        errno => format!("seccomp is refused: {errno}"),
    }
}

fn keys<'a>(
    held: &'a BTreeMap<String, OwnedFd>,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a OwnedFd)> {
    let first = format!("{key}/");
    held.range(first.clone()..).take_while(move |(key, _)| key.starts_with(&first))
}

/// Greater than the number of any held socket, whosever it is.
fn next_number(held: &BTreeMap<String, OwnedFd>) -> u64 {
    let number = |key: &String| key.rsplit('/').next()?.parse::<u64>().ok();
    held.keys().filter_map(number).max().map_or(0, |last| last + 1)
}

/// Opens a socket as the worker wants it, and as one of a group.
///
/// It is ours and not a copy of the worker's: only then is it of one group with those of workers
/// that run as somebody else.
fn open(wish: &Wish) -> Result<OwnedFd, Errno> {
    let Place { address, only_v6 } = wish.place;
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, kind, flags, Some(ipproto::TCP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    wish.traits.give(socket.as_fd());
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG_MAX)?;
    Ok(socket)
}
