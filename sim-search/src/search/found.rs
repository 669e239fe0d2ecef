//! What a search says: how far it is, and what it found.

use super::session::{self, Fate};
use crate::rules::Rule;
use serde::{Deserialize, Serialize};
use sim_core::Digest;
use sim_models::plan::Plan;
use std::collections::BTreeMap;

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// Nothing was left to try.
    Done,
    /// The number of simulations was reached.
    Simulations,
    /// The time was up.
    Seconds,
    /// The user asked.
    Interrupt,
}

impl Stopped {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::Done => "done",
            Stopped::Simulations => "simulations",
            Stopped::Seconds => "seconds",
            Stopped::Interrupt => "interrupt",
        }
    }
}

/// What became of the nodes generated: `considered` is the sum of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Nodes of the tree, partial or complete.
    pub considered: u64,
    /// Thrown out, by rule.
    pub pruned: BTreeMap<Rule, u64>,
    /// Thrown out because their bound is above the best time.
    pub bounded: u64,
    /// Plans simulated, those cut off included.
    pub simulated: u64,
    /// Partial nodes that opened others.
    pub expanded: u64,
    /// Left when the search stopped.
    pub open: u64,
}

/// A plan with its value. Plans are in the order of their values, equal ones in that of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranked {
    /// By the objective: its time, or else.
    pub value: u64,
    /// Its iteration, ps.
    pub time_ps: u64,
    /// Where it stands in the tree of the space: see docs/space.md.
    pub key: Vec<u32>,
    /// The plan.
    pub plan: Plan,
}

/// A plan with all that it may be chosen by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// Its iteration, ps.
    pub time_ps: u64,
    /// What an iteration costs, 10^-12 dollars; 0 without prices.
    pub cost: u64,
    /// Memory that its fullest device has to spare, bytes.
    pub spare_bytes: u64,
    /// Where it stands in the tree.
    pub key: Vec<u32>,
    /// The plan.
    pub plan: Plan,
}

impl Candidate {
    /// Whether it is as good in everything.
    fn covers(&self, other: &Candidate) -> bool {
        self.time_ps <= other.time_ps && self.cost <= other.cost && self.spare_bytes >= other.spare_bytes
    }
}

/// Plans of which none covers another, at most.
const MOST_CANDIDATES: usize = 32;

/// Takes in a plan unless another is as good, and drops those that it covers.
pub(crate) fn choose(front: &mut Vec<Candidate>, new: Candidate) {
    if front.iter().any(|c| c.covers(&new)) {
        return;
    }
    front.retain(|c| !new.covers(c));
    let at = front.partition_point(|c| *c < new);
    front.insert(at, new);
    front.truncate(MOST_CANDIDATES);
}

/// The plan that came nearest to fitting into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearestMiss {
    /// Bytes it lacks on one device.
    pub lacking_bytes: u64,
    /// The pipeline, in words: `2 stages: A100-40 x tp 4, V100-16 x tp 4; micro-batch 1`.
    pub pipeline: String,
}

/// What a search found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The best plans, best first; empty when none is feasible.
    pub ranked: Vec<Ranked>,
    /// What became of the nodes.
    pub counts: Counts,
    /// Complete plans that the space holds: every template combination x contiguous partition x share by template.
    #[serde(with = "session::decimal")]
    pub plans_represented: u128,
    /// No plan of the space has a lower value than this: by the objective time, none is faster; ps.
    pub lower_bound_ps: u64,
    /// Plans simulated to their end of which none is as good as another in time, memory to spare and cost; fastest first.
    pub pareto: Vec<Candidate>,
    /// Why it ended.
    pub stopped: Stopped,
    /// Rounds completed.
    pub rounds: u64,
    /// Over (round, node, outcome, time), in order.
    #[serde(with = "session::hexadecimal")]
    pub digest: Digest,
    /// Of a shard, over the nodes that were dealt: equal for all shards of one search.
    pub dealt: Option<String>,
    /// When nothing fits: what came nearest.
    pub nearest_miss: Option<NearestMiss>,
    /// With [`log`](super::Options::log): what became of the nodes that were not opened, or not to the end.
    pub log: Vec<(Vec<u32>, Fate)>,
    /// Which space was searched with which costs: equal for equal scenarios and options.
    pub space: String,
}

impl Found {
    /// (best - lower bound) / best, 0 when proven; `None` without a plan.
    pub fn gap(&self) -> Option<f64> {
        let best = self.ranked.first()?.value;
        Some(if self.lower_bound_ps >= best {
            0.0
        } else {
            (best - self.lower_bound_ps) as f64 / best as f64
        })
    }
}

/// How far a search is, for a progress bar.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rounds completed.
    pub rounds: u64,
    /// Plans simulated.
    pub simulated: u64,
    /// Best time so far, ps.
    pub best_ps: Option<u64>,
    /// No plan of the space is faster, ps.
    pub level_ps: u64,
}

/// What a search is asked before each round: go on, or why it ends.
pub type Stop<'s> = dyn FnMut(&Progress) -> Option<Stopped> + Send + 's;
