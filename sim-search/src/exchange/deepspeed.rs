//! DeepSpeed's JSON. It has no world size, so data parallelism is what the scenario's GPUs, or `ranks`, leave. Stages are cut
//! as its `uniform` partition does, over all layers, the first ones a layer longer; an uneven cut is made in code there, so
//! the JSON cannot say it.

use super::uniform::{data_parallel, micro_batches, plain};
use super::{Refusal, Uniform, degree, refuse, same_batch};
use serde::Deserialize;
use serde_json::{Value, json};
use sim_models::plan::{DeviceRange, LayerRange, Layers, Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_models::workload::Precision;

/// Cuts of DeepSpeed's `uniform` partition.
fn uniform_cuts(layers: u32, stages: u32) -> Vec<Layers> {
    let (short, longer) = (layers / stages, layers % stages);
    let mut next = 0;
    (0..stages)
        .map(|s| {
            let range = LayerRange { first: next, last: next + short + u32::from(s < longer) - 1 };
            next = range.last + 1;
            range.into()
        })
        .collect()
}

/// The plan as JSON.
///
/// # Errors
/// What DeepSpeed's JSON cannot say.
pub fn export(scenario: &Scenario, plan: &Plan) -> Result<String, Refusal> {
    let u = Uniform::of(plan)?;
    let stages = u.stages.len() as u32;
    if !u.whole_batch(scenario) {
        return refuse("its micro-batches do not make up the global batch", "every pipeline takes as many");
    }
    if u.settings.schedule != Schedule::OneFOneB {
        return refuse(format!("DeepSpeed has no schedule `{}`", u.settings.schedule), "1f1b");
    }
    if stages > 1 && u.stages != uniform_cuts(scenario.model.layers(), stages) {
        let help = "an uneven cut is made in its code (`PipelineModule`), not in its JSON";
        return refuse("its stages are not DeepSpeed's uniform partition", help);
    }
    if stages > 1 && u.settings.zero > 1 {
        return refuse(format!("DeepSpeed runs pipelines with ZeRO up to 1, not {}", u.settings.zero), "");
    }
    if u.cp > 1 || u.ep > 1 {
        return refuse("context and expert parallelism are set in DeepSpeed's code, not in its JSON", "");
    }
    if u.recompute == Recompute::Selective {
        return refuse("DeepSpeed recomputes whole layers", "none or full");
    }
    let mut zero = json!({ "stage": u.settings.zero, "overlap_comm": u.settings.overlap_gradients });
    if let Some(bucket) = u.settings.gradient_bucket {
        // Counted in elements.
        zero["reduce_bucket_size"] = json!(bucket.0 / scenario.training.precision.activation_bytes());
    }
    let mut value = json!({
        "train_batch_size": scenario.training.global_batch,
        "train_micro_batch_size_per_gpu": u.micro_batch,
        "gradient_accumulation_steps": u.micro_batches,
        "zero_optimization": zero,
        "bf16": { "enabled": scenario.training.precision == Precision::Bf16 },
        "fp16": { "enabled": scenario.training.precision == Precision::Fp16 },
        "pipeline": {
            "stages": stages,
            "partition": "uniform",
            "activation_checkpoint_interval": u32::from(u.recompute == Recompute::Full),
        },
        "tideplan": { "ranks": u.ranks },
    });
    if u.tp > 1 {
        value["tensor_parallel"] = json!({ "autotp_size": u.tp });
    }
    let text = serde_json::to_string_pretty(&value).unwrap_or_else(|_| value.to_string());
    Ok(text + "\n")
}

#[derive(Deserialize)]
struct Raw {
    train_batch_size: Option<u64>,
    train_micro_batch_size_per_gpu: Option<u64>,
    gradient_accumulation_steps: Option<u64>,
    #[serde(default)]
    zero_optimization: Zero,
    #[serde(default)]
    pipeline: Pipeline,
    #[serde(default)]
    tensor_parallel: Tensor,
    #[serde(default)]
    tideplan: Ours,
}
#[derive(Deserialize, Default)]
struct Zero {
    #[serde(default)]
    stage: u64,
    #[serde(default)]
    overlap_comm: Option<bool>,
    reduce_bucket_size: Option<Value>,
}
#[derive(Deserialize, Default)]
struct Pipeline {
    stages: Option<Value>,
    partition: Option<String>,
    #[serde(default)]
    activation_checkpoint_interval: u64,
}
#[derive(Deserialize, Default)]
struct Tensor {
    autotp_size: Option<u64>,
}
#[derive(Deserialize, Default)]
struct Ours {
    #[serde(default)]
    ranks: Vec<DeviceRange>,
}

/// The plan that the JSON makes on the scenario's cluster.
///
/// # Errors
/// What is wrong with it, or makes it no plan for the scenario.
pub fn import(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let raw: Raw = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(e) => return refuse(format!("line {}: {e}", e.line()), "a DeepSpeed configuration"),
    };
    let stages = match &raw.pipeline.stages {
        None => 1,
        Some(Value::String(auto)) if auto == "auto" => 1,
        Some(value) => match value.as_u64() {
            Some(n) => degree("pipeline.stages", n)?,
            None => return refuse(format!("`pipeline.stages` is {value}"), "a whole number"),
        },
    };
    let layers = scenario.model.layers();
    if stages > layers {
        return refuse(format!("{stages} stages for {layers} layers"), "a layer a stage at least");
    }
    if let Some(other) = raw.pipeline.partition.as_deref().filter(|p| *p != "uniform" && stages > 1) {
        return refuse(format!("`pipeline.partition` is `{other}`"), "`uniform`: others depend on its code");
    }
    let tp = degree("tensor_parallel.autotp_size", raw.tensor_parallel.autotp_size.unwrap_or(1).max(1))?;
    let ranks = raw.tideplan.ranks;
    let gpus = match ranks.is_empty() {
        true => scenario.gpus(),
        false => ranks.iter().map(|r| u64::from(r.last - r.first) + 1).sum(),
    };
    let dp = data_parallel(gpus, u64::from(tp), u64::from(stages))?;
    if let Some(batch) = raw.train_batch_size {
        same_batch(scenario, degree("train_batch_size", batch)?)?;
    }
    let micro_batch = match (raw.train_micro_batch_size_per_gpu, raw.gradient_accumulation_steps) {
        (Some(n), _) => degree("train_micro_batch_size_per_gpu", n)?,
        (None, Some(steps)) => {
            let share = u64::from(dp).saturating_mul(steps.max(1));
            let batch = u64::from(scenario.training.global_batch);
            if share == 0 || !batch.is_multiple_of(share) {
                return refuse(format!("a batch of {batch} does not divide into {dp} x {steps}"), "");
            }
            degree("micro-batch", batch / share)?
        }
        (None, None) => {
            return refuse(
                "no `train_micro_batch_size_per_gpu`",
                "DeepSpeed needs two of its three batch sizes",
            );
        }
    };
    let micro_batches = micro_batches(scenario, micro_batch, dp)?;
    if let Some(steps) = raw.gradient_accumulation_steps.filter(|s| *s != u64::from(micro_batches)) {
        let problem =
            format!("`gradient_accumulation_steps` is {steps}, the batch sizes make {micro_batches}");
        return refuse(problem, "train_batch_size = micro-batch x steps x data parallelism");
    }
    if raw.zero_optimization.stage > 3 {
        return refuse(format!("`zero_optimization.stage` is {}", raw.zero_optimization.stage), "0 to 3");
    }
    let element = scenario.training.precision.activation_bytes();
    let bucket = match raw.zero_optimization.reduce_bucket_size {
        None => None,
        Some(value) => match value.as_f64().filter(|n| (1.0..1e15).contains(n)) {
            Some(n) => Some(Bytes(n as u64 * element)),
            None => return refuse(format!("`reduce_bucket_size` is {value}"), "a number of elements"),
        },
    };
    let settings = plain(Plan {
        zero: raw.zero_optimization.stage as u8,
        overlap_gradients: raw.zero_optimization.overlap_comm.unwrap_or(false),
        gradient_bucket: bucket,
        ..Plan::default()
    });
    let recompute =
        if raw.pipeline.activation_checkpoint_interval > 0 { Recompute::Full } else { Recompute::None };
    let stages = uniform_cuts(layers, stages);
    Uniform { micro_batch, micro_batches, dp, tp, cp: 1, ep: 1, stages, recompute, settings, ranks }
        .plan(scenario)
}
