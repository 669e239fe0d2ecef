//! How to search: which method, by what plans are compared, and where it ends.

use serde::{Deserialize, Serialize};
use sim_core::SimTime;
use sim_models::cost;

/// Nodes looked at for each simulation allowed, and at least: a search that opens nodes and simulates nothing ends too.
const NODES_A_SIMULATION: u64 = 24;
const LEAST_NODES: u64 = 12288;

/// Which search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Branch and bound.
    #[default]
    BranchAndBound,
    /// Every plan of the space is simulated: no bound, no dynamic program. For small spaces.
    Exhaustive,
}

/// What makes a plan better. Values are integers, less is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The time of an iteration, ps.
    #[default]
    Time,
    /// What an iteration costs by the scenario's prices, 10^-12 dollars.
    Cost,
    /// The mean time of an iteration over instants of the history, ps: where each of eight equal parts of it begins.
    Robust,
}

impl Objective {
    /// No plan on nodes of this price that takes at least so long has a lower value.
    pub(super) fn value(self, price: u64, time: u64) -> u64 {
        if self == Objective::Cost { cost::for_time(price, time) } else { time }
    }

    /// The longest time within a value.
    pub(super) fn time(self, price: u64, value: u64) -> u64 {
        if self == Objective::Cost { cost::time_for(price, value) } else { value }
    }
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What makes a plan better.
    pub objective: Objective,
    /// The longest that an iteration may take, ps.
    pub deadline_ps: Option<u64>,
    /// The most that an iteration may cost, 10^-12 dollars.
    pub budget: Option<u64>,
    /// Worker threads; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
    /// Simulations after which the search stops at the end of its round.
    pub max_simulations: u64,
    /// How many plans to rank.
    pub top: usize,
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
    /// Which search.
    pub method: Method,
    /// One part of the space out of so many: index from 0, and how many.
    pub shard: Option<(u32, u32)>,
    /// Whether what became of every node is kept, for a certificate.
    pub log: bool,
}

impl Options {
    /// Nodes that are looked at at most.
    pub(crate) fn most_nodes(&self) -> u64 {
        self.max_simulations.saturating_mul(NODES_A_SIMULATION).max(LEAST_NODES)
    }
}

impl Default for Options {
    fn default() -> Self {
        let max_simulations = sim_models::scenario::SearchOptions::default().max_simulations;
        Options {
            objective: Objective::Time,
            deadline_ps: None,
            budget: None,
            threads: 0,
            max_simulations,
            top: 5,
            at: SimTime::ZERO,
            method: Method::BranchAndBound,
            shard: None,
            log: false,
        }
    }
}
