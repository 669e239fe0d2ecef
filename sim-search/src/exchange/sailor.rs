//! Sailor's plan JSON, laid on a scenario's devices by GPU and zone, and its clusters: the trace CSV (a column `GPU_zone` with
//! the number of GPUs) and the quota JSON (GPU, zone, number).
//!
//! A replica is written `[[["GPU", count, "zone"], ...], TP]`; replica `i` of every stage makes pipeline `i`. Layers are
//! numbered from the embedding; five of the published files list one twice and lack another, which is refused.

use super::{Refusal, checked, degree, refuse, same_batch};
use crate::planners::{PipelineOf, StageOf, View, allocate, even, plan_of};
use serde::Deserialize;
use sim_core::SimTime;
use sim_models::device::Catalogue;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Deserialize)]
struct Raw {
    pipeline_list: Vec<RawPipeline>,
    mbs: u64,
    gbs: Option<u64>,
}
type Replica = (Vec<(String, u64, String)>, u64);
#[derive(Deserialize)]
struct RawPipeline {
    layers_per_stage: Vec<Vec<u32>>,
    tmp_per_stage: Vec<Vec<Replica>>,
}

/// Whether a pool has GPUs that Sailor calls so.
pub(super) fn is(view: &View<'_>, pool: usize, gpu: &str) -> bool {
    let name = Catalogue::builtin().find(gpu).map_or(gpu, |g| g.name.as_str());
    let mine = &view.pools[pool].gpu;
    mine == name || mine == gpu
}

/// The pool of a GPU in a zone; any zone, where the scenario has the GPU in another alone.
fn pool(view: &View<'_>, gpu: &str, zone: &str) -> Option<usize> {
    let of_gpu: Vec<usize> = (0..view.pools.len()).filter(|p| is(view, *p, gpu)).collect();
    let in_zone = of_gpu.iter().copied().find(|p| view.pools[*p].zone == zone);
    in_zone.or(if of_gpu.len() == 1 { Some(of_gpu[0]) } else { None })
}

/// Layers from first to last; a stage that is not one run of layers is refused.
fn run(stage: &[u32]) -> Result<(usize, usize), Refusal> {
    let Some(first) = stage.first() else { return refuse("a stage without layers", "no empty stage") };
    for (i, layer) in stage.iter().enumerate() {
        if u64::from(*layer) != u64::from(*first) + i as u64 {
            return refuse(
                format!("layer {layer} of a stage is out of place"),
                "layers one after another, each once",
            );
        }
    }
    Ok((*first as usize, *first as usize + stage.len()))
}

/// The plan on the scenario's devices.
///
/// # Errors
/// What is wrong with it, or makes it no plan for the scenario.
pub fn import(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let raw: Raw = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(e) => return refuse(format!("line {}: {e}", e.line()), "a plan of Sailor's"),
    };
    let micro_batch = degree("mbs", raw.mbs)?;
    if let Some(batch) = raw.gbs {
        same_batch(scenario, degree("gbs", batch)?)?;
    }
    let [pipeline] = raw.pipeline_list.as_slice() else {
        return refuse(format!("{} entries in `pipeline_list`", raw.pipeline_list.len()), "one");
    };
    let stages = pipeline.layers_per_stage.len();
    if stages == 0 || pipeline.tmp_per_stage.len() != stages {
        let problem = format!("{stages} stages of layers, {} of GPUs", pipeline.tmp_per_stage.len());
        return refuse(problem, "as many, at least one");
    }
    let dp = pipeline.tmp_per_stage[0].len();
    if dp == 0 || pipeline.tmp_per_stage.iter().any(|s| s.len() != dp) {
        return refuse("its stages have unlike numbers of replicas", "as many in every stage, at least one");
    }
    let view = View::new(scenario, SimTime::ZERO);
    if (dp as u64).saturating_mul(stages as u64) > scenario.gpus() {
        return refuse(format!("{dp} x {stages} replicas, the cluster has {} GPUs", scenario.gpus()), "");
    }
    let (mut cuts, mut next) = (Vec::new(), 0);
    for stage in &pipeline.layers_per_stage {
        let (first, end) = run(stage)?;
        if first != next || end > view.layers {
            return refuse(
                format!("a stage holds layers {first} to {}, the one before ends at {next}", end - 1),
                format!("layers 0 to {} in order", view.layers - 1),
            );
        }
        cuts.push((first, end));
        next = end;
    }
    if next != view.layers {
        return refuse(
            format!("its stages hold {next} layers, the model has {}", view.layers),
            "every layer once",
        );
    }
    let mut needs = Vec::new();
    for (vms, tp) in pipeline.tmp_per_stage.iter().flatten() {
        let tp = degree("TP of a replica", *tp)?;
        let [(gpu, count, zone)] = vms.as_slice() else {
            return refuse(
                format!("a replica of TP {tp} on {} machines", vms.len()),
                "one: TP stays inside a node",
            );
        };
        if *count != u64::from(tp) {
            return refuse(format!("a replica of TP {tp} with {count} GPUs"), "as many");
        }
        let Some(p) = pool(&view, gpu, zone) else {
            return refuse(format!("the scenario has no `{gpu}` in zone `{zone}`"), "GPUs of the scenario");
        };
        if tp > view.pools[p].per_node {
            return refuse(
                format!("TP {tp} on nodes of {} `{gpu}`", view.pools[p].per_node),
                "TP stays inside a node",
            );
        }
        needs.push((p, tp));
    }
    let Some(given) = allocate(&view, &needs) else {
        return refuse(
            "the cluster has too few GPUs of a kind for it, tensor-parallel groups kept inside nodes",
            "",
        );
    };
    let total = view.micro_batch_count(micro_batch);
    let pipelines: Vec<PipelineOf> = even(total, dp as u32)
        .enumerate()
        .map(|(r, micro_batches)| PipelineOf {
            micro_batches,
            stages: (0..stages)
                .map(|s| StageOf { layers: cuts[s], devices: given[s * dp + r].clone() })
                .collect(),
        })
        .collect();
    checked(scenario, plan_of(scenario, micro_batch, &pipelines))
}

/// A scenario file of OPT-350M on a cluster of Sailor's: the first row of a trace CSV, or a quota JSON.
///
/// # Errors
/// What is wrong with the file.
pub fn scenario(text: &str) -> Result<String, Refusal> {
    let mut gpus: Vec<(String, String, u64)> = Vec::new();
    if text.trim_start().starts_with('{') {
        let quotas: BTreeMap<String, BTreeMap<String, u64>> = match serde_json::from_str(text) {
            Ok(quotas) => quotas,
            Err(e) => return refuse(format!("line {}: {e}", e.line()), "GPU -> zone -> number"),
        };
        for (gpu, zones) in quotas {
            gpus.extend(zones.into_iter().map(|(zone, n)| (gpu.clone(), zone, n)));
        }
    } else {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty());
        let (Some(heading), Some(row)) = (lines.next(), lines.next()) else {
            return refuse("no row of a trace", "a heading and at least one row");
        };
        let cells: Vec<&str> = row.split(',').collect();
        for (i, name) in heading.split(',').enumerate().filter(|(_, n)| n.contains('_')) {
            let Some((gpu, zone)) = name.trim().split_once('_') else { continue };
            let Some(n) = cells.get(i).and_then(|c| c.trim().parse::<u64>().ok()) else {
                return refuse(
                    format!("column `{name}` has no whole number in the first row"),
                    "GPUs of that kind and zone",
                );
            };
            gpus.push((gpu.into(), zone.into(), n));
        }
    }
    scenario_of(gpus)
}

/// Memory of a GPU, bytes, as Sailor's clusters have it (its basic_cluster_config.json); others have the catalogue's.
const MEMORY: [(&str, u64); 7] = [
    ("A100-40", 42_338_615_296),
    ("A100-80", 85_899_345_920),
    ("V100-16", 17_179_869_184),
    ("GH-96", 102_625_181_696),
    ("Titan-RTX", 25_769_803_776),
    ("RTX-2080", 11_811_160_064),
    ("RTX-3090", 25_769_803_776),
];

/// A scenario file of OPT-350M on so many GPUs by (GPU, zone).
pub(super) fn scenario_of(mut gpus: Vec<(String, String, u64)>) -> Result<String, Refusal> {
    gpus.retain(|(_, _, n)| *n > 0);
    if gpus.is_empty() {
        return refuse("no GPUs", "columns such as `A100-40_us-central1-a`");
    }
    let mut out = String::from(
        "schema_version = 1\nabout = \"a cluster of Sailor's\"\n\n[model]\nname = \"opt-350m\"\n\n[training]\nglobal_batch = 1024\nprecision = \"fp32\"\noptimizer = \"adam\"\n",
    );
    for (i, (gpu, zone, n)) in gpus.iter().enumerate() {
        let Ok(known) = Catalogue::builtin().find(gpu) else {
            return refuse(format!("no GPU `{gpu}`"), "`tideplan list devices`");
        };
        // Sailor's machines: 4 GPUs a node, 8 of the consumer kinds.
        let per_node = if gpu.contains("RTX") { 8 } else { 4u64 };
        if !n.is_multiple_of(per_node) || *n > 1 << 20 {
            return refuse(
                format!("{n} GPUs `{gpu}` in `{zone}`"),
                format!("whole nodes of {per_node}, at most 1048576 GPUs"),
            );
        }
        if !zone.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return refuse(format!("zone `{}`", zone.escape_debug()), "letters, digits, `-` and `_`");
        }
        let _ = write!(
            out,
            "\n[[nodes]]\nname = \"g{i}\"\ncount = {}\ngpus_per_node = {per_node}\ngpu = \"{}\"\nzone = \"{zone}\"\n",
            n / per_node,
            known.name
        );
        if let Some((_, bytes)) = MEMORY.iter().find(|(name, _)| name == gpu) {
            let _ = writeln!(out, "memory = \"{bytes} B\"");
        }
    }
    Ok(out)
}
