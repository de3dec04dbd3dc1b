//! Against the kernel, with sockets of our own: what workers and their cgroups add is tried by
//! `tests/cli/sharing.rs`.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
};

use rustix::fs::{CWD, Mode};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::platform::linux::bpf::skip;

/// A gate of its own; `None` where the kernel refuses, as it does without the rights.
fn gate() -> Option<Gate> {
    let Some(root) = crate::guard::cgroup_root() else {
        skip("there is no cgroup2");
        return None;
    };
    let name =
        format!("bunpilot-gate-test-{}-{:?}", std::process::id(), std::thread::current().id());
    let workers = root.join(name.replace(['(', ')'], ""));
    if let Err(error) = rustix::fs::mkdirat(CWD, &workers, Mode::RWXU) {
        skip(&format!("cannot make a cgroup: {error}"));
        return None;
    }
    let gate = Gate::open(&mut BTreeMap::new(), &Folders { workers: workers.clone(), root });
    std::fs::remove_dir(workers).unwrap();
    match gate {
        Ok(gate) => Some(gate),
        Err(why @ (Refusal::Forbidden | Refusal::Network | Refusal::Off { .. })) => {
            skip(&why.to_string());
            None
        }
        Err(refusal) => panic!("{refusal}"),
    }
}

struct Doors {
    gate: Gate,
    port: u16,
    seats: Vec<(Seat, TcpListener)>,
}

fn socket(gate: &Gate, seat: Seat, port: u16) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    gate.tag(seat, socket.as_fd()).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.listen(1024).unwrap();
    socket.set_nonblocking(true).unwrap();
    gate.attach(socket.as_fd()).unwrap();
    gate.enter(seat, socket.as_fd(), Family::V4).unwrap();
    TcpListener::from(socket)
}

impl Doors {
    fn new(mut gate: Gate, count: usize) -> Self {
        let mut port = 0;
        let seats = (0..count).map(|_| {
            let seat = gate.sit().unwrap().unwrap();
            let listener = socket(&gate, seat, port);
            port = listener.local_addr().unwrap().port();
            (seat, listener)
        });
        let seats = seats.collect();
        Self { gate, port, seats }
    }

    fn rule(&self, balance: Balance, weights: &[u16], parking: Option<usize>) {
        let number = |index: usize| self.seats[index].0.number();
        let ready = weights.iter().enumerate();
        let ready = ready.filter_map(|(at, it)| Some((number(at), NonZeroU16::new(*it)?)));
        self.gate.rule(self.port, &Rule::new(balance, ready, parking.map(number))).unwrap();
    }

    /// Connects so often; how many came to each seat, and the connections.
    fn connect(&self, count: usize) -> (Vec<usize>, Vec<TcpStream>) {
        let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let streams = (0..count).map(connect).collect();
        (self.accepted(), streams)
    }

    fn accepted(&self) -> Vec<usize> {
        let count = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        self.seats.iter().map(|(_, listener)| count(listener)).collect()
    }
}

#[test]
fn turns_are_kept_to_the_letter() {
    let Some(gate) = gate() else { return };
    let doors = Doors::new(gate, 4);
    doors.rule(Balance::RoundRobin, &[1, 1, 1, 1], None);
    let (counts, _streams) = doors.connect(400);
    // One round for each CPU we were on.
    assert!(counts.iter().all(|it| (98..=102).contains(it)), "{counts:?}");
    doors.rule(Balance::RoundRobin, &[4, 2, 0, 2], None);
    let (counts, _streams) = doors.connect(400);
    assert!(counts[0].abs_diff(200) < 5 && counts[1].abs_diff(100) < 5, "{counts:?}");
    assert_eq!(counts[2], 0, "it is not ready");
    let chosen = doors.gate.counts(doors.seats[0].0).chosen;
    assert!(chosen.abs_diff(300) < 8, "{chosen}");
}

#[test]
fn a_probe_reaches_whom_it_names_ready_or_not() {
    let Some(gate) = gate() else { return };
    let doors = Doors::new(gate, 3);
    doors.rule(Balance::LeastConnections, &[1, 1, 0], None);
    for (seat, listener) in &doors.seats {
        let probe = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source = crate::platform::linux::selector::Group::probe_source(seat.number());
        probe.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        probe.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, doors.port)).into()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), source);
        assert_eq!(doors.gate.counts(*seat).probed, 1);
    }
}

/// Who waits at a socket that closes goes on waiting at another, with all that was sent.
#[test]
fn who_waits_moves_on() {
    let Some(gate) = gate() else { return };
    let mut doors = Doors::new(gate, 3);
    doors.rule(Balance::RoundRobin, &[0, 0, 0], Some(2));
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, doors.port)).unwrap();
    let mut streams: Vec<TcpStream> = (0..50).map(connect).collect();
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
    }
    doors.rule(Balance::RoundRobin, &[1, 1, 0], Some(2));
    drop(doors.seats.pop());
    let mut accepted = 0;
    for (_, listener) in &doors.seats {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
            accepted += 1;
        }
    }
    assert_eq!(accepted, 50);
    let moved: u64 = doors.seats.iter().map(|(seat, _)| doors.gate.counts(*seat).moved).sum();
    assert_eq!(moved, 50);
}

/// Counts that nobody keeps any more would send everything to whoever had the fewest last.
#[test]
fn counts_are_believed_while_somebody_lives() {
    let Some(gate) = gate() else { return };
    let doors = Doors::new(gate, 2);
    doors.rule(Balance::LeastConnections, &[1, 1], None);
    let busy = doors.seats[0].0;
    let mut counter = [0; 64];
    counter[..8].copy_from_slice(&busy.ticket.to_ne_bytes());
    counter[8..16].copy_from_slice(&1000_u64.to_ne_bytes());
    let key = u32::from(busy.number()).to_ne_bytes();
    bpf::update(doors.gate.parts.seats.as_fd(), &key, &counter).unwrap();
    let now = crate::platform::sys::monotonic_now();
    doors.gate.beat(now);
    assert_eq!(doors.connect(40).0, [0, 40]);
    doors.gate.beat(now.saturating_sub(Duration::from_secs(4)));
    let (counts, _streams) = doors.connect(40);
    assert!(counts[0].abs_diff(20) <= 2, "{counts:?}");
}

#[test]
fn a_served_port_is_for_nobody_else() {
    let Some(gate) = gate() else { return };
    let doors = Doors::new(gate, 1);
    doors.rule(Balance::RoundRobin, &[1], None);
    let stranger = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, doors.port)).into()).map(|()| socket)
    };
    assert_eq!(stranger().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    doors.gate.release(doors.port);
    stranger().unwrap();
}

#[test]
fn the_next_daemon_goes_on() {
    let Some(mut gate) = gate() else { return };
    let (gone, stays) = (gate.sit().unwrap().unwrap(), gate.sit().unwrap().unwrap());
    gate.place(7, gone, 1).unwrap();
    gate.place(8, stays, 1).unwrap();
    let copy = |(key, fd): (String, BorrowedFd<'_>)| (key, fd.try_clone_to_owned().unwrap());
    let mut kept: BTreeMap<String, OwnedFd> = gate.keepsakes().map(copy).collect();
    drop(gate);
    let nowhere = Folders { workers: "/nowhere".into(), root: "/nowhere".into() };
    let mut gate = Gate::open(&mut kept, &nowhere).unwrap();
    assert!(kept.is_empty(), "{:?}", kept.keys());
    assert_eq!(gate.seat_of(8), Some(stays));
    gate.clear(&BTreeSet::from([stays])).unwrap();
    assert_eq!((gate.seat_of(7), gate.seat_of(8)), (None, Some(stays)));
    let next = gate.sit().unwrap().unwrap();
    assert_eq!(next.number(), gone.number());
    assert!(next > gone, "the ticket is new");
}
