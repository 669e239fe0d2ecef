//! How each kind of value is read, once: its check, its message, and its part of the JSON Schema.
//!
//! [`table!`] declares a table of the format: its keys, whether each must be there, what each holds, an example and a
//! description. The declaration is the reader, the list of right names and the schema.

use crate::fault::{At, Faults, Place};
use crate::nearest::suggestion;
use crate::node::{Node, Value};
use crate::quantity::{self, Kind, QuantityError};
use schemars::{Schema, SchemaGenerator, json_schema};
use sim_core::{Rate, SimDuration};
use sim_models::plan::{DeviceRange, Layers};
use sim_models::units::Bytes;

/// Something that a node can hold.
pub(crate) trait Read: Sized {
    /// The value; `None` when faults were pushed instead.
    fn read(node: &Node, faults: &mut Faults) -> Option<Self>;
    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A fault of type.
fn wrong<T>(node: &Node, wanted: &str, faults: &mut Faults) -> Option<T> {
    let message = format!("expected {wanted}, found {}", node.value.kind());
    faults.push(node.place, "T0104", message, "");
    None
}

impl Read for String {
    fn read(node: &Node, faults: &mut Faults) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => wrong(node, "a text in quotes", faults),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A name: 1 to 100 characters, none of them a control character.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) String);

impl Read for Name {
    fn read(node: &Node, faults: &mut Faults) -> Option<Name> {
        let text = String::read(node, faults)?;
        if text.trim().is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
            let message = "not a name: empty, longer than 100 characters, or with control characters";
            faults.push(node.place, "T0113", message, "");
            return None;
        }
        Some(Name(text))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 100 })
    }
}

impl Read for bool {
    fn read(node: &Node, faults: &mut Faults) -> Option<bool> {
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => wrong(node, "`true` or `false`", faults),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Read for Int<MIN, MAX> {
    fn read(node: &Node, faults: &mut Faults) -> Option<Self> {
        let Value::Integer(number) = node.value else {
            return wrong(node, &format!("a whole number from {MIN} to {MAX}"), faults);
        };
        match u64::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Int(number)),
            _ => {
                let message = format!("`{}` is not from {MIN} to {MAX}", shown(number));
                faults.push(node.place, "T0107", message, "");
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// As 32 bits, which `MAX` must allow.
    pub(crate) fn u32(self) -> u32 {
        const { assert!(MAX <= u32::MAX as u64) };
        self.0 as u32
    }
}

/// Numbers past 64 bits were saturated: no figure to show.
fn shown(number: i128) -> String {
    if number == i128::MAX || number == i128::MIN {
        "a number of over 38 digits".into()
    } else {
        number.to_string()
    }
}

/// A finite number above zero, at most 10^15.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor(pub(crate) f64);

impl Read for Factor {
    fn read(node: &Node, faults: &mut Faults) -> Option<Factor> {
        let number = match node.value {
            Value::Float(number) => number,
            Value::Integer(number) => number as f64,
            _ => return wrong(node, "a number", faults),
        };
        if number > 0.0 && number <= 1e15 {
            return Some(Factor(number));
        }
        faults.push(node.place, "T0107", format!("`{number}` is not above 0 and at most 1e15"), "");
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1e15 })
    }
}

impl<T: Read> Read for Vec<At<T>> {
    /// Elements that do not read are left out, with their faults.
    fn read(node: &Node, faults: &mut Faults) -> Option<Self> {
        let items = match &node.value {
            Value::List(items) => items,
            Value::Table(_) => {
                let help = "one of several tables is written with two brackets, as `[[nodes]]`";
                faults.push(node.place, "T0104", "expected a list, found a table", help);
                return None;
            }
            _ => return wrong(node, "a list", faults),
        };
        Some(items.iter().filter_map(|item| at(item, faults)).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

/// The node's value with its place.
pub(crate) fn at<T: Read>(node: &Node, faults: &mut Faults) -> Option<At<T>> {
    T::read(node, faults).map(|value| At { value, place: node.place })
}

/// A text that `parse` takes, or a bare number that lacks its unit.
fn amount<T>(
    node: &Node,
    kind: Kind,
    faults: &mut Faults,
    parse: impl Fn(&str) -> Result<T, QuantityError>,
) -> Option<T> {
    let result = match &node.value {
        Value::Text(text) => parse(text),
        // No unit follows, so this is the error that asks for one, or the one about its range.
        Value::Integer(number) => parse(&number.to_string()),
        Value::Float(number) => parse(&number.to_string()),
        _ => return wrong(node, &format!("{} with its unit, in quotes", kind.name()), faults),
    };
    result.map_err(|error| faults.push(node.place, error.code(), error.to_string(), error.help())).ok()
}

macro_rules! amount {
    ($(#[doc = $doc:literal])* $name:ident($inner:ty), $kind:expr, $parse:path, $positive:literal, $is_zero:expr) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(pub(crate) $inner);

        impl Read for $name {
            fn read(node: &Node, faults: &mut Faults) -> Option<Self> {
                let value = amount(node, $kind, faults, $parse)?;
                if $positive && $is_zero(value) {
                    faults.push(node.place, "T0107", format!("{} of zero", $kind.name()), "it must be above zero");
                    return None;
                }
                Some($name(value))
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $kind.pattern() })
            }
        }
    };
}
amount!(
    /// Bytes, any number.
    Size(Bytes), Kind::Size, quantity::size, false, |v: Bytes| v.0 == 0);
amount!(
    /// Bytes, at least one.
    SomeSize(Bytes), Kind::Size, quantity::size, true, |v: Bytes| v.0 == 0);
amount!(
    /// A rate, zero included.
    AnyRate(Rate), Kind::Rate, quantity::rate, false, |v: Rate| v == Rate::ZERO);
amount!(
    /// A rate above zero.
    SomeRate(Rate), Kind::Rate, quantity::rate, true, |v: Rate| v == Rate::ZERO);
amount!(
    /// A length of time, zero included.
    Time(SimDuration), Kind::Time, quantity::duration, false, |v: SimDuration| v == SimDuration::ZERO);

amount!(
    /// A length of time in ns, which reaches further than a picosecond clock.
    LongTime(u64), Kind::LongTime, quantity::nanoseconds, false, |v: u64| v == 0);

macro_rules! range {
    ($type:ty) => {
        impl Read for $type {
            fn read(node: &Node, faults: &mut Faults) -> Option<Self> {
                let text = String::read(node, faults)?;
                text.parse::<$type>()
                    .map_err(|error| faults.push(node.place, "T0113", error.to_string(), ""))
                    .ok()
            }

            fn schema(generator: &mut SchemaGenerator) -> Schema {
                generator.subschema_for::<$type>()
            }
        }
    };
}
range!(Layers);
range!(DeviceRange);

/// A group of nodes, `a100`, or some of them, `a100:0-3`.
#[derive(Clone, Debug)]
pub(crate) enum NodesName {
    Group(String),
    Range(DeviceRange),
}

impl Read for NodesName {
    fn read(node: &Node, faults: &mut Faults) -> Option<Self> {
        let Name(text) = Name::read(node, faults)?;
        Some(match text.parse() {
            Ok(range) => NodesName::Range(range),
            Err(_) => NodesName::Group(text),
        })
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Name::schema(generator)
    }
}

/// Declares how the values of an enum are written.
macro_rules! choice {
    ($type:ty { $($text:literal => $value:expr),* $(,)? }) => {
        impl $crate::read::Read for $type {
            fn read(node: &$crate::node::Node, faults: &mut $crate::fault::Faults) -> Option<Self> {
                let text = String::read(node, faults)?;
                match text.as_str() {
                    $($text => return Some($value),)*
                    _ => {}
                }
                $crate::read::unknown_choice(node, &text, &[$($text),*], faults);
                None
            }

            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($text),*] })
            }
        }
    };
}
pub(crate) use choice;

pub(crate) fn unknown_choice(node: &Node, text: &str, choices: &[&str], faults: &mut Faults) {
    let text: String = text.chars().take(60).collect();
    faults.push(node.place, "T0108", format!("no such choice: `{text}`"), suggestion(&text, choices));
}

/// Declares a table: `key: required Type = "example"` or `key: optional Type = "example"`, each with its description.
/// Gives a struct with a field a key, `Option<At<Type>>`, `None` where the key is missing or its value is at fault.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident $shown:literal {
            $( $(#[doc = $doc:literal])+ $key:ident : $need:ident $type:ty = $example:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            pub(crate) place: $crate::fault::Place,
            given: Vec<&'static str>,
            $( $(#[doc = $doc])+ pub(crate) $key: Option<$crate::fault::At<$type>>, )*
        }

        impl $name {
            /// Says that a key which may be missing must be there after all; not when it was given and at fault.
            #[allow(dead_code)]
            pub(crate) fn lacks(&self, key: &str, faults: &mut $crate::fault::Faults) {
                if !self.given.contains(&key) {
                    let example = [$( (stringify!($key), $example) ),*].into_iter().find(|e| e.0 == key);
                    $crate::read::missing(self.place, key, $shown, example.map_or("", |e| e.1), faults);
                }
            }
        }

        #[cfg(test)]
        impl $name {
            /// Reads the example of each key.
            pub(crate) fn check_examples() {
                $(
                    let mut faults = $crate::fault::Faults::default();
                    let whole = faults.add_source("example", $example);
                    let node = $crate::node::Node::value($example, whole, &faults);
                    let read = $crate::read::at::<$type>(&node, &mut faults);
                    assert!(read.is_some() && faults.count() == 0, "{}: {:?}", stringify!($key), faults.finish());
                )*
            }
        }

        impl $crate::read::Read for $name {
            fn read(node: &$crate::node::Node, faults: &mut $crate::fault::Faults) -> Option<Self> {
                let mut table = $name { place: node.place, given: Vec::new(), $( $key: None, )* };
                let entries = $crate::read::entries(node, $shown, faults)?;
                for entry in entries {
                    match entry.key.as_str() {
                        $( stringify!($key) => {
                            table.given.push(stringify!($key));
                            table.$key = $crate::read::at(&entry.node, faults);
                        } )*
                        key => $crate::read::unknown_key(entry.place, key, $shown, &[$(stringify!($key)),*], faults),
                    }
                }
                $(
                    if stringify!($need) == "required" {
                        table.lacks(stringify!($key), faults);
                    }
                )*
                Some(table)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let keys: Vec<$crate::read::Key> = vec![$( $crate::read::Key {
                    name: stringify!($key),
                    required: stringify!($need) == "required",
                    about: concat!($($doc),+),
                    schema: <$type as $crate::read::Read>::schema(generator),
                } ),*];
                $crate::read::table_schema(concat!($($about),+), keys)
            }
        }
    };
}
pub(crate) use table;

pub(crate) fn entries<'a>(
    node: &'a Node,
    shown: &str,
    faults: &mut Faults,
) -> Option<&'a [crate::node::Entry]> {
    match &node.value {
        Value::Table(entries) => Some(entries),
        _ => wrong(node, &format!("the table `{shown}`"), faults),
    }
}

pub(crate) fn unknown_key(place: Place, key: &str, shown: &str, keys: &[&str], faults: &mut Faults) {
    let key: String = key.chars().take(60).collect();
    faults.push(place, "T0102", format!("unknown key `{key}` in {shown}"), suggestion(&key, keys));
}

pub(crate) fn missing(place: Place, key: &str, shown: &str, example: &str, faults: &mut Faults) {
    faults.push(place, "T0103", format!("{shown} lacks `{key}`"), format!("for example `{key} = {example}`"));
}

/// A key of a table, for its schema.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) about: &'static str,
    pub(crate) schema: Schema,
}

pub(crate) fn table_schema(about: &str, keys: Vec<Key>) -> Schema {
    let required: Vec<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut schema = json_schema!({
        "type": "object",
        "description": about.trim(),
        "additionalProperties": false,
        "required": required,
    });
    let mut properties = serde_json::Map::new();
    for Key { name, about, mut schema, .. } in keys {
        schema.insert("description".into(), about.trim().into());
        properties.insert(name.into(), schema.to_value());
    }
    schema.insert("properties".into(), properties.into());
    schema
}
