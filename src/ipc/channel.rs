//! The channel of Node and Bun: JSON, one message a line, over the socket `NODE_CHANNEL_FD` names.
//!
//! Decides where a message begins and ends and what it says. Never fails: a worker that sends
//! garbage is told of, and the next line is read as if nothing had happened.

use std::{mem, time::Duration};

use serde::Serialize;
use serde_json::Value;

/// Longest line a worker may send, in bytes; the rest of a longer one is skipped.
///
/// What the daemon holds for each worker is bounded by it. A message of the SDK is below 300 bytes.
pub const LINE_MAX: usize = 1 << 20;

/// Most characters of a worker's own words repeated in a [`Message::Garbage`].
const EXCERPT_MAX: usize = 80;

/// Bun marks its internal messages with this byte when it serves Node's cluster protocol.
const BUN_INTERNAL: u8 = 0x02;

/// What a worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It serves: `{"type":"ready"}`. Our SDK adds its version, so that others can be told apart.
    Ready(Dialect),
    /// It serves, and says so as PM2's apps do: the bare string `"ready"`.
    BareReady,
    /// What it knows about itself, in parts: every part may be missing.
    Metrics(Report),
    /// It is alive, and for how long, if it said so.
    Heartbeat(Option<Duration>),
    /// A shutdown handler is registered: it finishes by itself when asked to.
    ShutdownHandler,
    /// It was asked to shut down and is doing so.
    Stopping,
    /// A message on a channel of the user's own.
    Custom {
        /// The channel's name.
        channel: String,
        /// What was sent on it.
        data: Value,
    },
    /// Well-formed, but of a type that is not known here; an excerpt of it.
    Unknown(String),
    /// Not a message, and why.
    Garbage(String),
}

/// Whose SDK a worker speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// This bunpilot's: it says when a shutdown handler is registered.
    Ours,
    /// The original's, or none: it may handle `shutdown` without saying so.
    Original,
}

/// What a worker knows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Resident set size.
    pub rss_bytes: Option<u64>,
    /// Size of the heap.
    pub heap_total_bytes: Option<u64>,
    /// Heap in use.
    pub heap_used_bytes: Option<u64>,
    /// Memory outside the heap that objects within it hold.
    pub external_bytes: Option<u64>,
    /// Time spent in user mode since it began.
    pub user: Option<Duration>,
    /// Time spent in kernel mode since it began.
    pub system: Option<Duration>,
    /// The longest its event loop was late since the last report.
    pub event_loop_lag: Option<Duration>,
}

/// Cuts the bytes of one worker's channel into [`Message`]s.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a line whose end has not come yet; at most [`LINE_MAX`] bytes.
    line: Vec<u8>,
    /// Whether the rest of the current line is thrown away.
    skipping: bool,
    /// Lines that were too long.
    overlong: u64,
}

impl Decoder {
    /// Takes the next bytes and appends the messages they complete to `messages`.
    ///
    /// Blank lines and messages internal to Node and Bun append nothing.
    pub fn feed(&mut self, mut bytes: &[u8], messages: &mut Vec<Message>) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.take(&bytes[..end], messages);
            if !mem::take(&mut self.skipping) {
                messages.extend(message(&self.line));
            }
            self.line.clear();
            bytes = &bytes[end + 1..];
        }
        self.take(bytes, messages);
        if self.line.is_empty() {
            self.line = Vec::new(); // a burst must not hold its memory for ever
        }
    }

    /// Lines longer than [`LINE_MAX`] so far.
    #[must_use]
    pub const fn overlong(&self) -> u64 {
        self.overlong
    }

    fn take(&mut self, part: &[u8], messages: &mut Vec<Message>) {
        if self.skipping {
            return;
        }
        if self.line.len() + part.len() <= LINE_MAX {
            self.line.extend_from_slice(part);
            return;
        }
        self.line.clear();
        self.skipping = true;
        self.overlong += 1;
        messages.push(Message::Garbage(format!("a line longer than {LINE_MAX} bytes")));
    }
}

/// Reads one line; `None` for what is nobody's business.
fn message(line: &[u8]) -> Option<Message> {
    let line = line.trim_ascii();
    if line.is_empty() || line.first() == Some(&BUN_INTERNAL) {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(value) => typed(value, line),
        Err(error) => Some(Message::Garbage(format!("{error}: `{}`", excerpt(line)))),
    }
}

fn typed(value: Value, line: &[u8]) -> Option<Message> {
    if value == "ready" {
        return Some(Message::BareReady);
    }
    let internal = |cmd: &str| cmd.starts_with("NODE_");
    if value.get("cmd").and_then(Value::as_str).is_some_and(internal) {
        return None;
    }
    Some(match value.get("type").and_then(Value::as_str) {
        Some("ready") => Message::Ready(dialect(&value)),
        Some("metrics") => Message::Metrics(report(&value["payload"])),
        Some("heartbeat") => Message::Heartbeat(seconds(&value["uptime"])),
        Some("custom") => custom(value),
        Some(_) | None => Message::Unknown(excerpt(line)),
    })
}

fn dialect(ready: &Value) -> Dialect {
    if ready.get("sdk").is_some_and(Value::is_string) { Dialect::Ours } else { Dialect::Original }
}

/// A message on a channel; on the channel `bunpilot` the SDK itself is speaking.
fn custom(mut value: Value) -> Message {
    let channel = value["channel"].as_str().unwrap_or_default().to_owned();
    let data = value.get_mut("data").map(Value::take).unwrap_or_default();
    match channel.as_str() {
        "bunpilot" if data["handlesShutdown"] == true => Message::ShutdownHandler,
        "bunpilot" if data["stopping"] == true => Message::Stopping,
        _ => Message::Custom { channel, data },
    }
}

fn report(payload: &Value) -> Report {
    let (memory, cpu) = (&payload["memory"], &payload["cpu"]);
    let micros = |value: &Value| whole(value).map(Duration::from_micros);
    Report {
        rss_bytes: whole(&memory["rss"]),
        heap_total_bytes: whole(&memory["heapTotal"]),
        heap_used_bytes: whole(&memory["heapUsed"]),
        external_bytes: whole(&memory["external"]),
        user: micros(&cpu["user"]),
        system: micros(&cpu["system"]),
        event_loop_lag: seconds(&payload["eventLoopLag"]).map(|millis| millis / 1000),
    }
}

/// A count, also where JavaScript made a fraction of it.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| seconds(value).map(|whole| whole.as_secs()))
}

/// A number that is not negative, as seconds.
fn seconds(value: &Value) -> Option<Duration> {
    value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// The beginning of `line`, fit for a log.
fn excerpt(line: &[u8]) -> String {
    // Four bytes are the longest character, so the cut keeps enough of them.
    let head = &line[..line.len().min(EXCERPT_MAX * 4)];
    let text = String::from_utf8_lossy(head);
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().take(EXCERPT_MAX).map(shown).collect()
}

/// What the daemon asks of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Finish and exit.
    Shutdown {
        /// Milliseconds until the worker is killed.
        timeout: u64,
    },
    /// Say that you are alive.
    Ping,
    /// Send a [`Message::Metrics`] now.
    CollectMetrics,
    /// The app's configuration has changed.
    ConfigUpdate {
        /// The new one.
        config: Value,
    },
}

impl Request {
    /// Asks a worker to finish within `timeout`.
    #[must_use]
    pub fn shutdown(timeout: Duration) -> Self {
        Self::Shutdown { timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The request as one whole line. Write all of it or nothing: half a line kills a Node worker.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "the message is the proof")]
        let mut line = serde_json::to_vec(self).expect("strings, numbers and JSON are JSON");
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<Message> {
        let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.feed(chunk, &mut messages);
        }
        messages
    }

    #[track_caller]
    fn check(line: &str, expected: &[Message]) {
        assert_eq!(decode(&[line.as_bytes(), b"\n"]), expected, "{line}");
    }

    #[test]
    fn the_original_speaks() {
        check(r#"{"type":"ready"}"#, &[Message::Ready(Dialect::Original)]);
        check(
            r#"{"type":"heartbeat","uptime":1.5}"#,
            &[Message::Heartbeat(Some(Duration::from_millis(1500)))],
        );
        check(
            r#"{"type":"metrics","payload":{"memory":{"rss":1,"heapTotal":2,"heapUsed":3,"external":4},"cpu":{"user":5,"system":6},"eventLoopLag":1.5}}"#,
            &[Message::Metrics(Report {
                rss_bytes: Some(1),
                heap_total_bytes: Some(2),
                heap_used_bytes: Some(3),
                external_bytes: Some(4),
                user: Some(Duration::from_micros(5)),
                system: Some(Duration::from_micros(6)),
                event_loop_lag: Some(Duration::from_micros(1500)),
            })],
        );
        let custom = Message::Custom { channel: "jobs".into(), data: json!({"left": 3}) };
        check(r#"{"type":"custom","channel":"jobs","data":{"left":3}}"#, &[custom]);
    }

    #[test]
    fn so_does_pm2() {
        check(r#""ready""#, &[Message::BareReady]);
    }

    #[test]
    fn our_sdk_says_more() {
        let said =
            |what: &str| format!(r#"{{"type":"custom","channel":"bunpilot","data":{what}}}"#);
        check(&said(r#"{"handlesShutdown":true}"#), &[Message::ShutdownHandler]);
        check(&said(r#"{"stopping":true}"#), &[Message::Stopping]);
    }

    #[test]
    fn d15_a_report_without_anything_in_it_is_harmless() {
        let empty = [Message::Metrics(Report::default())];
        for payload in [
            "",
            r#","payload":null"#,
            r#","payload":7"#,
            r#","payload":{"memory":[],"cpu":"x"}"#,
            r#","payload":{"memory":{"rss":-1,"heapUsed":null,"heapTotal":"3"}}"#,
            r#","payload":{"eventLoopLag":-0.5,"cpu":{"user":1e300}}"#,
        ] {
            check(&format!(r#"{{"type":"metrics"{payload}}}"#), &empty);
        }
        check(r#"{"type":"heartbeat","uptime":"long"}"#, &[Message::Heartbeat(None)]);
        check(
            r#"{"type":"custom"}"#,
            &[Message::Custom { channel: String::new(), data: Value::Null }],
        );
    }

    #[test]
    fn fractions_count_whole() {
        let rss_bytes = Some(1234);
        let expected = Message::Metrics(Report { rss_bytes, ..Report::default() });
        check(r#"{"type":"metrics","payload":{"memory":{"rss":1234.9}}}"#, &[expected]);
    }

    #[test]
    fn internal_messages_and_blank_lines_are_nobodys_business() {
        for line in
            ["", "  \r", r#"{"cmd":"NODE_HANDLE_ACK"}"#, "\u{2}{\"cmd\":\"NODE_x\"}", "\u{2}"]
        {
            check(line, &[]);
        }
    }

    #[test]
    fn unknown_messages_are_shown() {
        for line in
            [r#"{"type":"surprise"}"#, r#"{"cmd":"mine"}"#, "[]", "7", "null", r#""steady""#]
        {
            check(line, &[Message::Unknown(line.into())]);
        }
    }

    #[test]
    fn garbage_is_told_of_and_passed_over() {
        let messages = decode(&[b"\xff\x0f\x01{\n{\"type\":\"re", b"ady\"}\n{\"type\":\"ready\"}"]);
        let [Message::Garbage(why), Message::Ready(Dialect::Original)] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert!(why.ends_with("`\u{fffd}\\u{f}\\u{1}{`"), "{why}");
    }

    #[test]
    fn deep_nesting_is_garbage() {
        let deep = "[".repeat(100_000);
        assert!(matches!(decode(&[deep.as_bytes(), b"\n"])[..], [Message::Garbage(_)]));
    }

    #[test]
    fn a_line_too_long_costs_only_itself() {
        let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
        for _ in 0..40 {
            decoder.feed(&vec![b'x'; LINE_MAX / 16], &mut messages);
        }
        decoder.feed(b"\n\"ready\"\n", &mut messages);
        assert!(matches!(messages[..], [Message::Garbage(_), Message::BareReady]), "{messages:?}");
        assert_eq!((decoder.overlong(), decoder.line.capacity()), (1, 0));
    }

    #[test]
    fn a_line_of_the_longest_length_passes() {
        let mut line = vec![b' '; LINE_MAX - 7];
        line.extend_from_slice(b"\"ready\"\n");
        assert_eq!(decode(&[&line]), [Message::BareReady]);
    }

    #[track_caller]
    fn check_line(request: &Request, expected: &str) {
        assert_eq!(String::from_utf8(request.line()).unwrap(), expected);
    }

    #[test]
    fn requests_are_the_originals() {
        let shutdown = Request::shutdown(Duration::from_secs(5));
        check_line(&shutdown, "{\"type\":\"shutdown\",\"timeout\":5000}\n");
        check_line(&Request::Ping, "{\"type\":\"ping\"}\n");
        check_line(&Request::CollectMetrics, "{\"type\":\"collect-metrics\"}\n");
        let update = Request::ConfigUpdate { config: json!({"port": 1, "note": "a\nb"}) };
        check_line(
            &update,
            "{\"type\":\"config-update\",\"config\":{\"port\":1,\"note\":\"a\\nb\"}}\n",
        );
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"{\"type\":\"ready\"}".to_vec()),
            Just(b"{\"type\":\"metrics\",\"payload\":{\"memory\":{\"rss\":1e999}}}".to_vec()),
            Just("{\"type\":\"custom\",\"channel\":\"\u{1f600}\"}".as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(lines in prop::collection::vec(line(), 0..8), cut in 1_usize..40) {
            let bytes = lines.join(&b'\n');
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(decode(&[&bytes]), decode(&chunks));
        }
    }
}
