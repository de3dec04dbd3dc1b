//! Traffic: clients that ask without a pause, and count every way a question can fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{
    http::{Answer, Connection},
    wait_for,
};

/// How clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clients {
    /// A new connection for every question.
    Fresh,
    /// One connection for all, opened again after a failure.
    KeepAlive,
}

/// What came of all questions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// Failed ones by kind: `refused`, `reset`, `closed`, `silent`, `status 500` …
    pub(crate) failed: BTreeMap<String, u64>,
}

/// Clients at work; finish it to learn what came of it.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Load {
    /// Lets `count` clients ask for `/` on `port`.
    pub(crate) fn start(port: u16, clients: Clients, count: usize) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            thread::spawn(move || ask_until(&over, &answered, port, clients))
        };
        let clients = (0..count).map(client).collect();
        Self { over, answered, clients }
    }

    /// Waits until another `count` questions were answered.
    #[track_caller]
    pub(crate) fn flows(&self, count: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_for("answers under load", || {
            (self.answered.load(Ordering::Relaxed) >= before + count).then_some(())
        });
    }

    pub(crate) fn finish(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut failed = BTreeMap::new();
        for client in self.clients {
            for (kind, count) in client.join().expect("a client counts, it does not panic") {
                *failed.entry(kind).or_insert(0) += count;
            }
        }
        Tally { answered: self.answered.load(Ordering::Relaxed), failed }
    }

    /// Finishes and asserts that not a single question failed.
    #[track_caller]
    pub(crate) fn lost_nothing(self) {
        let tally = self.finish();
        assert!(tally.failed.is_empty() && tally.answered > 0, "{tally:?}");
    }
}

fn ask_until(
    over: &AtomicBool,
    answered: &AtomicU64,
    port: u16,
    clients: Clients,
) -> BTreeMap<String, u64> {
    let mut failed = BTreeMap::new();
    let mut kept = None;
    while !over.load(Ordering::Relaxed) {
        let failure = match ask(&mut kept, port, clients) {
            Ok(Answer { status: 200, .. }) => {
                answered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Ok(Answer { status, .. }) => format!("status {status}"),
            Err(error) => kind(&error),
        };
        *failed.entry(failure).or_insert(0) += 1;
        kept = None;
    }
    failed
}

fn ask(kept: &mut Option<Connection>, port: u16, clients: Clients) -> io::Result<Answer> {
    match clients {
        Clients::Fresh => Connection::open(port)?.get("/", "close"),
        Clients::KeepAlive => {
            let connection = match kept {
                Some(connection) => connection,
                None => kept.insert(Connection::open(port)?),
            };
            connection.get("/", "keep-alive")
        }
    }
}

fn kind(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let known = [
        (Kind::BrokenPipe, "reset"),
        (Kind::ConnectionRefused, "refused"),
        (Kind::ConnectionReset, "reset"),
        (Kind::TimedOut, "silent"),
        (Kind::UnexpectedEof, "closed"),
        (Kind::WouldBlock, "silent"),
    ];
    let word = known.iter().find(|(kind, _)| *kind == error.kind());
    word.map_or_else(|| error.to_string(), |(_, word)| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener};

    use super::*;

    /// Answers each connection with the next of `replies`, then with silence and a close.
    fn serve(replies: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
                let mut request = [0; 512];
                drop(io::Read::read(&mut stream, &mut request));
            }
        });
        port
    }

    #[test]
    fn every_failure_is_counted_by_its_kind() {
        const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        const BAD: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
        const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
        let port = serve(&[GOOD, BAD, CUT, GOOD]);
        let load = Load::start(port, Clients::Fresh, 1);
        load.flows(2);
        wait_for("the server to be gone", || Connection::open(port).is_err().then_some(()));
        let tally = load.finish();
        assert_eq!(tally.answered, 2);
        assert_eq!(tally.failed.get("status 500"), Some(&1));
        assert_eq!(tally.failed.get("closed"), Some(&1));
    }

    #[test]
    fn a_kept_connection_is_kept() {
        const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let port = serve(&[TWO]);
        let mut kept = None;
        assert_eq!(ask(&mut kept, port, Clients::KeepAlive).unwrap().body, "ok");
        assert_eq!(ask(&mut kept, port, Clients::KeepAlive).unwrap().body, "");
    }

    #[test]
    fn nobody_listening_is_refused() {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let error = Connection::open(port).err().unwrap();
        assert_eq!(kind(&error), "refused");
    }
}
