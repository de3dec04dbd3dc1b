//! Apps as a config declares them.

use serde_json::{Value, json};

use super::app;

/// An app with its backoff and its patience cut to the shortest allowed.
pub(crate) fn declared(name: &str, script: &str, more: Value) -> Value {
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

/// An app `web` whose workers inherit the port from bunpilot.
pub(crate) fn inherited(script: &str, port: u16, instances: u16, more: Value) -> Value {
    let mut app = declared(
        "web",
        script,
        json!({
            "port": port,
            "instances": instances,
            "clustering": {
                "strategy": "inherit",
                "rollingRestart": { "batchSize": 1, "batchDelay": 0 },
            },
        }),
    );
    merge(&mut app, more);
    app
}

pub(crate) fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        panic!("only objects merge");
    };
    into.extend(more);
}
