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

mod range;

pub use range::{DeviceRange, LayerRange, Layers, RangeError};

use crate::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// 1F1B over several virtual stages a device (arXiv 2104.04473, section 2.2): a stage's layers are several ranges.
    #[serde(rename = "interleaved")]
    Interleaved,
    /// 1F1B with the weight gradients of a backward pass in a pass of their own, which fills bubbles (arXiv 2401.10241):
    /// ZB-H1, or with `in_flight` more micro-batches under way, up to ZB-H2.
    #[serde(rename = "zero-bubble")]
    ZeroBubble,
}

impl Schedule {
    /// All of them, in the order of their names in files.
    pub const ALL: [Schedule; 4] =
        [Schedule::OneFOneB, Schedule::GPipe, Schedule::Interleaved, Schedule::ZeroBubble];
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schedule::OneFOneB => "1f1b",
            Schedule::GPipe => "gpipe",
            Schedule::Interleaved => "interleaved",
            Schedule::ZeroBubble => "zero-bubble",
        })
    }
}

/// What of a forward pass is done again in the backward pass instead of being kept (arXiv 2205.05198).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// The attention between its projections.
    Selective,
    /// Every block, from its input.
    Full,
}

impl fmt::Display for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Recompute::None => "none",
            Recompute::Selective => "selective",
            Recompute::Full => "full",
        })
    }
}

/// How replicas make their gradients equal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum GradientSync {
    /// An all-reduce, then every replica updates everything.
    #[default]
    AllReduce,
    /// A reduce-scatter and an all-gather in its place. With ZeRO the gather is of the updated parameters, always.
    ReduceScatter,
}

impl fmt::Display for GradientSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GradientSync::AllReduce => "all-reduce",
            GradientSync::ReduceScatter => "reduce-scatter",
        })
    }
}

/// A parallel plan for one model on one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// Zero-bubble only: most micro-batches whose activations the first stage holds, from the number of stages (ZB-H1, the
    /// default) to twice that less one (ZB-H2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Whether what tensor parallelism leaves on every rank (norms, dropouts) is split over the sequence (arXiv 2205.05198).
    #[serde(default, skip_serializing_if = "is_false")]
    pub sequence_parallel: bool,
    /// Whether communication inside layers, of tensor and expert parallelism, runs beside their kernels.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overlap_tp: bool,
    /// What replicas share out instead of each holding all of it (arXiv 1910.02054): 0 nothing, 1 optimizer state, 2 gradients
    /// too, 3 parameters too (FSDP).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zero: u8,
    /// How replicas make their gradients equal.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradient_sync: GradientSync,
    /// Gradients are sent in pieces of about this size; all of a stage at once when missing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::units::exact")]
    #[schemars(with = "Option<String>")]
    pub gradient_bucket: Option<Bytes>,
    /// Whether gradients are sent while the last backward passes run, and parameters gathered while the first forward passes do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overlap_gradients: bool,
    /// ZeRO 1 and 2 with `overlap_gradients`: parameters are gathered after the step with nothing beside it, not while the first
    /// forward passes run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gather_after_step: bool,
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

fn is_one(n: &u32) -> bool {
    *n == 1
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(n: &u8) -> bool {
    *n == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One stage of a group of pipelines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its layers; 0 is the embedding, the last is the head. Interleaved: one range for each virtual stage, `"0-3,8-11"`.
    pub layers: Layers,
    /// Tensor parallelism: devices that share every layer. A replica of the stage has `tp x cp` devices.
    #[serde(default = "one")]
    pub tp: u32,
    /// Context parallelism: parts into which a sequence is cut (ring attention, arXiv 2310.01889).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub cp: u32,
    /// Expert parallelism: devices, over all replicas of the stage, that share out the experts of a layer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ep: u32,
    /// What is recomputed in its backward passes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recompute: Recompute,
    /// Devices of all replicas, replica by replica.
    pub devices: Vec<DeviceRange>,
}

impl Default for PipelineGroup {
    fn default() -> Self {
        PipelineGroup { replicas: 1, micro_batches: 1, stages: Vec::new() }
    }
}

impl Default for Stage {
    /// One layer, 0, on no device.
    fn default() -> Self {
        Stage {
            layers: LayerRange { first: 0, last: 0 }.into(),
            tp: 1,
            cp: 1,
            ep: 1,
            recompute: Recompute::None,
            devices: Vec::new(),
        }
    }
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
    /// Devices of one replica.
    pub fn width(&self) -> u32 {
        self.tp.saturating_mul(self.cp)
    }

    /// The stage's devices as (node group, index in it).
    pub fn devices(&self) -> impl Iterator<Item = (&str, u32)> {
        self.devices.iter().flat_map(|d| (d.first..=d.last).map(move |i| (d.group.as_str(), i)))
    }

    /// How many devices the stage names.
    pub fn device_count(&self) -> u64 {
        self.devices.iter().map(|d| (u64::from(d.last) + 1).saturating_sub(d.first.into())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_defaults_is_written_short() {
        let plan = Plan { micro_batch: 1, gradient_bucket: Some(Bytes(25 << 20)), ..Plan::default() };
        let text = toml::to_string(&plan).unwrap();
        assert!(text.contains("gradient_bucket = \"25 MiB\"") && !text.contains("zero"), "{text}");
        assert_eq!(toml::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn layers_in_several_ranges() {
        let layers: Layers = "0-3, 8-11".parse().unwrap();
        assert_eq!((layers.to_string().as_str(), layers.count(), layers.chunks().len()), ("0-3,8-11", 8, 2));
        assert!(layers.contains(9) && !layers.contains(4));
    }

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
