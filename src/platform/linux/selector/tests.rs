//! On loopback, with real connections.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Connections per socket, accepted as they come and closed after one byte.
fn drain(group: &Group) -> Vec<usize> {
    group.sockets.iter().map(drain_one).collect()
}

fn drain_one(socket: &Socket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut count = 0;
    loop {
        match socket.accept() {
            Ok((connection, _from)) => {
                reset(&connection);
                count += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Leaves no `TIME_WAIT` behind, so that thousands of tests do not run out of ports.
fn reset(connection: &Socket) {
    connection.set_linger(Some(Duration::ZERO)).unwrap();
}

fn connect(group: &Group, to: IpAddr, from: Option<Ipv4Addr>) -> Socket {
    let address = SocketAddr::from((to, group.port()));
    let client = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if let Some(from) = from {
        client.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    }
    client.connect(&address.into()).unwrap();
    reset(&client);
    client
}

/// Connects `count` times and counts what each socket got.
fn spread(group: &Group, to: IpAddr, count: usize) -> Vec<usize> {
    let mut seen = vec![0; group.sockets.len()];
    for done in (0..count).step_by(100) {
        let clients: Vec<_> =
            (done..count.min(done + 100)).map(|_| connect(group, to, None)).collect();
        for (sum, new) in seen.iter_mut().zip(drain(group)) {
            *sum += new;
        }
        drop(clients);
    }
    seen
}

#[test]
fn ten_thousand_connections_spread_over_the_selected() {
    let mut group = Group::open(0, 8).unwrap();
    group.select(&[0, 2, 5, 7]).unwrap();
    let seen = spread(&group, V4, 10_000);
    assert_eq!(seen.iter().sum::<usize>(), 10_000);
    for (index, count) in seen.into_iter().enumerate() {
        if [0, 2, 5, 7].contains(&index) {
            // 2,500 expected; the standard deviation is 43.
            assert!((2_250..=2_750).contains(&count), "socket {index} got {count}");
        } else {
            assert_eq!(count, 0, "socket {index} is not selected");
        }
    }
}

#[test]
fn ipv6_spreads_too() {
    let mut group = Group::open(0, 4).unwrap();
    group.select(&[1, 3]).unwrap();
    let seen = spread(&group, V6, 1_000);
    assert_eq!((seen[0], seen[2], seen[1] + seen[3]), (0, 0, 1_000));
    assert!(seen[1].abs_diff(seen[3]) < 200, "{seen:?}");
}

#[test]
fn without_a_selection_the_kernel_serves_all() {
    let mut group = Group::open(0, 2).unwrap();
    for _ in 0..2 {
        let seen = spread(&group, V4, 400);
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
        group.select(&[]).unwrap();
    }
}

#[test]
fn every_probe_reaches_its_socket() {
    let mut group = Group::open(0, 300).unwrap();
    group.select(&[0]).unwrap();
    for probe in 0..1_000_u16 {
        let index = probe % 300;
        let client = connect(&group, V4, Some(Group::probe_source(index)));
        let socket = &group.sockets[usize::from(index)];
        assert_eq!(drain_one(socket), 1, "probe {probe} of socket {index}");
        drop(client);
    }
    assert_eq!(drain(&group).iter().sum::<usize>(), 0);
}

#[test]
fn a_group_taken_back_goes_on_as_before_even_if_it_grows() {
    let mut before = Group::open(0, 3).unwrap();
    before.select(&[1]).unwrap();
    let copies = before.fds().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    let mut group = Group::adopt(copies).unwrap();
    drop(before);
    assert_eq!(spread(&group, V4, 100), [0, 100, 0]);
    group.grow(4).unwrap();
    assert_eq!(spread(&group, V4, 100), [0, 100, 0, 0]);
    group.select(&[3]).unwrap();
    assert_eq!(spread(&group, V6, 100), [0, 0, 0, 100]);
}

#[test]
fn a_closed_group_refuses_though_somebody_holds_its_sockets() {
    let group = Group::open(0, 2).unwrap();
    let port = group.port();
    let copies: Vec<OwnedFd> = group.fds().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    group.close();
    let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    // and the port can be opened again meanwhile
    let again = Group::open(port, 2).unwrap();
    drop(copies);
    assert_eq!(spread(&again, V4, 10).iter().sum::<usize>(), 10);
}

#[test]
fn the_backlog_counts_who_waits() {
    let mut group = Group::open(0, 2).unwrap();
    group.select(&[1]).unwrap();
    let clients: Vec<_> = (0..5).map(|_| connect(&group, V4, None)).collect();
    assert_eq!((group.backlog(0).unwrap(), group.backlog(1).unwrap()), (0, 5));
    drain(&group);
    assert_eq!(group.backlog(1).unwrap(), 0);
    drop(clients);
}

#[test]
fn changes_under_load_lose_nothing() {
    let mut group = Group::open(0, 4).unwrap();
    group.select(&[0, 1]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let servers: Vec<_> =
        group.sockets.iter().map(|socket| serve(socket.try_clone().unwrap(), &stop)).collect();
    let port = group.port();
    let clients: Vec<_> = (0..4).map(|_| thread::spawn(move || ask(port, 1_000))).collect();
    let mut changes = 0;
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        let selected: &[usize] = if changes % 2 == 0 { &[2, 3] } else { &[0, 1, 3] };
        group.select(selected).unwrap();
        changes += 1;
    }
    for client in clients {
        client.join().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for server in servers {
        server.join().unwrap();
    }
    assert!(changes > 100, "only {changes} changes");
}

/// Echoes one byte per connection.
fn serve(socket: Socket, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    socket.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok((connection, _from)) = socket.accept() else {
                thread::yield_now();
                continue;
            };
            connection.set_nonblocking(false).unwrap();
            let mut connection = TcpStream::from(connection);
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            connection.write_all(&byte).unwrap();
        }
    })
}

fn ask(port: u16, times: usize) {
    for _ in 0..times {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_all(b"x").unwrap();
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_group_survives_its_holder() {
    let mut group = Group::open(0, 4).unwrap();
    group.select(&[2]).unwrap();
    let kept: Vec<OwnedFd> = group.fds().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    drop(group);
    let mut group = Group::adopt(kept).unwrap();
    assert_eq!(spread(&group, V4, 50), [0, 0, 50, 0]);
    group.grow(6).unwrap();
    group.select(&[5]).unwrap();
    assert_eq!(spread(&group, V4, 50), [0, 0, 0, 0, 0, 50]);
    let client = connect(&group, V4, Some(Group::probe_source(4)));
    assert_eq!(drain(&group), [0, 0, 0, 0, 1, 0]);
    drop(client);
}

#[test]
fn growing_takes_no_connection_away() {
    let mut group = Group::open(0, 2).unwrap();
    group.select(&[0, 1]).unwrap();
    group.grow(4).unwrap();
    let seen = spread(&group, V4, 200);
    assert_eq!((seen[0] + seen[1], seen[2] + seen[3]), (200, 0));
}

#[test]
fn what_is_no_group_is_refused() {
    let not_listening = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert!(matches!(Group::adopt(vec![not_listening.into()]), Err(ListenError::Foreign)));
    assert!(matches!(Group::adopt(Vec::new()), Err(ListenError::Foreign)));
    let mut two_ports: Vec<OwnedFd> = Vec::new();
    for _ in 0..2 {
        two_ports.push(open(0).unwrap().into());
    }
    assert!(matches!(Group::adopt(two_ports), Err(ListenError::Foreign)));
    let mut group = Group::open(0, 2).unwrap();
    assert!(matches!(group.select(&[2]), Err(ListenError::NoSuchSocket { index: 2, sockets: 2 })));
    assert!(matches!(group.grow(2_000), Err(ListenError::TooMany { asked: 2_000 })));
}

#[test]
fn a_taken_port_names_who_took_it() {
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    check_in_use(other.local_addr().unwrap().port());
    // The kernel would let us join this one.
    let group = Group::open(0, 1).unwrap();
    check_in_use(group.port());
}

#[track_caller]
fn check_in_use(port: u16) {
    let error = Group::open(port, 1).unwrap_err();
    let me = std::process::id();
    assert!(
        matches!(&error, ListenError::InUse { holder, .. } if holder.contains(&format!("pid {me}"))),
        "{error}"
    );
}

#[test]
fn needs_no_privilege() {
    // uid 65534 on this thread alone: the raw system calls change one thread, not the process.
    thread::spawn(|| {
        if rustix::process::getuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_uid(nobody).unwrap();
        }
        assert!(!rustix::process::geteuid().is_root());
        let mut group = Group::open(0, 4).unwrap();
        group.select(&[1]).unwrap();
        assert_eq!(spread(&group, V4, 100), [0, 100, 0, 0]);
        let client = connect(&group, V4, Some(Group::probe_source(3)));
        assert_eq!(drain(&group), [0, 0, 0, 1]);
        drop(client);
    })
    .join()
    .unwrap();
}
