//! YAML: its value, and its places.
//!
//! Read without a target type, so that `port: "3000"` stays a text and `name: 5` a number: what
//! is allowed is decided once, for all formats.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

use super::{Inside, Node};
use crate::config::fault::{Problem, Source};

pub(in crate::config) fn read(source: &Source) -> Result<(Value, Node), Problem> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let tree: Tree = serde_saphyr::from_str_with_options(source.text(), options)
        .map_err(|error| syntax(&error, source))?;
    Ok(tree.split(source))
}

fn syntax(error: &serde_saphyr::Error, source: &Source) -> Problem {
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    let problem = Problem::syntax(words.trim_start_matches("error: "));
    match error.location() {
        Some(location) => {
            let start = offset(location, source);
            problem.at(source, source.word(start))
        }
        None => problem,
    }
}

struct Tree(Spanned<Kind>);

enum Kind {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Spanned<String>, Tree)>),
}

impl Tree {
    fn split(self, source: &Source) -> (Value, Node) {
        let place = span(self.0.referenced, source);
        let (value, inside) = match self.0.value {
            Kind::Scalar(value) => (value, Inside::Opaque),
            Kind::List(items) => {
                let (values, nodes) = items.into_iter().map(|item| item.split(source)).unzip();
                (Value::Array(values), Inside::List(nodes))
            }
            Kind::Map(entries) => {
                let mut values = Map::new();
                let mut nodes = Vec::new();
                for (key, tree) in entries {
                    let (value, node) = tree.split(source);
                    let place = Some(span(key.referenced, source));
                    values.insert(key.value.clone(), value);
                    nodes.push((key.value, Node { key: place, ..node }));
                }
                (Value::Object(values), Inside::Map(nodes))
            }
        };
        (value, Node { key: None, value: place, inside })
    }
}

fn span(location: Location, source: &Source) -> Range<usize> {
    let start = offset(location, source);
    let length = location.span().byte_len().and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if length > 0 => start..start + length,
        Some(_) | None => source.word(start),
    }
}

fn offset(location: Location, source: &Source) -> usize {
    let zero_based = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or_default();
    source.offset(zero_based(location.line()), zero_based(location.column()))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Kind::Map(entries))
    }
}
