//! Ranges of layers and devices, as plans write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Layers `first ..= last`, written `"0-12"` (or `"7"` for one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRange {
    /// First layer.
    pub first: u32,
    /// Last layer, not before `first`.
    pub last: u32,
}

impl LayerRange {
    /// How many layers. At least 1.
    pub fn count(self) -> u32 {
        self.last - self.first + 1
    }

    /// The layers, in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        self.first..=self.last
    }
}

/// The layers of a stage: one range, or one for each of its virtual stages, written `"0-3,8-11"`. At least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Layers(Vec<LayerRange>);

impl From<LayerRange> for Layers {
    fn from(range: LayerRange) -> Layers {
        Layers(vec![range])
    }
}

impl Layers {
    /// Of one range or more, in order; `None` of none.
    pub fn of(chunks: Vec<LayerRange>) -> Option<Layers> {
        (!chunks.is_empty()).then_some(Layers(chunks))
    }

    /// The ranges, one for each virtual stage.
    pub fn chunks(&self) -> &[LayerRange] {
        &self.0
    }

    /// The first layer of the first range.
    pub fn first(&self) -> u32 {
        self.0[0].first
    }

    /// The last layer of the last range.
    pub fn last(&self) -> u32 {
        self.0[self.0.len() - 1].last
    }

    /// How many layers. At least 1.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|r| r.count()).sum()
    }

    /// The layers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|r| r.iter())
    }

    /// Whether a layer is among them.
    pub fn contains(&self, layer: u32) -> bool {
        self.0.iter().any(|r| r.first <= layer && layer <= r.last)
    }
}

impl FromStr for Layers {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Layers)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Devices `first ..= last` of a node group, written `"a100:0-15"` (or `"a100:3"` for one). Device `i` is on node
/// `i / gpus_per_node` of the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceRange {
    /// Name of the node group.
    pub group: String,
    /// First device.
    pub first: u32,
    /// Last device, not before `first`.
    pub last: u32,
}

/// Why a range could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct RangeError {
    text: String,
    expected: &'static str,
}

fn parse_range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < u32::MAX).then_some((first, last))
}

fn fmt_range(f: &mut fmt::Formatter<'_>, first: u32, last: u32) -> fmt::Result {
    if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
}

impl FromStr for LayerRange {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        match parse_range(text) {
            Some((first, last)) => Ok(LayerRange { first, last }),
            None => {
                Err(RangeError { text: text.into(), expected: "a range of layers such as `0-12` or `7`" })
            }
        }
    }
}

impl FromStr for DeviceRange {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let error = || RangeError {
            text: text.into(),
            expected: "a range of devices such as `a100:0-15` or `a100:3`",
        };
        let (group, range) = text.rsplit_once(':').ok_or_else(error)?;
        let (first, last) = parse_range(range).ok_or_else(error)?;
        if group.is_empty() {
            return Err(error());
        }
        Ok(DeviceRange { group: group.into(), first, last })
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_range(f, self.first, self.last)
    }
}

impl fmt::Display for DeviceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.group)?;
        fmt_range(f, self.first, self.last)
    }
}

macro_rules! as_string {
    ($type:ident, $name:literal, $pattern:literal) => {
        impl TryFrom<String> for $type {
            type Error = RangeError;
            fn try_from(text: String) -> Result<Self, RangeError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(range: $type) -> String {
                range.to_string()
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}
as_string!(LayerRange, "LayerRange", "^[0-9]+(-[0-9]+)?$");
as_string!(Layers, "Layers", "^[0-9]+(-[0-9]+)?(, *[0-9]+(-[0-9]+)?)*$");
as_string!(DeviceRange, "DeviceRange", "^.+:[0-9]+(-[0-9]+)?$");
