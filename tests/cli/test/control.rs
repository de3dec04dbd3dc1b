//! The control socket, spoken by hand: one JSON object a line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::wait_for;

/// Longest silence of the daemon while it works on an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// One connection to the daemon.
pub(crate) struct Control {
    stream: BufReader<UnixStream>,
}

/// A worker as the daemon tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    /// 0 if there is no process.
    pub(crate) pid: u32,
    pub(crate) state: String,
    pub(crate) restarts: u64,
}

impl Control {
    /// Waits until the socket answers.
    #[track_caller]
    pub(super) fn connect(path: &Path) -> Self {
        let stream = wait_for("the control socket", || UnixStream::connect(path).ok());
        stream.set_read_timeout(Some(SILENCE_MAX)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Asks and gives the answer, progress left out.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, args: &Value) -> Value {
        let request = json!({ "id": "test", "cmd": command, "args": args });
        self.write(format!("{request}\n").as_bytes());
        loop {
            let answer = self.line();
            if answer["stream"] != true {
                return answer;
            }
        }
    }

    /// One line from the daemon.
    #[track_caller]
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).expect("the daemon answers");
        assert!(length > 0, "the daemon hung up");
        serde_json::from_str(&line).expect("the daemon speaks JSON")
    }

    #[track_caller]
    pub(super) fn rows(&mut self, app: &str) -> Vec<Row> {
        Row::all(&self.ask("status", &json!({ "name": app })))
    }

    #[track_caller]
    pub(super) fn at_rest(&mut self, app: &str) -> Option<Vec<Row>> {
        let moving = ["spawning", "starting", "draining", "stopping"];
        let answer = self.ask("status", &json!({ "name": app }));
        let rows = Row::all(&answer);
        let rests = rows.iter().all(|it| !moving.contains(&it.state.as_str()));
        (answer["data"]["busy"].is_null() && rests).then_some(rows)
    }
}

impl Row {
    /// All that an answer to `status` tells of.
    fn all(answer: &Value) -> Vec<Self> {
        let workers = answer["data"]["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().map(Self::read).collect()
    }

    fn read(worker: &Value) -> Self {
        Self {
            id: worker["id"].as_u64().expect("a worker has an id"),
            pid: worker["pid"].as_u64().unwrap_or(0).try_into().expect("pids are small"),
            state: worker["state"].as_str().expect("a worker has a state").to_owned(),
            restarts: worker["restartCount"].as_u64().unwrap_or(0),
        }
    }
}
