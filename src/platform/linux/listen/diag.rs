//! Sockets by port, asked of the kernel through `sock_diag(7)`, which filters by state and port
//! where `/proc/net/tcp` prints everything.

use std::{io, net::SocketAddr, time::Duration};

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
const INET_DIAG_INFO: u8 = 2;
const INET_DIAG_SKV6ONLY: u8 = 11;
const PORT_AT: usize = HEADER_BYTES + 4;
const ADDRESS_AT: usize = HEADER_BYTES + 8;
const RECEIVED_AT: usize = HEADER_BYTES + 56;
const UNSENT_AT: usize = HEADER_BYTES + 60;
const OWNER_AT: usize = HEADER_BYTES + 64;
const INODE_AT: usize = HEADER_BYTES + 68;
const ATTRIBUTES_AT: usize = HEADER_BYTES + 72;
// `struct tcp_info` of `<linux/tcp.h>`; the times are milliseconds ago.
const LAST_SENT_AT: usize = 44;
const LAST_RECEIVED_AT: usize = 52;
const SEGMENTS_IN_AT: usize = 152;
const SEGMENTS_OUT_AT: usize = 156;

/// A server that sent something so short a time ago is in the middle of it.
const SPEAKING: Duration = Duration::from_millis(50);
/// A server that sent something so short a time ago may be between head and body of an answer.
const PAUSING: Duration = Duration::from_millis(10);
/// A client that has said nothing for so long is not about to.
const SILENT: Duration = Duration::from_secs(1);

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As `/proc/<pid>/fd` shows it.
    pub inode: u64,
    /// Where it does.
    pub address: SocketAddr,
    /// Whether it is not for IPv4, too.
    pub only_v6: bool,
    /// Whose it is.
    pub owner: u32,
    /// Connections that wait to be accepted.
    pub waiting: u32,
}

/// How soon a connection counts as idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Once nobody has spoken for a moment.
    Some,
    /// Once nobody has spoken for the time an answer takes that is written in two pieces.
    Little,
    /// As soon as what was asked is answered.
    None,
}

/// The sockets that listen on TCP port `port` in our network namespace.
pub(super) fn listening(port: u16) -> io::Result<Vec<Listening>> {
    sockets(port, TCP_LISTEN, &Listening::read)
}

/// Their inodes.
pub(super) fn listeners(port: u16) -> io::Result<Vec<u64>> {
    Ok(listening(port)?.into_iter().map(|it| it.inode).collect())
}

/// Inodes of the connections to TCP port `port` on which a server still has something to do:
/// accepted, not closed, and not idle between two requests (see [`is_busy`]).
pub(super) fn busy_connections(port: u16, patience: Patience) -> io::Result<Vec<u64>> {
    let busy = |message: &[u8]| is_busy(message, patience).then(|| inode(message));
    let mut inodes = sockets(port, TCP_OPEN, &busy)?;
    inodes.retain(|inode| *inode != 0); // those still in a queue
    Ok(inodes)
}

fn inode(message: &[u8]) -> u64 {
    u64::from(u32_at(message, INODE_AT))
}

impl Listening {
    fn read(message: &[u8]) -> Option<Self> {
        let [low, high, ..] = u32_at(message, PORT_AT).to_ne_bytes();
        let port = u16::from_be_bytes([low, high]);
        let address: [u8; 16] = *message.get(ADDRESS_AT..)?.first_chunk()?;
        let is_v4 =
            i32::from(*message.get(HEADER_BYTES)?) == i32::from(AddressFamily::INET.as_raw());
        let address = if is_v4 {
            SocketAddr::from((*address.first_chunk::<4>()?, port))
        } else {
            SocketAddr::from((address, port))
        };
        let only_v6 = attribute(message, INET_DIAG_SKV6ONLY);
        Some(Self {
            inode: inode(message),
            address,
            only_v6: only_v6.is_some_and(|it| it.first().is_some_and(|it| *it != 0)),
            owner: u32_at(message, OWNER_AT),
            waiting: u32_at(message, RECEIVED_AT),
        })
    }
}

/// Whether a connection is in use, by its traffic (`struct tcp_info`): something waits to be read
/// or sent, the last to speak was the client, or the server spoke this very moment. A kept-alive
/// connection whose last request is answered is not; nor is one whose client is silent from the
/// beginning.
fn is_busy(message: &[u8], patience: Patience) -> bool {
    if u32_at(message, RECEIVED_AT) > 0 || u32_at(message, UNSENT_AT) > 0 {
        return true;
    }
    let Some(info) = tcp_info(message) else { return true };
    let since = |at| Duration::from_millis(u64::from(u32_at(info, at)));
    let (sent, received) = (since(LAST_SENT_AT), since(LAST_RECEIVED_AT));
    if u32_at(info, SEGMENTS_OUT_AT) == 0 {
        return u32_at(info, SEGMENTS_IN_AT) > 0 || received < SILENT;
    }
    // Whoever still speaks long after they were asked is telling a long story.
    let telling = received.saturating_sub(sent) > SPEAKING;
    let speaking = match patience {
        Patience::Some => sent < SPEAKING,
        Patience::Little => sent < PAUSING,
        Patience::None => false,
    };
    received < sent || speaking || (sent < SPEAKING && telling)
}

/// The answer's `INET_DIAG_INFO` attribute.
fn tcp_info(message: &[u8]) -> Option<&[u8]> {
    attribute(message, INET_DIAG_INFO)
}

fn attribute(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut attributes = message.get(ATTRIBUTES_AT..)?;
    loop {
        let [low, high, kind, _] = u32_at(attributes, 0).to_ne_bytes();
        let len = usize::from(u16::from_ne_bytes([low, high]));
        let value = attributes.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// What `read` makes of the message of each socket of `port` in one of `states`.
fn sockets<T>(port: u16, states: u32, read: &dyn Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
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
        while found.len() < SOCKETS_MAX {
            let (len, _whole) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
            if collect(answer.get(..len).unwrap_or_default(), read, &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: AddressFamily, port: u16, states: u32) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(REQUEST_BYTES.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]); // sequence and port id
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    message.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    message.extend(states.to_ne_bytes());
    message.extend(port.to_be_bytes());
    message.extend([0; 46]); // the other end, addresses, interface and cookie: any
    message
}

/// Reads the messages of one answer; whether the last one was among them.
fn collect<T>(
    mut answer: &[u8],
    read: &dyn Fn(&[u8]) -> Option<T>,
    found: &mut Vec<T>,
) -> io::Result<bool> {
    while answer.len() >= HEADER_BYTES {
        let len = usize::try_from(u32_at(answer, 0)).unwrap_or(usize::MAX);
        let [low, high, ..] = u32_at(answer, 4).to_ne_bytes();
        let Some(message) = answer.get(..len).filter(|_| len >= HEADER_BYTES) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16::from_ne_bytes([low, high]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(failure(message)),
            _ if message.len() >= INODE_AT + 4 => found.extend(read(message)),
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
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        os::fd::AsFd as _,
    };

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
        assert!(
            busy_connections(port, Patience::Some).unwrap().is_empty(),
            "it still waits in the queue"
        );
        let (accepted, _) = listener.accept().unwrap();
        let inode = rustix::fs::fstat(accepted.as_fd()).unwrap().st_ino;
        assert_eq!(busy_connections(port, Patience::Some).unwrap(), [inode]);
        drop(accepted);
        assert!(busy_connections(port, Patience::Some).unwrap().is_empty());
        drop(client);
    }

    #[test]
    fn a_connection_between_two_requests_is_not_busy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let inode = rustix::fs::fstat(server.as_fd()).unwrap().st_ino;
        let mut byte = [0];
        client.write_all(b"?").unwrap();
        assert_eq!(
            busy_connections(port, Patience::Some).unwrap(),
            [inode],
            "a request waits to be read"
        );
        server.read_exact(&mut byte).unwrap();
        assert_eq!(
            busy_connections(port, Patience::Some).unwrap(),
            [inode],
            "a request waits for its answer"
        );
        server.write_all(b"!").unwrap();
        client.read_exact(&mut byte).unwrap();
        while !busy_connections(port, Patience::Some).unwrap().is_empty() {} // until it spoke long enough ago
        client.write_all(b"?").unwrap();
        assert_eq!(busy_connections(port, Patience::Some).unwrap(), [inode], "the next request");
    }

    #[test]
    fn without_patience_an_answer_is_enough_but_not_half_of_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut byte = [0];
        let busy = || !busy_connections(port, Patience::None).unwrap().is_empty();
        let mut answered = || {
            client.write_all(b"?").unwrap();
            server.read_exact(&mut byte).unwrap();
            server.write_all(b"!").unwrap();
            client.read_exact(&mut byte).unwrap();
            !busy()
        };
        while !answered() {} // until no look came too late
        client.write_all(b"?").unwrap();
        server.read_exact(&mut byte).unwrap();
        let mut told = || {
            server.write_all(b".").unwrap();
            client.read_exact(&mut byte).unwrap();
            busy()
        };
        while !told() {} // until the story is long enough
    }

    #[test]
    fn a_silent_port_has_no_listener() {
        let bound =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        assert!(listeners(port).unwrap().is_empty());
    }

    #[test]
    fn broken_answers_are_refused() {
        let mut inodes = Vec::new();
        let mut short = vec![0; 20];
        short[..4].copy_from_slice(&8_u32.to_ne_bytes());
        assert!(collect(&short, &|_: &[u8]| Some(()), &mut inodes).is_err());
        short[..4].copy_from_slice(&100_u32.to_ne_bytes());
        assert!(collect(&short, &|_: &[u8]| Some(()), &mut inodes).is_err());
        assert!(!collect(&[1, 2, 3], &|_: &[u8]| Some(()), &mut inodes).unwrap());
        assert!(inodes.is_empty());
    }
}
