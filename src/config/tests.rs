//! Configuration files of every format: what they mean, and how their faults are shown.

mod evaluation;
mod faults;
mod logs;
mod trouble;

use std::{path::Path, rc::Rc};

use super::{
    Base, Engine, Host, Loaded, Look, Rejected, discover, is_config, load,
    paper::{Paper, base},
    raw::RawApp,
};

fn load_in(machine: Paper, name: &str, base: &Base) -> Result<Loaded, Rejected> {
    let host: Rc<dyn Host> = Rc::new(machine);
    load(Path::new(name), Engine::BuiltIn, base, &host)
}

/// A machine with the file `name` in `/srv`, and scripts for it to name.
fn machine(name: &str, text: &str) -> Paper {
    Paper::default()
        .executable("/bin/bun", "")
        .with("/srv/a.ts", "")
        .with("/srv/src/server.ts", "")
        .with(&format!("/srv/{name}"), text)
}

#[track_caller]
fn good(name: &str, text: &str) -> Loaded {
    load_in(machine(name, text), name, &base()).unwrap_or_else(|rejected| panic!("{rejected}"))
}

/// The first app of a file, as JSON in the words of the file.
#[track_caller]
fn first(name: &str, text: &str) -> serde_json::Value {
    serde_json::to_value(RawApp::of(&good(name, text).apps[0])).unwrap()
}

/// A first line without indent, which keeps that of the others.
fn shown(rejected: &Rejected) -> String {
    let mut text = format!("{} found\n", rejected.problems.len()).into_bytes();
    rejected.write(&mut text, Look::Plain).unwrap();
    String::from_utf8(text).unwrap()
}

/// The example of the original's README, word for word.
const SEED: &str = include_str!("tests/seed.config.ts");

#[test]
fn the_originals_example_means_what_its_readme_says() {
    let loaded = good("bunpilot.config.ts", SEED);
    assert_eq!(loaded.apps.len(), 1);
    let expected = serde_json::json!({
        "name": "api-server",
        "script": "/srv/src/server.ts",
        "args": [],
        "interpreter": ["/bin/bun", "run"],
        "cwd": "/srv",
        "instances": 2,
        "port": 3000,
        "env": { "HOME": "/home/me", "NODE_ENV": "production", "PATH": "/bin" },
        "inheritEnv": false,
        "limits": {},
        "maxRestarts": 15,
        "maxRestartWindow": 60_000,
        "minUptime": 5_000,
        "backoff": { "initial": 1_000, "multiplier": 2.0, "max": 30_000 },
        "shutdownSignal": "SIGTERM",
        "killTimeout": 8_000,
        "readyTimeout": 10_000,
        "healthCheck": {
            "enabled": true, "path": "/health", "interval": 10_000, "timeout": 5_000,
            "unhealthyThreshold": 3,
        },
        "logs": {
            "outFile": "/srv/logs/api-out.log", "errFile": "/srv/logs/api-err.log",
            "mode": "raw", "merge": false, "maxSize": 10_485_760, "maxFiles": 5,
            "compress": "none", "onFull": "block", "fsync": "never",
        },
        "metrics": {
            "enabled": true, "httpPort": 9615, "prometheus": false, "collectInterval": 5_000,
            "compatNames": true,
        },
        "clustering": {
            "enabled": true, "strategy": "reusePort",
            "balance": "leastConnections",
            "rollingRestart": { "batchSize": 1, "batchDelay": 2_000 },
        },
    });
    assert_eq!(first("bunpilot.config.ts", SEED), expected);
}

#[test]
fn every_format_says_the_same() {
    let json = r#"{ "apps": [{ "name": "a", "script": "a.ts", "port": 80, "backoff": { "multiplier": 1.5 }, "env": { "N": "5" } }] }"#;
    let expected = first("bunpilot.json", json);
    let yaml = "apps:\n  - name: a\n    script: a.ts\n    port: 80\n    backoff: { multiplier: 1.5 }\n    env: { N: '5' }\n";
    assert_eq!(first("bunpilot.yaml", yaml), expected);
    let toml = "[[apps]]\nname = 'a'\nscript = 'a.ts'\nport = 80\nbackoff.multiplier = 1.5\nenv = { N = '5' }\n";
    assert_eq!(first("bunpilot.toml", toml), expected);
    assert_eq!(first("bunpilot.config.mjs", &format!("export default {json}")), expected);
    assert_eq!(first("bunpilot.config.cjs", &format!("module.exports = {json}")), expected);
}

#[test]
fn one_app_needs_no_list() {
    assert_eq!(good("bunpilot.json", r#"{ "name": "a", "script": "a.ts" }"#).apps.len(), 1);
    assert_eq!(good("bunpilot.json", r#"[{ "name": "a", "script": "a.ts" }]"#).apps.len(), 1);
}

#[test]
fn editors_may_leave_their_mark() {
    let text = r#"{ "$schema": "./schema.json", "name": "a", "script": "a.ts" }"#;
    assert_eq!(good("bunpilot.json", text).apps.len(), 1);
}

#[test]
fn files_are_found_in_order() {
    let machine = Paper::default()
        .with("/srv/bunpilot.toml", "")
        .with("/srv/bunpilot.json", "")
        .with("/srv/ecosystem.config.js", "");
    assert_eq!(discover(Path::new("/srv"), &machine).unwrap(), Path::new("/srv/bunpilot.json"));
    assert_eq!(discover(Path::new("/"), &machine), None);
}

#[test]
fn configurations_are_known_by_name() {
    for name in ["bunpilot.config.ts", "prod.config.js", "x.json", "ecosystem.config.cjs", "a.yml"]
    {
        assert!(is_config(Path::new(name)), "{name}");
    }
    for name in ["server.ts", "config.js", "app.py", "run", ""] {
        assert!(!is_config(Path::new(name)), "{name}");
    }
}

#[test]
fn pm2_is_understood() {
    let text = "module.exports = { apps: [{
        script: './a.ts', instances: 0, exec_mode: 'cluster', max_memory_restart: '1G',
        env: { PORT: 3000 }, env_production: { NODE_ENV: 'production' }, kill_timeout: 3000,
        out_file: './o.log',
    }] }";
    let name = "ecosystem.config.js";
    let base = Base { profile: Some("production".to_owned()), ..base() };
    let loaded = load_in(machine(name, text), name, &base).unwrap();
    let app = &loaded.apps[0];
    assert_eq!(app.name.as_str(), "a");
    assert_eq!(app.instances.get(), 6);
    assert_eq!(app.env.get("PORT").map(String::as_str), Some("3000"));
    assert_eq!(app.env.get("NODE_ENV").map(String::as_str), Some("production"));
    assert_eq!(app.kill_timeout.as_millis(), 3000);
    assert_eq!(app.logs.out_file.as_deref(), Some(Path::new("/srv/o.log")));
    let warnings: Vec<_> = loaded.warnings.iter().map(super::Problem::message).collect();
    assert_eq!(warnings, ["`max_memory_restart` of PM2 is ignored"]);
}

#[test]
fn what_will_not_be_heeded_is_said() {
    let text = r#"{
        "daemon": { "pidFile": "./p" },
        "apps": [
            { "name": "a", "script": "a.ts", "interpreter": "bun", "port": 80, "metrics": { "httpPort": 9700 },
              "clustering": { "strategy": "inherit" } },
            { "name": "b", "script": "a.ts", "metrics": { "httpPort": 9701 } },
            { "name": "c", "script": "a.ts", "interpreter": "bun", "port": 82, "instances": 2 }
        ]
    }"#;
    let loaded = good("bunpilot.json", text);
    let warnings: Vec<_> = loaded.warnings.iter().map(super::Problem::message).collect();
    let expected = [
        "the `daemon` section is not heeded",
        "`a` runs with bun, whose servers ignore inherited sockets",
        "there is one metrics server, and another app has it on port 9700",
    ];
    assert_eq!(warnings, expected);
    assert_eq!(super::resolve::http_port(&loaded.apps), Some(9700));
    let plain = good("bunpilot.json", r#"{ "name": "a", "script": "a.ts", "interpreter": "bun" }"#);
    assert_eq!((plain.warnings.len(), super::resolve::http_port(&plain.apps)), (0, None));
}
