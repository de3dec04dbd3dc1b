//! The listening sockets an app's workers inherit, and who among them gets the next connection.
//!
//! A [`Group`] is one `SO_REUSEPORT` group of TCP sockets on one port. The kernel runs our
//! classic-BPF program for each new connection; the program is the whole state, so a change is
//! one atomic replacement. It decides nothing about workers: who may be selected is told by
//! [`Group::select`], and connections already given to a socket stay there.
//!
//! Sockets are numbered in the order they began to listen. The kernel fills the gap of a closed
//! socket with the last one, so sockets of a group are only ever closed all together.

mod place;
mod program;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    num::NonZeroU16,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

pub use self::place::Place;
use super::listen;
use crate::platform::sys::reuseport;

/// Most sockets of a group: their program stays below `net.core.optmem_max` (20 KiB) of kernels
/// before 6.8. At two for each instance, 512 instances may inherit.
pub const SOCKETS_MAX: u16 = 1024;

/// Connections that may wait at each socket; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// Why a group cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("port {port} is in use by {holder}; stop it or choose another `port`")]
    InUse {
        /// The port.
        port: u16,
        /// Who holds it, as far as we may see.
        holder: String,
    },
    /// A low port, and we are not privileged.
    #[error(
        "not allowed to listen on port {port}; choose a port from 1024 up, or run \
         `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
    )]
    Denied {
        /// The port.
        port: u16,
    },
    /// More sockets than one program can tell apart.
    #[error(
        "cannot open {asked} sockets on one port; `inherit` serves at most {} instances",
        SOCKETS_MAX / 2
    )]
    TooMany {
        /// How many were asked for.
        asked: usize,
    },
    /// What came back from the guard is no group.
    #[error("the sockets kept for the app are not listening on one port; stop and start the app")]
    Foreign,
    /// A socket number beyond the group.
    #[error("socket {index} is not one of {sockets}")]
    NoSuchSocket {
        /// The number.
        index: usize,
        /// How many there are.
        sockets: usize,
    },
    /// Anything else the kernel refuses.
    #[error("cannot {what} on port {port}")]
    Refused {
        /// What we tried.
        what: &'static str,
        /// The port.
        port: u16,
        /// Its reason.
        source: io::Error,
    },
}

/// Listening sockets of one port, one of which the kernel chooses for each new connection.
#[derive(Debug)]
pub struct Group {
    port: u16,
    sockets: Vec<Socket>,
    /// Who gets new connections; `None` until we say so of a group we took back.
    selected: Option<Vec<Share>>,
}

/// A socket's number, and how much of all connections it gets in proportion to the others.
type Share = (u16, NonZeroU16);

impl Group {
    /// Opens `sockets` sockets on `port` (0: any free one) of every address, IPv4 and IPv6; of
    /// IPv4 alone where there is no IPv6. Until [`Group::select`] is called the kernel chooses
    /// among all by hash.
    ///
    /// Refuses a port somebody else already listens on, even where the kernel would let us join.
    pub fn open(port: u16, sockets: usize) -> Result<Self, ListenError> {
        if port != 0 && listen::in_use(port) {
            return Err(in_use(port));
        }
        Self::open_beside(port, sockets)
    }

    /// As [`Group::open`], where others that listen on the port are known to be ours.
    pub fn open_beside(port: u16, sockets: usize) -> Result<Self, ListenError> {
        let mut group = Self { port, sockets: Vec::new(), selected: Some(Vec::new()) };
        group.grow(sockets)?;
        Ok(group)
    }

    /// Begins a group with a socket that listens already, alone on its address.
    pub fn begin(socket: OwnedFd) -> Result<Self, ListenError> {
        let mut group = Self { port: 0, sockets: Vec::new(), selected: Some(Vec::new()) };
        group.join(socket)?;
        Ok(group)
    }

    /// Takes back the sockets of a group, in the order of [`Group::fds`], from whoever kept them.
    ///
    /// The kernel goes on with the program it has until [`Group::select`] is called, also if the
    /// group grows.
    pub fn adopt(fds: Vec<OwnedFd>) -> Result<Self, ListenError> {
        within_bound(fds.len())?;
        let sockets: Vec<Socket> = fds.into_iter().map(Socket::from).collect();
        let mut ports = sockets.iter().map(listening_port);
        let port = ports.next().flatten().ok_or(ListenError::Foreign)?;
        if !ports.all(|other| other == Some(port)) {
            return Err(ListenError::Foreign);
        }
        Ok(Self { port, sockets, selected: None })
    }

    /// Where its sockets listen.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Place::of(self.sockets.first()?)
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address a probe of socket `index` must come from.
    #[must_use]
    pub const fn probe_source(index: u16) -> Ipv4Addr {
        let [a, b] = program::PROBE_NET.to_be_bytes();
        let [h, l] = index.to_be_bytes();
        Ipv4Addr::new(a, b, h, l)
    }

    /// Opens more sockets until there are `sockets`; never fewer. New ones get no connection
    /// before they are selected, if any other is.
    pub fn grow(&mut self, sockets: usize) -> Result<(), ListenError> {
        within_bound(sockets)?;
        while self.sockets.len() < sockets {
            let socket = open(self.port)?;
            if self.port == 0 {
                self.port = listening_port(&socket).ok_or(ListenError::Foreign)?;
            }
            self.sockets.push(socket);
        }
        self.attach()
    }

    /// Takes in a socket that began to listen on the group's address after all the others.
    pub fn join(&mut self, socket: OwnedFd) -> Result<(), ListenError> {
        within_bound(self.sockets.len() + 1)?;
        let socket = Socket::from(socket);
        let port = listening_port(&socket).ok_or(ListenError::Foreign)?;
        if self.sockets.is_empty() {
            self.port = port;
        }
        self.sockets.push(socket);
        self.attach()
    }

    /// Drops socket `index` if somebody shut it down, as the kernel has: the last one has its
    /// number then. Select anew after that.
    pub fn drop_if_deaf(&mut self, index: usize) -> bool {
        let deaf = self.sockets.get(index).is_some_and(|it| listening_port(it).is_none());
        if deaf {
            self.sockets.swap_remove(index);
        }
        deaf
    }

    /// Gives new connections to these sockets alone, each with the same chance; to all by the
    /// kernel's hash, if there are none. Probes reach every socket all the same.
    ///
    /// Takes effect at once and loses nothing. A handshake that began before still ends where
    /// it began.
    pub fn select(&mut self, indexes: &[usize]) -> Result<(), ListenError> {
        let same: Vec<_> = indexes.iter().map(|&index| (index, NonZeroU16::MIN)).collect();
        self.select_weighted(&same)
    }

    /// As [`Group::select`], but each gets connections in proportion to its weight.
    pub fn select_weighted(&mut self, shares: &[(usize, NonZeroU16)]) -> Result<(), ListenError> {
        let sockets = self.sockets.len();
        let number = |&(index, weight): &(usize, NonZeroU16)| {
            let number = u16::try_from(index).ok().filter(|_| index < sockets);
            Ok((number.ok_or(ListenError::NoSuchSocket { index, sockets })?, weight))
        };
        let mut selected = shares.iter().map(number).collect::<Result<Vec<Share>, _>>()?;
        selected.sort_unstable();
        selected.dedup_by_key(|(number, _)| *number);
        self.selected = Some(selected);
        self.attach()
    }

    /// Has clients that come to socket `index` try again a second later.
    pub fn shut(&self, index: usize) -> Result<(), ListenError> {
        let shut = self.sockets.get(index).map_or(Ok(()), |it| reuseport::shut_door(it.as_fd()));
        shut.map_err(self.refused("shut a socket"))
    }

    /// Takes back [`Group::shut`].
    pub fn reopen(&self, index: usize) -> Result<(), ListenError> {
        let open = self.sockets.get(index).map_or(Ok(()), |it| reuseport::open_door(it.as_fd()));
        open.map_err(self.refused("open a socket again"))
    }

    /// Connections that wait at socket `index` to be accepted.
    pub fn backlog(&self, index: usize) -> Result<u32, ListenError> {
        let socket = self
            .sockets
            .get(index)
            .ok_or(ListenError::NoSuchSocket { index, sockets: self.sockets.len() })?;
        accept_backlog(socket.as_fd()).map_err(self.refused("read the accept queue"))
    }

    /// Inode of socket `index`, as `/proc/<pid>/fd` shows it.
    pub fn inode(&self, index: usize) -> Result<u64, ListenError> {
        let socket = self
            .sockets
            .get(index)
            .ok_or(ListenError::NoSuchSocket { index, sockets: self.sockets.len() })?;
        let stat = rustix::fs::fstat(socket).map_err(io::Error::from);
        stat.map(|stat| stat.st_ino).map_err(self.refused("read the inode of a socket"))
    }

    /// Stops listening at once, whoever else holds the sockets: from now on connections are refused.
    pub fn close(self) {
        for socket in &self.sockets {
            close(socket);
        }
    }

    /// The sockets, in order.
    pub fn fds(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.as_fd())
    }

    fn attach(&self) -> Result<(), ListenError> {
        let (Some(first), Some(selected)) = (self.sockets.first(), &self.selected) else {
            return Ok(()); // what an earlier daemon selected is better than anything we know
        };
        let sockets = u16::try_from(self.sockets.len()).unwrap_or(SOCKETS_MAX);
        let program = program::program(sockets, selected);
        reuseport::attach_selector(first.as_fd(), &program)
            .map_err(self.refused("attach the selector"))
    }

    fn refused(&self, what: &'static str) -> impl FnOnce(io::Error) -> ListenError {
        let port = self.port;
        move |source| ListenError::Refused { what, port, source }
    }
}

/// Stops listening at once, whoever else holds the socket.
pub(super) fn close(socket: &impl AsFd) {
    // Fails only if it does not listen.
    socket2::SockRef::from(socket).shutdown(Shutdown::Both).unwrap_or_default();
}

/// Connections that wait in the accept queue of a listening socket.
pub fn accept_backlog(socket: BorrowedFd<'_>) -> io::Result<u32> {
    reuseport::accept_backlog(socket)
}

fn within_bound(sockets: usize) -> Result<(), ListenError> {
    let fits = sockets <= usize::from(SOCKETS_MAX);
    if fits { Ok(()) } else { Err(ListenError::TooMany { asked: sockets }) }
}

fn listening_port(socket: &Socket) -> Option<u16> {
    if !socket.is_listener().ok()? {
        return None;
    }
    socket.local_addr().ok()?.as_socket().map(|address| address.port())
}

fn open(port: u16) -> Result<Socket, ListenError> {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    bind(v6).or_else(|error| if no_ipv6(&error) { bind(v4) } else { Err(error) }).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => in_use(port),
            Some(Errno::ACCESS) => ListenError::Denied { port },
            _ => ListenError::Refused { what: "listen", port, source: error },
        }
    })
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket)
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Why `port` cannot be had: somebody listens there.
pub(super) fn in_use(port: u16) -> ListenError {
    let holder = listen::holder(port).unwrap_or_else(|| "another program".to_owned());
    ListenError::InUse { port, holder }
}

/// An error and its cause.
pub(super) fn in_words(error: &ListenError) -> String {
    let cause = std::error::Error::source(error).map(|it| format!(": {it}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[cfg(test)]
mod tests;
