//! torchtitan's TOML: `[training]`, `[parallelism]`, `[activation_checkpoint]`. Its tensor parallelism is sequence parallel; its
//! data parallelism replicates, or shards parameters too (ZeRO 3). Stages are listed by their modules.

use super::uniform::{data_parallel, micro_batches};
use super::{Refusal, Uniform, degree, refuse, same_batch};
use serde::Deserialize;
use sim_models::plan::{DeviceRange, LayerRange, Layers, Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;
use sim_models::workload::{LayerKind, Precision};
use std::fmt::Write;

/// The plan as TOML.
///
/// # Errors
/// What torchtitan cannot run.
pub fn export(scenario: &Scenario, plan: &Plan) -> Result<String, Refusal> {
    let u = Uniform::of(plan)?;
    if !u.whole_batch(scenario) {
        return refuse("its micro-batches do not make up the global batch", "every pipeline takes as many");
    }
    let (replicate, shard) = match u.settings.zero {
        0 => (u.dp, 1),
        3 => (1, u.dp),
        other => {
            return refuse(
                format!("torchtitan replicates or shards parameters too, ZeRO {other} does neither"),
                "0 or 3",
            );
        }
    };
    let schedule = match u.settings.schedule {
        Schedule::OneFOneB => "1F1B",
        Schedule::GPipe => "GPipe",
        Schedule::Interleaved => "Interleaved1F1B",
        other => {
            return refuse(format!("torchtitan has no schedule `{other}`"), "1f1b, gpipe or interleaved");
        }
    };
    let name = |l: u32| match scenario.model.kind(l) {
        LayerKind::Embedding => vec!["\"tok_embeddings\"".to_string()],
        LayerKind::Head => vec!["\"norm\"".to_string(), "\"output\"".to_string()],
        _ => vec![format!("\"layers.{}\"", l - 1)],
    };
    // Virtual stages in the order in which a micro-batch goes through them.
    let most = u.stages.iter().map(|s| s.chunks().len()).max().unwrap_or(1);
    let mut parts = Vec::new();
    for v in 0..most {
        for stage in &u.stages {
            let Some(range) = stage.chunks().get(v) else {
                return refuse("its stages have unlike numbers of virtual stages", "");
            };
            parts.push(format!("    [{}],", range.iter().flat_map(name).collect::<Vec<_>>().join(", ")));
        }
    }
    let mut text = format!(
        "# {} GPUs\n# ranks: {}\n[training]\nlocal_batch_size = {}\nglobal_batch_size = {}\nseq_len = {}\n",
        u.gpus(),
        u.ranks_text(),
        u.micro_batch * u.micro_batches,
        scenario.training.global_batch,
        scenario.model.seq_len
    );
    if scenario.training.precision == Precision::Bf16 {
        text += "mixed_precision_param = \"bfloat16\"\n";
    }
    let _ = write!(
        text,
        "\n[parallelism]\ndata_parallel_replicate_degree = {replicate}\ndata_parallel_shard_degree = {shard}\n\
         tensor_parallel_degree = {}\ncontext_parallel_degree = {}\nexpert_parallel_degree = {}\n\
         pipeline_parallel_degree = {}\n",
        u.tp,
        u.cp,
        u.ep,
        u.stages.len()
    );
    if u.stages.len() > 1 {
        let _ = write!(
            text,
            "pipeline_parallel_schedule = \"{schedule}\"\npipeline_parallel_microbatch_size = {}\nmodule_fqns_per_model_part = [\n{}\n]\n",
            u.micro_batch,
            parts.join("\n")
        );
    }
    let mode = match u.recompute {
        Recompute::None => "none",
        Recompute::Selective => "selective",
        Recompute::Full => "full",
    };
    let _ = write!(text, "\n[activation_checkpoint]\nmode = \"{mode}\"\n");
    if u.stages.len() == 1 && u.micro_batches > 1 {
        text = text.replace(
            &format!("local_batch_size = {}\n", u.micro_batch * u.micro_batches),
            &format!("local_batch_size = {}\n", u.micro_batch),
        );
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Raw {
    training: Training,
    #[serde(default)]
    parallelism: Parallelism,
    #[serde(default)]
    activation_checkpoint: Checkpoint,
}
#[derive(Deserialize)]
struct Training {
    local_batch_size: u64,
    global_batch_size: Option<i64>,
    seq_len: Option<u64>,
}
#[derive(Deserialize)]
#[serde(default)]
struct Parallelism {
    data_parallel_replicate_degree: u64,
    data_parallel_shard_degree: i64,
    tensor_parallel_degree: u64,
    context_parallel_degree: u64,
    expert_parallel_degree: u64,
    pipeline_parallel_degree: u64,
    pipeline_parallel_schedule: String,
    pipeline_parallel_microbatch_size: u64,
    module_fqns_per_model_part: Vec<Vec<String>>,
}
impl Default for Parallelism {
    fn default() -> Self {
        Parallelism {
            data_parallel_replicate_degree: 1,
            data_parallel_shard_degree: -1,
            tensor_parallel_degree: 1,
            context_parallel_degree: 1,
            expert_parallel_degree: 1,
            pipeline_parallel_degree: 1,
            pipeline_parallel_schedule: "1F1B".into(),
            pipeline_parallel_microbatch_size: 1,
            module_fqns_per_model_part: Vec::new(),
        }
    }
}
#[derive(Deserialize, Default)]
struct Checkpoint {
    mode: Option<String>,
}

/// The plan that the TOML makes on the scenario's cluster.
///
/// # Errors
/// What is wrong with it, or makes it no plan for the scenario.
pub fn import(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let raw: Raw = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(e) => return refuse(e.message().to_string(), "a torchtitan configuration"),
    };
    let comment = text.lines().find_map(|l| l.strip_prefix("# ranks:"));
    let ranks: Vec<DeviceRange> = comment.map_or(Ok(Vec::new()), super::uniform::read_ranks)?;
    let p = &raw.parallelism;
    let tp = degree("tensor_parallel_degree", p.tensor_parallel_degree)?;
    let cp = degree("context_parallel_degree", p.context_parallel_degree)?;
    let ep = degree("expert_parallel_degree", p.expert_parallel_degree)?;
    let stages = degree("pipeline_parallel_degree", p.pipeline_parallel_degree)?;
    let replicate = degree("data_parallel_replicate_degree", p.data_parallel_replicate_degree)?;
    let gpus = match ranks.is_empty() {
        true => scenario.gpus(),
        false => ranks.iter().map(|r| u64::from(r.last - r.first) + 1).sum(),
    };
    let dp = data_parallel(gpus, u64::from(tp) * u64::from(cp), u64::from(stages))?;
    let shard = match p.data_parallel_shard_degree {
        -1 => dp / replicate.min(dp),
        n => degree("data_parallel_shard_degree", u64::try_from(n).unwrap_or(0))?,
    };
    if u64::from(replicate) * u64::from(shard) != u64::from(dp) {
        let problem = format!("{replicate} x {shard} ways of data parallelism, {gpus} GPUs leave {dp}");
        return refuse(problem, "replicate x shard x tensor x context x pipeline = GPUs");
    }
    let zero = match (replicate, shard) {
        (_, 1) => 0,
        (1, _) => 3,
        _ => {
            return refuse(
                "it both replicates and shards (HSDP)",
                "one of the two: plans here do not say which ranks share",
            );
        }
    };
    if let Some(theirs) = raw.training.seq_len.filter(|s| *s != scenario.model.seq_len) {
        return refuse(
            format!("`seq_len` is {theirs}, the scenario's {}", scenario.model.seq_len),
            "the same model",
        );
    }
    if let Some(batch) = raw.training.global_batch_size.filter(|b| *b > 0) {
        same_batch(scenario, degree("global_batch_size", batch.unsigned_abs())?)?;
    }
    let local = degree("local_batch_size", raw.training.local_batch_size)?;
    let micro_batch = if stages > 1 {
        degree("pipeline_parallel_microbatch_size", p.pipeline_parallel_microbatch_size)?
    } else {
        local
    };
    let schedule = match p.pipeline_parallel_schedule.to_lowercase().as_str() {
        "1f1b" => Schedule::OneFOneB,
        "gpipe" => Schedule::GPipe,
        "interleaved1f1b" => Schedule::Interleaved,
        other => {
            return refuse(
                format!("`pipeline_parallel_schedule` is `{other}`"),
                "1F1B, GPipe or Interleaved1F1B",
            );
        }
    };
    let recompute = match raw.activation_checkpoint.mode.as_deref() {
        None | Some("none") => Recompute::None,
        Some("selective") => Recompute::Selective,
        Some("full") => Recompute::Full,
        Some(other) => {
            return refuse(format!("`activation_checkpoint.mode` is `{other}`"), "none, selective or full");
        }
    };
    let stages = parts(scenario, &p.module_fqns_per_model_part, stages, schedule)?;
    let micro_batches = micro_batches(scenario, micro_batch, dp)?;
    let settings = Plan { schedule, zero, sequence_parallel: tp > 1, ..Plan::default() };
    Uniform { micro_batch, micro_batches, dp, tp, cp, ep, stages, recompute, settings, ranks }.plan(scenario)
}

/// Layers of each stage, from the modules of each model part.
fn parts(
    scenario: &Scenario,
    modules: &[Vec<String>],
    stages: u32,
    schedule: Schedule,
) -> Result<Vec<Layers>, Refusal> {
    let layers = scenario.model.layers();
    if stages == 1 && modules.is_empty() {
        return Ok(vec![LayerRange { first: 0, last: layers - 1 }.into()]);
    }
    if modules.is_empty() {
        return refuse(
            "no `module_fqns_per_model_part`",
            "torchtitan's own split depends on its model; list the modules",
        );
    }
    if !modules.len().is_multiple_of(stages as usize)
        || (schedule != Schedule::Interleaved && modules.len() != stages as usize)
    {
        return refuse(
            format!("{} model parts for {stages} stages", modules.len()),
            "one a stage, or several when interleaved",
        );
    }
    let mut next = 0;
    let mut ranges: Vec<LayerRange> = Vec::new();
    for part in modules {
        let first = next;
        for module in part {
            let layer = match module.as_str() {
                "tok_embeddings" => 0,
                "norm" => continue,
                "output" => layers - 1,
                other => match other
                    .strip_prefix("layers.")
                    .and_then(|n| n.parse::<u32>().ok())
                    .filter(|n| *n < layers - 2)
                {
                    Some(n) => n + 1,
                    None => {
                        return refuse(
                            format!("no module `{other}`"),
                            "tok_embeddings, layers.N, norm, output",
                        );
                    }
                },
            };
            if layer != next {
                return refuse(format!("module `{module}` is out of order"), "every module once, in order");
            }
            next += 1;
        }
        if next == first {
            return refuse("a model part holds no layer", "");
        }
        ranges.push(LayerRange { first, last: next - 1 });
    }
    if next != layers {
        return refuse(
            format!("the model parts hold {next} of {layers} layers"),
            "every module once, in order",
        );
    }
    let stage = |s: usize| {
        let mine: Vec<String> =
            ranges.iter().skip(s).step_by(stages as usize).map(LayerRange::to_string).collect();
        mine.join(",").parse::<Layers>().or_else(|e| refuse(e.to_string(), ""))
    };
    (0..stages as usize).map(stage).collect()
}
