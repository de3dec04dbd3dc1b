//! One client: one question at a time, over a connection it may keep.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait for a connection, and for each part of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Longest answer.
const BYTES_MAX: usize = 4096;

/// What every server answers after its pid and a blank, sixteen times.
const PATTERN: &[u8] = b"0123456789abcdef";
const PATTERNS: usize = 16;

/// How a question can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bench) enum Failed {
    /// Nobody listens.
    Refused,
    /// The connection was reset before an answer.
    Reset,
    /// The connection was closed before an answer.
    Closed,
    /// The answer was never completed.
    Cut,
    /// There was none in time.
    Silent,
    /// It was another answer.
    Wrong,
    /// The client itself failed.
    Own(io::ErrorKind),
}

impl Failed {
    pub(in crate::bench) fn word(self) -> String {
        match self {
            Self::Refused => "refused".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Cut => "cut".to_owned(),
            Self::Silent => "silent".to_owned(),
            Self::Wrong => "wrong".to_owned(),
            Self::Own(kind) => kind.to_string(),
        }
    }

    /// What an error means, if `got` bytes of the answer had come.
    fn of(error: &io::Error, got: usize) -> Self {
        use io::ErrorKind as Kind;
        let kind = error.kind();
        if kind == Kind::ConnectionRefused {
            Self::Refused
        } else if matches!(kind, Kind::TimedOut | Kind::WouldBlock) {
            Self::Silent
        } else if !matches!(
            kind,
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted
        ) {
            Self::Own(kind)
        } else if got == 0 {
            Self::Reset
        } else {
            Self::Cut
        }
    }
}

/// Whether a client keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Keep {
    Yes,
    No,
}

/// Asks, and knows what a right answer is.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    keep: Keep,
    kept: Option<TcpStream>,
    pub(super) retried: u32,
}

/// An answer that is as it must be.
struct Right {
    pid: u32,
    /// The server will close the connection.
    last: bool,
}

impl Client {
    pub(super) fn new(port: u16, keep: Keep) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), keep, kept: None, retried: 0 }
    }

    /// Asks once, and once more if the connection was used before and closed before any answer.
    /// Returns the pid of who answered.
    pub(super) fn ask(&mut self) -> Result<u32, Failed> {
        if let Some(stream) = self.kept.take() {
            match self.ask_on(stream) {
                Err(Failed::Closed | Failed::Reset) => self.retried += 1,
                answer => return answer,
            }
        }
        let opened = TcpStream::connect_timeout(&self.address, ANSWER_MAX).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        self.ask_on(opened.map_err(|it| Failed::of(&it, 0))?)
    }

    fn ask_on(&mut self, mut stream: TcpStream) -> Result<u32, Failed> {
        let question: &[u8] = match self.keep {
            Keep::Yes => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Keep::No => b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        };
        stream.write_all(question).map_err(|it| Failed::of(&it, 0))?;
        let Right { pid, last } = answer(&mut stream)?;
        if self.keep == Keep::Yes && !last {
            self.kept = Some(stream);
        }
        Ok(pid)
    }
}

/// Reads one answer to its end.
fn answer(stream: &mut TcpStream) -> Result<Right, Failed> {
    let mut bytes = [0; BYTES_MAX];
    let mut length = 0;
    loop {
        let rest = bytes.get_mut(length..).filter(|it| !it.is_empty()).ok_or(Failed::Wrong)?;
        match stream.read(rest) {
            Ok(0) if length == 0 => return Err(Failed::Closed),
            Ok(0) => return Err(Failed::Cut),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failed::of(&error, length)),
        }
        if let Some(right) = bytes.get(..length).and_then(parsed) {
            return right;
        }
    }
}

/// Judges an answer; `None` as long as it may become a right one.
fn parsed(bytes: &[u8]) -> Option<Result<Right, Failed>> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 4..)?);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = |name: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(it, _)| *it == name);
        named.next().map(|(_, value)| value.trim().to_owned())
    };
    let declared: Option<usize> = value("content-length").and_then(|it| it.parse().ok());
    let Some(declared) = declared.filter(|_| head.starts_with("http/1.1 200")) else {
        return Some(Err(Failed::Wrong));
    };
    if body.len() < declared {
        return None;
    }
    let last = value("connection").is_some_and(|it| it == "close");
    let right = pid(body).filter(|_| body.len() == declared).map(|pid| Right { pid, last });
    Some(right.ok_or(Failed::Wrong))
}

/// The pid in a body that is right in every byte.
fn pid(body: &[u8]) -> Option<u32> {
    let blank = body.iter().position(|it| *it == b' ')?;
    let (pid, pattern) = (body.get(..blank)?, body.get(blank + 1..)?);
    let right = pattern.len() == PATTERN.len() * PATTERNS
        && pattern.chunks(PATTERN.len()).all(|it| it == PATTERN);
    std::str::from_utf8(pid).ok()?.parse().ok().filter(|_| right)
}

#[cfg(test)]
pub(super) mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Serves each connection, by its number, with replies: one for each question, then a close.
    pub(in super::super) fn serve(replies: impl Fn(usize) -> Vec<String> + Send + 'static) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                for reply in replies(number) {
                    drop(stream.read(&mut [0; 512]));
                    drop(stream.write_all(reply.as_bytes()));
                }
            }
        });
        port
    }

    pub(in super::super) fn good(pid: u32) -> String {
        let body = format!("{pid} {}", "0123456789abcdef".repeat(PATTERNS));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[track_caller]
    fn check(reply: &str, expected: Result<u32, Failed>) {
        let reply = reply.to_owned();
        let port = serve(move |_| vec![reply.clone()]);
        assert_eq!(Client::new(port, Keep::No).ask(), expected);
    }

    #[test]
    fn every_byte_counts() {
        check(&good(12), Ok(12));
        check(&good(12).replacen("abc", "abd", 1), Err(Failed::Wrong));
        check(&good(12).replacen("200", "500", 1), Err(Failed::Wrong));
        check(&format!("{}!", good(12)), Err(Failed::Wrong));
        check(good(12).strip_suffix('f').unwrap(), Err(Failed::Cut));
        check("HTTP/1.1 2", Err(Failed::Cut));
        check("", Err(Failed::Closed));
    }

    #[test]
    fn a_closed_connection_is_tried_again_if_it_was_used_before() {
        let port = serve(|number| if number == 0 { vec![good(1)] } else { vec![good(2), good(3)] });
        let mut client = Client::new(port, Keep::Yes);
        assert_eq!([client.ask(), client.ask(), client.ask()], [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(client.retried, 1);
    }

    #[test]
    fn a_new_connection_is_tried_once() {
        let port = serve(|number| if number == 0 { vec![good(1)] } else { Vec::new() });
        let mut client = Client::new(port, Keep::Yes);
        assert_eq!(client.ask(), Ok(1));
        assert!(matches!(client.ask(), Err(Failed::Closed | Failed::Reset)));
        assert_eq!(client.retried, 1);
    }

    #[test]
    fn an_answer_cut_short_is_not_tried_again() {
        let cut = good(2).replace("f0", "");
        let port = serve(move |_| vec![good(1), cut.clone()]);
        let mut client = Client::new(port, Keep::Yes);
        assert_eq!([client.ask(), client.ask()], [Ok(1), Err(Failed::Cut)]);
        assert_eq!(client.retried, 0);
    }

    #[test]
    fn nobody_listening_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(Client::new(port, Keep::No).ask(), Err(Failed::Refused));
    }
}
