//! What lets workers share a port is about them and their port, and nobody else.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use rustix::net::sockopt;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::site::{Rung, Server, Site, all_answer};
use crate::test::{serving_port, wait_for};

/// Opens a port as somebody who would share it.
fn intrude(host: IpAddr, port: u16) -> io::Result<Socket> {
    let address = SocketAddr::new(host, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(16)?;
    Ok(socket)
}

#[track_caller]
fn touches_nobody_else(rung: Rung) {
    let (other, elsewhere) = (serving_port(), serving_port());
    let more = json!({ "env": { "NOTES": "notes", "OTHER": other.to_string() } });
    let Some(site) = Site::staged(Server::Neighbour, rung, 2, more) else { return };
    all_answer(&site, 2);

    // within the app: another port can be had once, as ever
    let notes = wait_for("both to have tried the other port", || {
        let notes = site.home.read("notes");
        let mut lines: Vec<String> = notes.lines().map(str::to_owned).collect();
        lines.sort();
        (lines.len() == 2).then_some(lines)
    });
    assert_eq!(notes, ["0 EADDRINUSE", "0 bound"]);

    // outside: the same
    let first = TcpListener::bind(("127.0.0.1", elsewhere)).unwrap();
    assert!(!sockopt::socket_reuseport(&first).unwrap());
    let second = TcpListener::bind(("127.0.0.1", elsewhere));
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    // what has the number alone in common with the port
    UdpSocket::bind(("127.0.0.1", site.port)).unwrap();
}

#[test]
fn nobody_else_is_touched() {
    touches_nobody_else(Rung::Ebpf);
}

#[test]
fn nobody_else_is_touched_by_trap() {
    touches_nobody_else(Rung::Trap);
}

/// Whoever is not a worker cannot take a part of the connections, even if it asks as one who
/// would share.
#[test]
fn strangers_are_kept_off_the_port() {
    let Some(site) = Site::staged(Server::Asyncio, Rung::Ebpf, 2, json!({})) else { return };
    let port = site.port;
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    for host in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
        let error = intrude(host.parse().unwrap(), port).expect_err(host);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{host}: {error}");
    }
    all_answer(&site, 2);
    // once nobody serves it, it is a port as any other
    site.home.ok(["delete", "web"]);
    wait_for("the port to be free", || intrude(Ipv4Addr::LOCALHOST.into(), port).ok());
}
