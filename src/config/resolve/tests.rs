//! What the words mean.

use std::{num::NonZeroU32, time::Duration};

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::{
    config::{
        from_value,
        paper::{Paper, base},
        settings,
    },
    domain::{Health, Signal, User},
};

fn machine() -> Paper {
    Paper::default().with("/srv/a.js", "").executable("/bin/node", "")
}

#[expect(clippy::needless_pass_by_value, reason = "the calls read better without `&`")]
fn raw(more: serde_json::Value) -> RawApp {
    let mut app = json!({ "name": "api", "script": "a.js" });
    for (key, value) in more.as_object().unwrap() {
        app[key] = value.clone();
    }
    from_value(app).unwrap().apps.unwrap().remove(0)
}

fn spec(more: serde_json::Value) -> AppSpec {
    app(&raw(more), &base(), &machine()).unwrap()
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the calls read better without `&`")]
fn refused(more: serde_json::Value, expected: Expect) {
    let faults = app(&raw(more), &base(), &machine()).unwrap_err();
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn defaults_are_the_originals() {
    expect![[r#"
        AppSpec {
            name: AppName(
                "api",
            ),
            script: "/srv/a.js",
            interpreter: [
                "/bin/node",
            ],
            args: [],
            cwd: "/srv",
            env: {
                "HOME": "/home/me",
                "PATH": "/bin",
            },
            instances: 1,
            port: None,
            user: None,
            limits: {},
            shutdown_signal: Signal(
                15,
            ),
            ready_timeout: 30s,
            kill_timeout: 5s,
            min_uptime: 30s,
            restart: Restart {
                max_restarts: 15,
                window: 900s,
                initial: 1s,
                growth_percent: 200,
                max: 30s,
            },
            health: None,
            logs: LogSpec {
                out_file: None,
                err_file: None,
                mode: Raw,
                files: Each,
                keep: Keep {
                    max_size_bytes: 10485760,
                    max_files: 5,
                    every: None,
                    max_age: None,
                    max_total_bytes: None,
                    compression: None,
                    syncing: Never,
                },
                on_full: Block,
            },
            metrics: MetricsSpec {
                enabled: true,
                prometheus: true,
                http_port: 9615,
                collect_interval: 5s,
                compat_names: true,
            },
            cluster: Cluster {
                enabled: false,
                strategy: Auto,
                balance: LeastConnections,
                weights: [],
                batch_size: 1,
                batch_delay: 1s,
            },
        }
    "#]]
    .assert_debug_eq(&spec(json!({})));
}

#[test]
fn health_checks_are_on_once_they_are_written() {
    let health = |value| spec(json!({ "port": 80, "healthCheck": value })).health;
    let expected = Health {
        path: "/health".to_owned(),
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        unhealthy_threshold: NonZeroU32::new(3).unwrap(),
    };
    assert_eq!(health(json!({})), Some(expected));
    assert_eq!(health(json!({ "enabled": false })), None);
    assert_eq!(spec(json!({ "healthCheck": { "enabled": false } })).health, None);
}

#[test]
fn clustering_is_on_for_whoever_has_a_port() {
    let enabled = |value| spec(value).cluster.enabled;
    assert!(enabled(json!({ "port": 80, "instances": 2 })));
    assert!(enabled(json!({ "port": 80, "instances": "max" })));
    assert!(enabled(json!({ "port": 80, "clustering": { "strategy": "inherit" } })));
    assert!(enabled(json!({ "port": 80, "clustering": { "enabled": true } })));
    assert!(enabled(json!({ "port": 80 })));
    assert!(!enabled(json!({ "instances": 2 })));
    assert!(!enabled(json!({ "port": 80, "instances": 2, "clustering": { "enabled": false } })));
}

#[test]
fn apart_stays_apart_with_more_workers() {
    let four = NonZeroU16::new(4).unwrap();
    let apart = json!({ "port": 80, "instances": 2, "clustering": { "enabled": false } });
    let scaled = rescale(&spec(apart), four);
    assert!(!scaled.cluster.enabled);
    assert_eq!(scaled.instances, four);
}

#[test]
fn the_environment_is_inherited_then_added_to() {
    let profile = |name: &str| Base { profile: Some(name.to_owned()), ..base() };
    let raw = raw(json!({
        "env": { "HOME": "/else", "A": "1" },
        "envs": { "staging": { "A": "2" } },
        "env_live": { "A": "3" },
    }));
    let value = |base: &Base, key: &str| app(&raw, base, &machine()).unwrap().env.get(key).cloned();
    assert_eq!(value(&base(), "HOME").as_deref(), Some("/else"));
    assert_eq!(value(&base(), "PATH").as_deref(), Some("/bin"));
    assert_eq!(value(&base(), "BUNPILOT_WORKER_ID"), None);
    assert_eq!(value(&base(), "A").as_deref(), Some("1"));
    assert_eq!(value(&profile("staging"), "A").as_deref(), Some("2"));
    assert_eq!(value(&profile("live"), "A").as_deref(), Some("3"));
    let alone = RawApp { inherit_env: Some(false), ..raw.clone() };
    let alone =
        app(&alone, &base(), &machine().executable("/usr/local/bin:/usr/bin:/bin/node", ""));
    assert_eq!(alone.unwrap().env.into_keys().collect::<Vec<_>>(), ["A", "HOME"]);
}

#[test]
fn paths_start_where_they_should() {
    let machine = machine().with("/srv/web/b.js", "");
    let raw = raw(json!({
        "cwd": "./web", "script": "./b.js", "logs": { "outFile": "./logs/o.log", "errFile": "/e.log" },
    }));
    let spec = app(&raw, &base(), &machine).unwrap();
    assert_eq!(spec.cwd, Path::new("/srv/web"));
    assert_eq!(spec.script, Path::new("/srv/web/b.js"));
    assert_eq!(spec.logs.out_file.as_deref(), Some(Path::new("/srv/logs/o.log")));
    assert_eq!(spec.logs.err_file.as_deref(), Some(Path::new("/e.log")));
}

#[test]
fn values_are_written_in_many_ways() {
    let spec = spec(json!({
        "instances": "max", "args": "--a 'b c'", "killTimeout": "1m30s", "shutdownSignal": "int",
        "logs": { "maxSize": "20MB" }, "backoff": { "multiplier": 1.5 }, "user": "www",
        "limits": { "nofile": 4096, "core": "unlimited", "as": "1GiB" },
    }));
    assert_eq!(spec.instances.get(), 6);
    assert_eq!(spec.args, ["--a", "b c"]);
    assert_eq!(spec.kill_timeout, Duration::from_secs(90));
    assert_eq!(spec.shutdown_signal, Signal::INT);
    assert_eq!(spec.logs.keep.max_size_bytes.get(), 20 << 20);
    assert_eq!(spec.restart.growth_percent, 150);
    assert_eq!(spec.user, Some(User { uid: 33, gid: 34 }));
    let limits = [("as", Some(1 << 30)), ("core", None), ("nofile", Some(4096))];
    assert_eq!(spec.limits, limits.map(|(name, limit)| (name.to_owned(), limit)).into());
}

#[test]
fn every_bound_is_enforced_on_both_sides() {
    for setting in settings::ALL {
        for outside in [setting.min.checked_sub(1), Some(setting.max + 1)].into_iter().flatten() {
            let written = match setting.unit {
                settings::Unit::Percent => {
                    json!(f64::from(u32::try_from(outside).unwrap()) / 100.0)
                }
                settings::Unit::Count | settings::Unit::Millis | settings::Unit::Bytes => {
                    json!(outside)
                }
            };
            let nested =
                setting.path.iter().rev().fold(written, |value, key| json!({ *key: value }));
            let mut more = json!({ "port": 80 });
            more[setting.path[0]] = nested[setting.path[0]].clone();
            let faults = app(&raw(more), &base(), &machine()).unwrap_err();
            let path: Vec<_> = setting.path.iter().map(|key| Segment::from(*key)).collect();
            assert_eq!(faults.len(), 1, "{setting:?}: {faults:?}");
            assert_eq!(faults[0].path, path);
            assert!(faults[0].message.contains("must be from"), "{}", faults[0]);
        }
    }
}

#[test]
fn a_crashed_worker_may_come_back_at_once() {
    assert_eq!(spec(json!({ "backoff": { "initial": 0 } })).restart.initial, Duration::ZERO);
}

#[test]
fn all_faults_come_at_once() {
    refused(
        json!({
            "name": "../../evil", "script": "b.js", "cwd": "/none", "killTimeout": 5, "port": 70_000,
            "shutdownSignal": "SIGKILL", "user": "nobody-here", "limits": { "files": 3 }, "args": "'",
            "env": { "A=B": "1" },
        }),
        expect![[r#"
            an app's name may hold letters, digits, `.`, `_` and `-`, and begins with a letter, a digit or `_`; `../../evil` does not do
            `cwd` is no folder: `/none`
            an environment variable has a name without `=`, and no NUL bytes
            `script` does not exist: `/none/b.js` (`b.js` was looked for in `cwd`, which is `/none`)
            `args` has a quote that is never closed
            `port` must be from 1 to 65535, not 70000
            there is no user `nobody-here` on this machine
            there is no limit `files` (there is as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack)
            no program can react to SIGKILL (use `SIGTERM` or `SIGINT`)
            `killTimeout` must be from 1 s to 2 min, not 5 ms"#]],
    );
}

#[test]
fn settings_must_agree() {
    refused(
        json!({
            "backoff": { "initial": 60_000 },
            "healthCheck": { "interval": "2s", "path": "health" },
            "clustering": { "strategy": "inherit" },
            "logs": { "outFile": "./logs/" },
        }),
        expect![[r#"
            `backoff.initial` must not exceed `backoff.max`, but 1 min > 30 s
            `healthCheck.timeout` must be less than `healthCheck.interval`, which is 2 s
            `healthCheck.path` must begin with `/` and hold no blanks
            `healthCheck` needs a `port` to ask (set `port`, or `healthCheck.enabled: false`)
            `logs.outFile` must name a file, not a folder
            strategy `inherit` needs a `port` to open (set `port`, or `clustering.enabled: false`)"#]],
    );
    refused(
        json!({ "clustering": { "strategy": "proxy" } }),
        expect!["strategy `proxy` is not built yet (use `inherit` or `reusePort`)"],
    );
}

#[test]
fn apps_must_differ() {
    let config = from_value(json!({ "apps": [
        { "name": "a", "script": "a.js", "port": 80 },
        { "name": "b", "script": "a.js", "port": 80 },
        { "name": "a", "script": "a.js" },
    ] }));
    let faults = apps(&config.unwrap(), &base(), &machine()).unwrap_err();
    expect![[r#"
        [Key("apps"), Index(1), Key("port")] `a` has port 80 already
        [Key("apps"), Index(2), Key("name")] another app is called `a`, too"#]]
    .assert_eq(
        &faults.iter().map(|it| format!("{:?} {it}", it.path)).collect::<Vec<_>>().join("\n"),
    );
}

#[track_caller]
fn runs(machine: Paper, app_keys: serde_json::Value, expected: &str) {
    let raw = raw(app_keys);
    let machine = machine.with("/srv/x", "");
    let got = match app(&raw, &base(), &machine) {
        Ok(spec) => [spec.interpreter, vec![spec.script.display().to_string()]].concat().join(" "),
        Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    assert_eq!(got, expected);
}

fn having(programs: &[&str]) -> Paper {
    programs
        .iter()
        .fold(Paper::default(), |paper, name| paper.executable(&format!("/bin/{name}"), ""))
}

#[test]
fn the_interpreter_is_chosen_by_extension_and_availability() {
    let ts = || json!({ "script": "a.ts" });
    let all = &["bun", "deno", "node", "python3", "sh", "ruby"];
    runs(having(all).with("/srv/a.ts", ""), ts(), "/bin/bun run /srv/a.ts");
    runs(having(&["deno", "node"]).with("/srv/a.ts", ""), ts(), "/bin/deno run -A /srv/a.ts");
    runs(Paper::default().node("v24.1.0").with("/srv/a.ts", ""), ts(), "/bin/node /srv/a.ts");
    runs(
        Paper::default().node("v22.7.0").with("/srv/a.ts", ""),
        ts(),
        "/bin/node --experimental-strip-types /srv/a.ts",
    );
    runs(
        Paper::default().node("v20.1.0").with("/srv/a.ts", ""),
        ts(),
        "`a.ts` needs bun, deno, or node 22.6 or newer, and none is installed; `/bin/node` is v20.1.0 (install one from https://bun.sh, https://deno.com or https://nodejs.org, or set `interpreter`)",
    );
    let js = || json!({ "script": "a.mjs" });
    runs(having(&["deno", "node"]).with("/srv/a.mjs", ""), js(), "/bin/node /srv/a.mjs");
    runs(having(&["deno"]).with("/srv/a.mjs", ""), js(), "/bin/deno run -A /srv/a.mjs");
    runs(
        having(&[]).with("/srv/a.mjs", ""),
        js(),
        "`a.mjs` needs bun, node or deno, and none is installed (install one from https://bun.sh or https://nodejs.org, or set `interpreter`)",
    );
    let py = || json!({ "script": "a.py" });
    runs(having(all).with("/srv/a.py", ""), py(), "/bin/python3 /srv/a.py");
    let venv = having(all).with("/srv/a.py", "").executable("/srv/.venv/bin/python", "");
    runs(venv, py(), "/srv/.venv/bin/python /srv/a.py");
    runs(having(all).with("/srv/a.rb", ""), json!({ "script": "a.rb" }), "/bin/ruby /srv/a.rb");
}

#[test]
fn shell_scripts_keep_their_shebang() {
    let sh = || json!({ "script": "a.sh" });
    runs(having(&["sh"]).with("/srv/a.sh", "echo"), sh(), "/bin/sh /srv/a.sh");
    runs(
        having(&["sh"]).with("/srv/a.sh", "#!/usr/bin/env bash\n"),
        sh(),
        "/usr/bin/env bash /srv/a.sh",
    );
    runs(having(&["sh"]).executable("/srv/a.sh", "#!/bin/bash\n"), sh(), "/srv/a.sh");
}

#[test]
fn scripts_may_run_by_themselves() {
    let tool = |more: &str| json!({ "script": "./tool", "interpreter": more });
    runs(having(&[]).executable("/srv/tool", ""), json!({ "script": "./tool" }), "/srv/tool");
    runs(having(&[]).executable("/srv/tool", ""), tool("none"), "/srv/tool");
    runs(
        having(&[]).with("/srv/tool", ""),
        json!({ "script": "./tool" }),
        "bunpilot does not know how to run `/srv/tool` (make it executable with `chmod +x /srv/tool`, or set `interpreter`)",
    );
    let sleep = |more: serde_json::Value| {
        having(&["sleep", "python3"]).executable("/srv/y", &more.to_string())
    };
    runs(sleep(json!(1)), json!({ "script": "sleep", "interpreter": "none" }), "/bin/sleep");
    runs(sleep(json!(1)), json!({ "script": "sleep" }), "/bin/sleep");
    runs(
        sleep(json!(1)),
        json!({ "script": "./sleep" }),
        "`script` does not exist: `/srv/sleep` (`./sleep` was looked for in `cwd`, which is `/srv`)",
    );
    runs(
        sleep(json!(1)),
        json!({ "script": "sleep", "interpreter": "python3" }),
        "`script` does not exist: `/srv/sleep` (`sleep` was looked for in `cwd`, which is `/srv`)",
    );
}

#[test]
fn a_named_interpreter_wins() {
    let with =
        |interpreter: serde_json::Value| json!({ "script": "x", "interpreter": interpreter });
    runs(having(&["node"]), with(json!("node --inspect")), "/bin/node --inspect /srv/x");
    runs(having(&["node"]), with(json!(["node", "-r", "a b"])), "/bin/node -r a b /srv/x");
    runs(having(&[]).executable("/srv/bin/r", ""), with(json!("./bin/r")), "/srv/bin/r /srv/x");
    runs(
        having(&[]),
        with(json!("perl")),
        "interpreter `perl` is not installed (it was looked for in `/bin`)",
    );
}
