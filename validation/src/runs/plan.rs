//! Which stage of a run held which layers, on which GPUs: from Sailor's plan files, from a `plan` cell, or cut evenly.
//!
//! A `plan` cell gives the stages, first to last, apart by `|`: the layers (0 is the embedding, the last is the head), then
//! the replicas of the stage as `GPU:TP`, `n*` for `n` of them in a row. Replica `i` of every stage makes pipeline `i`:
//!
//! ```text
//! 0-11 RTX-3090:8 RTX-2080:8 | 12-25 2*Titan-RTX:8
//! ```

use super::row::shorten;
use super::{Reason, Skip};
use serde::Deserialize;
use sim_models::plan::LayerRange;

/// Most replicas of a stage.
const MOST_REPLICAS: usize = 1 << 20;

/// One stage of all pipelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePlan {
    /// Its layers.
    pub layers: LayerRange,
    /// For each pipeline: the GPU as written, and how many of them (tensor parallelism).
    pub replicas: Vec<(String, u32)>,
}

/// A run's plan, as far as its source says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// First to last; every stage has as many replicas as the first.
    pub stages: Vec<StagePlan>,
    /// Samples a micro-batch and an iteration, where the plan repeats them.
    pub batch: Option<(u32, u32)>,
}

fn corrupt(what: impl Into<String>) -> Skip {
    Skip::new(Reason::Corrupt, what.into())
}

/// Reads a `plan` cell.
///
/// # Errors
/// [`Reason::Corrupt`] and what would be right.
pub fn parse(text: &str) -> Result<RunPlan, Skip> {
    let stage = |text: &str| {
        let mut words = text.split_whitespace();
        let layers = words.next().unwrap_or("").parse().map_err(|e| corrupt(format!("plan: {e}")))?;
        let mut replicas = Vec::new();
        for word in words {
            let (times, replica) = word.split_once('*').unwrap_or(("1", word));
            let times = times.parse::<usize>().ok().filter(|n| (1..=MOST_REPLICAS).contains(n));
            let replica = replica.rsplit_once(':').and_then(|(gpu, tp)| Some((gpu, tp.parse::<u32>().ok()?)));
            let (Some(times), Some((gpu, tp))) = (times, replica) else {
                let expected = "expected replicas such as `GH200-96:4` or `16*GH200-96:4`";
                return Err(corrupt(format!("plan: `{}`: {expected}", shorten(word))));
            };
            if replicas.len() + times > MOST_REPLICAS {
                return Err(corrupt(format!("plan: more than {MOST_REPLICAS} replicas of a stage")));
            }
            replicas.extend(std::iter::repeat_n((gpu.to_string(), tp), times));
        }
        Ok(StagePlan { layers, replicas })
    };
    let stages = text.split('|').map(stage).collect::<Result<Vec<_>, Skip>>()?;
    checked(RunPlan { stages, batch: None })
}

/// Sailor's plan file.
#[derive(Deserialize)]
struct SailorFile {
    pipeline_list: Vec<SailorPipelines>,
    mbs: u32,
    gbs: u32,
}

#[derive(Deserialize)]
struct SailorPipelines {
    layers_per_stage: Vec<Vec<u32>>,
    tmp_per_stage: Vec<Vec<SailorReplica>>,
}

/// One replica of a stage: its GPUs as (kind, how many, zone), and its TP.
type SailorReplica = (Vec<(String, u32, String)>, u32);

/// Reads a plan in Sailor's format (JSON).
///
/// # Errors
/// [`Reason::Corrupt`] with what is wrong, or [`Reason::Unsupported`] for what it says and cannot be simulated yet.
pub fn from_sailor(json: &str) -> Result<RunPlan, Skip> {
    let file: SailorFile = serde_json::from_str(json).map_err(|e| corrupt(format!("plan file: {e}")))?;
    let [pipelines] = file.pipeline_list.as_slice() else {
        let n = file.pipeline_list.len();
        return Err(Skip::new(Reason::Unsupported, format!("plan file: {n} lists of pipelines, not 1")));
    };
    if pipelines.layers_per_stage.len() != pipelines.tmp_per_stage.len() {
        let (a, b) = (pipelines.layers_per_stage.len(), pipelines.tmp_per_stage.len());
        return Err(corrupt(format!("plan file: {a} lists of layers, {b} of devices: expected one a stage")));
    }
    let zones = || pipelines.tmp_per_stage.iter().flatten().flat_map(|r| &r.0).map(|g| &g.2);
    if zones().any(|z| Some(z) != zones().next()) {
        return Err(Skip::new(Reason::Unsupported, "plan file: more than one zone".into()));
    }
    let stage = |(layers, replicas): (&Vec<u32>, &Vec<SailorReplica>)| {
        let layers = match (layers.first(), layers.last()) {
            (Some(&first), Some(&last)) if layers.windows(2).all(|w| Some(w[1]) == w[0].checked_add(1)) => {
                LayerRange { first, last }
            }
            _ => return Err(corrupt("plan file: a stage's layers are not consecutive")),
        };
        let replica = |(gpus, tp): &SailorReplica| match gpus.as_slice() {
            [(gpu, count, _)] if count == tp => Ok((gpu.clone(), *tp)),
            [_] => Err(corrupt("plan file: a replica's tensor parallelism is not its number of GPUs")),
            _ => Err(Skip::new(
                Reason::Unsupported,
                "plan file: a replica with more than one kind of GPU".into(),
            )),
        };
        Ok(StagePlan { layers, replicas: replicas.iter().map(replica).collect::<Result<_, _>>()? })
    };
    let stages = pipelines.layers_per_stage.iter().zip(&pipelines.tmp_per_stage).map(stage);
    checked(RunPlan { stages: stages.collect::<Result<_, _>>()?, batch: Some((file.mbs, file.gbs)) })
}

/// The blocks cut as evenly as they go, the larger stages first; embedding and head with the first and the last.
///
/// # Errors
/// [`Reason::Corrupt`] for more stages than blocks.
pub fn even(gpu: &str, blocks: u32, tp: u32, pp: u32, dp: u32) -> Result<RunPlan, Skip> {
    if pp > blocks {
        return Err(corrupt(format!("{pp} stages for {blocks} blocks")));
    }
    if dp as usize > MOST_REPLICAS {
        return Err(corrupt(format!("more than {MOST_REPLICAS} replicas of a stage")));
    }
    let mut next = 1;
    let stage = |s: u32| {
        let first = if s == 0 { 0 } else { next };
        next += blocks / pp + u32::from(s < blocks % pp);
        let last = if s + 1 == pp { blocks + 1 } else { next - 1 };
        StagePlan { layers: LayerRange { first, last }, replicas: vec![(gpu.to_string(), tp); dp as usize] }
    };
    checked(RunPlan { stages: (0..pp).map(stage).collect(), batch: None })
}

fn checked(plan: RunPlan) -> Result<RunPlan, Skip> {
    let Some(first) = plan.stages.first() else { return Err(corrupt("plan: no stages")) };
    let replicas = first.replicas.len();
    if replicas == 0 || plan.stages.iter().any(|s| s.replicas.len() != replicas) {
        return Err(corrupt("plan: the stages do not have the same number of replicas, at least 1"));
    }
    if plan
        .stages
        .iter()
        .flat_map(|s| &s.replicas)
        .any(|(gpu, tp)| gpu.is_empty() || !(1..=4096).contains(tp))
    {
        return Err(corrupt("plan: a replica needs the name of its GPU and 1 to 4096 of them"));
    }
    Ok(plan)
}
