//! Replies, and how they look on the line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_line;

/// One line from the daemon, with data of whatever form its reader or writer has it in: a list of
/// a thousand workers is nobody's tree of [`Value`]s on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<Data = Value> {
    /// The command is done.
    Done(Data),
    /// The command was refused or failed.
    Failed(Code, String),
    /// The command goes on.
    Chunk(Data),
}

/// What kind of failure, so that a client need not read prose. The CLI's exit status follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// It was tried and did not work.
    Failed,
    /// The request itself makes no sense.
    Usage,
    /// The app is known but does not run.
    NotRunning,
    /// There is no such app, or no such instance.
    NoSuchApp,
    /// The app runs already.
    AlreadyRunning,
    /// Another command for this app is under way.
    Busy,
    /// The configuration is wrong.
    Config,
}

/// A reply as it stands on the line.
#[derive(Debug, Serialize, Deserialize)]
struct ReplyLine<Data> {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
}

impl<Data: Serialize> Reply<Data> {
    /// Writes the reply as one line, newline included.
    #[must_use]
    pub fn line(self, id: &str) -> Vec<u8> {
        let mut line = ReplyLine {
            id: id.to_owned(),
            ok: None,
            stream: None,
            data: None,
            error: None,
            code: None,
        };
        match self {
            Self::Done(data) => (line.ok, line.data) = (Some(true), Some(data)),
            Self::Failed(code, error) => {
                (line.ok, line.error, line.code) = (Some(false), Some(error), Some(code));
            }
            Self::Chunk(data) => (line.stream, line.data) = (Some(true), Some(data)),
        }
        json_line(&line)
    }
}

impl<'a, Data: Deserialize<'a>> Reply<Data> {
    /// Reads one line: the id it answers and what it says; `None` if it is no reply, or its data
    /// is none of this form.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<(String, Self)> {
        let line: ReplyLine<Data> = serde_json::from_slice(line).ok()?;
        let data = || line.data.or_else(|| serde_json::from_str("null").ok());
        let reply = match (line.stream, line.ok) {
            (Some(true), _) => Self::Chunk(data()?),
            (_, Some(true)) => Self::Done(data()?),
            (_, Some(false)) => {
                let error = line.error.unwrap_or_else(|| "failed without a reason".to_owned());
                Self::Failed(line.code.unwrap_or(Code::Failed), error)
            }
            (Some(false) | None, None) => return None,
        };
        Some((line.id, reply))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};

    use super::*;

    #[test]
    fn replies_read_and_write() {
        for reply in [
            Reply::Done(json!({"pong":true})),
            Reply::Failed(Code::NoSuchApp, "App not found: x".into()),
            Reply::Chunk(json!({"step":"online"})),
        ] {
            let line = reply.clone().line("9");
            assert_eq!(Reply::parse(line.trim_ascii()), Some(("9".to_owned(), reply)));
        }
    }

    #[test]
    fn data_may_stay_as_it_is_written() {
        let raw = serde_json::value::to_raw_value(&[1, 2]).unwrap();
        let line = Reply::Done(raw).line("9");
        assert_eq!(Reply::parse(&line), Some(("9".to_owned(), Reply::Done(json!([1, 2])))));
        match Reply::<&RawValue>::parse(&line) {
            Some((_, Reply::Done(data))) => assert_eq!(data.get(), "[1,2]"),
            other => panic!("{other:?}"),
        }
        match Reply::<&RawValue>::parse(br#"{"id":"9","ok":true}"#) {
            Some((_, Reply::Done(data))) => assert_eq!(data.get(), "null"),
            other => panic!("{other:?}"),
        }
    }
}
