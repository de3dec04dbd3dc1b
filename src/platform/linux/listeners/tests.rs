//! Sockets that workers asked for, on loopback, with real connections.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use rustix::net::Shutdown;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::config::{Base, Trust, resolve};

const APP: AppId = AppId(3);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn worker(index: u16, generation: u32) -> WorkerId {
    WorkerId::new(APP, index, generation)
}

fn spec(port: u16, clustering: &Value) -> AppSpec {
    let raw = json!({
        "name": "web", "script": "/bin/true", "port": port, "instances": 3,
        "clustering": clustering,
    });
    let raw = serde_json::from_value(raw).unwrap();
    resolve::app(&raw, &Base::default(), &Trust).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port()
}

/// As the guard opens one.
fn socket(address: IpAddr, port: u16) -> OwnedFd {
    let domain = Domain::for_address((address, port).into());
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from((address, port)).into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

/// An app of which workers `0`, `1`, … are to be trapped.
struct Stage {
    listeners: Listeners,
    spec: AppSpec,
    /// What the guard holds.
    held: BTreeMap<String, OwnedFd>,
}

impl Stage {
    fn new(clustering: &Value) -> Self {
        let spec = spec(free_port(), clustering);
        let mut listeners = Listeners::default();
        listeners.share(Sharing::Trapped);
        assert!(listeners.open(APP, &spec).unwrap().is_empty());
        Self { listeners, spec, held: BTreeMap::new() }
    }

    /// The worker is spawned and opens its port: what it holds then.
    fn spawn(&mut self, worker: WorkerId, lane: Lane, address: IpAddr) -> OwnedFd {
        let gift = self.listeners.expect(worker, lane, &self.spec).unwrap();
        let Gift::Trapped(Trap { port, key }) = gift else { panic!("{gift:?}") };
        let number = self.held.len();
        let fd = socket(address, port);
        self.held.insert(format!("{key}/{number}"), fd.try_clone().unwrap());
        let copy = fd.try_clone().unwrap();
        let took = self.listeners.took(worker, &format!("{key}/{number}"), copy);
        assert_eq!(took, Took::New);
        fd
    }

    /// Another daemon takes over; `alive` are the workers, with the numbers of their sockets.
    fn succeed(&mut self, alive: &[(WorkerId, Lane)]) {
        let mut held: BTreeMap<String, OwnedFd> =
            self.held.iter().map(|(key, fd)| (key.clone(), fd.try_clone().unwrap())).collect();
        self.listeners = Listeners::default();
        self.listeners.share(Sharing::Trapped);
        let needless = self.listeners.adopt_all(&BTreeSet::from([APP]), &mut held, |_, _| {});
        assert!(needless.is_empty() && held.is_empty());
        self.listeners.open(APP, &self.spec).unwrap();
        for &(worker, lane) in alive {
            let first = format!("trap/{}/{}/", APP.0, place(worker.instance, lane));
            let keys = self.held.keys().filter(|key| key.starts_with(&first));
            let listens: Vec<_> = keys.cloned().collect();
            self.listeners.resume(worker, lane, &self.spec, Some(&listens)).unwrap();
        }
    }

    /// How many of `count` clients each of `sockets` gets.
    #[track_caller]
    fn spread(&self, count: usize, sockets: &[&OwnedFd]) -> Vec<usize> {
        let port = self.spec.port.unwrap().get();
        let clients = (0..count).map(|_| TcpStream::connect((HERE, port)).unwrap());
        let clients: Vec<_> = clients.collect();
        let accepted = |socket: &&OwnedFd| {
            let listener = TcpListener::from(socket.try_clone().unwrap());
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok()).count()
        };
        let counts = sockets.iter().map(accepted).collect();
        drop(clients);
        counts
    }
}

fn auto() -> Value {
    json!({ "enabled": true, "strategy": "auto" })
}

#[test]
fn the_order_of_listening_is_the_order_of_the_kernel() {
    let mut stage = Stage::new(&auto());
    // not the order of the places, and not that of the keys as text
    let last = stage.spawn(worker(2, 1), Lane::A, HERE);
    let first = stage.spawn(worker(0, 1), Lane::A, HERE);
    let middle = stage.spawn(worker(1, 1), Lane::A, HERE);
    let all = [&first, &middle, &last];
    for index in [0, 1, 2] {
        stage.listeners.admit(worker(index, 1));
        let mut expected = vec![0; 3];
        expected[usize::from(index)] = 20;
        assert_eq!(stage.spread(20, &all), expected);
        stage.listeners.retire(worker(index, 1));
    }
    // a successor finds it the same
    let alive = [0, 1, 2].map(|index| (worker(index, 1), Lane::A));
    stage.succeed(&alive);
    let next = stage.spawn(worker(1, 2), Lane::B, HERE);
    stage.listeners.admit(worker(1, 2));
    assert_eq!(stage.spread(20, &[&first, &middle, &last, &next]), [0, 0, 0, 20]);
    stage.listeners.admit(worker(2, 1));
    stage.listeners.retire(worker(1, 2));
    assert!(stage.listeners.is_retired(worker(1, 2)) && !stage.listeners.is_retired(worker(2, 1)));
    assert_eq!(stage.spread(20, &[&first, &middle, &last, &next]), [0, 0, 20, 0]);
    // each can still be reached alone
    let numbers = [worker(2, 1), worker(0, 1), worker(1, 1), worker(1, 2)];
    let numbers = numbers.map(|worker| stage.listeners.number(worker));
    assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3)]);
    stage.listeners.close(APP);
}

#[test]
fn weights_are_kept() {
    let clustering = json!({ "enabled": true, "strategy": "auto", "weights": [6, 1, 1] });
    let mut stage = Stage::new(&clustering);
    let sockets = [0, 1, 2].map(|index| stage.spawn(worker(index, 1), Lane::A, HERE));
    for index in 0..3 {
        stage.listeners.admit(worker(index, 1));
    }
    let mut sum = [0; 3];
    for _ in 0..20 {
        for (sum, new) in sum.iter_mut().zip(stage.spread(100, &sockets.each_ref())) {
            *sum += new;
        }
    }
    // 1,500 and 250 expected; the standard deviations are 19 and 15
    assert!((1_380..1_620).contains(&sum[0]) && sum[1].abs_diff(sum[2]) < 130, "{sum:?}");
    stage.listeners.close(APP);
}

#[test]
fn an_address_nobody_listens_on_any_more_is_closed() {
    let mut stage = Stage::new(&auto());
    let port = stage.spec.port.unwrap().get();
    let other = IpAddr::from([127, 0, 0, 2]);
    let old = stage.spawn(worker(0, 1), Lane::A, other);
    stage.listeners.admit(worker(0, 1));
    // alone it would be waited for: a crash
    stage.listeners.forget(worker(0, 1));
    assert!(stage.listeners.take_needless().is_empty());
    TcpStream::connect((other, port)).unwrap();
    let new = stage.spawn(worker(0, 2), Lane::B, HERE);
    assert!(stage.listeners.take_needless().is_empty());
    stage.listeners.admit(worker(0, 2));
    assert_eq!(stage.listeners.take_needless(), ["trap/3/0/0"]);
    TcpStream::connect((other, port)).unwrap_err();
    assert_eq!(stage.spread(3, &[&new]), [3]);
    drop(old);
    // also when all is over, whoever still has the socket
    assert_eq!(stage.listeners.close(APP), ["trap/3/1/1"]);
    TcpStream::connect((HERE, port)).unwrap_err();
    drop(new);
}

/// Who comes while the only worker leaves is not given to it, and waits for the next one.
#[test]
fn the_last_one_to_leave_shuts_the_door() {
    let mut stage = Stage::new(&auto());
    let at = SocketAddr::from((HERE, stage.spec.port.unwrap().get()));
    let socket = stage.spawn(worker(0, 1), Lane::A, HERE);
    stage.listeners.admit(worker(0, 1));
    assert_eq!(stage.spread(3, &[&socket]), [3]);
    stage.listeners.retire(worker(0, 1));
    assert!(stage.listeners.is_retired(worker(0, 1)));
    TcpStream::connect_timeout(&at, Duration::from_millis(200)).unwrap_err();
    // a daemon that takes over does not know who leaves
    stage.succeed(&[(worker(0, 1), Lane::A)]);
    assert_eq!(stage.spread(3, &[&socket]), [3]);
    stage.listeners.admit(worker(0, 1));
    stage.listeners.retire(worker(0, 1));
    TcpStream::connect_timeout(&at, Duration::from_millis(200)).unwrap_err();
    stage.listeners.forget(worker(0, 1));
    assert_eq!(stage.spread(3, &[&socket]), [3]);
    stage.listeners.close(APP);
}

#[test]
fn a_socket_its_worker_shut_down_is_counted_no_more() {
    let mut stage = Stage::new(&auto());
    let sockets = [0, 1, 2].map(|index| stage.spawn(worker(index, 1), Lane::A, HERE));
    rustix::net::shutdown(&sockets[0], Shutdown::Both).unwrap();
    stage.listeners.forget(worker(0, 1));
    // the kernel has filled the gap with the last one
    for (index, expected) in [(1, [10, 0]), (2, [0, 10])] {
        stage.listeners.admit(worker(index, 1));
        assert_eq!(stage.spread(10, &[&sockets[1], &sockets[2]]), expected);
        stage.listeners.retire(worker(index, 1));
    }
    let again = stage.spawn(worker(0, 2), Lane::A, HERE);
    stage.listeners.admit(worker(0, 2));
    assert_eq!(stage.spread(10, &[&sockets[1], &sockets[2], &again]), [0, 0, 10]);
    stage.listeners.close(APP);
}

#[test]
fn a_port_somebody_else_has_is_refused() {
    let stranger = TcpListener::bind((HERE, 0)).unwrap();
    let spec = spec(stranger.local_addr().unwrap().port(), &auto());
    let mut listeners = Listeners::default();
    listeners.share(Sharing::Trapped);
    let why = listeners.open(APP, &spec).unwrap_err();
    assert!(why.contains("in use by"), "{why}");
    assert_eq!(listeners.expect(worker(0, 1), Lane::A, &spec).unwrap_err(), why);
    // unless it may be a worker of ours whose guard and daemon died
    listeners.close(APP);
    listeners.settled(APP);
    listeners.open(APP, &spec).unwrap();
    // nobody asks for what nobody shares
    listeners.share(Sharing::Own);
    assert_eq!(listeners.expect(worker(0, 1), Lane::A, &spec), Ok(Gift::None));
}

#[test]
fn a_socket_of_a_closed_app_is_let_go() {
    let mut stage = Stage::new(&auto());
    stage.listeners.expect(worker(0, 1), Lane::A, &stage.spec).unwrap();
    stage.listeners.close(APP);
    let port = stage.spec.port.unwrap().get();
    let late = socket(HERE, port);
    let copy = late.try_clone().unwrap();
    assert_eq!(stage.listeners.took(worker(0, 1), "trap/3/0/0", copy), Took::Needless);
    TcpStream::connect((HERE, port)).unwrap_err();
    drop(late);
}

#[test]
fn inherited_and_trapped_sockets_of_one_address_are_one_group() {
    let everywhere = Place::ours(0).address.ip();
    let mut stage = Stage::new(&auto());
    let trapped = stage.spawn(worker(0, 1), Lane::A, everywhere);
    stage.listeners.admit(worker(0, 1));
    let port = stage.spec.port.unwrap().get();
    let inherit = spec(port, &json!({ "enabled": true, "strategy": "inherit" }));
    let kept = stage.listeners.open(APP, &inherit).unwrap();
    assert_eq!(kept.len(), 6);
    let gift = stage.listeners.expect(worker(0, 2), Lane::B, &inherit).unwrap();
    assert_eq!(gift, Gift::Inherited("listen/3/1".to_owned()));
    let (_, inherited) = kept.iter().find(|(key, _)| key == "listen/3/1").unwrap();
    assert_eq!(stage.spread(10, &[&trapped, inherited]), [10, 0]);
    stage.listeners.admit(worker(0, 2));
    stage.listeners.retire(worker(0, 1));
    assert_eq!(stage.spread(10, &[&trapped, inherited]), [0, 10]);
    stage.listeners.close(APP);
}
