//! `bunpilot ping`: is the daemon alive, and how fast?

use serde_json::{Value, json};

use super::{
    client::Daemon,
    clock,
    failure::Outcome,
    output::{Format, Out},
};
use crate::control::wire::Command;

/// Runs it.
pub(crate) fn run(daemon: &Daemon, out: &mut Out) -> Outcome {
    let start = clock::now();
    let mut data: Value = daemon.ask(&Command::Ping)?;
    let took = clock::now().saturating_sub(start);
    let millis = took.as_secs_f64() * 1000.0;
    if out.format == Format::Json {
        if let Some(data) = data.as_object_mut() {
            data.insert("latencyMs".to_owned(), json!(millis));
        }
        return out.json(&data);
    }
    out.ok(format_args!("pong – {millis:.1} ms"))
}
