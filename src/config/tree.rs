//! Where each value of a file stands in its text.
//!
//! Every format builds the same tree; [`Node::find`] walks it. Knows places, never meanings.

pub(super) mod script;
pub(super) mod toml;
pub(super) mod yaml;

use std::ops::Range;

use super::fault::{Aim, Segment};

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its key, if it is an entry of a map.
    pub(super) key: Option<Range<usize>>,
    /// The value.
    pub(super) value: Range<usize>,
    pub(super) inside: Inside,
}

/// What a [`Node`] contains, as far as the text shows it.
#[derive(Clone, Debug)]
pub(super) enum Inside {
    /// Nothing, or something only the evaluator knows.
    Opaque,
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
}

impl Node {
    pub(super) fn leaf(value: Range<usize>) -> Self {
        Self { key: None, value, inside: Inside::Opaque }
    }

    /// The place of `path`, or of the innermost value around it that the text shows.
    pub(super) fn find(&self, path: &[Segment], aim: Aim) -> Range<usize> {
        let Some((first, rest)) = path.split_first() else {
            return match (aim, &self.key) {
                (Aim::Key, Some(key)) => key.clone(),
                (Aim::Key | Aim::Value, _) => self.value.clone(),
            };
        };
        match self.child(first) {
            Some(child) => child.find(rest, aim),
            None => self.key.clone().unwrap_or_else(|| self.value.clone()),
        }
    }

    fn child(&self, segment: &Segment) -> Option<&Self> {
        match (&self.inside, segment) {
            // The last one counts, as in JavaScript.
            (Inside::Map(entries), Segment::Key(key)) => {
                entries.iter().rev().find(|(name, _)| name == key).map(|(_, node)| node)
            }
            (Inside::List(items), Segment::Index(index)) => items.get(*index),
            (Inside::Opaque | Inside::Map(_) | Inside::List(_), _) => None,
        }
    }
}
