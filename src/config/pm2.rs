//! PM2's `ecosystem.config.*`: its keys in our words, where there is a word.
//!
//! What bunpilot does not do, or does in another way, is named in a warning; an unknown key stays,
//! and is a fault later.

use serde_json::{Map, Value};

use super::{
    fault::{Aim, Fault, Segment},
    shape::Moves,
};

/// Keys that only change their name.
const RENAMED: &[(&str, &str)] = &[
    ("out_file", "logs.outFile"),
    ("output", "logs.outFile"),
    ("error_file", "logs.errFile"),
    ("error", "logs.errFile"),
    ("exec_interpreter", "interpreter"),
    ("combine_logs", "logs.merge"),
    ("merge_logs", "logs.merge"),
    ("kill_timeout", "killTimeout"),
    ("listen_timeout", "readyTimeout"),
    ("max_restarts", "maxRestarts"),
    ("min_uptime", "minUptime"),
    ("restart_delay", "backoff.initial"),
    ("exp_backoff_restart_delay", "backoff.initial"),
    ("uid", "user"),
];

/// The file that keeps nothing.
const NOWHERE: &str = "/dev/null";

/// Keys of PM2 without a counterpart here.
const IGNORED: &[&str] = &[
    "append_env_to_name",
    "autorestart",
    "cron_restart",
    "exec_mode",
    "filter_env",
    "force",
    "gid",
    "ignore_watch",
    "increment_var",
    "instance_var",
    "interpreter_args",
    "log_file",
    "max_memory_restart",
    "namespace",
    "node_args",
    "pid_file",
    "shutdown_with_message",
    "source_map_support",
    "stop_exit_codes",
    "treekill",
    "vizion",
    "wait_ready",
    "watch",
    "watch_delay",
];

/// Keys of [`IGNORED`] that bunpilot fulfils anyway, so that no warning is due.
const FULFILLED: &[&str] = &["exec_mode", "treekill", "vizion", "wait_ready"];

/// Keys that choose what is written of each line, the stronger ones last.
const LINES: &[Lines] = &[
    Lines { key: "time", mode: "timestamps", difference: None },
    Lines {
        key: "log_date_format",
        mode: "timestamps",
        difference: Some("its times are always as in `2026-01-31T09:41:20.123Z`, in UTC"),
    },
    Lines {
        key: "log_type",
        mode: "json",
        difference: Some(
            "its fields are `time`, `app`, `worker`, `generation`, `stream`, `message`",
        ),
    },
];

/// A key of PM2 in place of which `logs.mode` is set.
struct Lines {
    key: &'static str,
    mode: &'static str,
    /// What somebody who reads the lines by program must know.
    difference: Option<&'static str>,
}

/// Puts one app into our words.
pub(super) fn translate(
    app: &mut Value,
    place: &[Segment],
    moves: &mut Moves,
    warnings: &mut Vec<Fault>,
) {
    let Some(map) = app.as_object_mut() else { return };
    for (theirs, ours) in RENAMED {
        if let Some(value) = map.shift_remove(*theirs) {
            let path: Vec<&str> = ours.split('.').collect();
            insert(map, &path, value);
            let to = path.into_iter().map(Segment::from).collect::<Vec<_>>();
            moves.note([place, &[Segment::from(*theirs)]].concat(), [place, &to].concat());
        }
    }
    for lines in LINES {
        if let Some(value) = map.shift_remove(lines.key) {
            lines.translate(&value, map, place, warnings);
        }
    }
    for key in IGNORED {
        if map.shift_remove(*key).is_some() && !FULFILLED.contains(key) {
            warnings.push(Fault {
                path: [place, &[Segment::from(*key)]].concat(),
                aim: Aim::Key,
                message: format!("`{key}` of PM2 is ignored"),
                help: None,
            });
        }
    }
    soften(map);
}

impl Lines {
    fn translate(
        &self,
        value: &Value,
        app: &mut Map<String, Value>,
        place: &[Segment],
        warnings: &mut Vec<Fault>,
    ) {
        let Self { key, mode, difference } = self;
        let asked = match value.as_str() {
            Some(text) if *key == "log_type" => text == *mode,
            Some(text) => !text.is_empty(),
            None => *value == true,
        };
        if !asked {
            return;
        }
        insert(app, &["logs", "mode"], Value::from(*mode));
        if let Some(difference) = difference {
            warnings.push(Fault {
                path: [place, &[Segment::from(*key)]].concat(),
                aim: Aim::Key,
                message: format!("`{key}` of PM2 becomes `logs.mode: '{mode}'`"),
                help: Some((*difference).to_owned()),
            });
        }
    }
}

/// PM2 is lax about types: numbers in `env`, `instances: 0` and a script without a name. It writes
/// `NULL` for no log file.
fn soften(map: &mut Map<String, Value>) {
    for (key, value) in map.iter_mut() {
        if key == "env" || key.starts_with("env_") {
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(write_out);
        }
    }
    if map.get("instances").is_some_and(|count| count == 0 || count == -1) {
        map.insert("instances".to_owned(), Value::from("max"));
    }
    for file in ["outFile", "errFile"] {
        let chosen = map.get_mut("logs").and_then(|logs| logs.get_mut(file));
        if let Some(chosen) = chosen.filter(|it| **it == "NULL") {
            *chosen = Value::from(NOWHERE);
        }
    }
    if let (None, Some(script)) = (map.get("name"), map.get("script").and_then(Value::as_str)) {
        let stem = std::path::Path::new(script).file_stem().unwrap_or_default();
        let name = Value::from(stem.to_string_lossy());
        map.insert("name".to_owned(), name);
    }
}

fn write_out(value: &mut Value) {
    if value.is_number() || value.is_boolean() {
        *value = Value::from(value.to_string());
    }
}

fn insert(map: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => {
            map.insert((*key).to_owned(), value);
        }
        [key, rest @ ..] => {
            let inner = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
            if let Some(inner) = inner.as_object_mut() {
                insert(inner, rest, value);
            }
        }
    }
}
