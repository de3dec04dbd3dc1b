//! TOML: its value, and its places.

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Inside, Node};
use crate::config::fault::{Problem, Source};

pub(in crate::config) fn read(source: &Source) -> Result<(Value, Node), Problem> {
    let table = DeTable::parse(source.text()).map_err(|error| {
        let problem = Problem::syntax(error.message());
        match error.span() {
            Some(span) => problem.at(source, span),
            None => problem,
        }
    })?;
    let span = table.span();
    let (value, inside) = entries(table.get_ref());
    Ok((value, Node { key: None, value: span, inside }))
}

fn entries(table: &DeTable<'_>) -> (Value, Inside) {
    let mut values = Map::new();
    let mut nodes = Vec::new();
    for (key, entry) in table {
        let (value, node) = of(entry);
        values.insert(key.get_ref().to_string(), value);
        nodes.push((key.get_ref().to_string(), Node { key: Some(key.span()), ..node }));
    }
    (Value::Object(values), Inside::Map(nodes))
}

fn of(entry: &Spanned<DeValue<'_>>) -> (Value, Node) {
    let (value, inside) = match entry.get_ref() {
        DeValue::Table(table) => entries(table),
        DeValue::Array(items) => {
            let (values, nodes) = items.iter().map(of).unzip();
            (Value::Array(values), Inside::List(nodes))
        }
        DeValue::String(text) => (Value::from(text.as_ref()), Inside::Opaque),
        DeValue::Boolean(value) => (Value::from(*value), Inside::Opaque),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            (parsed.map_or(Value::Null, Value::from), Inside::Opaque)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>();
            (parsed.map_or(Value::Null, Value::from), Inside::Opaque)
        }
        DeValue::Datetime(moment) => (Value::from(moment.to_string()), Inside::Opaque),
    };
    (value, Node { key: None, value: entry.span(), inside })
}
