//! Planners side by side: ours, those that others published, and a user's own. Each proposes plans for a scenario with its
//! own estimate of them; one judge, [`crate::judge`], then says what they are worth.
//!
//! The published ones are written from their papers. Each file says what it follows, what it leaves out, and how its estimate
//! is made; what was checked against the programs themselves stands in docs/planners.md.
//!
//! A planner is one type with two functions. This one puts everything on one pipeline as deep as there are nodes, and takes
//! the largest micro-batch that fits:
//!
//! ```
//! use sim_search::planners::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, uniform};
//! use sim_models::scenario::Scenario;
//!
//! struct OnePipeline;
//!
//! impl Planner for OnePipeline {
//!     fn about(&self) -> About {
//!         About {
//!             name: "one-pipeline",
//!             about: "one pipeline, a node a stage",
//!             source: "this page",
//!             leaves_out: "data parallelism",
//!         }
//!     }
//!
//!     fn propose(&self, scenario: &Scenario, limits: &Limits, go_on: &mut GoOn<'_>) -> Result<Proposal, NoProposal> {
//!         let view = View::new(scenario, limits.at);
//!         let tp = view.pools[0].per_node;
//!         let stages = view.devices().len() / tp as usize;
//!         let cuts = view.block_cuts(stages).ok_or(NoProposal::None("more nodes than layers".into()))?;
//!         let mut proposal = Proposal::default();
//!         for micro_batch in view.micro_batches().into_iter().rev() {
//!             if !go_on() {
//!                 return Err(NoProposal::OutOfTime);
//!             }
//!             proposal.candidates += 1;
//!             if let Some(plan) = uniform(&view, micro_batch, tp, 1, &cuts) {
//!                 // Its own estimate: all work at the peak of the devices.
//!                 proposal.plans.push(Entrant { plan, own_estimate_s: None });
//!             }
//!         }
//!         Ok(proposal)
//!     }
//! }
//!
//! let loaded = scenarios::load("opt350-a100x32", &scenarios::Overrides::default()).unwrap();
//! let proposal = OnePipeline.propose(&loaded.scenario, &Limits::default(), &mut || true).unwrap();
//! assert_eq!(proposal.plans[0].plan.pipelines[0].stages.len(), 8);
//! ```

pub mod alpa;
pub mod amp;
mod build;
mod chain;
mod describe;
pub mod galvatron;
mod genome;
pub mod mcmc;
pub mod megatron;
pub mod metis;
pub mod piper;
pub mod random;
pub mod sailor;
mod tideplan;
mod trial;
pub mod varuna;
mod view;

pub use build::{PipelineOf, StageOf, allocate, even, plan_of, rank_groups, staged, uniform};
pub use describe::describe;
pub use view::{Column, Pool, View};

use crate::Method;
use crate::judge::Judge;
use sim_core::SimTime;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

/// What a planner is, for lists and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name, by which the command takes it.
    pub name: &'static str,
    /// One line on how it works.
    pub about: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// What of the published planner is not here, or what it does not look at.
    pub leaves_out: &'static str,
}

/// What a planner may spend.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
    /// Worker threads of planners that use several; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
    /// Simulations of planners that simulate.
    pub simulations: u64,
    /// By whom plans will be judged. Published planners do not ask: their estimates are their own.
    pub judge: Judge,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { at: SimTime::ZERO, threads: 0, simulations: 200, judge: Judge::Simulate }
    }
}

/// A plan as its planner hands it in.
#[derive(Clone, Debug, PartialEq)]
pub struct Entrant {
    /// The plan.
    pub plan: Plan,
    /// What the planner's own cost model says of an iteration, s, where it has one.
    pub own_estimate_s: Option<f64>,
}

/// What a planner answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// Its plans, the one that it likes best first, at most [`MOST_PROPOSED`]. The first that is a plan for the scenario and
    /// fits into memory is judged: published planners know memory badly or not at all, and a person would go down the list
    /// too.
    pub plans: Vec<Entrant>,
    /// Plans that it estimated or simulated.
    pub candidates: u64,
}

/// Plans that a planner hands in at most.
pub const MOST_PROPOSED: usize = 256;

/// Why a planner has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    /// It found no plan.
    #[error("no plan: {0}")]
    None(String),
    /// It was stopped before it had one.
    #[error("out of time")]
    OutOfTime,
    /// Something outside of it failed.
    #[error("{0}")]
    Failed(String),
}

/// Asked now and then: false ends a planner with what it has.
pub type GoOn<'a> = dyn FnMut() -> bool + Send + 'a;

/// Finds plans for a scenario.
///
/// Laws: the same scenario and limits give the same proposal, on any machine and with any number of threads, as long as
/// `go_on` says true; a proposal is never empty; estimates are finite and above 0.
pub trait Planner: Send + Sync {
    /// What it is.
    fn about(&self) -> About;

    /// Its plans, best first.
    ///
    /// # Errors
    /// Why it has none.
    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal>;
}

/// Every planner that needs nothing but a scenario, ours first.
pub fn builtin() -> Vec<Box<dyn Planner>> {
    vec![
        Box::new(tideplan::Own(Method::BranchAndBound)),
        Box::new(tideplan::Own(Method::Exhaustive)),
        Box::new(megatron::Megatron),
        Box::new(amp::Amp),
        Box::new(metis::Metis),
        Box::new(sailor::Sailor),
        Box::new(alpa::Alpa),
        Box::new(varuna::Varuna),
        Box::new(piper::Piper),
        Box::new(mcmc::Mcmc),
        Box::new(galvatron::Galvatron),
        Box::new(random::Random),
    ]
}

/// What `external` is: a program of the user's, or a plan file. It needs to be told which.
pub const EXTERNAL: About = About {
    name: "external",
    about: "a command of yours: the scenario as JSON on its standard input, a plan as JSON on its standard output",
    source: "docs/planners.md",
    leaves_out: "",
};

/// All planners, as they are listed.
pub fn all() -> Vec<About> {
    let mut list: Vec<About> = builtin().iter().map(|p| p.about()).collect();
    list.push(EXTERNAL);
    list
}

/// Plans in the order of their planner's estimate, ties in the order in which they were found: at most
/// [`MOST_PROPOSED`].
fn ranked(mut found: Vec<Entrant>, candidates: u64, nothing: &str) -> Result<Proposal, NoProposal> {
    let estimate = |e: &Entrant| e.own_estimate_s.unwrap_or(f64::INFINITY);
    found.retain(|e| e.own_estimate_s.is_none_or(|s| s.is_finite() && s > 0.0));
    if found.is_empty() {
        return Err(NoProposal::None(nothing.into()));
    }
    found.sort_by(|a, b| estimate(a).total_cmp(&estimate(b)));
    found.truncate(MOST_PROPOSED);
    Ok(Proposal { plans: found, candidates })
}
