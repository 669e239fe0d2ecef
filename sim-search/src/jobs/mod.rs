//! Several jobs on one cluster: which nodes each gets, and its plan on them.
//!
//! Each job holds its nodes from its start until it is done. A *deal* (nodes for each job, and a plan on them) is worth the sum
//! over its jobs of `weight x (start + iterations x iteration time)`, with all jobs simulated beside each other; less is better.
//!
//! Nodes are dealt out whole, in order: the first nodes of a group to the first job. Deals are gone through best bound first:
//!
//! ```text
//!   nodes of the first job  ->  of the second  -> ...  ->  a deal: a search for each job on its nodes
//!                                                      ->  its best plans together, simulated beside each other
//! ```
//!
//! A job takes no less time than its work allows (`work`), and than a search on its nodes says. Other jobs beside it take
//! bandwidth and give none.

mod deal;
mod part;
#[cfg(test)]
mod tests;
mod work;

pub use deal::{Deal, Dealing, Dealt, deal};

use sim_core::SimDuration;
use sim_models::scenario::Scenario;

/// One of several jobs.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name. Unique.
    pub name: String,
    /// The whole cluster with this job's model and training. Groups and links are alike in all jobs, layer times in those with the
    /// same model and training.
    pub scenario: Scenario,
    /// Iterations that it is to run. At least 1.
    pub iterations: u64,
    /// When it starts.
    pub start: SimDuration,
    /// How much it counts when it is done. At least 1.
    pub weight: u64,
    /// Nodes that are its own, by group, in order: none of them is another job's. `None`: it gets some of those left.
    pub nodes: Option<Vec<Vec<u32>>>,
}

impl Job {
    /// What it is worth when an iteration takes it so long, ps: when it is done, by its weight.
    pub fn worth(&self, time_ps: u64) -> u128 {
        let running = u128::from(time_ps).saturating_mul(self.iterations.into());
        running.saturating_add(self.start.as_ps().into()).saturating_mul(self.weight.into())
    }

    /// The least time of an iteration with which it is worth that much, ps.
    fn time_worth(&self, worth: u128) -> u64 {
        let done = worth.div_ceil(u128::from(self.weight.max(1)));
        let running = done.saturating_sub(self.start.as_ps().into());
        u64::try_from(running.div_ceil(u128::from(self.iterations.max(1)))).unwrap_or(u64::MAX)
    }
}
