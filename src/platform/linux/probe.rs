//! Asks one worker over HTTP whether it is well.
//!
//! Decides what an answer means, never what to do about it. A probe of a shared port reaches one
//! worker by the address it comes from, see [`Group::probe_source`](super::selector::Group::probe_source).

use std::{
    error::Error as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
    time,
};

use crate::world::Probe;

/// Bytes of an answer we read; the rest is cut off.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a worker may take to close the connection it was asked to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

const INCOMPLETE: &str = "no whole answer";
const AGENT: &str = concat!("bunpilot/", env!("CARGO_PKG_VERSION"));

/// Whom to ask, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Where to come from; `None`: as the kernel likes.
    pub source: Option<Ipv4Addr>,
    /// Path of the GET request, begins with `/`.
    pub path: String,
    /// Longest wait for the whole answer.
    pub timeout: Duration,
}

/// Sends one GET request and judges the answer.
///
/// Needs a tokio runtime with I/O and time. Leaves no connection in `TIME_WAIT`: the worker is
/// asked to close first, and ours ends by a reset nobody sees. That we cannot open a socket
/// ourselves says nothing about the worker: [`Probe::Unreachable`].
pub async fn probe(target: &Target) -> Probe {
    let socket = match open(target.source) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, port = target.port, "cannot open a socket to probe with");
            return Probe::Unreachable;
        }
    };
    match time::timeout(target.timeout, ask(socket, target)).await {
        Ok(Ok(status)) if status.is_success() => Probe::Healthy,
        Ok(Ok(status)) => Probe::Sick(format!("status {}", status.as_u16())),
        Ok(Err(why)) => Probe::Sick(why),
        Err(_elapsed) => Probe::Sick(format!("no answer within {:?}", target.timeout)),
    }
}

fn open(source: Option<Ipv4Addr>) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_zero_linger()?;
    if let Some(source) = source {
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    Ok(socket)
}

/// The status of the answer, or what went wrong.
async fn ask(socket: TcpSocket, target: &Target) -> Result<StatusCode, String> {
    let request = request(target).map_err(|error| format!("cannot ask for this path: {error}"))?;
    let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target.port))).await;
    let stream = stream.map_err(|error| in_words(&error))?;
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = answer.into_parts();
        swallow(body).await?;
        Ok::<_, String>(head.status)
    };
    tokio::pin!(exchange);
    // Never lets hyper close: see `hang_up`.
    let driving = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
    let status = tokio::select! {
        biased;
        status = &mut exchange => status,
        // The answer may be whole although the connection is not.
        _ended = driving => exchange.await,
    }?;
    hang_up(connection.into_parts().io.into_inner()).await;
    Ok(status)
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::get(&target.path)
        .header(HOST, format!("127.0.0.1:{}", target.port))
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::new())
}

/// Reads the body, up to a bound.
async fn swallow(mut body: Incoming) -> Result<(), String> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= BODY_BYTES_MAX {
            break;
        }
    }
    Ok(())
}

/// Waits for the worker to close its side, so that the reset our close sends is of no
/// consequence; a worker that keeps the connection open learns of our going by that reset.
async fn hang_up(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    let closed = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    // Elapsed or not, we are done.
    time::timeout(CLOSE_TIMEOUT, closed).await.unwrap_or_default();
}

fn broken(error: &hyper::Error) -> String {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => in_words(source),
        None if error.is_parse() => "the answer is not HTTP".to_owned(),
        None => INCOMPLETE.to_owned(),
    }
}

fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        "connection refused".to_owned()
    } else if error.kind() == io::ErrorKind::ConnectionReset {
        "connection reset".to_owned()
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        INCOMPLETE.to_owned()
    } else {
        format!("connection failed: {error}")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;
    use crate::platform::linux::selector::Group;

    fn run(target: &Target) -> Probe {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(probe(target))
    }

    fn target(port: u16) -> Target {
        Target {
            port,
            source: None,
            path: "/health?x=1".to_owned(),
            timeout: Duration::from_secs(10),
        }
    }

    /// A server that gives each of `connections` this answer to its request.
    fn server(connections: usize, answer: &'static [u8]) -> (u16, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let one = |_| {
                let (mut stream, _from) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                stream.write_all(answer).unwrap_or_default();
                String::from_utf8(request).unwrap()
            };
            (0..connections).map(one).collect()
        };
        (port, thread::spawn(serve))
    }

    #[track_caller]
    fn check(answer: &'static [u8], expected: &Probe) {
        let (port, server) = server(1, answer);
        assert_eq!(&run(&target(port)), expected);
        let request = &server.join().unwrap()[0];
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
    }

    fn sick(why: &str) -> Probe {
        Probe::Sick(why.to_owned())
    }

    #[test]
    fn answers_are_judged() {
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", &Probe::Healthy);
        check(b"HTTP/1.0 204 No Content\r\n\r\n", &Probe::Healthy);
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            &Probe::Healthy,
        );
        check(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", &sick("status 500"));
        check(
            b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            &sick("status 302"),
        );
        check(b"SSH-2.0-OpenSSH_9.2\r\n", &sick("the answer is not HTTP"));
    }

    #[test]
    fn half_an_answer_is_none() {
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", &sick("no whole answer"));
        check(b"HTTP/1.1 200 O", &sick("no whole answer"));
        check(b"", &sick("no whole answer"));
    }

    #[test]
    fn nobody_there_and_nobody_answering() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = Target { timeout: Duration::from_millis(50), ..target(port) };
        assert_eq!(run(&silent), sick("no answer within 50ms"));
        drop(listener);
        assert_eq!(run(&target(port)), sick("connection refused"));
    }

    #[test]
    fn an_endless_answer_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _from) = listener.accept().unwrap();
            // An answer that comes before the question is none.
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        assert_eq!(run(&target(port)), Probe::Healthy);
        server.join().unwrap();
    }

    #[test]
    fn a_probe_comes_from_where_it_is_told_and_leaves_nothing_behind() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let (port, server) = server(20, answer);
        let source = Group::probe_source(0x1234);
        for _ in 0..20 {
            let target = Target { source: Some(source), ..target(port) };
            assert_eq!(run(&target), Probe::Healthy);
        }
        server.join().unwrap();
        let left = procfs::net::tcp().unwrap();
        let left = left.iter().filter(|entry| {
            entry.local_address.ip() == source || entry.remote_address.ip() == source
        });
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn one_socket_of_a_group_is_probed() {
        let mut group = Group::open(0, 4).unwrap();
        group.select(&[0]).unwrap();
        let listener = TcpListener::from(group.fds().nth(2).unwrap().try_clone_to_owned().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            from.ip().to_canonical()
        });
        let target = Target { source: Some(Group::probe_source(2)), ..target(group.port()) };
        assert_eq!(run(&target), Probe::Healthy);
        assert_eq!(server.join().unwrap(), Group::probe_source(2));
    }
}
