//! What Sailor's planner answers for a cluster, in short: the micro-batch, the layers and replicas of each stage, which GPUs at
//! which TP form a replica, and how many GPUs of each kind are in use.
//!
//! It does not say which node or zone a replica is on, nor which replicas make a pipeline. So there are several plans, of which
//! a person would run the fastest.

use super::{Refusal, checked, degree, refuse, sailor};
use crate::planners::{PipelineOf, StageOf, View, allocate, even, plan_of};
use serde::Deserialize;
use sim_core::SimTime;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::collections::BTreeMap;

/// A cluster that Sailor planned for, with its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct SailorCase {
    /// GPUs by `GPU_zone`.
    pub gpus: BTreeMap<String, u64>,
    /// The plan that it picked.
    pub plan: SailorAnswer,
    /// Its planner's estimate of an iteration, s.
    pub planner_iteration_s: f64,
    /// Its simulator's, s.
    pub simulator_iteration_s: f64,
}

/// A plan without places.
#[derive(Clone, Debug, Deserialize)]
pub struct SailorAnswer {
    mbs: u64,
    /// Layers of each stage, embedding and head among them.
    stages: Vec<usize>,
    /// Replicas of each stage.
    dp: Vec<u64>,
    /// (GPU, TP) of the replicas of each stage.
    stage_types: Vec<Vec<(String, u64)>>,
    /// GPUs in use.
    used: BTreeMap<String, u64>,
}

/// Reads cases by name.
///
/// # Errors
/// What is wrong with the file.
pub fn cases(text: &str) -> Result<BTreeMap<String, SailorCase>, Refusal> {
    serde_json::from_str(text).or_else(|e| refuse(format!("line {}: {e}", e.line()), "clusters of Sailor's"))
}

impl SailorCase {
    /// GPUs of the cluster.
    pub fn devices(&self) -> u64 {
        self.gpus.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The scenario file of the cluster.
    ///
    /// # Errors
    /// What is wrong with the cluster.
    pub fn scenario(&self) -> Result<String, Refusal> {
        let mut gpus = Vec::new();
        for (name, n) in &self.gpus {
            let Some((gpu, zone)) = name.split_once('_') else {
                return refuse(format!("`{name}`"), "such as `A100-40_us-central1-a`");
            };
            gpus.push((gpu.to_string(), zone.to_string(), *n));
        }
        sailor::scenario_of(gpus)
    }
}

/// Replicas of every stage: (GPU, TP) of each.
type Replicas<'a> = Vec<Vec<(&'a str, u32)>>;

impl SailorAnswer {
    /// The plans that it may mean: devices taken stage by stage or pipeline by pipeline, zones in order, and of a stage that mixes
    /// kinds either kind first, which then has the micro-batches that do not divide.
    ///
    /// # Errors
    /// What is wrong with it, or why it is no plan for the scenario.
    pub fn plans(&self, scenario: &Scenario) -> Result<Vec<Plan>, Refusal> {
        let micro_batch = degree("mbs", self.mbs)?;
        let view = View::new(scenario, SimTime::ZERO);
        let stages = self.stages.len();
        if stages == 0 || self.dp.len() != stages || self.stage_types.len() != stages {
            return refuse(
                "its lists of stages differ in length",
                "layers, replicas and types of each stage",
            );
        }
        let dp = degree("dp", self.dp[0])?;
        if self.dp.iter().any(|d| *d != self.dp[0]) || u64::from(dp) > scenario.gpus() {
            return refuse("its stages differ in replicas, or have more than GPUs", "as many in every stage");
        }
        if self.stages.contains(&0)
            || self.stages.iter().fold(0usize, |a, b| a.saturating_add(*b)) != view.layers
        {
            return refuse(
                format!("its stages do not hold {} layers", view.layers),
                "every layer once, no empty stage",
            );
        }
        let mut cuts = vec![0];
        self.stages.iter().for_each(|n| cuts.push(cuts[cuts.len() - 1] + n));
        let replicas = self.replicas(dp)?;
        let mut plans: Vec<Plan> = Vec::new();
        for reversed in [false, true] {
            let mut replicas = replicas.clone();
            if reversed {
                replicas.iter_mut().for_each(|stage| stage.reverse());
            }
            for by_pipeline in [false, true] {
                let Some(plan) = laid(&view, micro_batch, dp, &cuts, &replicas, by_pipeline) else {
                    continue;
                };
                let plan = checked(scenario, plan)?;
                if !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        if plans.is_empty() {
            return refuse(
                "the cluster has too few GPUs of a kind for it",
                "the cluster that it was made for",
            );
        }
        Ok(plans)
    }

    /// Which GPUs the replicas are: where a stage mixes two kinds, so many of the first as are in use beside other stages.
    fn replicas(&self, dp: u32) -> Result<Replicas<'_>, Refusal> {
        let mut tps = Vec::new();
        for types in &self.stage_types {
            let mut stage = Vec::new();
            for (gpu, tp) in types {
                stage.push((gpu.as_str(), degree("TP", *tp)?));
            }
            tps.push(stage);
        }
        let mixed = tps.iter().filter(|types| types.len() > 1).count();
        let mut list = Vec::new();
        for types in &tps {
            match types.as_slice() {
                [one] => list.push(vec![*one; dp as usize]),
                [first, second] if mixed == 1 => {
                    let alone = |t: &&Vec<(&str, u32)>| t.len() == 1 && t[0].0 == first.0;
                    let others: u64 =
                        tps.iter().filter(alone).map(|t| u64::from(t[0].1) * u64::from(dp)).sum();
                    let used = self.used.get(first.0).copied().unwrap_or(0);
                    let mine = used.checked_sub(others).map(|n| n / u64::from(first.1));
                    let Some(mine) = mine.filter(|n| *n <= u64::from(dp)) else {
                        return refuse(
                            format!("{used} `{}` in use are not what its stages take", first.0),
                            "as many as its replicas have",
                        );
                    };
                    let mut stage = vec![*first; mine as usize];
                    stage.resize(dp as usize, *second);
                    list.push(stage);
                }
                _ => {
                    return refuse(
                        "it does not say which replicas are of which kind",
                        "one stage of two kinds at most",
                    );
                }
            }
        }
        Ok(list)
    }
}

/// Replicas on devices, zones in order; `None` where a pool does not suffice.
fn laid(
    view: &View<'_>,
    micro_batch: u32,
    dp: u32,
    cuts: &[usize],
    replicas: &Replicas<'_>,
    by_pipeline: bool,
) -> Option<Plan> {
    let (stages, dp_) = (replicas.len(), dp as usize);
    let mut left: Vec<usize> = view.pools.iter().map(|p| p.devices.len()).collect();
    let place = |i: usize| if by_pipeline { (i / stages, i % stages) } else { (i % dp_, i / dp_) };
    let mut needs = Vec::new();
    let mut zone = vec![None; dp_];
    for (r, s) in (0..stages * dp_).map(place) {
        let (gpu, tp) = replicas[s][r];
        let fits = |p: &usize| sailor::is(view, *p, gpu) && left[*p] >= tp as usize;
        // A pipeline stays in its zone, where it may choose.
        let near = |p: &usize| {
            by_pipeline && zone[r].is_some_and(|z: usize| view.pools[z].zone == view.pools[*p].zone)
        };
        let pools: Vec<usize> = (0..view.pools.len()).filter(fits).collect();
        let pool = pools.iter().copied().find(|p| near(p)).or(pools.first().copied())?;
        left[pool] -= tp as usize;
        zone[r].get_or_insert(pool);
        needs.push((pool, tp));
    }
    let given = allocate(view, &needs)?;
    let at = |r: usize, s: usize| if by_pipeline { r * stages + s } else { s * dp_ + r };
    let pipelines: Vec<PipelineOf> = even(view.micro_batch_count(micro_batch), dp)
        .enumerate()
        .map(|(r, micro_batches)| PipelineOf {
            micro_batches,
            stages: (0..stages)
                .map(|s| StageOf { layers: (cuts[s], cuts[s + 1]), devices: given[at(r, s)].clone() })
                .collect(),
        })
        .collect();
    Some(plan_of(view.scenario, micro_batch, &pipelines))
}
