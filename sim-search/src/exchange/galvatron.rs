//! Galvatron's configuration: a JSON whose lists give each block its TP, its kind of data parallelism and whether it is
//! recomputed. A plan here has one of each a stage, so blocks of one stage that differ are refused.

use super::uniform::{data_parallel, stages_of};
use super::{Refusal, Uniform, degree, refuse, same_batch};
use serde::Deserialize;
use serde_json::Value;
use sim_models::plan::{Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;

#[derive(Deserialize)]
struct Raw {
    pp_deg: u64,
    tp_sizes_enc: String,
    dp_types_enc: Option<String>,
    checkpoint: Option<String>,
    global_bsz: Option<u64>,
    chunks: Option<u64>,
    pp_division: Option<String>,
    pipeline_type: Option<String>,
    default_dp_type: Option<String>,
    #[serde(default)]
    use_sp: Option<Value>,
}

/// A list such as `1,1,2,2`: one number a block.
fn list(name: &str, text: &str, length: usize) -> Result<Vec<u64>, Refusal> {
    let numbers: Option<Vec<u64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let Some(numbers) = numbers else {
        return refuse(format!("`{name}` is not a list of whole numbers"), "such as `1,1,2,2`");
    };
    if numbers.len() == length {
        return Ok(numbers);
    }
    refuse(format!("`{name}` has {} entries", numbers.len()), format!("{length}"))
}

/// The one value of a list.
fn alike(name: &str, numbers: &[u64]) -> Result<u64, Refusal> {
    if numbers.iter().all(|n| *n == numbers[0]) {
        return Ok(numbers[0]);
    }
    refuse(
        format!("blocks differ in `{name}`"),
        "a plan has one TP, one kind of data parallelism and one recomputation",
    )
}

/// The plan that the configuration makes on the scenario's cluster.
///
/// # Errors
/// What is wrong with it, or makes it no plan for the scenario.
pub fn import(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let raw: Raw = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(e) => return refuse(format!("line {}: {e}", e.line()), "a Galvatron configuration"),
    };
    let blocks = scenario.model.blocks as usize;
    let stages = degree("pp_deg", raw.pp_deg)?;
    if stages as usize > blocks {
        return refuse(format!("`pp_deg` is {stages} for {blocks} blocks"), "a block a stage at least");
    }
    let tp =
        degree("tp_sizes_enc", alike("tp_sizes_enc", &list("tp_sizes_enc", &raw.tp_sizes_enc, blocks)?)?)?;
    let sharded = match &raw.dp_types_enc {
        Some(text) => alike("dp_types_enc", &list("dp_types_enc", text, blocks)?)?,
        None => 0,
    };
    let default = raw.default_dp_type.as_deref().unwrap_or("ddp");
    let zero = match (sharded, default) {
        (1, _) | (0, "zero3") => 3,
        (0, "zero2") => 2,
        (0, "ddp") => 0,
        (0, other) => return refuse(format!("`default_dp_type` is `{other}`"), "ddp, zero2 or zero3"),
        (other, _) => return refuse(format!("`dp_types_enc` has {other}"), "0 (default) or 1 (sharded)"),
    };
    let recompute = match &raw.checkpoint {
        Some(text) => match alike("checkpoint", &list("checkpoint", text, blocks)?)? {
            0 => Recompute::None,
            1 => Recompute::Full,
            other => return refuse(format!("`checkpoint` has {other}"), "0 or 1"),
        },
        None => Recompute::None,
    };
    let schedule = match raw.pipeline_type.as_deref() {
        None | Some("pipedream_flush") => Schedule::OneFOneB,
        Some("gpipe") => Schedule::GPipe,
        Some(other) => return refuse(format!("`pipeline_type` is `{other}`"), "gpipe or pipedream_flush"),
    };
    let division: Vec<u32> = match &raw.pp_division {
        Some(text) => list("pp_division", text, stages as usize)?
            .into_iter()
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
            .collect(),
        None => super::super::planners::even(blocks as u32, stages).collect(),
    };
    let total: u64 = division.iter().map(|n| u64::from(*n)).sum();
    if total != blocks as u64 || division.contains(&0) {
        return refuse(
            format!("`pp_division` divides {total} blocks, some stage perhaps none, of {blocks}"),
            "every block once, no empty stage",
        );
    }
    if let Some(batch) = raw.global_bsz {
        same_batch(scenario, degree("global_bsz", batch)?)?;
    }
    let dp = data_parallel(scenario.gpus(), u64::from(tp), u64::from(stages))?;
    let micro_batches = degree("chunks", raw.chunks.unwrap_or(1).max(1))?;
    let step = u64::from(dp) * u64::from(micro_batches);
    let batch = u64::from(scenario.training.global_batch);
    if !batch.is_multiple_of(step) {
        return refuse(
            format!("a batch of {batch} does not divide into {dp} pipelines x {micro_batches} chunks"),
            "",
        );
    }
    let micro_batch = degree("micro-batch", batch / step)?;
    let sequence_parallel = matches!(&raw.use_sp, Some(Value::String(s)) if s.starts_with('1'))
        || raw.use_sp.as_ref().and_then(Value::as_u64) == Some(1);
    let settings = Plan { schedule, zero, sequence_parallel, ..Plan::default() };
    let stages = stages_of(&division);
    Uniform {
        micro_batch,
        micro_batches,
        dp,
        tp,
        cp: 1,
        ep: 1,
        stages,
        recompute,
        settings,
        ranks: Vec::new(),
    }
    .plan(scenario)
}
