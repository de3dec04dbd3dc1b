//! The example that `bunpilot demo` runs: a small HTTP/1.1 server on an inherited socket.
//!
//! It does what any server under bunpilot may do, and nothing more: takes its listening socket
//! from `LISTEN_FDS`, says `READY=1`, and on SIGTERM stops accepting, finishes what it has begun
//! and exits with 0.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixDatagram, UnixStream},
    process, thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::SIGTERM;

use crate::{
    cli::failure::{Failure, Outcome},
    platform::sys::take_inherited,
};

/// The first descriptor of `LISTEN_FDS`, see `sd_listen_fds(3)`.
const LISTEN_FD: i32 = 3;

/// Requests served at once.
const THREADS: usize = 4;

/// Longest request head.
const HEAD_MAX: usize = 8 << 10;

/// Longest wait for a client to send or take its bytes.
const CLIENT_MAX: Duration = Duration::from_secs(5);

/// Serves until SIGTERM.
pub(crate) fn run() -> Outcome {
    let listener = inherited().map_err(Failure::io(
        "take the listening socket from descriptor 3; `bunpilot demo` runs this server",
    ))?;
    let (bell, alarm) = UnixStream::pair().map_err(Failure::io("open a socket pair"))?;
    signal_hook::low_level::pipe::register(SIGTERM, alarm)
        .map_err(Failure::io("watch for SIGTERM"))?;
    ready().map_err(Failure::io("write to `NOTIFY_SOCKET`"))?;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| serve(&listener, &bell));
        }
    });
    Ok(())
}

fn inherited() -> io::Result<TcpListener> {
    let given = env::var("LISTEN_FDS").is_ok_and(|it| it.parse::<u32>().is_ok_and(|it| it > 0));
    if !given {
        return Err(io::Error::new(io::ErrorKind::NotFound, "`LISTEN_FDS` is not set"));
    }
    let listener = TcpListener::from(take_inherited(LISTEN_FD)?);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn ready() -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1", path)?;
    Ok(())
}

/// Serves one connection after the other until the bell rings.
fn serve(listener: &TcpListener, bell: &UnixStream) {
    loop {
        let mut watched = [PollFd::new(listener, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        let woken = poll(&mut watched, None);
        let [_, bell] = watched;
        if bell.revents().contains(PollFlags::IN) {
            return;
        }
        // Another thread may have been faster.
        if let (Ok(_), Ok((client, _))) = (woken, listener.accept()) {
            let _client_gone = answer(client);
        }
    }
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(CLIENT_MAX))?;
    client.set_write_timeout(Some(CLIENT_MAX))?;
    let head = head(&mut client)?;
    let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let body = match path {
        b"/health" => "ok\n".to_owned(),
        _ => format!("hello from process {}\n", process::id()),
    };
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    client.write_all(reply.as_bytes())
}

/// Reads up to the empty line.
fn head(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut block = [0; 1024];
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        let read = client.read(&mut block)?;
        if read == 0 || head.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(block.get(..read).unwrap_or_default());
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_leaves_when_the_bell_rings() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (bell, mut alarm) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || serve(&listener, &bell));
        for (path, expected) in [("/health", "ok"), ("/", "hello from process")] {
            let mut client = TcpStream::connect(address).unwrap();
            write!(client, "GET {path} HTTP/1.1\r\n").unwrap();
            write!(client, "Host: x\r\n\r\n").unwrap();
            let mut reply = String::new();
            client.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
            assert!(reply.contains(expected), "{reply}");
        }
        alarm.write_all(b"x").unwrap();
        server.join().unwrap();
    }
}
