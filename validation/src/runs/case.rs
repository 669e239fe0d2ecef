//! From a row and its plan to a scenario and a plan that can be simulated, or the reason why not.
//!
//! The cluster has just the GPUs that the plan uses: a group of nodes for each kind, replicas placed stage by stage in the
//! order of the plan, never across a node. Links are the measured curves between those kinds; a node's NIC carries the
//! best rate that any of them reached. Micro-batches are shared out evenly, the first pipelines taking one more where they
//! do not divide.

use super::plan::{self, RunPlan};
use super::row::Row;
use super::{Reason, Skip};
use sim_core::{CapacityProfile, Rate};
use sim_models::device::{Catalogue, Format, Gpu, LayerTable};
use sim_models::layer_times::LayerTimes;
use sim_models::link::{FittedCurve, LinkModel, StreamRate, fitted_between_nodes, fitted_inside_node};
use sim_models::plan::{DeviceRange, PipelineGroup, Plan, Stage};
use sim_models::replay::Replay;
use sim_models::scenario::{NodeGroup, Scenario, SearchOptions};
use sim_models::units::Bytes;
use sim_models::workload::{Model, Precision, Training};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the shipped curves were measured; the sources name no other place.
const ZONE: &str = "us-central1-a";
/// GPUs of a node where the row does not say.
const GPUS_PER_NODE: u64 = 8;
/// What the framework keeps for itself: the CUDA context, the allocator, communication libraries.
const RESERVE: Bytes = Bytes(1 << 30);
/// Most passes and transfers of an iteration: what a row's batch may ask for.
const MOST_TASKS: u64 = 50_000_000;
/// A peak of memory above the GPU's own by more than this is no measurement.
const MEMORY_SLACK: f64 = 1.02;

/// A row, ready to simulate.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its cluster and workload.
    pub scenario: Scenario,
    /// Its plan, not yet held against the scenario.
    pub plan: Plan,
}

fn unsupported(what: String) -> Skip {
    Skip::new(Reason::Unsupported, what)
}

fn corrupt(what: String) -> Skip {
    Skip::new(Reason::Corrupt, what)
}

/// The case of a row; `plan_file` is the text of its plan in Sailor's format.
///
/// # Errors
/// Why the row is skipped.
pub fn build(row: &Row, plan_file: Option<&str>) -> Result<Case, Skip> {
    if let Some(fault) = &row.fault {
        return Err(corrupt(fault.clone()));
    }
    let gpus = gpus(row)?;
    let global_batch = to_u32(Row::need(row.global_batch, "global_batch")?, "global_batch")?;
    let measured_s = Row::need(row.iter_time_s, "iter_time_s")?;
    impossible(row, &gpus, measured_s)?;
    let model = model(row)?;
    let run = run_plan(row, plan_file, &gpus, &model)?;
    let micro_batch = match (row.micro_batch, run.batch) {
        (Some(m), Some((plan, _))) if m != u64::from(plan) => {
            return Err(corrupt(format!("`micro_batch` is {m}, the plan file's `mbs` {plan}")));
        }
        (None, Some((plan, _))) => plan,
        (cell, _) => to_u32(Row::need(cell, "micro_batch")?, "micro_batch")?,
    };
    if let Some((_, plan)) = run.batch.filter(|(_, plan)| *plan != global_batch) {
        return Err(corrupt(format!("`global_batch` is {global_batch}, the plan file's `gbs` {plan}")));
    }
    if micro_batch == 0 || !global_batch.is_multiple_of(micro_batch) {
        return Err(corrupt(format!("a batch of {global_batch} in micro-batches of {micro_batch}")));
    }
    let placed = Placed::new(row, &run)?;
    placed.same_gpus(&gpus)?;
    let plan = placed.plan(&run, micro_batch, global_batch / micro_batch)?;
    let training = Training { memory_reserve: RESERVE, ..Training::new(global_batch, Precision::Fp32) };
    let groups = placed.groups(&model)?;
    let node_links = node_links(&groups)?;
    let scenario = Scenario {
        name: row.id.clone(),
        about: String::new(),
        model,
        training,
        groups,
        node_links,
        zone_links: Vec::new(),
        plan: None,
        search: SearchOptions::default(),
        replay: Replay::default(),
    };
    Ok(Case { scenario, plan })
}

fn to_u32(value: u64, what: &str) -> Result<u32, Skip> {
    u32::try_from(value).map_err(|_| corrupt(format!("`{what}` is {value}: expected less than 2^32")))
}

fn find(name: &str) -> Result<&'static Gpu, Skip> {
    // What Sailor's files call the GH200.
    let name = if name == "GH-96" { "GH200-96" } else { name };
    Catalogue::builtin().find(name).map_err(|e| Skip::new(Reason::UnknownGpu, e.to_string()))
}

/// The row's GPUs by catalogue name.
fn gpus(row: &Row) -> Result<BTreeMap<&'static str, u64>, Skip> {
    Row::need(row.gpus, "gpus")?;
    if row.mix.is_empty() {
        return Row::need(None, "gpu");
    }
    let mut gpus = BTreeMap::new();
    for (name, count) in &row.mix {
        *gpus.entry(find(name)?.name.as_str()).or_default() += count;
    }
    Ok(gpus)
}

/// More arithmetic than the GPUs' fastest format does in the time, or more memory than the largest has.
fn impossible(row: &Row, gpus: &BTreeMap<&'static str, u64>, measured_s: f64) -> Result<(), Skip> {
    let fail = |what: String| Err(Skip::new(Reason::Impossible, what));
    let (mut peak, mut memory) = (0.0f64, 0.0f64);
    for (name, count) in gpus {
        let gpu = find(name)?;
        let formats = [Format::Fp32, Format::Tf32, Format::Fp16, Format::Bf16, Format::Fp8, Format::Fp4];
        peak += formats.into_iter().map(|f| gpu.peak_of(f)).fold(0.0, f64::max) * *count as f64;
        memory = memory.max(gpu.memory.as_gib());
    }
    if let Some(measured) = row.peak_mem_gib.filter(|m| *m > MEMORY_SLACK * memory) {
        return fail(format!("a peak of {measured} GiB on GPUs of {memory:.1} GiB"));
    }
    let dense = row.experts.unwrap_or(0) <= 1;
    let shape = (row.layers, row.hidden, row.seq_len, row.global_batch);
    if let (true, (Some(layers), Some(hidden), Some(seq_len), Some(batch))) = (dense, shape) {
        // 6 FLOP a parameter and token, without attention's own: at least so much was done. An MLP is at least twice as
        // wide as the stream wherever its width is not said.
        let (h, f) = (hidden as f64, row.ffn_hidden.unwrap_or(2 * hidden) as f64);
        let flop = 6.0 * layers as f64 * (2.0 * h * h + 2.0 * h * f) * seq_len as f64 * batch as f64;
        if flop > peak * measured_s {
            let (flop, peak) = (flop / 1e12, peak / 1e12);
            return fail(format!(
                "at least {flop:.0} TFLOP in {measured_s} s on GPUs of {peak:.0} TFLOP/s in all"
            ));
        }
    }
    Ok(())
}

/// The model, if its layers were measured as the row ran them.
fn model(row: &Row) -> Result<Model, Skip> {
    if row.model.is_empty() {
        return Row::need(None, "model");
    }
    let Some(model) = Model::builtin(&row.model) else {
        return Err(unsupported("no layer times of the model are shipped".into()));
    };
    let same = |cell: Option<u64>, own: u64| cell.is_none_or(|cell| cell == own);
    if !(same(row.layers, u64::from(model.blocks))
        && same(row.hidden, model.hidden)
        && same(row.seq_len, model.seq_len)
        && row.experts.unwrap_or(0) <= 1)
    {
        return Err(unsupported("the layer times shipped are of another shape of the model".into()));
    }
    // Sailor's fork trains in fp32 when nothing is said; its tables are of that.
    let fp32 = row.precision.eq_ignore_ascii_case("fp32")
        || row.precision.is_empty() && row.framework.to_ascii_lowercase().contains("sailor");
    if !fp32 {
        return Err(unsupported("the layer times shipped are of fp32".into()));
    }
    let plain = |text: &str| ["", "none", "0"].contains(&text);
    let one = |cell: Option<u64>| cell.unwrap_or(1) == 1;
    if !(plain(&row.recompute) && plain(&row.zero) && one(row.cp) && one(row.vpp)) {
        return Err(unsupported(
            "recomputation, sharded optimizers, context parallelism, interleaving".into(),
        ));
    }
    Ok(model)
}

fn run_plan(
    row: &Row,
    plan_file: Option<&str>,
    gpus: &BTreeMap<&'static str, u64>,
    model: &Model,
) -> Result<RunPlan, Skip> {
    if let Some(text) = plan_file {
        return plan::from_sailor(text);
    }
    if !row.plan.is_empty() {
        return plan::parse(&row.plan);
    }
    let mut kinds = gpus.keys();
    let (Some(gpu), None) = (kinds.next(), kinds.next()) else {
        return Err(Skip::new(Reason::MissingField, "mixed GPUs and no plan".into()));
    };
    let degree = |cell, name: &str| to_u32(Row::need(cell, name)?, name);
    plan::even(gpu, model.blocks, degree(row.tp, "tp")?, degree(row.pp, "pp")?, degree(row.dp, "dp")?)
}

/// The replicas of a plan on the nodes of its kinds.
struct Placed {
    gpus_per_node: u32,
    /// Kinds in order of appearance, and how many devices of each are taken, gaps included.
    kinds: Vec<(&'static Gpu, u32)>,
    /// Of each stage and replica: its kind, its first device there, its TP.
    at: Vec<Vec<(usize, u32, u32)>>,
}

impl Placed {
    fn new(row: &Row, run: &RunPlan) -> Result<Placed, Skip> {
        let gpus_per_node = to_u32(row.gpus_per_node.unwrap_or(GPUS_PER_NODE), "gpus_per_node")?;
        let mut placed = Placed { gpus_per_node, kinds: Vec::new(), at: Vec::new() };
        for stage in &run.stages {
            let mut replicas = Vec::with_capacity(stage.replicas.len());
            for (name, tp) in &stage.replicas {
                if *tp > gpus_per_node {
                    return Err(unsupported("tensor parallelism across nodes".into()));
                }
                let gpu = find(name)?;
                let kind = placed.kinds.iter().position(|(k, _)| k.name == gpu.name).unwrap_or_else(|| {
                    placed.kinds.push((gpu, 0));
                    placed.kinds.len() - 1
                });
                let used = &mut placed.kinds[kind].1;
                let left = gpus_per_node - *used % gpus_per_node;
                let first = if *tp > left { used.checked_add(left) } else { Some(*used) };
                let next = first.and_then(|f| f.checked_add(*tp)).filter(|n| *n <= 1 << 20);
                let (Some(first), Some(next)) = (first, next) else {
                    return Err(corrupt("the plan has more than 2^20 GPUs of a kind".into()));
                };
                *used = next;
                replicas.push((kind, first, *tp));
            }
            placed.at.push(replicas);
        }
        Ok(placed)
    }

    /// The plan's GPUs are the row's.
    fn same_gpus(&self, row: &BTreeMap<&'static str, u64>) -> Result<(), Skip> {
        let mut plan: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, _, tp) in self.at.iter().flatten() {
            *plan.entry(&self.kinds[*kind].0.name).or_default() += u64::from(*tp);
        }
        let text = |gpus: &BTreeMap<&str, u64>| {
            gpus.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
        };
        if plan == *row {
            return Ok(());
        }
        Err(corrupt(format!("the plan is for {}, the row says {}", text(&plan), text(row))))
    }

    fn name(&self, kind: usize) -> String {
        self.kinds[kind].0.name.to_ascii_lowercase()
    }

    fn plan(&self, run: &RunPlan, micro_batch: u32, micro_batches: u32) -> Result<Plan, Skip> {
        let replicas = self.at[0].len() as u32;
        if micro_batches < replicas {
            return Err(corrupt(format!("{micro_batches} micro-batches for {replicas} pipelines")));
        }
        let tasks = 4 * u64::from(micro_batches) * run.stages.len() as u64;
        if tasks > MOST_TASKS {
            return Err(unsupported(format!("an iteration of {tasks} passes and transfers")));
        }
        // Pipelines on the same kinds of GPU with as many micro-batches are one group, in order of appearance.
        let mut of_key: BTreeMap<(Vec<(usize, u32)>, u32), usize> = BTreeMap::new();
        let mut groups: Vec<(u32, Vec<usize>)> = Vec::new();
        for r in 0..self.at[0].len() {
            let share = micro_batches / replicas + u32::from((r as u32) < micro_batches % replicas);
            let kinds = self.at.iter().map(|stage| (stage[r].0, stage[r].2)).collect();
            let group = *of_key.entry((kinds, share)).or_insert_with(|| {
                groups.push((share, Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(r);
        }
        let stage = |s: usize, members: &[usize]| {
            let mut devices: Vec<DeviceRange> = Vec::new();
            for r in members {
                let (kind, first, tp) = self.at[s][*r];
                let (group, last) = (self.name(kind), first + tp - 1);
                match devices.last_mut() {
                    Some(d) if d.group == group && d.last + 1 == first => d.last = last,
                    _ => devices.push(DeviceRange { group, first, last }),
                }
            }
            Stage {
                layers: run.stages[s].layers.into(),
                tp: self.at[s][members[0]].2,
                devices,
                ..Stage::default()
            }
        };
        let pipelines = groups.iter().map(|(share, members)| PipelineGroup {
            replicas: members.len() as u32,
            micro_batches: *share,
            stages: (0..self.at.len()).map(|s| stage(s, members)).collect(),
        });
        let pipelines = pipelines.collect();
        Ok(Plan { micro_batch, pipelines, ..Plan::default() })
    }

    fn groups(&self, model: &Model) -> Result<Vec<NodeGroup>, Skip> {
        let group = |(kind, (gpu, used)): (usize, &(&'static Gpu, u32))| {
            let layers = LayerTable::shipped(&model.name, &gpu.name).ok_or_else(|| {
                unsupported(format!("no layer times of `{}` on `{}` are shipped", model.name, gpu.name))
            })?;
            let no_curves = || unsupported(format!("no measured links of `{}` are shipped", gpu.name));
            let near = fitted_between_nodes(ZONE, &gpu.name, &gpu.name).ok_or_else(no_curves)?;
            let wire = Rate::from_bytes_per_s(curves(near).wire_rate()).map_err(|_| no_curves())?;
            Ok(NodeGroup {
                name: self.name(kind),
                zone: ZONE.into(),
                nodes: used.div_ceil(self.gpus_per_node),
                gpus_per_node: self.gpus_per_node,
                gpu: (*gpu).clone(),
                layers: Arc::new(LayerTimes::measured(layers)),
                inside: curves(fitted_inside_node(&gpu.name).ok_or_else(no_curves)?),
                nic: CapacityProfile::constant(wire),
            })
        };
        self.kinds.iter().enumerate().map(group).collect()
    }
}

/// A link of shipped curves; their start latency is in them.
fn curves(curves: &[(u32, FittedCurve)]) -> LinkModel {
    LinkModel { latency_s: 0.0, rate: StreamRate::Fitted(curves.to_vec()) }
}

fn node_links(groups: &[NodeGroup]) -> Result<Vec<Vec<LinkModel>>, Skip> {
    let between = |a: &NodeGroup, b: &NodeGroup| {
        fitted_between_nodes(ZONE, &a.gpu.name, &b.gpu.name).map(|c| curves(c)).ok_or_else(|| {
            unsupported(format!("no measured links between `{}` and `{}`", a.gpu.name, b.gpu.name))
        })
    };
    groups.iter().map(|a| groups.iter().map(|b| between(a, b)).collect()).collect()
}
