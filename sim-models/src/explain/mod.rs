//! Why an iteration takes its time: one more run of the plan, watched, and what can be read off it.
//!
//! ```text
//!   plan ── lower ── run, watched ──┬── path    back from the last finish along whatever was waited for
//!                                   ├── parts   where the time of every stage went
//!                                   ├── links   what each shared link carried over time
//!                                   └── faster  the same plan again, with one thing a tenth faster
//! ```
//!
//! All times are whole picoseconds: the parts of the path, and the parts of each stage's time, add up to the iteration
//! exactly. A folded run explains the same as an unfolded one. Nothing here is on the way of a search.

mod faster;
mod ideal;
mod links;
mod parts;
mod path;
mod watch;

pub use faster::{Faster, What, faster};
pub use links::{Link, LinkReport};
pub use parts::{GroupEvidence, Parts, StageReport};
pub use path::{Limit, Path, PathPart, Step};

use crate::fold::Folding;
use crate::iteration::{Options, SimulateError, Simulator};
use crate::layout::Layout;
use crate::lower::Fabric;
use crate::plan::Plan;
use crate::scenario::Scenario;
use sim_core::observe::LinkUse;
use sim_core::{RunOptions, SimDuration};
use watch::Watch;

/// An iteration explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its length.
    pub time: SimDuration,
    /// Whether a pipeline stood for others.
    pub folded: bool,
    /// What the iteration waited for, from its start to its end.
    pub path: Path,
    /// Alike stages together, in the order of the plan.
    pub stages: Vec<StageReport>,
    /// How the layer times on each GPU group that the plan uses are known.
    pub evidence: Vec<GroupEvidence>,
    /// One report for each shared link, or for several that carry the same.
    pub links: Vec<LinkReport>,
    /// Every shared link, with the index of its report.
    pub every_link: Vec<(Link, usize)>,
}

impl Explanation {
    /// The time of all devices together, by part, in device-picoseconds: it adds up to the iteration times the devices.
    pub fn overall(&self) -> Parts<u128> {
        let mut sum = Parts::default();
        for stage in &self.stages {
            sum = sum.plus(&stage.parts.map(|ps| u128::from(ps) * u128::from(stage.devices)));
        }
        sum
    }
}

/// Runs `plan` once more and explains its iteration.
///
/// # Errors
/// As [`crate::iteration::simulate`].
pub fn explain(
    scenario: &Scenario,
    fabric: &Fabric,
    plan: &Plan,
    layout: &Layout,
    options: &Options,
) -> Result<Explanation, SimulateError> {
    let folding = if options.fold { Folding::of(layout) } else { Folding::none(layout) };
    let mut simulator = Simulator::new(scenario, fabric);
    simulator.lower(plan, layout, &folding)?;
    let (graph, executor) = (&simulator.lowering.graph, &mut simulator.executor);
    let mut watched = (Watch::new(graph.len()), LinkUse::new(graph, &fabric.network, options.at));
    let run = RunOptions { origin: options.at, cutoff: None, event_budget: None };
    let outcome = executor.run(graph, &fabric.network, &run, &mut watched)?;
    let (watch, loads) = watched;
    let (links, every_link) = links::reports(&links::Carried {
        scenario,
        fabric,
        folding: &folding,
        lowering: &simulator.lowering,
        loads: &loads,
        origin: options.at,
        end: outcome.end,
    });
    let path = path::Tracer {
        layout,
        plan,
        lowering: &simulator.lowering,
        executor: &simulator.executor,
        watch: &watch,
        loads: &loads,
        links: &links::by_resource(scenario, fabric),
    }
    .path();
    let times = simulator.rank_times(layout);
    Ok(Explanation {
        time: SimDuration::from_ps(outcome.end.as_ps()),
        folded: folding.is_folded(),
        path,
        stages: parts::stages(scenario, plan, layout, &folding, &times, outcome.end),
        evidence: parts::evidence(scenario, layout),
        links,
        every_link,
    })
}
