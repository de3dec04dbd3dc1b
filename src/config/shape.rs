//! From any value to the mirror of the file: all wrong types and unknown keys at once.
//!
//! serde stops at its first error. Since every field is optional, the offending entry can be
//! taken out and the rest read again, until nothing offends.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment as Step;

use super::{
    fault::{Aim, Fault, Segment},
    pm2,
    raw::RawConfig,
};

/// Most faults looked for: nobody reads more, and every one costs a pass.
const FAULTS_MAX: usize = 50;

/// How alike two keys must be for one to be offered for the other.
const ALIKE_MIN: f64 = 0.8;

/// A value in the shape of a configuration, as far as it has it.
pub(super) struct Shaped {
    pub(super) raw: RawConfig,
    pub(super) faults: Vec<Fault>,
    /// Keys that stand elsewhere in the file than in `raw`.
    pub(super) moves: Moves,
    /// What was understood, but not heeded.
    pub(super) warnings: Vec<Fault>,
}

/// Whose words the file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Bunpilot,
    Pm2,
}

/// Where moved keys came from, newest last.
#[derive(Debug, Default)]
pub(super) struct Moves(Vec<Move>);

#[derive(Debug)]
struct Move {
    to: Vec<Segment>,
    from: Vec<Segment>,
}

impl Moves {
    pub(super) fn note(&mut self, from: Vec<Segment>, to: Vec<Segment>) {
        self.0.push(Move { to, from });
    }

    /// Where `path` stands in the file.
    pub(super) fn origin(&self, path: &[Segment]) -> Vec<Segment> {
        self.0.iter().rev().fold(path.to_vec(), |path, one| match path.strip_prefix(&*one.to) {
            Some(rest) => [&one.from, rest].concat(),
            None => path,
        })
    }
}

pub(super) fn shape(value: Value, dialect: Dialect) -> Shaped {
    let mut moves = Moves::default();
    let mut value = wrapped(without_schema(value), &mut moves);
    let mut warnings = Vec::new();
    if let Some(apps) = value.get_mut("apps").and_then(Value::as_array_mut) {
        for (index, app) in apps.iter_mut().enumerate() {
            let place = [Segment::from("apps"), Segment::from(index)];
            if dialect == Dialect::Pm2 {
                pm2::translate(app, &place, &mut moves, &mut warnings);
            }
            gather_profiles(app, &place, &mut moves);
        }
    }
    let (raw, faults) = read(value);
    Shaped { raw, faults, moves, warnings }
}

/// Editors look for the schema under a key of the file itself.
fn without_schema(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("$schema");
    }
    value
}

/// Gives a single app, or a bare list of apps, the frame they lack.
fn wrapped(value: Value, moves: &mut Moves) -> Value {
    match value {
        Value::Object(map) if !map.contains_key("apps") && is_app(&map) => {
            moves.note(vec![], vec![Segment::from("apps"), Segment::from(0)]);
            serde_json::json!({ "apps": [Value::Object(map)] })
        }
        Value::Array(apps) => {
            moves.note(vec![], vec![Segment::from("apps")]);
            serde_json::json!({ "apps": apps })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            value
        }
    }
}

fn is_app(map: &serde_json::Map<String, Value>) -> bool {
    map.contains_key("script") || map.contains_key("name")
}

/// Moves PM2's `env_<profile>` into `envs`.
fn gather_profiles(app: &mut Value, place: &[Segment], moves: &mut Moves) {
    let Some(map) = app.as_object_mut() else { return };
    let keys: Vec<_> = map.keys().filter(|key| key.starts_with("env_")).cloned().collect();
    for key in keys {
        let Some(profile) = key.strip_prefix("env_") else { continue };
        let envs = map.entry("envs").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if !envs.is_object() {
            return;
        }
        let to = [place, &[Segment::from("envs"), Segment::from(profile)]].concat();
        let value = map.shift_remove(&key).unwrap_or_default();
        if let Some(envs) = map.get_mut("envs").and_then(Value::as_object_mut) {
            envs.insert(profile.to_owned(), value);
        }
        moves.note([place, &[Segment::Key(key)]].concat(), to);
    }
}

/// Reads what can be read, and says what cannot.
fn read<T: DeserializeOwned + Default>(mut value: Value) -> (T, Vec<Fault>) {
    let mut faults = Vec::new();
    while faults.len() < FAULTS_MAX {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(whole) => return (whole, faults),
            Err(error) => error,
        };
        let path = segments(error.path());
        faults.push(explain(&path, &error.into_inner().to_string()));
        if !take_out(&mut value, &path) {
            break;
        }
    }
    (T::default(), faults)
}

fn segments(path: &serde_path_to_error::Path) -> Vec<Segment> {
    path.iter()
        .map_while(|step| match step {
            Step::Map { key } => Some(Segment::Key(key.clone())),
            Step::Seq { index } => Some(Segment::Index(*index)),
            Step::Enum { .. } | Step::Unknown => None,
        })
        .collect()
}

/// Takes the entry at `path` out, or empties it if it is an item of a list, whose places count.
fn take_out(value: &mut Value, path: &[Segment]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    let Some(parent) = above.iter().try_fold(value, step_into) else { return false };
    match (last, parent) {
        (Segment::Key(key), Value::Object(map)) => map.shift_remove(key).is_some(),
        (Segment::Index(index), Value::Array(items)) => match items.get_mut(*index) {
            Some(item) if above == [Segment::from("apps")] && !item.is_object() => {
                *item = Value::Object(serde_json::Map::new());
                true
            }
            Some(_) => {
                items.clear();
                true
            }
            None => false,
        },
        _ => false,
    }
}

fn step_into<'v>(value: &'v mut Value, segment: &Segment) -> Option<&'v mut Value> {
    match segment {
        Segment::Key(key) => value.get_mut(key),
        Segment::Index(index) => value.get_mut(index),
    }
}

/// What serde says it expects where one of several words may stand.
const ENUM: &str = "string or map";

/// Puts serde's words into ours.
fn explain(path: &[Segment], error: &str) -> Fault {
    let key = dotted(path);
    let fault = |aim, message, help| Fault { path: path.to_vec(), aim, message, help };
    let quoted: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    let (bad, known) = quoted.split_first().unwrap_or((&"", &[]));
    if error.starts_with("unknown field") {
        return fault(Aim::Key, format!("unknown key `{bad}`"), Some(offer(bad, known)));
    }
    if error.starts_with("unknown variant") {
        return fault(Aim::Value, format!("{key} cannot be `{bad}`"), Some(offer(bad, known)));
    }
    let words = error.strip_prefix("invalid type: ").or(error.strip_prefix("invalid value: "));
    match words.and_then(|words| words.split_once(", expected ")) {
        Some((found, expected)) => {
            let message = format!("{key} must be {}, not {}", plain(expected), plain(found));
            let help = match expected {
                "a string" if found.contains('`') => Some("put it in quotes".to_owned()),
                ENUM => Some("`bunpilot config schema` lists the words".to_owned()),
                _ => None,
            };
            fault(Aim::Value, message, help)
        }
        None => fault(Aim::Value, format!("{key}: {error}"), None),
    }
}

/// The innermost named entry, with what leads to it inside its app.
fn dotted(path: &[Segment]) -> String {
    let inner = match path {
        [Segment::Key(apps), Segment::Index(_), inner @ ..] if apps == "apps" => inner,
        _ => path,
    };
    let parts = inner.iter().map(|segment| match segment {
        Segment::Key(key) => format!(".{key}"),
        Segment::Index(index) => format!("[{index}]"),
    });
    let text: String = parts.collect();
    let text = text.trim_start_matches('.');
    match (text.is_empty(), path.is_empty()) {
        (true, true) => "the configuration".to_owned(),
        (true, false) => "an app".to_owned(),
        (false, _) => format!("`{text}`"),
    }
}

/// serde's names for types, as users of JavaScript know them.
fn plain(words: &str) -> String {
    match words {
        "unit value" | "null" => "null".to_owned(),
        "map" | "a map" => "an object".to_owned(),
        "sequence" | "a sequence" => "a list".to_owned(),
        ENUM => "a word".to_owned(),
        "f64" | "u32" => "a number".to_owned(),
        words if words.starts_with("struct ") => "an object".to_owned(),
        words => [
            ("string \"", "the text \""),
            ("integer ", "the number "),
            ("floating point ", "the number "),
            ("boolean ", ""),
        ]
        .iter()
        .find_map(|(theirs, ours)| Some(format!("{ours}{}", words.strip_prefix(theirs)?)))
        .unwrap_or_else(|| words.to_owned()),
    }
}

fn offer(bad: &str, known: &[&str]) -> String {
    let likeness = |word: &&str| strsim::jaro_winkler(&bad.to_lowercase(), &word.to_lowercase());
    let nearest =
        known.iter().map(|word| (likeness(word), word)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((alike, word)) if alike >= ALIKE_MIN => format!("did you mean `{word}`?"),
        _ => format!(
            "there is {}",
            known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}
