//! Traffic: clients that ask without a pause, and count every way a question can fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    http::{Answer, Connection},
    wait::rest,
    wait_for,
};

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// A new connection for every question.
    Fresh,
    /// One connection for all, opened again when it is closed. A question that finds it closed
    /// before a byte of the answer came is asked once more, as every library does: RFC 9112
    /// § 9.3.1.
    KeepAlive,
}

/// Who asks, and how eagerly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) fresh: usize,
    pub(crate) kept: usize,
    /// What each rests between two questions.
    pub(crate) pause: Duration,
    /// Questions after which no more are asked.
    pub(crate) questions_max: u64,
}

impl Crowd {
    fn of(clients: Clients, count: usize) -> Self {
        let (fresh, kept) = match clients {
            Clients::Fresh => (count, 0),
            Clients::KeepAlive => (0, count),
        };
        Self { fresh, kept, pause: Duration::ZERO, questions_max: u64::MAX }
    }
}

/// What came of all questions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// Failed ones by kind: `refused`, `reset`, `closed`, `silent`, `status 500` …
    pub(crate) failed: BTreeMap<String, u64>,
    /// Asked once more, see [`Clients::KeepAlive`].
    pub(crate) retried: u64,
    /// How often each answer was given.
    pub(crate) bodies: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn lost(&self) -> u64 {
        self.failed.values().sum()
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.retried += other.retried;
        for (kind, count) in other.failed {
            *self.failed.entry(kind).or_insert(0) += count;
        }
        for (body, count) in other.bodies {
            *self.bodies.entry(body).or_insert(0) += count;
        }
    }
}

/// Clients at work; finish it to learn what came of it.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tally>>,
}

struct Shared {
    over: AtomicBool,
    answered: AtomicU64,
    /// Questions that may still be asked.
    left: AtomicU64,
}

impl Load {
    /// Lets `count` clients ask for `/` on `port`.
    pub(crate) fn start(port: u16, clients: Clients, count: usize) -> Self {
        Self::of(port, Crowd::of(clients, count))
    }

    /// Lets a crowd ask for `/` on `port`.
    pub(crate) fn of(port: u16, crowd: Crowd) -> Self {
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            left: AtomicU64::new(crowd.questions_max),
        });
        let fresh = (0..crowd.fresh).map(|_| Clients::Fresh);
        let all = fresh.chain((0..crowd.kept).map(|_| Clients::KeepAlive));
        let client = |clients| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || ask_until(&shared, port, clients, crowd.pause))
        };
        let clients = all.map(client).collect();
        Self { shared, clients }
    }

    /// Waits until another `count` questions were answered.
    #[track_caller]
    pub(crate) fn flows(&self, count: u64) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let before = answered();
        wait_for("answers under load", || (answered() >= before + count).then_some(()));
    }

    /// Waits until all questions a [`Crowd`] may ask came to an end.
    pub(crate) fn join(self) -> Tally {
        let mut all = Tally::default();
        for client in self.clients {
            all.add(client.join().expect("a client counts, it does not panic"));
        }
        all
    }

    pub(crate) fn finish(self) -> Tally {
        self.shared.over.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Finishes and asserts that not a single question failed.
    #[track_caller]
    pub(crate) fn lost_nothing(self) {
        let tally = self.finish();
        assert!(tally.failed.is_empty() && tally.answered > 0, "{tally:?}");
    }
}

fn ask_until(shared: &Shared, port: u16, clients: Clients, pause: Duration) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), None);
    let take = |left: u64| left.checked_sub(1);
    while !shared.over.load(Ordering::Relaxed)
        && shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    {
        let failure = match ask(&mut kept, port, clients, &mut tally.retried) {
            Ok(Answer { status: 200, body }) => {
                tally.answered += 1;
                *tally.bodies.entry(body).or_insert(0) += 1;
                shared.answered.fetch_add(1, Ordering::Relaxed);
                None
            }
            Ok(Answer { status, .. }) => Some(format!("status {status}")),
            Err(error) => Some(kind(&error)),
        };
        if let Some(failure) = failure {
            *tally.failed.entry(failure).or_insert(0) += 1;
            kept = None;
        }
        rest(pause);
    }
    tally
}

fn ask(
    kept: &mut Option<Connection>,
    port: u16,
    clients: Clients,
    retried: &mut u64,
) -> io::Result<Answer> {
    if clients == Clients::Fresh {
        return Connection::open(port)?.get("/", "close");
    }
    if let Some(mut connection) = kept.take() {
        match connection.get("/", "keep-alive") {
            Err(error) if !connection.answered && was_closed(&error) => *retried += 1,
            answer => {
                *kept = Some(connection).filter(|it| answer.is_ok() && !it.ends);
                return answer;
            }
        }
    }
    let mut connection = Connection::open(port)?;
    let answer = connection.get("/", "keep-alive")?;
    *kept = Some(connection).filter(|it| !it.ends);
    Ok(answer)
}

fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe)
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

    const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";

    /// Asks as often as there are answers expected, over one kept connection.
    #[track_caller]
    fn check(replies: &'static [&'static str], expected: &[Result<&str, &str>], retried: u64) {
        let (port, mut kept, mut again) = (serve(replies), None, 0);
        for expected in expected {
            let answer = ask(&mut kept, port, Clients::KeepAlive, &mut again);
            let answer = answer.map(|it| it.body).map_err(|it| kind(&it));
            assert_eq!(answer.as_deref().map_err(String::as_str), *expected);
        }
        assert_eq!(again, retried);
    }

    #[test]
    fn a_kept_connection_is_kept() {
        check(&[TWO], &[Ok("ok"), Ok("")], 0);
    }

    #[test]
    fn a_closed_connection_is_tried_again_if_it_was_used_before() {
        check(&[ONE, ONE], &[Ok("ok"), Ok("ok")], 1);
        check(&[ONE, ""], &[Ok("ok"), Err("closed")], 1);
        check(&[HALF], &[Ok("ok"), Err("closed")], 0);
    }

    #[test]
    fn nobody_asks_more_than_is_allowed() {
        let port = serve(&[ONE; 9]);
        let crowd = Crowd { questions_max: 7, ..Crowd::of(Clients::Fresh, 3) };
        let tally = Load::of(port, crowd).join();
        assert_eq!((tally.answered, tally.lost()), (7, 0));
        assert_eq!(tally.bodies, BTreeMap::from([("ok".to_owned(), 7)]));
    }

    #[test]
    fn nobody_listening_is_refused() {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let error = Connection::open(port).err().unwrap();
        assert_eq!(kind(&error), "refused");
    }
}
