//! A TOML text as a tree in which every key and value knows its place, so that reading can go on after a fault.

use crate::fault::{Faults, Place};
use toml::de::{DeTable, DeValue};

/// A value and its place; `place` of a table under a `[header]` is the header.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    /// Saturated where it does not fit.
    Integer(i128),
    Float(f64),
    Flag(bool),
    Date,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Value {
    /// What a person calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::Date => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl Node {
    /// Reads a whole document; syntax errors go to `faults`, all of them, and then there is no tree.
    pub(crate) fn document(text: &str, whole: Place, faults: &mut Faults) -> Option<Node> {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = error.span().map_or(whole, |span| faults.part(whole, span));
            let message = error.message().lines().collect::<Vec<_>>().join(": ");
            faults.push(place, "T0101", format!("not TOML: {message}"), "");
        }
        errors
            .is_empty()
            .then(|| Node { place: faults.part(whole, 0..0), value: table(root.get_ref(), whole, faults) })
    }

    /// Reads one value, as `--set` takes it: TOML, or else a text without its quotes.
    pub(crate) fn value(text: &str, place: Place, faults: &Faults) -> Node {
        let value = match DeValue::parse(text.trim()) {
            Ok(parsed) if !matches!(parsed.get_ref(), DeValue::Datetime(_)) => {
                let mut node = node(parsed.get_ref(), place, place, faults);
                node.settle(place);
                return node;
            }
            _ => Value::Text(text.trim().to_string()),
        };
        Node { place, value }
    }

    /// Gives every part the one place.
    fn settle(&mut self, place: Place) {
        self.place = place;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.settle(place)),
            Value::Table(entries) => {
                for entry in entries {
                    entry.place = place;
                    entry.node.settle(place);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// The place of `pipelines[1].stages[0].layers` below this node, or of the deepest part of that path that is there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let parts =
            path.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty());
        for part in parts {
            let next = match &node.value {
                Value::List(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
                _ => node.get(part),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.place
    }
}

fn table(table: &DeTable<'_>, whole: Place, faults: &Faults) -> Value {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let place = faults.part(whole, key.span());
            let node = node(value.get_ref(), faults.part(whole, value.span()), whole, faults);
            (key.span().start, Entry { key: key.get_ref().to_string(), place, node })
        })
        .collect();
    // The parser sorts by name; faults and messages follow the file.
    entries.sort_by_key(|(start, _)| *start);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn node(value: &DeValue<'_>, place: Place, whole: Place, faults: &Faults) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let negative = number.as_str().starts_with('-');
            let limit = if negative { i128::MIN } else { i128::MAX };
            Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(limit))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            let item = |i: &toml::Spanned<DeValue<'_>>| {
                node(i.get_ref(), faults.part(whole, i.span()), whole, faults)
            };
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Table(entries) => table(entries, whole, faults),
    };
    Node { place, value }
}
