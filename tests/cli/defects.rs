//! The original's 34 defects, D01 to D34: what it did, and what must hold here.
//!
//! Each is one test named after its number, so that none can come back unseen. The inventory of
//! the original describes most by number and some only in words; D05, D10, D21, D22, D24, D26,
//! D27, D29, D31 and D33 carry one of the latter each. D13 (a second proxied app cannot have port
//! 40001) and D14 (the proxy loses bytes) are the proxy's and come with it. Tests without a number
//! hold the rest of the inventory's complaints.

mod channel;
mod control;
mod health;
mod lifecycle;
mod logs;
mod names;
mod reload;

use serde_json::{Value, json};

use crate::test::app;

/// An app as a config declares it, with its backoff and its patience cut to the shortest allowed.
fn declared(name: &str, script: &str, more: Value) -> Value {
    let mut app = json!({
        "name": name,
        "script": app(script),
        "readyTimeout": 10_000,
        "killTimeout": 1000,
        "backoff": { "initial": 100, "multiplier": 1, "max": 1000 },
    });
    merge(&mut app, more);
    app
}

fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        panic!("only objects merge");
    };
    into.extend(more);
}
