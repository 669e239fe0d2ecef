//! Several jobs on one cluster: their iterations run side by side on one engine, over the same NICs and links.
//!
//! ```text
//!   job 0  |F F F ... B B B| all-reduce | update        one graph: no task of a job waits for one of another,
//!   job 1       |F F ... B B | all-reduce | update      but their transfers share what carries them
//!          0    start of job 1
//! ```
//!
//! Each job runs one iteration from its start on. A job by itself takes exactly the time that it takes in
//! [`crate::iteration::simulate`], and so do jobs without a node or a link in common.

use crate::fold::Folding;
use crate::iteration::{Iteration, Options, SimulateError, Simulator};
use crate::layout::Layout;
use crate::lower::{Fabric, LaidOut};
use crate::plan::Plan;
use crate::scenario::{DeviceId, Job, Scenario};
use sim_core::{Digest, SimDuration, SimTime};
use std::collections::BTreeMap;

/// A job: what it trains and by which plan.
#[derive(Clone, Copy, Debug)]
pub struct JobPlan<'a> {
    /// Its model and recipe, and the cluster with the layer times of its model. Nodes and links are those of the other jobs.
    pub scenario: &'a Scenario,
    /// Its plan.
    pub plan: &'a Plan,
    /// When its iteration starts, after the first instant.
    pub start: SimDuration,
}

impl JobPlan<'_> {
    /// The jobs of a scenario with the plans that they name.
    ///
    /// # Errors
    /// The first job that names none.
    pub fn of(scenario: &Scenario) -> Result<Vec<JobPlan<'_>>, &Job> {
        let mut plans = Vec::with_capacity(scenario.jobs.len());
        for job in &scenario.jobs {
            let plan = job.scenario.plan.as_ref().ok_or(job)?;
            plans.push(JobPlan { scenario: &job.scenario, plan, start: job.start });
        }
        Ok(plans)
    }
}

/// What became of jobs side by side.
#[derive(Clone, Debug)]
pub struct Together {
    /// Their iterations, in the order of the jobs; `time` is from the job's start on, `events` and `digest` are the run's.
    pub jobs: Vec<Iteration>,
    /// Their plans laid out.
    pub layouts: Vec<Layout>,
    /// The longest iteration.
    pub time: SimDuration,
    /// Events dispatched.
    pub events: u64,
    /// Over those events.
    pub digest: Digest,
    /// Whether a pipeline stood for others.
    pub folded: bool,
}

/// Simulates one iteration of each job over the links of `cluster`, which all of them share.
///
/// ```
/// # use sim_models::{iteration::SimulateError, jobs::{JobPlan, simulate_jobs}, scenario::Scenario};
/// fn slowest(cluster: &Scenario, jobs: &[JobPlan<'_>]) -> Result<f64, SimulateError> {
///     Ok(simulate_jobs(cluster, jobs, &Default::default())?.time.as_secs_f64())
/// }
/// ```
///
/// # Errors
/// [`SimulateError::Plan`] with everything wrong with the first plan that is none, [`SimulateError::Taken`] where two jobs want a
/// device, or why they do not end.
pub fn simulate_jobs(
    cluster: &Scenario,
    jobs: &[JobPlan<'_>],
    options: &Options,
) -> Result<Together, SimulateError> {
    let fabric = Fabric::new(cluster);
    let mut simulator = Simulator::new(cluster, &fabric);
    simulate_jobs_with(&mut simulator, jobs, options)
}

/// Like [`simulate_jobs`], in a simulator of the cluster that is kept: its spans are then those of this run.
///
/// # Errors
/// As [`simulate_jobs`].
pub fn simulate_jobs_with(
    simulator: &mut Simulator<'_>,
    jobs: &[JobPlan<'_>],
    options: &Options,
) -> Result<Together, SimulateError> {
    let layouts = layouts(jobs)?;
    let laid_out = laid_out(jobs, &layouts);
    let foldings = foldings(&laid_out, options.fold);
    let outcome = simulator.run_jobs(&laid_out, &foldings, options.at, None)?;
    let iterations: Vec<Iteration> = laid_out
        .iter()
        .zip(&foldings)
        .enumerate()
        .map(|(index, (job, folding))| {
            let time = simulator.end_of(index).saturating_since(SimTime::ZERO).saturating_sub(job.start);
            Iteration {
                time,
                events: outcome.events,
                digest: outcome.digest,
                folded: folding.is_folded(),
                traffic: simulator.traffic_of(index, job.scenario),
                devices: simulator.devices(index, job, folding, time),
            }
        })
        .collect();
    Ok(Together {
        time: iterations.iter().map(|i| i.time).max().unwrap_or(SimDuration::ZERO),
        folded: iterations.iter().any(|i| i.folded),
        jobs: iterations,
        layouts,
        events: outcome.events,
        digest: outcome.digest,
    })
}

/// The jobs' plans on their devices.
///
/// # Errors
/// [`SimulateError::Plan`] and [`SimulateError::Taken`].
pub fn layouts(jobs: &[JobPlan<'_>]) -> Result<Vec<Layout>, SimulateError> {
    let mut layouts = Vec::with_capacity(jobs.len());
    let mut holders: BTreeMap<DeviceId, usize> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let layout = Layout::new(job.scenario, job.plan).map_err(SimulateError::Plan)?;
        for device in layout.ranks.iter().flat_map(|r| &r.devices) {
            if let Some(other) = holders.insert(*device, index) {
                let device = job.scenario.device_name(*device);
                return Err(SimulateError::Taken { device, jobs: (other, index) });
            }
        }
        layouts.push(layout);
    }
    Ok(layouts)
}

/// Jobs with their layouts, to be run.
pub fn laid_out<'a>(jobs: &[JobPlan<'a>], layouts: &'a [Layout]) -> Vec<LaidOut<'a>> {
    let of = |(job, layout): (&JobPlan<'a>, &'a Layout)| {
        let JobPlan { scenario, plan, start } = *job;
        LaidOut { scenario, plan, layout, start }
    };
    jobs.iter().zip(layouts).map(of).collect()
}

/// A folding for each job: of all of them together, or none.
pub fn foldings(jobs: &[LaidOut<'_>], fold: bool) -> Vec<Folding> {
    let layouts: Vec<&Layout> = jobs.iter().map(|j| j.layout).collect();
    if fold { Folding::together(&layouts) } else { layouts.iter().map(|l| Folding::none(l)).collect() }
}
