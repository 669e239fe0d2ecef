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
use sim_models::plan::{LayerRange, Layers};

/// Most replicas of a stage.
const MOST_REPLICAS: usize = 1 << 20;

/// One stage of all pipelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePlan {
    /// Its layers: a range for each virtual stage.
    pub layers: Layers,
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
/// [`Reason::Corrupt`] with what is wrong.
pub fn from_sailor(json: &str) -> Result<RunPlan, Skip> {
    let file: SailorFile = serde_json::from_str(json).map_err(|e| corrupt(format!("plan file: {e}")))?;
    let [pipelines] = file.pipeline_list.as_slice() else {
        let n = file.pipeline_list.len();
        return Err(Skip::new(Reason::Corrupt, format!("plan file: {n} lists of pipelines, not 1")));
    };
    if pipelines.layers_per_stage.len() != pipelines.tmp_per_stage.len() {
        let (a, b) = (pipelines.layers_per_stage.len(), pipelines.tmp_per_stage.len());
        return Err(corrupt(format!("plan file: {a} lists of layers, {b} of devices: expected one a stage")));
    }
    let zones = || pipelines.tmp_per_stage.iter().flatten().flat_map(|r| &r.0).map(|g| &g.2);
    if zones().any(|z| Some(z) != zones().next()) {
        return Err(corrupt("plan file: more than one zone"));
    }
    let stage = |(layers, replicas): (&Vec<u32>, &Vec<SailorReplica>)| {
        let layers = match (layers.first(), layers.last()) {
            (Some(&first), Some(&last)) if layers.windows(2).all(|w| Some(w[1]) == w[0].checked_add(1)) => {
                LayerRange { first, last }
            }
            _ => return Err(corrupt("plan file: a stage's layers are not consecutive")),
        }
        .into();
        let replica = |(gpus, tp): &SailorReplica| match gpus.as_slice() {
            [(gpu, count, _)] if count == tp => Ok((gpu.clone(), *tp)),
            [_] => Err(corrupt("plan file: a replica's tensor parallelism is not its number of GPUs")),
            _ => Err(corrupt("plan file: a replica with more than one kind of GPU")),
        };
        Ok(StagePlan { layers, replicas: replicas.iter().map(replica).collect::<Result<_, _>>()? })
    };
    let stages = pipelines.layers_per_stage.iter().zip(&pipelines.tmp_per_stage).map(stage);
    checked(RunPlan { stages: stages.collect::<Result<_, _>>()?, batch: Some((file.mbs, file.gbs)) })
}

/// What an even cut is made of. Degrees at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Even {
    /// Transformer blocks.
    pub blocks: u32,
    /// Tensor parallelism.
    pub tp: u32,
    /// Context parallelism.
    pub cp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Replicas.
    pub dp: u32,
    /// Virtual stages a device.
    pub vpp: u32,
}

/// The blocks cut as evenly as they go over the stages (of each virtual stage in turn), the larger stages first; embedding
/// and head with the first and the last. Where embedding and head counted as blocks make all alike, they do, as Megatron-Core
/// does for models whose blocks leave two. GPUs of several kinds are taken in the order of the row, stage by stage; `cut`
/// gives the blocks of each stage where the run says them.
///
/// # Errors
/// [`Reason::Corrupt`] for more stages than blocks.
pub fn even(mix: &[(String, u64)], e: &Even, cut: Option<&[u32]>) -> Result<RunPlan, Skip> {
    let parts = e.pp.checked_mul(e.vpp).filter(|n| *n <= e.blocks.saturating_add(2) && *n > 0);
    let Some(parts) = parts else {
        let of_each = if e.vpp > 1 { format!(" of {} virtual ones", e.vpp) } else { String::new() };
        return Err(corrupt(format!("{} stages{of_each} for {} blocks", e.pp, e.blocks)));
    };
    if e.dp as usize > MOST_REPLICAS {
        return Err(corrupt(format!("more than {MOST_REPLICAS} replicas of a stage")));
    }
    let sizes = match cut {
        Some(cut) if e.vpp == 1 => cut.to_vec(),
        _ => sizes(e.blocks, parts)?,
    };
    let mut next = 0;
    let range = |(part, size): (usize, &u32)| {
        // The embedding is with the first part, the head with the last.
        let own = size + u32::from(part == 0) + u32::from(part + 1 == parts as usize);
        let first = next;
        next += own;
        LayerRange { first, last: next - 1 }
    };
    let ranges: Vec<LayerRange> = sizes.iter().enumerate().map(range).collect();
    let width = u64::from(e.tp) * u64::from(e.cp);
    let mut kinds = mix.iter().flat_map(|(gpu, count)| {
        let replicas = (count / width).min(MOST_REPLICAS as u64) as usize;
        std::iter::repeat_n(gpu, replicas)
    });
    let stage = |s: u32| {
        let own: Vec<LayerRange> = (0..e.vpp).map(|v| ranges[(v * e.pp + s) as usize]).collect();
        let replicas = kinds.by_ref().take(e.dp as usize).map(|gpu| (gpu.clone(), e.tp)).collect();
        let layers = Layers::of(own).unwrap_or_else(|| ranges[s as usize].into());
        StagePlan { layers, replicas }
    };
    checked(RunPlan { stages: (0..e.pp).map(stage).collect(), batch: None })
}

/// Blocks of each of `parts` parts.
fn sizes(blocks: u32, parts: u32) -> Result<Vec<u32>, Skip> {
    let counted = blocks.saturating_add(2);
    if !blocks.is_multiple_of(parts) && counted.is_multiple_of(parts) && parts > 1 {
        let mut sizes = vec![counted / parts; parts as usize];
        sizes[0] -= 1;
        sizes[parts as usize - 1] -= 1;
        return Ok(sizes);
    }
    if parts > blocks {
        return Err(corrupt(format!("{parts} stages for {blocks} blocks")));
    }
    Ok((0..parts).map(|p| blocks / parts + u32::from(p < blocks % parts)).collect())
}

/// Blocks of each of `pp` stages when they are filled in order and each ends with the first layer that takes it past its share of
/// the whole cost, as nanotron does (`get_block_compute_costs`); `head` is the head's cost over a block's. Where that leaves
/// stages without layers, the cut whose dearest stage is cheapest.
pub fn by_cost(blocks: u32, pp: u32, head: f64) -> Option<Vec<u32>> {
    if pp == 0 || pp > blocks.saturating_add(1) {
        return None;
    }
    let whole = f64::from(blocks) + head;
    let share = |stage: usize| whole * (stage as f64 + 1.0) / f64::from(pp);
    let mut sizes = vec![0u32; pp as usize];
    let mut stage = 0;
    for block in 1..=blocks {
        sizes[stage] += 1;
        if f64::from(block) > share(stage) && stage + 1 < pp as usize {
            stage += 1;
        }
    }
    let last = pp as usize - 1;
    if stage == last && sizes[..last].iter().all(|n| *n > 0) {
        return Some(sizes);
    }
    // The least number of blocks that every stage can take, the last with its head.
    let beside = |most: u32| (f64::from(most) - head).max(0.0) as u32;
    let most = (1..=blocks)
        .find(|m| u64::from(pp - 1) * u64::from(*m) + u64::from(beside(*m)) >= u64::from(blocks))?;
    let mut left = blocks - beside(most).min(blocks - (pp - 1));
    sizes[last] = blocks - left;
    for (s, size) in sizes[..last].iter_mut().enumerate() {
        // One at least for each that follows.
        *size = most.min(left - (last - s - 1) as u32);
        left -= *size;
    }
    Some(sizes)
}

/// Blocks of each stage from a remark such as `partition [0, 8, 14, 20, 30]`: layers as DeepSpeed's pipeline module counts
/// them, of which two lie before the blocks (embedding, transpose). `None` where there is none that fits.
pub fn partition(notes: &str, blocks: u32, pp: u32) -> Option<Vec<u32>> {
    /// Layers before the first block.
    const BEFORE: u32 = 2;
    let text = notes.split("partition [").nth(1)?.split(']').next()?;
    let bounds = text.split(',').map(|n| n.trim().parse::<u32>().ok()).collect::<Option<Vec<u32>>>()?;
    let (first, last) = (*bounds.first()?, *bounds.last()?);
    let rises = bounds.windows(2).all(|w| w[0] < w[1]);
    let fits = bounds.len() == pp as usize + 1 && first == 0 && last >= blocks + BEFORE && last < blocks + 20;
    if !rises || !fits {
        return None;
    }
    let inside = |bound: u32| bound.clamp(BEFORE, blocks + BEFORE);
    let mut sizes: Vec<u32> = bounds.windows(2).map(|w| inside(w[1]) - inside(w[0])).collect();
    // What lies after the blocks is small beside one.
    let end = sizes.len() - 1;
    sizes[end] += blocks - sizes.iter().sum::<u32>();
    Some(sizes)
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
