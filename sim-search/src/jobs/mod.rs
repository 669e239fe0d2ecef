//! Several jobs on one cluster: which nodes each gets, and its plan on them.
//!
//! The jobs hold their nodes until the last of them is done, so a *deal* (nodes for each job, and a plan on them) is worth
//! the longest of its jobs' `iterations x iteration time`, with all jobs simulated beside each other; less is better.
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
    /// Nodes that are its own, by group, in order: none of them is another job's. `None`: it gets some of those left.
    pub nodes: Option<Vec<Vec<u32>>>,
}
