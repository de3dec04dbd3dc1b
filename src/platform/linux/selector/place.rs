//! Where a socket listens: those of one place are of one group.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

pub use crate::guard::Place;

impl Place {
    /// Where the sockets we open ourselves listen: on every address this machine has.
    #[must_use]
    pub fn ours(port: u16) -> Self {
        let everything = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let is_there = TcpListener::bind((everything, 0)).is_ok();
        let address = if is_there { everything } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { address: (address, port).into(), only_v6: false }
    }
}
