//! A parallel plan: pipelines that need not be alike.
//!
//! One schema serves `PLAN.toml`, `[plan]` in a scenario and `plan` in the command's JSON. A group of `replicas` alike
//! pipelines is written once; replica `r` of a stage takes the `r`-th run of `tp` devices from the stage's list:
//!
//! ```
//! use sim_models::plan::Plan;
//! let plan: Plan = toml::from_str(r#"
//!     micro_batch = 2
//!     schedule = "1f1b"
//!     [[pipelines]]
//!     replicas = 2
//!     micro_batches = 8
//!     stages = [
//!         { layers = "0-12", tp = 4, devices = ["v100:0-7"] },
//!         { layers = "13-25", tp = 1, devices = ["a100:0-1"] },
//!     ]
//! "#)?;
//! assert_eq!(plan.devices().count(), 10);
//! # Ok::<(), toml::de::Error>(())
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Order in which a stage runs the forward and backward passes of its micro-batches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Schedule {
    /// One forward, one backward (PipeDream-flush, arXiv 2104.04473).
    #[default]
    #[serde(rename = "1f1b")]
    OneFOneB,
    /// All forwards, then all backwards (arXiv 1811.06965).
    #[serde(rename = "gpipe")]
    GPipe,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schedule::OneFOneB => "1f1b",
            Schedule::GPipe => "gpipe",
        })
    }
}

/// A parallel plan for one model on one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Samples in a micro-batch. At least 1.
    pub micro_batch: u32,
    /// Order of the passes.
    #[serde(default)]
    pub schedule: Schedule,
    /// Whether transfers between stages run beside compute. Off: a transfer holds sender and receiver.
    #[serde(default)]
    pub overlap_p2p: bool,
    /// Groups of alike pipelines.
    pub pipelines: Vec<PipelineGroup>,
}

/// `replicas` alike pipelines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineGroup {
    /// How many pipelines. At least 1.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Micro-batches that each of them takes in an iteration. At least 1.
    pub micro_batches: u32,
    /// Its stages, first to last.
    pub stages: Vec<Stage>,
}

fn one() -> u32 {
    1
}

/// One stage of a group of pipelines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its layers; 0 is the embedding, the last is the head.
    pub layers: LayerRange,
    /// Devices of one replica of the stage: tensor parallelism.
    #[serde(default = "one")]
    pub tp: u32,
    /// Devices of all replicas, replica by replica.
    pub devices: Vec<DeviceRange>,
}

impl Plan {
    /// Every device the plan names, in its order; a device named twice comes twice.
    pub fn devices(&self) -> impl Iterator<Item = (&str, u32)> {
        self.pipelines.iter().flat_map(|p| &p.stages).flat_map(Stage::devices)
    }

    /// Pipelines, all groups together.
    pub fn pipeline_count(&self) -> u64 {
        self.pipelines.iter().map(|p| u64::from(p.replicas)).sum()
    }

    /// Micro-batches of an iteration, all pipelines together.
    pub fn micro_batch_count(&self) -> u64 {
        self.pipelines.iter().map(|p| u64::from(p.replicas) * u64::from(p.micro_batches)).sum()
    }
}

impl Stage {
    /// The stage's devices as (node group, index in it).
    pub fn devices(&self) -> impl Iterator<Item = (&str, u32)> {
        self.devices.iter().flat_map(|d| (d.first..=d.last).map(move |i| (d.group.as_str(), i)))
    }

    /// How many devices the stage names.
    pub fn device_count(&self) -> u64 {
        self.devices.iter().map(|d| (u64::from(d.last) + 1).saturating_sub(d.first.into())).sum()
    }
}

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
as_string!(DeviceRange, "DeviceRange", "^.+:[0-9]+(-[0-9]+)?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_trip() {
        for text in ["0-12", "7"] {
            assert_eq!(text.parse::<LayerRange>().unwrap().to_string(), text);
        }
        for text in ["a100:0-15", "zone:x:3"] {
            assert_eq!(text.parse::<DeviceRange>().unwrap().to_string(), text);
        }
        for text in ["", "-", "5-2", "a", "1-4294967295", "-1-2", "1.5"] {
            assert!(text.parse::<LayerRange>().is_err(), "{text}");
        }
        for text in ["a100", ":3", "a100:", "a100:9-3"] {
            assert!(text.parse::<DeviceRange>().is_err(), "{text}");
        }
    }
}
