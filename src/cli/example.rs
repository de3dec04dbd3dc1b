//! Apps for the tests of what is shown.

use serde_json::{Value, json};

/// The time of the example, in milliseconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000_000;

fn worker(id: u16, pid: i32, rss: u64) -> Value {
    json!({
        "id": id, "pid": pid, "state": "online", "startedAt": NOW - 123_000,
        "readyAt": NOW - 122_900, "restartCount": 0, "consecutiveCrashes": 0, "lastCrashAt": null,
        "exitCode": null, "signalCode": null, "generation": 1,
        "memory": {"rss": rss, "heapTotal": 20_000_000, "heapUsed": 12_345_678, "external": 0,
            "timestamp": NOW},
        "cpu": {"user": 5_000_000, "system": 1_000_000, "percentage": 12.34, "timestamp": NOW},
        "fds": 21, "threads": 11, "processes": 1,
        "connections": {"open": 3, "accepted": 4_567, "moved": 2, "reset": 0},
        "scheduling": {"runDelay": 1_234_567, "voluntarySwitches": 40_321,
            "involuntarySwitches": 27, "forks": 3},
        "out": {"bytes": 1_234_567, "lines": 12_345, "rotations": 0, "droppedBytes": 0,
            "blockedMillis": 0, "lastWriteAt": NOW - 1_500},
    })
}

/// A cluster of two, a crashed app waiting to be tried again, and a stopped one.
pub(crate) fn apps() -> Value {
    let mut crashed = worker(0, 4_190_000, 0);
    for (key, value) in [
        ("state", json!("crashed")),
        ("restartCount", json!(3)),
        ("consecutiveCrashes", json!(3)),
        ("exitCode", json!(1)),
        ("reason", json!("exited with status 1")),
        ("nextRetryAt", json!(NOW + 4_000)),
        ("memory", Value::Null),
        ("cpu", Value::Null),
    ] {
        crashed[key] = value;
    }
    let config = |script: &str| {
        json!({"script": script, "cwd": "/srv/app", "instances": 2, "port": 3000,
            "interpreter": ["bun", "run"], "env": {"KEY": "s3cret"}})
    };
    json!([
        {"name": "api-server", "status": "running", "startedAt": NOW - 123_000,
            "workers": [worker(0, 4_180_001, 29_465_000), worker(1, 4_180_002, 1_500_000_000)],
            "config": config("/srv/app/src/server.ts"), "balancing": "reusePort: kernel hash",
            "configPath": "/srv/app/bunpilot.config.ts"},
        {"name": "mailer", "status": "running", "startedAt": NOW - 60_000, "workers": [crashed],
            "config": config("/srv/app/mail.py")},
        {"name": "old", "status": "stopped", "startedAt": null, "workers": [],
            "config": config("/srv/app/old.sh")},
    ])
}
