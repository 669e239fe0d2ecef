//! NCCL's constants (`tuning.toml`), checked once.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Latencies of a hop, us, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopLatency {
    /// In a ring.
    pub ring: [f64; 3],
    /// In a tree.
    pub tree: [f64; 3],
    /// Of reduction in the switch.
    pub nvls: f64,
}

/// Latencies of a hop by what it goes over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hops {
    /// NVLink or xGMI.
    pub nvlink: HopLatency,
    /// PCIe.
    pub pcie: HopLatency,
    /// From node to node.
    pub net: HopLatency,
}

/// Start of a collective, relative to the parameter `start_us`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// By protocol.
    pub shares: [f64; 3],
    /// Of PAT.
    pub pat: f64,
}

/// What protocols and trees lose.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Share of the rate, by protocol.
    pub shares: [f64; 3],
    /// Of a tree under LL, besides.
    pub tree_ll: f64,
    /// Of a tree.
    pub tree: f64,
    /// Of PAT.
    pub pat: f64,
    /// Linear part of PAT, us a rank.
    pub pat_rank_us: f64,
    /// Steps of PAT under way at once.
    pub pat_overlap: f64,
    /// Buffer of a channel, bytes.
    pub buffer_bytes: f64,
    /// Steps it is cut into.
    pub buffer_steps: f64,
    /// Chunks of a ring that a link has under way at once, by protocol.
    pub ring_chunks: [f64; 3],
    /// Sends that a round of an all-to-all starts together.
    pub sends_a_round: f64,
}

/// What NCCL says of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// What a channel moves, GB/s.
    pub channel: f64,
    /// The most that LL reaches inside a node, GB/s.
    pub ll: f64,
    /// Reduction in the switch, relative to Hopper's; 0: there is none.
    pub nvls: f64,
    /// What a tree over more than two nodes keeps of its rate.
    pub incast: f64,
    /// What one between switches that reduce keeps.
    pub nvls_incast: f64,
    /// Channels across nodes, relative to those inside one.
    pub channels_across: f64,
    /// The library exchanges directly where a mesh allows it.
    pub direct: bool,
}

/// The constants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Latencies.
    pub hop_us: Hops,
    /// Starts.
    pub start: Start,
    /// Losses.
    pub protocol: Losses,
    architecture: BTreeMap<String, Architecture>,
}

impl Tuning {
    /// The shipped constants.
    pub fn builtin() -> &'static Tuning {
        static BUILTIN: OnceLock<Tuning> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let tuning: Tuning =
                toml::from_str(include_str!("tuning.toml")).expect("a unit test reads the shipped constants");
            assert!(tuning.architecture.contains_key("default"), "the shipped constants have a default");
            tuning
        })
    }

    /// Of an architecture, by the catalogue's name; the default where NCCL names none.
    pub fn architecture(&self, name: &str) -> Architecture {
        let found = self.architecture.get(name).or_else(|| self.architecture.get("default"));
        *found.expect("the default is checked when the constants are read")
    }
}
