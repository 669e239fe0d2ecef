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

pub use faster::{Faster, What, faster, faster_jobs};
pub use links::{Link, LinkReport};
pub use parts::{GroupEvidence, Parts, StageReport};
pub use path::{Limit, Path, PathPart, Step};

use crate::fold::Folding;
use crate::iteration::{Options, SimulateError, Simulator};
use crate::jobs::foldings;
use crate::layout::Layout;
use crate::lower::{Fabric, LaidOut};
use crate::plan::Plan;
use crate::scenario::Scenario;
use sim_core::observe::LinkUse;
use sim_core::{RunOptions, SimDuration, SimTime};
use std::sync::Arc;
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
    pub links: Arc<[LinkReport]>,
    /// Every shared link, with the index of its report.
    pub every_link: Arc<[(Link, usize)]>,
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
    let job = LaidOut { scenario, plan, layout, start: SimDuration::ZERO };
    Ok(explain_jobs(scenario, fabric, &[job], options)?.swap_remove(0))
}

/// Runs jobs side by side once more, and explains the iteration of each; their links are those of all jobs.
///
/// # Errors
/// As [`crate::iteration::simulate`].
pub fn explain_jobs(
    cluster: &Scenario,
    fabric: &Fabric,
    jobs: &[LaidOut<'_>],
    options: &Options,
) -> Result<Vec<Explanation>, SimulateError> {
    let foldings = foldings(jobs, options.fold);
    let mut simulator = Simulator::new(cluster, fabric);
    simulator.lower(jobs, &foldings)?;
    let (graph, executor) = (&simulator.lowering.graph, &mut simulator.executor);
    let mut watched = (Watch::new(graph.len()), LinkUse::new(graph, &fabric.network, options.at));
    let run = RunOptions { origin: options.at, cutoff: None, event_budget: None };
    let outcome = executor.run(graph, &fabric.network, &run, &mut watched)?;
    let (watch, loads) = watched;
    let none = Folding::default();
    let (links, every_link) = links::reports(&links::Carried {
        scenario: cluster,
        fabric,
        // All of them have the same nodes stand for the others.
        folding: foldings.first().unwrap_or(&none),
        lowering: &simulator.lowering,
        loads: &loads,
        origin: options.at,
        end: outcome.end,
    });
    let links: Arc<[LinkReport]> = links.into();
    let every_link: Arc<[(Link, usize)]> = every_link.into();
    let by_resource = links::by_resource(cluster, fabric);
    let explained = jobs.iter().zip(&foldings).enumerate().map(|(index, (job, folding))| {
        let LaidOut { scenario, plan, layout, start } = *job;
        let path = path::Tracer {
            layout,
            plan,
            graph: &simulator.lowering.graph,
            map: &simulator.lowering.maps[index],
            executor: &simulator.executor,
            watch: &watch,
            loads: &loads,
            links: &by_resource,
        }
        .path();
        let times = simulator.rank_times(index, plan, layout);
        let time = simulator.end_of(index).saturating_since(SimTime::ZERO).saturating_sub(start);
        Explanation {
            time,
            folded: folding.is_folded(),
            path,
            stages: parts::stages(scenario, plan, layout, folding, &times, time),
            evidence: parts::evidence(scenario, layout),
            links: links.clone(),
            every_link: every_link.clone(),
        }
    });
    Ok(explained.collect())
}
