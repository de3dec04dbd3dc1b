//! Values that may be written in more than one way.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer},
};

use super::super::settings::{parse_bytes, parse_millis};

/// A whole number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count(pub u64);

/// A duration in milliseconds: a number, or a text like `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Millis(pub u64);

/// A size in bytes: a number, or a text like `10MB`; units are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes(pub u64);

/// A number of workers, or `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// So many.
    Count(u64),
    /// One per CPU.
    Max,
}

/// How long one log file takes output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// To the end of the hour, local time.
    Hour,
    /// To the end of the day, local time.
    Day,
    /// So many milliseconds.
    Millis(u64),
}

/// A resource limit: a number, a size, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most so much.
    Most(u64),
    /// No limit.
    Unlimited,
}

/// A list of words, or one text that is split as a shell would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Words {
    /// To be split.
    Line(String),
    /// Already split.
    List(Vec<String>),
}

/// Whom to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user's name; the group is the user's own.
    Name(String),
    /// User and group by number.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    uid: u32,
    gid: u32,
}

/// Reads a whole number, or a text that `parse` understands.
struct Whole {
    expects: &'static str,
    parse: fn(&str) -> Option<u64>,
}

impl Whole {
    fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        expects: &'static str,
        parse: fn(&str) -> Option<u64>,
    ) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Self { expects, parse })
    }
}

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).or(Err(E::invalid_value(de::Unexpected::Signed(value), &self)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
        whole(value).ok_or(E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).ok_or(E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// The whole number that `value` is, if it is one.
pub(crate) fn whole(value: f64) -> Option<u64> {
    // `Display` writes an f64 exactly, without exponent.
    if value.fract() == 0.0 && value >= 0.0 { value.to_string().parse().ok() } else { None }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Whole::read(deserializer, "a whole number", |_| None).map(Self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "a duration: milliseconds, or a text like `30s`, `5m` or `1h30m`";
        Whole::read(deserializer, expects, parse_millis).map(Self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "a size: bytes, or a text like `512KB`, `10MB` or `1GiB`";
        Whole::read(deserializer, expects, parse_bytes).map(Self)
    }
}

/// Stands for a word in a [`Whole`] that may also be a word; no such number can be meant.
const WORD: u64 = u64::MAX;

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |text: &str| (text == "max").then_some(WORD);
        Whole::read(deserializer, "a whole number or `max`", word)
            .map(|value| if value == WORD { Self::Max } else { Self::Count(value) })
    }
}

/// Stands for another word, where there are two.
const OTHER_WORD: u64 = WORD - 1;

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |text: &str| match text {
            "hourly" => Some(WORD),
            "daily" => Some(OTHER_WORD),
            text => parse_millis(text),
        };
        Whole::read(deserializer, "`hourly`, `daily`, or a duration like `12h`", word).map(
            |value| match value {
                WORD => Self::Hour,
                OTHER_WORD => Self::Day,
                millis => Self::Millis(millis),
            },
        )
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |text: &str| (text == "unlimited").then_some(WORD).or(parse_bytes(text));
        Whole::read(deserializer, "a whole number, a size like `1GiB`, or `unlimited`", word)
            .map(|value| if value == WORD { Self::Unlimited } else { Self::Most(value) })
    }
}

impl Serialize for Instances {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Max => serializer.serialize_str("max"),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hour => serializer.serialize_str("hourly"),
            Self::Day => serializer.serialize_str("daily"),
            Self::Millis(millis) => serializer.serialize_u64(*millis),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Most(most) => serializer.serialize_u64(*most),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words::Line(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Words, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Words::List)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Owner;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user's name, or `{ uid, gid }`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Owner, E> {
                Ok(Owner::Name(name.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Owner, A::Error> {
                let Ids { uid, gid } = Ids::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Owner::Ids { uid, gid })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Ids { uid, gid } => {
                BTreeMap::from([("uid", uid), ("gid", gid)]).serialize(serializer)
            }
        }
    }
}

macro_rules! schema {
    ($($type:ident: $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    Count: { "type": "integer" };
    Millis: { "type": ["integer", "string"], "pattern": r"^\s*(\d+\s*(ms|s|sec|m|min|h|d)\s*)+$" };
    Bytes: { "type": ["integer", "string"], "pattern": r"^\s*(\d+\s*([KkMmGgTt]([Ii]?[Bb])?|[Bb])\s*)+$" };
    Instances: { "type": ["integer", "string"], "pattern": "^max$" };
    Every: { "type": ["integer", "string"], "pattern": r"^\s*(hourly|daily|(\d+\s*(ms|s|sec|m|min|h|d)\s*)+)$" };
    Limit: { "type": ["integer", "string"], "minimum": 0 };
    Words: { "type": ["string", "array"], "items": { "type": "string" } };
    Owner: {
        "type": ["string", "object"],
        "properties": {
            "uid": { "type": "integer", "minimum": 0 },
            "gid": { "type": "integer", "minimum": 0 }
        },
        "required": ["uid", "gid"],
        "additionalProperties": false
    };
}
