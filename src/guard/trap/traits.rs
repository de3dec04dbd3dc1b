//! What a listening socket hands on to the connections it accepts, copied from one to another.
//!
//! Decides the list. What cannot be read or set stays as the kernel has it: none of these keeps
//! a server from serving.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use rustix::{fs::OFlags, net::sockopt};

use crate::{
    guard::harmless,
    platform::sys::sockopt::{Numeric, number, set_number},
};

const COPIED: [Numeric; 18] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
];

/// Their value is doubled by the kernel when it is set.
const BUFFERS: [Numeric; 2] =
    [(libc::SOL_SOCKET, libc::SO_RCVBUF), (libc::SOL_SOCKET, libc::SO_SNDBUF)];

/// Says which buffers the kernel may size as it likes; 5.14 and later.
const BUFFER_LOCK: Numeric = (libc::SOL_SOCKET, libc::SO_BUF_LOCK);

/// All that is copied.
#[derive(Debug)]
pub(super) struct Traits {
    options: BTreeMap<Numeric, i32>,
    buffers: BTreeMap<Numeric, i32>,
    buffer_lock: Option<i32>,
    linger: Option<Duration>,
    congestion: Option<String>,
    blocks: bool,
}

impl Traits {
    /// Reads those of a socket.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Self {
        let read = |options: &[Numeric]| {
            let values = options.iter().map(|&option| Some((option, number(socket, option).ok()?)));
            values.flatten().collect()
        };
        let flags = rustix::fs::fcntl_getfl(socket);
        Self {
            options: read(&COPIED),
            buffers: read(&BUFFERS),
            buffer_lock: number(socket, BUFFER_LOCK).ok(),
            linger: sockopt::socket_linger(socket).unwrap_or_default(),
            congestion: sockopt::tcp_congestion(socket).ok(),
            blocks: flags.is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK)),
        }
    }

    /// Gives them to a socket, as far as it has others.
    pub(super) fn give(&self, socket: BorrowedFd<'_>) {
        let now = Self::of(socket);
        for (&option, &value) in &self.options {
            if now.options.get(&option) != Some(&value) {
                harmless(set_number(socket, option, value));
            }
        }
        for (&option, &value) in &self.buffers {
            if now.buffers.get(&option) != Some(&value) {
                harmless(set_number(socket, option, value / 2));
            }
        }
        if let Some(lock) = self.buffer_lock {
            harmless(set_number(socket, BUFFER_LOCK, lock));
        }
        if self.linger != now.linger {
            harmless(sockopt::set_socket_linger(socket, self.linger));
        }
        if let Some(name) =
            self.congestion.as_ref().filter(|it| now.congestion.as_ref() != Some(it))
        {
            harmless(sockopt::set_tcp_congestion(socket, name));
        }
        harmless(rustix::io::ioctl_fionbio(socket.as_fd(), !self.blocks));
    }
}
