//! From a row and its plan to a scenario and a plan that can be simulated, or the reason why not.
//!
//! What the row leaves open is what its framework does (`sim_models::framework`); `degrees` reads how it shares out its model,
//! `placed` puts that on nodes.

use super::cluster::find;
use super::degrees::Degrees;
use super::placed::{Grouped, Placed};
use super::plan::{self, RunPlan};
use super::row::Row;
use super::{Reason, Skip, Tier, shape};
use sim_models::device::{Format, Gpu};
use sim_models::framework::{Calibration, Framework};
use sim_models::plan::Plan;
use sim_models::replay::Replay;
use sim_models::scenario::{Scenario, SearchOptions};
use sim_models::units::Bytes;
use sim_models::workload::{Model, Optimizer, Precision, Training};
use std::collections::BTreeMap;

/// What the framework keeps for itself beside measured layer times: the CUDA context, communication libraries, its buffers and
/// copies in the head. Fitted to the peaks of Sailor's runs on one GH200 node.
const RESERVE: Bytes = Bytes(7 << 29);
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

pub(super) fn corrupt(what: String) -> Skip {
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
    let framework = framework.training(&model);
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
    let mut training = training(global_batch, precision, framework, calibration, tier);
    let Grouped { groups, links: node_links, message_s } = match (tier, tables) {
        (Tier::Profiled, Some(tables)) => placed.measured_groups(tables)?,
        _ => placed.modelled_groups(row, &model, precision, framework, calibration)?,
    };
    training.overheads.message_s = message_s;
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

pub(super) fn to_u32(value: u64, what: &str) -> Result<u32, Skip> {
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
                habit if has(habit.into()) => habit,
                _ if has(Format::Bf16) => Precision::Bf16,
                _ => Precision::Fp16,
            }
        }
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
        let activations = framework.keeps.activations_in(precision);
        return Training { memory_reserve: RESERVE, activations, ..Training::new(global_batch, precision) };
    }
    let (wide, keeps) = (precision == Precision::Fp32, calibration.keeps(framework));
    Training {
        global_batch,
        precision,
        optimizer: Optimizer::Adam,
        gradient_bytes: if wide { 4 } else { framework.habits.gradient_bytes },
        memory_reserve: Bytes::from_f64(keeps.reserve_gib * 1_073_741_824.0),
        activations: keeps.activations_in(precision),
        buffers: keeps.buffers,
        overheads: calibration.overheads(framework),
    }
}

/// Half-width of the interval where nothing was fitted on runs: holds nine rows in ten of the mean source.
const DATASHEET_HALF_WIDTH: f64 = 0.60;
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
