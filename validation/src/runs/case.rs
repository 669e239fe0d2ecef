//! From a row and its plan to a scenario and a plan that can be simulated, or the reason why not.
//!
//! The cluster has just the GPUs that the plan uses: a group of nodes for each kind, replicas placed stage by stage in the
//! order of the plan. What the row leaves open is what its framework does (`sim_models::framework`). Micro-batches are shared
//! out evenly, the first pipelines taking one more where they do not divide.

use super::cluster::{Wires, fabric, find, gpus_per_node};
use super::plan::{self, RunPlan};
use super::row::Row;
use super::{Reason, Skip, Tier, shape};
use sim_core::{CapacityProfile, Rate};
use sim_models::collective::Nccl;
use sim_models::device::{Device, Format, Gpu, LayerTable, Roofline};
use sim_models::framework::{self, Calibration, Framework};
use sim_models::layer_times::{LayerTimes, OnDevice};
use sim_models::link::{FittedCurve, LinkModel, StreamRate, fitted_between_nodes, fitted_inside_node};
use sim_models::plan::{DeviceRange, PipelineGroup, Plan, Recompute, Schedule, Stage};
use sim_models::replay::Replay;
use sim_models::scenario::{NodeGroup, Scenario, SearchOptions};
use sim_models::units::Bytes;
use sim_models::workload::{ActivationModel, Model, Optimizer, Precision, Training};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the shipped curves were measured; the sources name no other place.
const ZONE: &str = "us-central1-a";
/// What the framework keeps for itself beside measured layer times: the CUDA context, communication libraries, its buffers and
/// copies in the head. Fitted to the peaks of Sailor's runs on one GH200 node.
const RESERVE: Bytes = Bytes(7 << 29);
/// Elements that eager attention keeps of a score: its softmax in 32 bits, and the mask of its dropout in 8.
const EAGER_SCORES: f64 = 1.25;
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
    /// Where its layer times come from.
    pub tier: Tier,
    /// The framework whose habits and constants it has.
    pub framework: &'static Framework,
    /// Its GPUs, the most frequent first.
    pub gpus: Vec<&'static Gpu>,
    /// Half-width of the 90 % interval, in the logarithm of the time.
    pub half_width: f64,
    /// Share of a GPU's memory that the framework's allocator cannot use.
    pub fragmentation: f64,
}

/// How rows are turned into cases.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Every row in this tier; rows that have no measured layer times have none in `profiled`. `None`: the best of each.
    pub tier: Option<Tier>,
    /// Fitted constants of the calibrated tier.
    pub calibration: &'a Calibration,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings { tier: None, calibration: Calibration::builtin() }
    }
}

fn corrupt(what: String) -> Skip {
    Skip::new(Reason::Corrupt, what)
}

/// The case of a row; `plan_file` is the text of its plan in Sailor's format.
///
/// # Errors
/// Why the row is skipped.
pub fn build(row: &Row, plan_file: Option<&str>, settings: &Settings<'_>) -> Result<Case, Skip> {
    if let Some(fault) = &row.fault {
        return Err(corrupt(fault.clone()));
    }
    let row = &filled(row)?;
    let gpus = gpus(row)?;
    let framework = Framework::find(&row.framework);
    let framework = match gpus.keys().next() {
        Some(gpu) => framework.on(find(gpu)?),
        None => framework,
    };
    let global_batch = to_u32(Row::need(row.global_batch, "global_batch")?, "global_batch")?;
    if let Some(measured_s) = row.iter_time_s {
        impossible(row, &gpus, measured_s)?;
    }
    let model = shape::model(row, framework)?;
    let degrees = Degrees::of(row, framework, &model)?;
    let run = run_plan(row, plan_file, &model, &degrees)?;
    let micro_batch = match (row.micro_batch, run.batch) {
        (Some(m), Some((plan, _))) if m != u64::from(plan) => {
            return Err(corrupt(format!("`micro_batch` is {m}, the plan file's `mbs` {plan}")));
        }
        (None, Some((plan, _))) => plan,
        (cell, _) => to_u32(cell.unwrap_or_else(|| default_micro_batch(row, framework)), "micro_batch")?,
    };
    if let Some((_, plan)) = run.batch.filter(|(_, plan)| *plan != global_batch) {
        return Err(corrupt(format!("`global_batch` is {global_batch}, the plan file's `gbs` {plan}")));
    }
    if micro_batch == 0 || !global_batch.is_multiple_of(micro_batch) {
        return Err(corrupt(format!("a batch of {global_batch} in micro-batches of {micro_batch}")));
    }
    let placed = Placed::new(row, &run, &degrees)?;
    placed.same_gpus(&gpus)?;
    let plan = placed.plan(&run, &degrees, micro_batch, global_batch / micro_batch)?;
    let precision = precision(row, framework, &placed);
    let tables = placed.tables(&model, precision, &plan);
    let tier = match (settings.tier, &tables) {
        (None | Some(Tier::Profiled), Some(_)) => Tier::Profiled,
        (Some(Tier::Profiled), None) => {
            let what = "no measured layer times of this model, GPU, micro-batch and TP are shipped";
            return Err(Skip::new(Reason::MissingField, what.into()));
        }
        (Some(tier), _) => tier,
        (None, None) => Tier::Calibrated,
    };
    let none = Calibration::none();
    let calibration = if tier == Tier::Datasheet { &none } else { settings.calibration };
    // The model as it was measured.
    let model = match tier {
        Tier::Profiled => Model::builtin(&model.name).unwrap_or(model),
        _ => model,
    };
    let training = training(global_batch, precision, framework, calibration, tier);
    let (groups, node_links) = match (tier, tables) {
        (Tier::Profiled, Some(tables)) => placed.measured_groups(tables)?,
        _ => placed.modelled_groups(row, &model, precision, framework, calibration)?,
    };
    let half_width = half_width(&placed, framework, calibration, tier);
    let scenario = Scenario {
        name: row.id.clone(),
        about: String::new(),
        model,
        training,
        groups,
        node_links,
        zone_links: Vec::new(),
        leaves: Vec::new(),
        jobs: Vec::new(),
        plan: None,
        search: SearchOptions::default(),
        replay: Replay::default(),
        cost: sim_models::cost::Cost::default(),
    };
    let gpus = placed.kinds.iter().map(|k| k.gpu).collect();
    let fragmentation = if tier == Tier::Profiled { 0.0 } else { calibration.keeps(framework).fragmentation };
    Ok(Case { scenario, plan, tier, framework, gpus, half_width, fragmentation })
}

fn to_u32(value: u64, what: &str) -> Result<u32, Skip> {
    u32::try_from(value).map_err(|_| corrupt(format!("`{what}` is {value}: expected less than 2^32")))
}

/// The row with the degrees that its other cells imply: those that are not given are 1, and `dp` or `gpus` is what is left.
fn filled(row: &Row) -> Result<Row, Skip> {
    let mut row = row.clone();
    let own = [row.tp, row.pp, row.cp].iter().fold(1u64, |p, d| p.saturating_mul(d.unwrap_or(1)));
    match (row.gpus, row.dp) {
        (Some(gpus), None) if gpus.is_multiple_of(own) => row.dp = Some(gpus / own),
        (Some(gpus), None) => {
            return Err(corrupt(format!("`gpus` is {gpus}: no multiple of tp x pp x cp, {own}")));
        }
        (None, Some(dp)) => row.gpus = own.checked_mul(dp),
        _ => {}
    }
    // One GPU's name stands for all, with a count of 0 where `gpus` was empty.
    if let (Some(gpus), [(_, count @ 0)]) = (row.gpus, row.mix.as_mut_slice()) {
        *count = gpus;
    }
    row.tp = row.tp.or(Some(1));
    row.pp = row.pp.or(Some(1));
    if let Some(fault) = row.contradiction() {
        return Err(corrupt(fault));
    }
    Ok(row)
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

/// Samples of a micro-batch where the row does not say: a device's whole share of the batch, or one.
fn default_micro_batch(row: &Row, framework: &Framework) -> u64 {
    let (batch, dp) = (row.global_batch.unwrap_or(1), row.dp.unwrap_or(1).max(1));
    if framework.habits.whole_batch && batch.is_multiple_of(dp) { (batch / dp).max(1) } else { 1 }
}

fn precision(row: &Row, framework: &Framework, placed: &Placed) -> Precision {
    let text = row.precision.to_ascii_lowercase();
    let says = |word: &str| text.contains(word);
    match () {
        () if says("fp4") || says("nvfp4") => Precision::Fp4,
        () if says("fp8") || says("float8") => Precision::Fp8,
        () if says("bf16") || says("bfloat16") => Precision::Bf16,
        () if says("16") || says("half") => Precision::Fp16,
        () if says("32") || says("single") => Precision::Fp32,
        // Sailor's fork trains in fp32 when nothing is said; its tables are of that.
        () if row.framework.to_ascii_lowercase().contains("sailor") => Precision::Fp32,
        () => {
            // A format that a GPU does not have is not what it ran.
            let has = |format: Format| {
                placed.kinds.iter().map(|k| &k.gpu.peaks).all(|p| match format {
                    Format::Fp32 | Format::Tf32 => true,
                    Format::Fp16 => p.fp16.is_some(),
                    Format::Bf16 => p.bf16.is_some(),
                    Format::Fp8 => p.fp8.is_some(),
                    Format::Fp4 => p.fp4.is_some(),
                })
            };
            match framework.habits.precision {
                habit if has(format(habit)) => habit,
                _ if has(Format::Bf16) => Precision::Bf16,
                _ => Precision::Fp16,
            }
        }
    }
}

fn format(precision: Precision) -> Format {
    match precision {
        Precision::Fp32 => Format::Fp32,
        Precision::Fp16 => Format::Fp16,
        Precision::Bf16 => Format::Bf16,
        Precision::Fp8 => Format::Fp8,
        Precision::Fp4 => Format::Fp4,
    }
}

fn training(
    global_batch: u32,
    precision: Precision,
    framework: &Framework,
    calibration: &Calibration,
    tier: Tier,
) -> Training {
    if tier == Tier::Profiled {
        // Nothing is fitted, and the optimizer's step is in the tables.
        let activations = ActivationModel { scores: EAGER_SCORES, ..ActivationModel::default() };
        return Training { memory_reserve: RESERVE, activations, ..Training::new(global_batch, precision) };
    }
    let (wide, keeps) = (precision == Precision::Fp32, calibration.keeps(framework));
    Training {
        global_batch,
        precision,
        optimizer: Optimizer::Adam,
        gradient_bytes: if wide { 4 } else { framework.habits.gradient_bytes },
        memory_reserve: Bytes::from_f64(keeps.reserve_gib * 1_073_741_824.0),
        activations: keeps.activations,
        overheads: calibration.overheads(framework),
    }
}

/// Half-width of the interval where nothing was fitted on runs: the error that rows of all sources have in this tier.
const DATASHEET_HALF_WIDTH: f64 = 0.35;
/// The same where layer times were measured: Sailor's rows.
const PROFILED_HALF_WIDTH: f64 = 0.25;

fn half_width(placed: &Placed, framework: &Framework, calibration: &Calibration, tier: Tier) -> f64 {
    match tier {
        Tier::Profiled => PROFILED_HALF_WIDTH,
        Tier::Datasheet => DATASHEET_HALF_WIDTH,
        Tier::Calibrated => {
            placed.kinds.iter().map(|k| calibration.half_width(framework, k.gpu)).fold(0.0, f64::max)
        }
    }
}

/// How a row shares out its model, with its framework's habits where it does not say.
struct Degrees {
    tp: u32,
    pp: u32,
    dp: u32,
    cp: u32,
    ep: u32,
    vpp: u32,
    zero: u8,
    recompute: Recompute,
    sequence_parallel: bool,
    habits: &'static framework::Habits,
}

impl Degrees {
    fn of(row: &Row, framework: &'static Framework, model: &Model) -> Result<Degrees, Skip> {
        let habits = &framework.habits;
        let degree = |cell: Option<u64>, name: &str| to_u32(cell.unwrap_or(1), name);
        let (tp, cp) = (degree(row.tp, "tp")?, degree(row.cp, "cp")?);
        let dp = degree(Some(Row::need(row.dp, "dp")?), "dp")?;
        let recompute = row.recompute.to_ascii_lowercase();
        let recompute = match recompute.as_str() {
            "" => habits.recompute,
            "none" | "no" | "0" | "false" | "off" => Recompute::None,
            text if text.contains("selective") || text.contains("attn") => Recompute::Selective,
            _ => Recompute::Full,
        };
        // Where sequences are cut among ranks, a rank's part has to be whole.
        if !model.seq_len.is_multiple_of(u64::from(cp)) {
            return Err(corrupt(format!("cp {cp} does not divide the sequence of {} tokens", model.seq_len)));
        }
        let mut ep = if model.experts.is_some() { degree(row.ep, "ep")? } else { 1 };
        if let Some(experts) = &model.experts {
            let ranks = u64::from(tp) * u64::from(cp) * u64::from(dp);
            if !experts.count.is_multiple_of(u64::from(ep)) || !ranks.is_multiple_of(u64::from(ep)) {
                let what = format!("ep {ep} of {} experts over {ranks} devices of a stage", experts.count);
                return Err(corrupt(what));
            }
            // Not said: as far as the ranks of a stage reach, up to a node.
            if row.ep.is_none() {
                ep = largest_divisor(experts.count, ranks, 8);
            }
        }
        Ok(Degrees {
            tp,
            pp: degree(row.pp, "pp")?,
            dp,
            cp,
            ep,
            vpp: degree(row.vpp, "vpp")?,
            zero: zero(&row.zero, habits.zero),
            recompute,
            sequence_parallel: tp > 1 && row.sequence_parallel.unwrap_or(habits.sequence_parallel),
            habits,
        })
    }
}

fn largest_divisor(experts: u64, ranks: u64, most: u64) -> u32 {
    let divides = |n: &u64| experts.is_multiple_of(*n) && ranks.is_multiple_of(*n);
    (1..=most).rev().find(divides).unwrap_or(1) as u32
}

/// ZeRO's stage as sources word it: `1`, `ZeRO-3`, `FSDP FULL_SHARD`, `DDP`.
fn zero(text: &str, habit: u8) -> u8 {
    let text = text.to_ascii_lowercase();
    let after = text.find("zero").map_or("", |at| &text[at + 4..]);
    let digit = |t: &str| t.chars().find(char::is_ascii_digit).map(|c| c as u8 - b'0');
    match () {
        () if text.is_empty() || text == "ddp" => habit.min(1),
        () if text == "none" || text == "false" => 0,
        () if !after.is_empty() => digit(after).unwrap_or(1).min(3),
        () if text.contains("grad_op") => 2,
        () if text.contains("fsdp") || text.contains("full_shard") || text.contains("hybrid") => 3,
        () if text.contains("distributed") || text.contains("optimizer") => 1,
        () => digit(&text).unwrap_or(habit).min(3),
    }
}

fn run_plan(row: &Row, plan_file: Option<&str>, model: &Model, degrees: &Degrees) -> Result<RunPlan, Skip> {
    if let Some(text) = plan_file {
        return plan::from_sailor(text);
    }
    if !row.plan.is_empty() {
        return plan::parse(&row.plan);
    }
    let at = plan::Even {
        blocks: model.blocks,
        tp: degrees.tp,
        cp: degrees.cp,
        pp: degrees.pp,
        dp: degrees.dp,
        vpp: degrees.vpp,
    };
    let cut = plan::partition(&row.notes, model.blocks, degrees.pp).or_else(|| {
        // A head and a block by the arithmetic of their matrices.
        let head = (model.hidden * model.vocab) as f64;
        let block = (model.dense_parameters(1, 1) + model.expert_parameters(1, 1, 1)).max(1) as f64;
        let by_cost = degrees.habits.cut_by_cost && degrees.pp > 1;
        by_cost.then(|| plan::by_cost(model.blocks, degrees.pp, head / block)).flatten()
    });
    plan::even(&row.mix, &at, cut.as_deref())
}

/// A kind of GPU and its nodes.
struct Kind {
    gpu: &'static Gpu,
    gpus_per_node: u32,
    /// Devices taken, gaps included.
    used: u32,
}

/// The replicas of a plan on the nodes of its kinds.
struct Placed {
    /// In order of appearance.
    kinds: Vec<Kind>,
    /// Of each stage and replica: its kind, its first device there, how many, its TP.
    at: Vec<Vec<(usize, u32, u32, u32)>>,
}

impl Placed {
    fn new(row: &Row, run: &RunPlan, degrees: &Degrees) -> Result<Placed, Skip> {
        let mut placed = Placed { kinds: Vec::new(), at: Vec::new() };
        for stage in &run.stages {
            let mut replicas = Vec::with_capacity(stage.replicas.len());
            for (name, tp) in &stage.replicas {
                let gpu = find(name)?;
                let kind = match placed.kinds.iter().position(|k| k.gpu.name == gpu.name) {
                    Some(kind) => kind,
                    None => {
                        let gpus_per_node = Wires::joined(gpu, gpus_per_node(row, gpu)?);
                        placed.kinds.push(Kind { gpu, gpus_per_node, used: 0 });
                        placed.kinds.len() - 1
                    }
                };
                let width = tp.saturating_mul(degrees.cp);
                let Kind { used, gpus_per_node: per_node, .. } = &mut placed.kinds[kind];
                let per_node = *per_node;
                let left = per_node - *used % per_node;
                // A replica that does not fit into what is left of a node starts the next one.
                let first =
                    if width > left && left < per_node { used.checked_add(left) } else { Some(*used) };
                let next = first.and_then(|f| f.checked_add(width)).filter(|n| *n <= 1 << 20);
                let (Some(first), Some(next)) = (first, next) else {
                    return Err(corrupt("the plan has more than 2^20 GPUs of a kind".into()));
                };
                if width > per_node && !width.is_multiple_of(per_node) {
                    let what =
                        format!("a replica of {width} GPUs on nodes of {per_node}: expected whole nodes");
                    return Err(corrupt(what));
                }
                *used = next;
                replicas.push((kind, first, width, *tp));
            }
            placed.at.push(replicas);
        }
        Ok(placed)
    }

    /// The plan's GPUs are the row's.
    fn same_gpus(&self, row: &BTreeMap<&'static str, u64>) -> Result<(), Skip> {
        let mut plan: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, _, width, _) in self.at.iter().flatten() {
            *plan.entry(&self.kinds[*kind].gpu.name).or_default() += u64::from(*width);
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
        self.kinds[kind].gpu.name.to_ascii_lowercase()
    }

    fn plan(
        &self,
        run: &RunPlan,
        degrees: &Degrees,
        micro_batch: u32,
        micro_batches: u32,
    ) -> Result<Plan, Skip> {
        let replicas = self.at[0].len() as u32;
        if micro_batches < replicas {
            return Err(corrupt(format!("{micro_batches} micro-batches for {replicas} pipelines")));
        }
        let tasks = 4 * u64::from(micro_batches) * run.stages.len() as u64;
        if tasks > MOST_TASKS {
            return Err(corrupt(format!(
                "{tasks} passes and transfers in an iteration: expected at most {MOST_TASKS}"
            )));
        }
        let (even, more) = (micro_batches / replicas, micro_batches % replicas);
        let uneven = more > 0;
        let chunks = run.stages[0].layers.chunks().len();
        let interleaved = chunks > 1;
        if interleaved && (uneven || !even.is_multiple_of(run.stages.len() as u32)) {
            return Err(corrupt(format!(
                "{even} micro-batches over {} interleaved stages",
                run.stages.len()
            )));
        }
        // Neighbours in the row that are alike in everything become one group.
        let alike = |a: u32, b: u32| {
            (a < more) == (b < more)
                && self.at.iter().all(|s| {
                    let ((ka, _, wa, ta), (kb, _, wb, tb)) = (s[a as usize], s[b as usize]);
                    (ka, wa, ta) == (kb, wb, tb)
                })
        };
        let mut groups: Vec<(u32, Vec<usize>)> = Vec::new();
        for r in 0..replicas {
            match groups.last_mut() {
                Some((_, members)) if alike(members[0] as u32, r) => members.push(r as usize),
                _ => groups.push((even + u32::from(r < more), vec![r as usize])),
            }
        }
        let stage = |s: usize, members: &[usize]| {
            let mut devices: Vec<DeviceRange> = Vec::new();
            for r in members {
                let (kind, first, width, _) = self.at[s][*r];
                let (group, last) = (self.name(kind), first + width - 1);
                match devices.last_mut() {
                    Some(d) if d.group == group && d.last + 1 == first => d.last = last,
                    _ => devices.push(DeviceRange { group, first, last }),
                }
            }
            Stage {
                layers: run.stages[s].layers.clone(),
                tp: self.at[s][members[0]].3,
                cp: degrees.cp,
                ep: degrees.ep,
                recompute: degrees.recompute,
                devices,
            }
        };
        let pipelines = groups.iter().map(|(share, members)| PipelineGroup {
            replicas: members.len() as u32,
            micro_batches: *share,
            stages: (0..self.at.len()).map(|s| stage(s, members)).collect(),
        });
        let pipelines: Vec<PipelineGroup> = pipelines.collect();
        let habits = degrees.habits;
        let bucket = (habits.bucket_mib > 0).then(|| Bytes(u64::from(habits.bucket_mib) << 20));
        Ok(Plan {
            micro_batch,
            schedule: if interleaved { Schedule::Interleaved } else { Schedule::OneFOneB },
            overlap_p2p: habits.overlap_p2p,
            sequence_parallel: degrees.sequence_parallel,
            overlap_tp: habits.overlap_tp && degrees.tp > 1,
            // Sharing in every micro-batch needs as many of them everywhere.
            zero: if pipelines.len() > 1 { degrees.zero.min(1) } else { degrees.zero },
            gradient_bucket: bucket,
            overlap_gradients: habits.overlap_gradients,
            pipelines,
            ..Plan::default()
        })
    }

    /// Measured layer times of every kind, if they are shipped for all that the plan asks.
    fn tables(&self, model: &Model, precision: Precision, plan: &Plan) -> Option<Vec<LayerTable>> {
        let shipped = Model::builtin(&model.name)?;
        let same = shipped.blocks == model.blocks
            && shipped.hidden == model.hidden
            && shipped.seq_len == model.seq_len
            && shipped.ffn_hidden == model.ffn_hidden;
        let plain = plan.zero == 0
            && !plan.sequence_parallel
            && plan
                .pipelines
                .iter()
                .flat_map(|p| &p.stages)
                .all(|s| s.recompute == Recompute::None && s.cp == 1);
        // A table is of one shape of a model.
        if !same || precision != Precision::Fp32 || !plain {
            return None;
        }
        let table = |(at, kind): (usize, &Kind)| {
            let table = LayerTable::shipped(&model.name, &kind.gpu.name)?;
            fitted_inside_node(&kind.gpu.name)?;
            for other in &self.kinds {
                fitted_between_nodes(ZONE, &kind.gpu.name, &other.gpu.name)?;
            }
            let mut asked = self.at.iter().flatten().filter(|(k, ..)| *k == at).map(|(_, _, _, tp)| *tp);
            asked.all(|tp| table.sums(plan.micro_batch, tp).is_some()).then_some(table)
        };
        self.kinds.iter().enumerate().map(table).collect()
    }

    fn measured_groups(&self, tables: Vec<LayerTable>) -> Result<Grouped, Skip> {
        let missing = || Skip::new(Reason::MissingField, "no measured links are shipped".into());
        let between = |a: &Kind, b: &Kind| {
            fitted_between_nodes(ZONE, &a.gpu.name, &b.gpu.name).map(|c| curves(c)).ok_or_else(missing)
        };
        let group = |(i, table): (usize, LayerTable)| {
            let kind = &self.kinds[i];
            let wire = Rate::from_bytes_per_s(between(kind, kind)?.wire_rate()).map_err(|_| missing())?;
            let inside = curves(fitted_inside_node(&kind.gpu.name).ok_or_else(missing)?);
            Ok(self.nodes(i, LayerTimes::measured(table), inside, wire, (None, None)))
        };
        let groups: Vec<NodeGroup> = tables.into_iter().enumerate().map(group).collect::<Result<_, _>>()?;
        let links = self.kinds.iter().map(|a| self.kinds.iter().map(|b| between(a, b)).collect());
        Ok((groups, links.collect::<Result<_, _>>()?))
    }

    fn modelled_groups(
        &self,
        row: &Row,
        model: &Model,
        precision: Precision,
        framework: &Framework,
        calibration: &Calibration,
    ) -> Result<Grouped, Skip> {
        let several = self.kinds.len() > 1 || self.kinds.iter().any(|k| k.used > k.gpus_per_node);
        let wires: Vec<Wires> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(i, k)| {
                Wires::new(
                    &fabric(row, k.gpu, i, gpus_per_node(row, k.gpu)?, several)?,
                    k.gpu,
                    k.gpus_per_node,
                    calibration,
                )
            })
            .collect::<Result<_, Skip>>()?;
        let group = |(i, kind): (usize, &Kind)| {
            let roofline = Roofline {
                gpu: kind.gpu.clone(),
                device: calibration.device(kind.gpu),
                framework: calibration.kernels(framework),
            };
            let on = OnDevice {
                device: Device::Roofline(roofline),
                model: model.clone(),
                format: format(precision),
                nccl: Some(wires[i].nccl),
                inside: wires[i].inside.clone(),
                outside: wires[i].outside(),
            };
            let rate = Rate::from_bytes_per_s(wires[i].node_rate);
            let rate =
                rate.map_err(|_| Skip::new(Reason::Corrupt, "the network's rate is out of range".into()))?;
            let wired = (wires[i].cards, Some(wires[i].nccl));
            Ok(self.nodes(i, LayerTimes::modelled(on), wires[i].inside.clone(), rate, wired))
        };
        let groups: Vec<NodeGroup> = self.kinds.iter().enumerate().map(group).collect::<Result<_, Skip>>()?;
        let links = wires.iter().map(|a| wires.iter().map(|b| a.between(b)).collect()).collect();
        Ok((groups, links))
    }

    /// A group of nodes.
    fn nodes(
        &self,
        i: usize,
        layers: LayerTimes,
        inside: LinkModel,
        nic: Rate,
        (nics, collectives): (Option<u32>, Option<Nccl>),
    ) -> NodeGroup {
        let kind = &self.kinds[i];
        NodeGroup {
            name: self.name(i),
            zone: ZONE.into(),
            nodes: kind.used.div_ceil(kind.gpus_per_node),
            gpus_per_node: kind.gpus_per_node,
            gpu: kind.gpu.clone(),
            layers: Arc::new(layers),
            inside,
            nic: CapacityProfile::constant(nic),
            nics,
            collectives,
            leaves: None,
        }
    }
}

/// Groups of nodes and the links between their nodes.
type Grouped = (Vec<NodeGroup>, Vec<Vec<LinkModel>>);

/// A link of shipped curves; their start latency is in them.
fn curves(curves: &[(u32, FittedCurve)]) -> LinkModel {
    LinkModel { latency_s: 0.0, rate: StreamRate::Fitted(curves.to_vec()) }
}
