//! Where a socket listens: those of one place are of one group.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
};

use rustix::net::{getsockname, sockopt};

/// Where a socket listens.
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
        let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        let only_v6 = address.is_ipv6() && sockopt::ipv6_v6only(socket).ok()?;
        Some(Self { address, only_v6 })
    }

    /// Where the sockets we open ourselves listen: on every address this machine has.
    #[must_use]
    pub fn ours(port: u16) -> Self {
        let everything = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let is_there = TcpListener::bind((everything, 0)).is_ok();
        let address = if is_there { everything } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { address: (address, port).into(), only_v6: false }
    }
}
