//! Workers that bind one port and know nothing of each other.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use bunpilot::{
    domain::{Pid, Signal},
    guard::{
        Grip,
        wire::{Order, Role, Spawn, Trap},
    },
    platform::sys::kill,
};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, SockRef, Socket, Type};

use crate::house::{House, Started, alive, read_all, until};

/// Binds what the words say, one after the other, tells what came of it and stays.
///
/// `tcp=<address>`; `dressed=<address>`, with all that a listener hands on; `v6=<address>`, which
/// leaves IPv4 to others; `udp=<address>`; `unix=<path>`; `after=<path>` waits for the file.
pub(crate) fn be_server(words: &[String]) -> ! {
    let mut kept = Vec::new();
    for word in words {
        let (what, at) = word.split_once('=').unwrap();
        let said = match what {
            "tcp" | "dressed" | "v6" => listen(what, at.parse().unwrap(), &mut kept),
            "udp" => bind(Type::DGRAM, &at.parse::<SocketAddr>().unwrap().into(), &mut kept),
            "unix" => bind(Type::STREAM, &socket2::SockAddr::unix(at).unwrap(), &mut kept),
            "after" => {
                until("the file", || Path::new(at).exists());
                continue;
            }
            other => panic!("{other}"),
        };
        println!("{what} {}", said.unwrap_or_else(|error| format!("{:?}", error.kind())));
    }
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn listen(what: &str, at: SocketAddr, kept: &mut Vec<Socket>) -> std::io::Result<String> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(what == "v6")?;
    }
    if what == "dressed" {
        socket.set_nonblocking(true)?;
        socket.set_keepalive(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_recv_buffer_size(20_000)?;
        socket.set_linger(Some(Duration::from_secs(3)))?;
        fcntl_setfd(&socket, FdFlags::empty())?;
    }
    socket.bind(&at.into())?;
    socket.listen(128)?;
    let inode = rustix::fs::fstat(&socket)?.st_ino;
    let looks = looks(socket.as_fd());
    let closes = fcntl_getfd(&socket)?.contains(FdFlags::CLOEXEC);
    kept.push(socket);
    Ok(format!("{inode} {looks} closes={closes}"))
}

fn looks(socket: std::os::fd::BorrowedFd<'_>) -> String {
    let it = SockRef::from(&socket);
    format!(
        "nonblocking={} keepalive={} nodelay={} receives={} lingers={:?}",
        it.nonblocking().unwrap(),
        it.keepalive().unwrap(),
        it.tcp_nodelay().unwrap(),
        it.recv_buffer_size().unwrap(),
        it.linger().unwrap(),
    )
}

fn bind(
    kind: Type,
    address: &socket2::SockAddr,
    kept: &mut Vec<Socket>,
) -> std::io::Result<String> {
    let socket = Socket::new(Domain::from(i32::from(address.family())), kind, None)?;
    socket.bind(address)?;
    let port = socket.local_addr()?.as_socket().map_or(0, |it| it.port());
    kept.push(socket);
    Ok(port.to_string())
}

const BARE: &str = "nonblocking=false keepalive=false nodelay=false receives=131072 lingers=None";

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A worker in the place `place` of app 1 that binds `words`.
fn server(place: u16, life: u32, port: u16, words: &[String]) -> Spawn {
    let exe = std::env::current_exe().unwrap().into_os_string();
    let mut spawn = House::spawn_order(&format!("1/{place}#{life}"), "");
    spawn.argv = vec![exe, "as-server".into()];
    spawn.argv.extend(words.iter().map(Into::into));
    spawn.trap = Some(Trap { port, key: format!("trap/1/{place}") });
    spawn
}

impl Started {
    /// What it says after `what`.
    #[track_caller]
    fn says(&self, what: &str) -> String {
        let line = self.line();
        line.strip_prefix(what).unwrap_or_else(|| panic!("{line}")).trim().to_owned()
    }
}

fn inode(socket: &OwnedFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

fn local(socket: &OwnedFd) -> SocketAddr {
    SockRef::from(socket).local_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn unmodified_servers_share_a_port() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut sockets = Vec::new();
    for place in 0..3 {
        let worker = house.start(server(place, 1, port, &[format!("tcp={at}")]));
        let (key, socket) = house.took(&worker.life.label);
        assert_eq!(key, format!("trap/1/{place}/{place}"));
        assert_eq!(worker.says("tcp"), format!("{} {BARE} closes=true", inode(&socket)));
        // what it asked for and no more
        assert_eq!(local(&socket), at);
        sockets.push(socket);
    }
    // it is the worker's as well as ours: who connects waits there
    let clients = [(); 30].map(|()| TcpStream::connect(at).unwrap());
    let waiting = |socket: &OwnedFd| {
        let listener = TcpListener::from(socket.try_clone().unwrap());
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    };
    let counts: Vec<_> = sockets.iter().map(waiting).collect();
    assert_eq!(counts.iter().sum::<usize>(), clients.len(), "{counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    for place in 0..3 {
        house.bury(&format!("1/{place}#1"));
    }
}

pub(crate) fn the_next_life_listens_on_the_same_socket() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let words = [format!("tcp=127.0.0.1:{port}")];
    house.start(server(0, 1, port, &words));
    let (key, socket) = house.took("1/0#1");
    house.bury("1/0#1");
    // nobody is there, and yet nobody is refused
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let dressed = [format!("dressed=127.0.0.1:{port}")];
    let worker = house.start(server(0, 2, port, &dressed));
    let (again, same) = house.took("1/0#2");
    assert_eq!((again, inode(&same)), (key, inode(&socket)));
    let expected = "nonblocking=true keepalive=true nodelay=true receives=40000 lingers=Some(3s)";
    assert_eq!(worker.says("dressed"), format!("{} {expected} closes=false", inode(&same)));
    let (mut accepted, _) = TcpListener::from(same).accept().unwrap();
    accepted.write_all(b"at last").unwrap();
    drop(accepted);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "at last");
    house.bury("1/0#2");
    // what the one before wanted is not what the next one gets
    let worker = house.start(server(0, 3, port, &words));
    let (_, same) = house.took("1/0#3");
    assert_eq!(worker.says("tcp"), format!("{} {BARE} closes=true", inode(&same)));
    house.bury("1/0#3");
}

pub(crate) fn each_address_has_a_socket_of_its_own() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let words = [format!("tcp=0.0.0.0:{port}"), format!("v6=[::]:{port}")];
    for place in 0..2 {
        let worker = house.start(server(place, 1, port, &words));
        for (number, (word, at)) in [("tcp", "0.0.0.0"), ("v6", "[::]")].iter().enumerate() {
            let (key, socket) = house.took(&worker.life.label);
            assert_eq!(key, format!("trap/1/{place}/{}", usize::from(place) * 2 + number));
            assert_eq!(local(&socket).to_string(), format!("{at}:{port}"));
            assert!(worker.says(word).starts_with(&inode(&socket).to_string()));
            assert_eq!(SockRef::from(&socket).only_v6().unwrap_or(false), *word == "v6");
        }
        house.bury(&worker.life.label);
    }
    // a place that listens elsewhere now has another socket for it
    let worker = house.start(server(0, 2, port, &[format!("tcp=127.0.0.2:{port}")]));
    let (key, socket) = house.took("1/0#2");
    assert_eq!((&*key, local(&socket).port()), ("trap/1/0/4", port));
    assert!(worker.says("tcp").starts_with(&inode(&socket).to_string()));
    house.bury("1/0#2");
}

pub(crate) fn what_is_not_the_port_is_its_own() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let other = free_port();
    let path = house.home.0.join("s");
    let words = [
        format!("tcp=127.0.0.1:{other}"),
        "tcp=127.0.0.1:0".to_owned(),
        format!("udp=127.0.0.1:{port}"),
        format!("unix={}", path.display()),
        format!("tcp=127.0.0.1:{other}"),
    ];
    let worker = house.start(server(0, 1, port, &words));
    assert!(worker.says("tcp").ends_with(&format!("{BARE} closes=true")));
    assert!(worker.says("tcp").ends_with(&format!("{BARE} closes=true")));
    assert_eq!(worker.says("udp"), port.to_string());
    assert_eq!(worker.says("unix"), "0");
    // also its mistakes
    assert_eq!(worker.says("tcp"), "AddrInUse");
    assert!(house.inventory().1.is_empty(), "nothing is held for it");
    house.bury("1/0#1");
    // somebody else's port stays somebody else's
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let worker = house.start(server(0, 2, port, &[format!("tcp=127.0.0.1:{port}")]));
    assert_eq!(worker.says("tcp"), "AddrInUse");
    drop(stranger);
    house.bury("1/0#2");
    house.nothing_more();
}

pub(crate) fn a_new_guard_answers_as_well() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let go = house.home.0.join("go");
    let at = format!("tcp=127.0.0.1:{port}");
    let words =
        [at.clone(), format!("after={}", go.display()), format!("tcp=127.0.0.2:{port}"), at];
    let worker = house.start(server(0, 1, port, &words));
    let (key, socket) = house.took("1/0#1");
    assert!(worker.roles.contains(&Role::Trap), "{:?}", worker.roles);
    kill(house.guard, Signal::KILL).unwrap();
    until("the guard is gone", || !alive(house.guard.0));
    house.new_guard();
    let out = worker.fds[worker.roles.iter().position(|it| *it == Role::Out).unwrap()]
        .try_clone()
        .unwrap();
    let mut life = worker.life.clone();
    life.listens = vec![key.clone()];
    house.send(&Order::Hold { key: key.clone() }, vec![socket.try_clone().unwrap()]);
    house.send(&Order::Adopt(life, worker.roles), worker.fds);
    let (lives, held, _) = house.inventory();
    assert_eq!(lives[0].life.listens, std::slice::from_ref(&key));
    assert_eq!(held.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&key]);
    drop((lives, held));
    std::fs::write(&go, "").unwrap();
    let (other, _) = house.took("1/0#1");
    assert_eq!(other, "trap/1/0/1");
    let (again, same) = house.took("1/0#1");
    assert_eq!((again, inode(&same)), (key, inode(&socket)));
    house.signal("1/0#1", Signal::KILL, bunpilot::world::Reach::Tree);
    let said = read_all(out);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.lines().all(|line| line.ends_with(BARE_END)), "{said}");
    house.bury("1/0#1");
}

const BARE_END: &str = "lingers=None closes=true";

pub(crate) fn a_trap_that_cannot_be_set_is_said() {
    let (mut house, port) = (House::new(Grip::Best), free_port());
    let words = [format!("tcp=127.0.0.1:{port}")];
    let mut spawn = server(0, 1, port, &words);
    // so few that there is no room for what asks the guard
    spawn.limits = vec![("nofile".into(), Some(3))];
    let worker = house.start(spawn);
    assert_eq!(worker.life.trap, None);
    assert!(!worker.roles.contains(&Role::Trap));
    assert!(house.untrapped("1/0#1").contains("seccomp is refused"));
    house.bury("1/0#1");
    let worker = house.start(server(0, 2, port, &words));
    assert_eq!(worker.life.trap.as_ref().map(|trap| trap.port), Some(port));
    house.took("1/0#2");
    assert!(alive(Pid(worker.life.pid.0).0));
    house.bury("1/0#2");
}
