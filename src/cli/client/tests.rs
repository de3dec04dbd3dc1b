//! Against a daemon made of a thread and a script: what it reads and what it says.

use std::{
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use serde_json::json;

use super::*;
use crate::{
    cli::{failure::Verdict, scratch::Scratch},
    control::wire::Force,
};

/// What the daemon does with one connection.
enum Act {
    /// Reads the request and says these.
    Say(Vec<Reply>),
    /// Reads the request, says these, and dies: connection and socket are gone.
    Die(Vec<Reply>),
    /// Says nothing a daemon would say.
    Babble,
}

/// A daemon that lives through one act for each connection.
struct Fake {
    folder: Scratch,
    heard: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn play(acts: Vec<Act>) -> Self {
        let folder = Scratch::new().unwrap();
        let path = folder.path().join("bunpilot.sock");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let mut listener = UnixListener::bind(&path).unwrap();
        let thread = thread::spawn(move || {
            for act in acts {
                let (mut stream, _) = listener.accept().unwrap();
                let request = hear(&stream);
                let id = request.id.clone();
                notes.lock().unwrap().push(request);
                match act {
                    Act::Say(replies) => say(&mut stream, &id, replies),
                    Act::Babble => stream.write_all(b"hello?\n").unwrap(),
                    Act::Die(replies) => {
                        say(&mut stream, &id, replies);
                        // First the next life's socket, or nobody could tell it from the end.
                        std::fs::remove_file(&path).unwrap();
                        listener = UnixListener::bind(&path).unwrap();
                    }
                }
            }
        });
        Self { folder, heard, thread: Some(thread) }
    }

    fn daemon(&self) -> Daemon {
        Daemon::of(&Home::at(self.folder.path()).unwrap())
    }

    /// Waits for the last act; what was asked in all.
    fn end(&mut self) -> Vec<Command> {
        self.thread.take().unwrap().join().unwrap();
        self.heard.lock().unwrap().iter().map(|it| it.command.clone()).collect()
    }
}

fn hear(stream: &UnixStream) -> Request {
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).unwrap();
    Request::parse(&line).unwrap()
}

fn say(stream: &mut UnixStream, id: &str, replies: Vec<Reply>) {
    for reply in replies {
        stream.write_all(&reply.line(id)).unwrap();
    }
}

fn app(state: &str, started_at: u64, busy: Option<&str>) -> Value {
    json!({
        "name": "api", "status": "running", "startedAt": 1, "config": {}, "busy": busy,
        "workers": [{
            "id": 0, "pid": 7, "state": state, "startedAt": started_at, "readyAt": null,
            "restartCount": 0, "consecutiveCrashes": 0, "lastCrashAt": null, "exitCode": null,
            "signalCode": null, "memory": null, "cpu": null,
        }],
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of an `OnStep`")]
fn silent(_: &Step) -> Result<(), Failure> {
    Ok(())
}

#[test]
fn a_question_survives_the_daemon() {
    let pong = || vec![Reply::Done(json!({"pong": true}))];
    let mut fake = Fake::play(vec![Act::Die(vec![]), Act::Say(pong())]);
    assert_eq!(fake.daemon().ask::<Value>(&Command::Ping).unwrap(), json!({"pong": true}));
    assert_eq!(fake.end(), [Command::Ping, Command::Ping]);
}

#[test]
fn nobody_there_is_told_from_nobody_listening() {
    let folder = Scratch::new().unwrap();
    let daemon = Daemon::of(&Home::at(folder.path()).unwrap());
    let failure = daemon.ask::<Value>(&Command::List).unwrap_err();
    assert_eq!(failure.verdict(), Some(Verdict::Unreachable));
    let expected = format!(
        "bunpilot daemon is not running (socket not found at {})",
        folder.path().join("bunpilot.sock").display()
    );
    assert_eq!(failure.to_string(), expected);
}

#[test]
fn steps_come_as_they_are_made() {
    let step = json!({"app": "api", "worker": 0, "generation": 1, "step": "online", "pid": 9,
        "detail": null});
    let done = json!({"name": "api", "action": "started"});
    let replies =
        vec![Reply::Chunk(step), Reply::Chunk(json!("of another kind")), Reply::Done(done.clone())];
    let mut fake = Fake::play(vec![Act::Say(replies)]);
    let mut seen = Vec::new();
    let command = Command::Start { name: "api".into(), config: None, config_path: None };
    let data = fake.daemon().order(command, &mut |step: &Step| {
        seen.push(step.step.clone());
        Ok(())
    });
    assert_eq!((data.unwrap(), seen), (Some(done), vec!["online".to_owned()]));
    assert_eq!(fake.heard.lock().unwrap()[0].progress, Progress::Told);
    fake.end();
}

#[test]
fn a_refusal_keeps_its_code() {
    let refusal = Reply::Failed(Code::Busy, "`api` is being reloaded".into());
    let mut fake = Fake::play(vec![Act::Say(vec![refusal])]);
    let command = Command::Stop(Target::App("api".into()), Force::Gentle);
    let failure = fake.daemon().order(command, &mut silent).unwrap_err();
    assert_eq!(failure.verdict(), Some(Verdict::TryAgain));
    assert_eq!(failure.to_string(), "`api` is being reloaded");
    fake.end();
}

#[test]
fn an_answer_nobody_understands_is_quoted() {
    let mut fake = Fake::play(vec![Act::Babble]);
    let failure = fake.daemon().ask::<Value>(&Command::List).unwrap_err();
    assert!(matches!(&failure, Failure::Garbled(text) if text == "hello?"), "{failure:?}");
    fake.end();
}

/// The daemon dies over `command`; the next ones answer `status` with these.
#[track_caller]
fn check_outcome(command: Command, statuses: Vec<Value>, expected: Result<(), &str>) {
    let mut acts = vec![Act::Die(vec![Reply::Chunk(json!({}))])];
    let unknown = || Reply::Failed(Code::NoSuchApp, "App not found: api".into());
    acts.extend(statuses.into_iter().map(|it| {
        let reply = if it.is_null() { unknown() } else { Reply::Done(it) };
        Act::Say(vec![reply])
    }));
    let mut fake = Fake::play(acts);
    let outcome = fake.daemon().order(command, &mut silent);
    fake.end();
    let told = outcome.as_ref().map(Option::is_none).map_err(ToString::to_string);
    assert_eq!(told, expected.map(|()| true).map_err(str::to_owned));
    if let Err(failure) = outcome {
        assert_eq!(failure.verdict(), Some(Verdict::TryAgain));
    }
}

#[test]
fn an_order_is_judged_by_what_came_of_it() {
    let api = || Target::App("api".to_owned());
    let start = || Command::Start { name: "api".into(), config: None, config_path: None };
    let forever = u64::MAX;
    check_outcome(
        start(),
        vec![app("starting", 1, None), app("online", 1, Some("start")), app("online", 1, None)],
        Ok(()),
    );
    check_outcome(
        start(),
        vec![app("errored", 1, None)],
        Err("the daemon ended while it was at work, and `api:0` is errored; run the command again"),
    );
    check_outcome(
        start(),
        vec![Value::Null],
        Err(
            "the daemon ended while it was at work, and `api` is unknown to the new one; run the command again",
        ),
    );
    let stop = || Command::Stop(api(), Force::Gentle);
    check_outcome(stop(), vec![app("stopping", 1, None), app("stopped", 1, None)], Ok(()));
    check_outcome(
        stop(),
        vec![app("online", 1, None)],
        Err("the daemon ended while it was at work, and `api:0` is online; run the command again"),
    );
    let reload = || Command::Reload { target: api(), config: None };
    check_outcome(reload(), vec![app("online", forever, None)], Ok(()));
    check_outcome(
        reload(),
        vec![app("online", 1, None)],
        Err("the daemon ended while it was at work, and `api:0` is online; run the command again"),
    );
    check_outcome(Command::Delete(api(), Force::Kill), vec![Value::Null], Ok(()));
    check_outcome(
        Command::Scale { name: "api".into(), instances: 2 },
        vec![app("online", 1, None)],
        Err("the daemon ended while it was at work, and `api:0` is online; run the command again"),
    );
    check_outcome(Command::KillDaemon, vec![], Ok(()));
}
