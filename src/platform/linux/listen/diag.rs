//! Sockets by port, asked of the kernel through `sock_diag(7)`, which filters by state and port
//! where `/proc/net/tcp` prints everything.

use std::io;

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send},
};

/// One answer of the kernel is at most this long: 8 KiB, or 32 KiB once we read that much.
const ANSWER_MAX: usize = 32 * 1024;
/// Sockets of one port we look at; a group has at most 1024, and of connections it is enough to
/// know that there are some.
const SOCKETS_MAX: usize = 4096;

// `<linux/netlink.h>`, `<linux/sock_diag.h>` and `<linux/inet_diag.h>`.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: u32 = 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP_LISTEN: u32 = 1 << 10;
/// Established, or closed by the other end only: the server may still be answering.
const TCP_OPEN: u32 = 1 << 1 | 1 << 8;
const IPPROTO_TCP: u8 = 6;
const INODE_AT: usize = HEADER_BYTES + 68;

/// Inodes of the sockets that listen on TCP port `port` in our network namespace.
pub(super) fn listeners(port: u16) -> io::Result<Vec<u64>> {
    sockets(port, TCP_LISTEN)
}

/// Inodes of the connections to TCP port `port` that a server has accepted and not closed.
pub(super) fn connections(port: u16) -> io::Result<Vec<u64>> {
    let mut inodes = sockets(port, TCP_OPEN)?;
    inodes.retain(|inode| *inode != 0); // those still in a queue
    Ok(inodes)
}

fn sockets(port: u16, states: u32) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        // A socket for each, so that an answer cut short is never taken for the next one's.
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        send(&socket, &request(family, port, states), SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_MAX];
        while inodes.len() < SOCKETS_MAX {
            let (read, _whole) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
            if collect(answer.get(..read).unwrap_or_default(), &mut inodes)? {
                break;
            }
        }
    }
    Ok(inodes)
}

fn request(family: AddressFamily, port: u16, states: u32) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(REQUEST_BYTES.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]); // sequence and port id
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    message.extend([family, IPPROTO_TCP, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.extend(port.to_be_bytes());
    message.extend([0; 46]); // the other end, addresses, interface and cookie: any
    message
}

/// Reads the messages of one answer; whether the last one was among them.
fn collect(mut answer: &[u8], inodes: &mut Vec<u64>) -> io::Result<bool> {
    while answer.len() >= HEADER_BYTES {
        let len = usize::try_from(u32_at(answer, 0)).unwrap_or(usize::MAX);
        let [low, high, ..] = u32_at(answer, 4).to_ne_bytes();
        let Some(message) = answer.get(..len).filter(|_| len >= HEADER_BYTES) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16::from_ne_bytes([low, high]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(failure(message)),
            _ if message.len() >= INODE_AT + 4 => {
                inodes.push(u64::from(u32_at(message, INODE_AT)));
            }
            _ => {}
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn failure(message: &[u8]) -> io::Error {
    let code = i32::from_ne_bytes(u32_at(message, HEADER_BYTES).to_ne_bytes());
    Errno::from_raw_os_error(code.saturating_neg()).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd as _};

    use super::*;

    #[track_caller]
    fn check(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listeners(port).unwrap(), [inode]);
    }

    #[test]
    fn both_families_are_seen() {
        check("127.0.0.1:0");
        check("[::]:0");
    }

    #[test]
    fn only_accepted_connections_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(connections(port).unwrap().is_empty(), "it still waits in the queue");
        let (accepted, _) = listener.accept().unwrap();
        let inode = rustix::fs::fstat(accepted.as_fd()).unwrap().st_ino;
        assert_eq!(connections(port).unwrap(), [inode]);
        drop(accepted);
        assert!(connections(port).unwrap().is_empty());
        drop(client);
    }

    #[test]
    fn a_silent_port_has_no_listener() {
        let bound =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        assert!(listeners(port).unwrap().is_empty());
    }

    #[test]
    fn broken_answers_are_refused() {
        let mut inodes = Vec::new();
        let mut short = vec![0; 20];
        short[..4].copy_from_slice(&8_u32.to_ne_bytes());
        assert!(collect(&short, &mut inodes).is_err());
        short[..4].copy_from_slice(&100_u32.to_ne_bytes());
        assert!(collect(&short, &mut inodes).is_err());
        assert!(!collect(&[1, 2, 3], &mut inodes).unwrap());
        assert!(inodes.is_empty());
    }
}
