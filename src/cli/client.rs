//! The daemon, seen from a command: questions and orders over its control socket.
//!
//! Decides how long to wait and what to make of a daemon that dies in mid-sentence: it comes back
//! within half a second, so a question is asked again, and an order is judged by what came of it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use super::{
    clock,
    failure::Failure,
    home::Home,
    wish::{Settled, Wish},
};
use crate::control::{
    status::{AppStatus, Step},
    wire::{Code, Command, Progress, Reply, Request, Target},
};

/// Longest wait for the answer to a question, and for a connection.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// Longest wait for a daemon that died to be back.
const RETURN_MAX: Duration = Duration::from_secs(2);

/// Longest line the daemon may send: some 300 bytes for each worker and app, and room to spare.
const REPLY_MAX: u64 = 256 << 20;

/// How often a question is asked again when the daemon dies over it.
const REPEATS_MAX: u32 = 3;

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What to do about each step of a long command.
pub(crate) type OnStep<'a> = &'a mut dyn FnMut(&Step) -> Result<(), Failure>;

/// What it means that there is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// That no daemon runs.
    Final,
    /// That the next daemon is on its way: the last one died before our eyes.
    Passing,
}

/// The daemon of one home.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// The daemon of `home`, running or not.
    pub(crate) fn of(home: &Home) -> Self {
        Self { socket: home.socket().to_owned() }
    }

    /// Asks something that is answered at once and changes nothing.
    pub(crate) fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, Failure> {
        self.ask_patiently(command, Absent::Final)
    }

    fn ask_patiently<T: DeserializeOwned>(
        &self,
        command: &Command,
        mut absent: Absent,
    ) -> Result<T, Failure> {
        let mut repeats = 0;
        loop {
            match self.connect(absent)?.ask(command) {
                Err(Failure::Died) if repeats < REPEATS_MAX => {
                    (repeats, absent) = (repeats + 1, Absent::Passing);
                }
                answer @ (Ok(_) | Err(_)) => return answer,
            }
        }
    }

    /// Orders something that may take long. If the daemon dies meanwhile, waits for the next one
    /// and returns `None` if what was ordered has come true nevertheless.
    pub(crate) fn order(
        &self,
        command: Command,
        on_step: OnStep<'_>,
    ) -> Result<Option<Value>, Failure> {
        let wish = Wish::of(&command, clock::unix_millis());
        match self.connect(Absent::Final)?.order(command, on_step) {
            Ok(data) => Ok(Some(data)),
            Err(Failure::Died) => self.outcome(&wish).map(|()| None),
            Err(failure) => Err(failure),
        }
    }

    /// Watches what the next daemon makes of a wish.
    fn outcome(&self, wish: &Wish) -> Result<(), Failure> {
        if wish.ends_daemon() {
            return Ok(());
        }
        loop {
            let apps = self.apps_patiently(wish.target(), Absent::Passing)?;
            match wish.judge(&apps) {
                Settled::NotYet => clock::sleep(PAUSE * 5),
                Settled::Granted => return Ok(()),
                Settled::Refused(state) => return Err(Failure::Unfulfilled(state)),
            }
        }
    }

    /// Those of the apps that `target` means; none if there is no such app.
    pub(crate) fn apps(&self, target: &Target) -> Result<Vec<AppStatus>, Failure> {
        self.apps_patiently(target, Absent::Final)
    }

    fn apps_patiently(&self, target: &Target, absent: Absent) -> Result<Vec<AppStatus>, Failure> {
        let name = match target {
            Target::All => return self.ask_patiently(&Command::List, absent),
            Target::App(name) | Target::Instance(name, _) => name,
        };
        match self.ask_patiently(&Command::Status(name.clone()), absent) {
            Ok(app) => Ok(vec![app]),
            Err(Failure::Refused { code: Code::NoSuchApp, .. }) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Whether somebody answers at once.
    pub(crate) fn answers(&self) -> bool {
        dial(&self.socket).is_ok_and(|stream| {
            let pong = Connection::over(stream, &self.socket).ask::<Value>(&Command::Ping);
            pong.is_ok()
        })
    }

    /// Connects. A socket file nobody listens on is given [`RETURN_MAX`]: the guard may be
    /// starting the daemon again.
    fn connect(&self, absent: Absent) -> Result<Connection, Failure> {
        let start = clock::now();
        loop {
            let waited = clock::now().saturating_sub(start);
            let error = match dial(&self.socket) {
                Ok(stream) => return Ok(Connection::over(stream, &self.socket)),
                Err(error) => error,
            };
            let is = |kind| error.kind() == kind;
            let absence = if absent == Absent::Final { Duration::ZERO } else { RETURN_MAX };
            let (patience, socket) = (QUESTION_MAX, self.socket.clone());
            if is(io::ErrorKind::NotFound) && waited >= absence
                || is(io::ErrorKind::ConnectionRefused) && waited >= RETURN_MAX
            {
                return Err(Failure::Unreachable { socket });
            } else if is(io::ErrorKind::WouldBlock) && waited >= patience {
                return Err(Failure::Silent { socket, seconds: patience.as_secs() });
            } else if !is(io::ErrorKind::NotFound)
                && !is(io::ErrorKind::ConnectionRefused)
                && !is(io::ErrorKind::WouldBlock)
            {
                return Err(Failure::Connect { socket, source: error });
            }
            clock::sleep(PAUSE);
        }
    }
}

/// Connects without waiting: `WouldBlock` says that too many others are waiting.
fn dial(path: &std::path::Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Reads a reply as what it should be.
pub(crate) fn read<T: DeserializeOwned>(data: Value) -> Result<T, Failure> {
    serde_json::from_value(data).map_err(|wrong| Failure::Garbled(wrong.to_string()))
}

/// One conversation.
#[derive(Debug)]
struct Connection {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Connection {
    fn over(stream: UnixStream, socket: &std::path::Path) -> Self {
        Self { stream: BufReader::new(stream), socket: socket.to_owned() }
    }

    fn ask<T: DeserializeOwned>(&mut self, command: &Command) -> Result<T, Failure> {
        self.stream.get_ref().set_read_timeout(Some(QUESTION_MAX)).map_err(|it| self.broken(it))?;
        self.send(command.clone(), Progress::Silent)?;
        self.listen(&mut |_| Ok(()))
    }

    fn order(&mut self, command: Command, on_step: OnStep<'_>) -> Result<Value, Failure> {
        self.send(command, Progress::Told)?;
        self.listen(on_step)
    }

    fn send(&mut self, command: Command, progress: Progress) -> Result<(), Failure> {
        // One connection carries one request, so the id need not tell requests apart.
        let line = Request { id: "1".to_owned(), command, progress }.line();
        self.stream.get_mut().write_all(&line).map_err(|it| self.broken(it))
    }

    fn listen<T: DeserializeOwned>(&mut self, on_step: OnStep<'_>) -> Result<T, Failure> {
        loop {
            let line = self.line()?;
            match Reply::<&RawValue>::parse(&line) {
                Some((_, Reply::Done(data))) => {
                    let data = serde_json::from_str(data.get());
                    return data.map_err(|wrong| Failure::Garbled(wrong.to_string()));
                }
                Some((_, Reply::Failed(code, message))) => {
                    return Err(Failure::Refused { code, message });
                }
                Some((_, Reply::Chunk(data))) => {
                    if let Ok(step) = serde_json::from_str(data.get()) {
                        on_step(&step)?;
                    }
                }
                None => {
                    let line = String::from_utf8_lossy(line.trim_ascii());
                    return Err(Failure::Garbled(line.into_owned()));
                }
            }
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(REPLY_MAX);
        bounded.read_until(b'\n', &mut line).map_err(|it| self.broken(it))?;
        if line.last() == Some(&b'\n') { Ok(line) } else { Err(Failure::Died) }
    }

    fn broken(&self, source: io::Error) -> Failure {
        let (socket, kind) = (self.socket.clone(), source.kind());
        if matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            Failure::Died
        } else if matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            Failure::Silent { socket, seconds: QUESTION_MAX.as_secs() }
        } else {
            Failure::Connect { socket, source }
        }
    }
}

#[cfg(test)]
mod tests;
