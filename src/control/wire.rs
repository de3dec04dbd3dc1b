//! Requests and replies, and how they look on the line.

mod reply;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use reply::{Code, Reply};

use crate::world::Tidying;

/// One request of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Chosen by the client; every reply repeats it.
    pub id: String,
    /// What is asked.
    pub command: Command,
    /// Whether the client wants [`Reply::Chunk`]s while the command runs.
    pub progress: Progress,
}

/// Whether a client wants to hear how a long command goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One reply at the end, as the original.
    Silent,
    /// Chunks on the way.
    Told,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Are you there?
    Ping,
    /// Every app.
    List,
    /// One app.
    Status(String),
    /// Bring an app up. Without a configuration: one that is known.
    Start {
        /// Its name.
        name: String,
        /// Its configuration, as `config::raw::RawApp` reads it.
        config: Option<Value>,
        /// The file the configuration came from.
        config_path: Option<String>,
    },
    /// Take workers down.
    Stop(Target, Force),
    /// Take them down, then up.
    Restart(Target, Force),
    /// Replace workers one batch after the other.
    Reload {
        /// Which apps.
        target: Target,
        /// A new configuration for one app; it becomes the app's only if the reload succeeds.
        config: Option<Value>,
    },
    /// Take an app down and forget it.
    Delete(Target, Force),
    /// Change the number of instances.
    Scale {
        /// Which app.
        name: String,
        /// How many workers should run.
        instances: u16,
    },
    /// Send a signal to workers.
    Signal(Target, String),
    /// Measurements, as JSON.
    Metrics(Option<String>),
    /// Measurements, as Prometheus reads them.
    Exposition,
    /// The last lines of an app's log files.
    Logs {
        /// Which app.
        name: String,
        /// How many lines.
        lines: u32,
    },
    /// Empty or rotate log files.
    Tidy(Tidying, Target),
    /// The daemon's own state.
    Dump,
    /// Start every app that ran when the machine, or the daemon, went down.
    Resurrect,
    /// End the daemon and every worker; `resurrect` starts again what ran.
    KillDaemon,
}

/// Whether to wait for a worker to go by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Drain, ask, wait, then kill.
    Gentle,
    /// Kill at once.
    Kill,
}

/// Whom a command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every app.
    All,
    /// One app.
    App(String),
    /// One instance of an app.
    Instance(String, u16),
}

impl Target {
    /// Reads `all`, `app` or `app:instance`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "all" {
            return Self::All;
        }
        if let Some((app, index)) = text.rsplit_once(':')
            && let Ok(index) = index.parse()
        {
            return Self::Instance(app.to_owned(), index);
        }
        Self::App(text.to_owned())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::App(name) => f.write_str(name),
            Self::Instance(name, index) => write!(f, "{name}:{index}"),
        }
    }
}

/// A line that is no request, and what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The id the line had, else `unknown`.
    pub id: String,
    /// What is wrong, in the original's words where it had some.
    pub reason: String,
}

impl Malformed {
    fn new(id: &str, reason: impl Into<String>) -> Self {
        Self { id: id.to_owned(), reason: reason.into() }
    }

    pub(super) fn too_long() -> Self {
        let most = super::session::LINE_MAX;
        Self::new("unknown", format!("Invalid request: a line may have at most {most} bytes"))
    }
}

/// A request as it stands on the line. Loosely typed: whatever else is wrong with it, it is
/// answered under its id.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    id: Value,
    cmd: Value,
    args: Value,
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is not JSON, has no `id` or `cmd`, or an argument is missing or of
    /// the wrong type.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Malformed::new("unknown", format!("Invalid request: {error}")))?;
        let id = match line.id {
            Value::String(id) => id,
            other @ (Value::Number(_) | Value::Bool(_)) => other.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Malformed::new("unknown", "Invalid request: missing id or cmd"));
            }
        };
        let Value::String(cmd) = line.cmd else {
            return Err(Malformed::new(&id, "Invalid request: missing id or cmd"));
        };
        let args = match line.args {
            Value::Object(args) => args,
            Value::Null => Map::new(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Malformed::new(&id, "Invalid request: `args` must be an object"));
            }
        };
        let args = Args { id: &id, args };
        let command = args.command(&cmd)?;
        let progress = if args.flag("progress") { Progress::Told } else { Progress::Silent };
        Ok(Self { id, command, progress })
    }

    /// Writes the request as one line, newline included.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let (cmd, mut args) = self.command.words();
        if self.progress == Progress::Told {
            args.insert("progress".into(), Value::Bool(true));
        }
        let line = Line {
            id: Value::String(self.id.clone()),
            cmd: Value::String(cmd.to_owned()),
            args: Value::Object(args),
        };
        json_line(&line)
    }
}

impl Command {
    /// The word and the arguments it is written with.
    fn words(&self) -> (&'static str, Map<String, Value>) {
        let (cmd, args) = match self {
            Self::Ping => ("ping", json!({})),
            Self::List => ("list", json!({})),
            Self::Status(name) => ("status", json!({ "name": name })),
            Self::Start { name, config, config_path } => {
                ("start", json!({ "name": name, "config": config, "configPath": config_path }))
            }
            Self::Stop(target, force) => ("stop", targeted(target, *force)),
            Self::Restart(target, force) => ("restart", targeted(target, *force)),
            Self::Reload { target, config } => {
                ("reload", json!({ "name": target.to_string(), "config": config }))
            }
            Self::Delete(target, force) => ("delete", targeted(target, *force)),
            Self::Scale { name, instances } => {
                ("scale", json!({ "name": name, "instances": instances }))
            }
            Self::Signal(target, signal) => {
                ("signal", json!({ "name": target.to_string(), "signal": signal }))
            }
            Self::Metrics(name) => ("metrics", json!({ "name": name })),
            Self::Exposition => ("exposition", json!({})),
            Self::Logs { name, lines } => ("logs", json!({ "name": name, "lines": lines })),
            Self::Tidy(what, target) => {
                let cmd = match what {
                    Tidying::Flush => "flush",
                    Tidying::Rotate => "rotate",
                };
                (cmd, targeted(target, Force::Gentle))
            }
            Self::Dump => ("dump", json!({})),
            Self::Resurrect => ("resurrect", json!({})),
            Self::KillDaemon => ("kill-daemon", json!({})),
        };
        let mut args = match args {
            Value::Object(args) => args,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        args.retain(|_, value| !value.is_null());
        (cmd, args)
    }
}

fn targeted(target: &Target, force: Force) -> Value {
    match force {
        Force::Gentle => json!({ "name": target.to_string() }),
        Force::Kill => json!({ "name": target.to_string(), "force": true }),
    }
}

/// The arguments of one request, with the words to refuse them.
struct Args<'a> {
    id: &'a str,
    args: Map<String, Value>,
}

impl Args<'_> {
    fn command(&self, cmd: &str) -> Result<Command, Malformed> {
        Ok(match cmd {
            "ping" => Command::Ping,
            "list" => Command::List,
            "status" => Command::Status(self.text("name")?),
            "start" => self.start()?,
            "stop" => Command::Stop(self.target()?, self.force()),
            "restart" => Command::Restart(self.target()?, self.force()),
            "reload" => {
                Command::Reload { target: self.target()?, config: self.value("config").cloned() }
            }
            "delete" => Command::Delete(self.target()?, self.force()),
            "scale" => {
                Command::Scale { name: self.text("name")?, instances: self.number("instances")? }
            }
            "signal" => Command::Signal(self.target()?, self.text("signal")?),
            "metrics" => Command::Metrics(self.optional_text("name")?),
            "exposition" => Command::Exposition,
            "logs" => Command::Logs {
                name: self.text("name")?,
                lines: self.value("lines").map_or(Ok(50), |_| self.number("lines"))?,
            },
            "flush" => Command::Tidy(Tidying::Flush, self.target()?),
            "rotate" => Command::Tidy(Tidying::Rotate, self.target()?),
            "dump" => Command::Dump,
            "resurrect" => Command::Resurrect,
            "kill-daemon" => Command::KillDaemon,
            other => return Err(Malformed::new(self.id, format!("Unknown command: {other}"))),
        })
    }

    fn start(&self) -> Result<Command, Malformed> {
        let config = self.value("config").cloned();
        let named = config.as_ref().and_then(|it| it.get("name")).and_then(Value::as_str);
        let name = match (self.optional_text("name")?, named) {
            (Some(name), _) => name,
            (None, Some(name)) => name.to_owned(),
            (None, None) => return Err(self.missing("name")),
        };
        Ok(Command::Start { name, config, config_path: self.optional_text("configPath")? })
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.args.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key) == Some(&Value::Bool(true))
    }

    fn force(&self) -> Force {
        if self.flag("force") { Force::Kill } else { Force::Gentle }
    }

    fn target(&self) -> Result<Target, Malformed> {
        self.text("name").map(|it| Target::parse(&it))
    }

    fn text(&self, key: &str) -> Result<String, Malformed> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_text(&self, key: &str) -> Result<Option<String>, Malformed> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Malformed::new(self.id, format!("Argument `{key}` must be a string"))),
        }
    }

    fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<T, Malformed> {
        let value = self.value(key).ok_or_else(|| self.missing(key))?;
        value.as_u64().and_then(|it| T::try_from(it).ok()).ok_or_else(|| {
            Malformed::new(self.id, format!("Argument `{key}` must be a whole number in range"))
        })
    }

    fn missing(&self, key: &str) -> Malformed {
        Malformed::new(self.id, format!("Missing required argument: {key}"))
    }
}

fn json_line(value: &impl Serialize) -> Vec<u8> {
    // These types hold only strings, numbers and JSON values: writing them cannot fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &Command) {
        let request = Request::parse(line.as_bytes()).unwrap();
        assert_eq!(request.command, *expected);
        assert_eq!(Request::parse(&request.line()).unwrap(), request);
    }

    #[test]
    fn requests_read_and_write() {
        check(r#"{"id":"1","cmd":"list","args":{}}"#, &Command::List);
        check(r#"{"id":"1","cmd":"ping"}"#, &Command::Ping);
        check(
            r#"{"id":"1","cmd":"stop","args":{"name":"all","force":true}}"#,
            &Command::Stop(Target::All, Force::Kill),
        );
        check(
            r#"{"id":"1","cmd":"restart","args":{"name":"api:2"}}"#,
            &Command::Restart(Target::Instance("api".into(), 2), Force::Gentle),
        );
        check(
            r#"{"id":"1","cmd":"start","args":{"config":{"name":"api","script":"a.ts"}}}"#,
            &Command::Start {
                name: "api".into(),
                config: Some(json!({"name":"api","script":"a.ts"})),
                config_path: None,
            },
        );
        check(
            r#"{"id":"1","cmd":"flush","args":{"name":"api:2"}}"#,
            &Command::Tidy(Tidying::Flush, Target::Instance("api".into(), 2)),
        );
        check(
            r#"{"id":"1","cmd":"rotate","args":{"name":"all"}}"#,
            &Command::Tidy(Tidying::Rotate, Target::All),
        );
        check(
            r#"{"id":"1","cmd":"scale","args":{"name":"api","instances":4}}"#,
            &Command::Scale { name: "api".into(), instances: 4 },
        );
    }

    #[track_caller]
    fn refused(line: &str, id: &str, reason: &str) {
        let malformed = Request::parse(line.as_bytes()).unwrap_err();
        assert_eq!((malformed.id.as_str(), malformed.reason.as_str()), (id, reason));
    }

    #[test]
    fn refusals_speak_the_originals_words() {
        refused(r#"{"cmd":"list"}"#, "unknown", "Invalid request: missing id or cmd");
        refused(r#"{"id":"7"}"#, "7", "Invalid request: missing id or cmd");
        refused(r#"{"id":"7","cmd":1}"#, "7", "Invalid request: missing id or cmd");
        refused(
            r#"{"id":"7","cmd":"list","args":[]}"#,
            "7",
            "Invalid request: `args` must be an object",
        );
        refused(r#"{"id":"7","cmd":"nope"}"#, "7", "Unknown command: nope");
        refused(r#"{"id":"7","cmd":"stop"}"#, "7", "Missing required argument: name");
        refused(
            r#"{"id":"7","cmd":"stop","args":{"name":3}}"#,
            "7",
            "Argument `name` must be a string",
        );
        refused(
            r#"{"id":"7","cmd":"scale","args":{"name":"a","instances":-1}}"#,
            "7",
            "Argument `instances` must be a whole number in range",
        );
    }
}
