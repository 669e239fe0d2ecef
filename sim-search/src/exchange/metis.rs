//! Metis's files: its ranked output with the hostfile, clusterfile and profiles that it was made from. Every plan is checked
//! before it is taken, and its cost made again: Metis also ranks plans that lose layers.

use super::{Refusal, checked, refuse};
use crate::planners::View;
use crate::planners::metis::cost::{MetisPlan, estimate_first_ms, estimate_ms};
use crate::planners::metis::files::{self, MetisFileError, RankedPlan, Sizes};
use crate::planners::metis::{World, tables::Cluster};
use sim_core::SimTime;
use sim_models::device::Catalogue;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::fmt::Write;

/// Metis's files, `(name, text)` each.
#[derive(Clone, Debug, Default)]
pub struct MetisFiles<'a> {
    /// `ranked*.txt`.
    pub ranked: (&'a str, &'a str),
    /// `hostfile`.
    pub hostfile: (&'a str, &'a str),
    /// `clusterfile.json`.
    pub clusterfile: (&'a str, &'a str),
    /// `DeviceType.KIND_tpT_bsB.json`; may be none, and then costs are not made again.
    pub profiles: Vec<(&'a str, &'a str)>,
}

/// A ranked plan, checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// As it stood in the file.
    pub ranked: RankedPlan,
    /// Its cost made again, ms; none without profiles, or where they lack what it needs.
    pub cost_ms: Option<f64>,
    /// Whether the cost is that of the first stage alone, which the published loop also ranks.
    pub first_stage_alone: bool,
    /// The plan on the scenario's devices, or why it is none.
    pub plan: Result<Plan, Refusal>,
}

impl From<MetisFileError> for Refusal {
    fn from(e: MetisFileError) -> Refusal {
        Refusal { problem: e.to_string(), help: String::new() }
    }
}

/// Every ranked plan, checked against the scenario, in the order of the file.
///
/// # Errors
/// What is wrong with a file, or why the cluster is not the scenario's.
pub fn import(scenario: &Scenario, from: &MetisFiles<'_>) -> Result<Vec<Checked>, Refusal> {
    let cluster = files::cluster(from.hostfile, from.clusterfile)?;
    let ranked = files::ranked(from.ranked.0, from.ranked.1, &cluster)?;
    let size = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let model = &scenario.model;
    let sizes =
        Sizes { hidden: size(model.hidden), sequence: size(model.seq_len), vocabulary: size(model.vocab) };
    let profile = match from.profiles.is_empty() {
        true => None,
        false => Some(files::profile(&from.profiles, None, &cluster, sizes)?),
    };
    let view = View::new(scenario, SimTime::ZERO);
    let world = World::new(&view).or_else(|e| refuse(e.to_string(), ""))?;
    let kinds = matched(&cluster, &world.cluster)?;
    let batch = scenario.training.global_batch;
    let check = |ranked: RankedPlan| {
        let cost = |stages: usize| {
            let profile = profile.as_ref()?;
            estimate_first_ms(profile, &cluster, &ranked.plan, batch, stages)
        };
        let whole = profile.as_ref().and_then(|p| estimate_ms(p, &cluster, &ranked.plan, batch));
        let close = |ms: Option<f64>| ms.is_some_and(|ms| (ms / ranked.cost_ms - 1.0).abs() < 1e-3);
        let first_stage_alone = !close(whole) && ranked.plan.groups.len() == 2 && close(cost(1));
        let cost_ms = if first_stage_alone { cost(1) } else { whole };
        let plan = laid(scenario, &view, &world, &kinds, &ranked.plan);
        Checked { cost_ms, first_stage_alone, plan, ranked }
    };
    Ok(ranked.into_iter().map(check).collect())
}

/// The first ranked plan that is one for the scenario.
///
/// # Errors
/// As [`import`]; or why the first is none, where none is.
pub fn import_first(scenario: &Scenario, from: &MetisFiles<'_>) -> Result<Plan, Refusal> {
    let mut first = None;
    for checked in import(scenario, from)? {
        match checked.plan {
            Ok(plan) => return Ok(plan),
            Err(refusal) => {
                let line = checked.ranked.line;
                first.get_or_insert(Refusal {
                    problem: format!("line {line}: {}", refusal.problem),
                    ..refusal
                });
            }
        }
    }
    Err(first.unwrap_or(Refusal { problem: "no ranked plans".into(), help: String::new() }))
}

/// For each kind of Metis's, that of the scenario: by name or family, with as many GPUs.
fn matched(theirs: &Cluster, ours: &Cluster) -> Result<Vec<usize>, Refusal> {
    let mut kinds = Vec::new();
    for kind in &theirs.kinds {
        let same = |k: &crate::planners::metis::tables::Kind| {
            let (a, b) = (k.name.to_uppercase(), kind.name.to_uppercase());
            a == b || a.strip_prefix(b.as_str()).is_some_and(|rest| rest.starts_with('-'))
        };
        let Some(at) = ours.kinds.iter().position(same).filter(|at| !kinds.contains(at)) else {
            return refuse(format!("the scenario has no `{}`", kind.name), "node groups of the same GPUs");
        };
        let (has, needs) = (ours.kinds[at].nodes * ours.per_node, kind.nodes * theirs.per_node);
        if has != needs {
            return refuse(
                format!("{needs} `{}` in the hostfile, {has} in the scenario", kind.name),
                "as many",
            );
        }
        kinds.push(at);
    }
    if kinds.len() == ours.kinds.len() {
        Ok(kinds)
    } else {
        refuse("the scenario has kinds that the hostfile lacks", "the same kinds")
    }
}

fn laid(
    scenario: &Scenario,
    view: &View<'_>,
    world: &World,
    kinds: &[usize],
    plan: &MetisPlan,
) -> Result<Plan, Refusal> {
    let layers = world.profile.layers();
    if !plan.is_valid(layers) {
        let problem = format!("its cuts {:?} do not hold each of {layers} layers once", plan.cuts);
        return refuse(problem, "cuts that rise and end at the last layer");
    }
    if plan.strategies.iter().any(|s| s.0 != plan.strategies[0].0) {
        return refuse(
            "its stages differ in data parallelism",
            "one for the whole plan: samples stay in their pipeline",
        );
    }
    let mine = MetisPlan { sequence: plan.sequence.iter().map(|k| kinds[*k]).collect(), ..plan.clone() };
    match world.plan(view, &mine) {
        Some(plan) => checked(scenario, plan),
        None => refuse(
            "a tensor-parallel group straddles two nodes, or the batch does not divide",
            "groups inside nodes; batches x data parallelism divides the global batch",
        ),
    }
}

/// The nodes of a scenario file for Metis's cluster; the model and the batch are not in its files.
///
/// # Errors
/// What is wrong with a file.
pub fn scenario(hostfile: (&str, &str), clusterfile: (&str, &str)) -> Result<String, Refusal> {
    let cluster = files::cluster(hostfile, clusterfile)?;
    let mut out = String::from(
        "schema_version = 1\nabout = \"a cluster of Metis's: its GB/s are 1024 x 1024 bytes a millisecond\"\n\n\
         # Metis gives neither: set them.\n[model]\nname = \"opt-350m\"\n\n[training]\nglobal_batch = 128\n\n\
         # What joins nodes is their NICs.\n[network]\nrate = \"400 Gbps\"\n",
    );
    let rate = |gb: f64| (gb * 1024.0 * 1024.0 * 1000.0) as u64;
    for kind in &cluster.kinds {
        let Ok(gpu) = Catalogue::builtin().find(&kind.name) else {
            return refuse(format!("no GPU `{}`", kind.name.escape_debug()), "`tideplan list devices`");
        };
        let _ = write!(
            out,
            "\n[[nodes]]\nname = \"{}\"\ncount = {}\ngpus_per_node = {}\ngpu = \"{}\"\nmemory = \"{} GiB\"\nnic = \"{} B/s\"\n\
             inside = \"{} B/s\"\n",
            gpu.name.to_lowercase(),
            kind.nodes,
            cluster.per_node,
            gpu.name,
            kind.memory_gb,
            rate(kind.between),
            rate(kind.inside),
        );
    }
    Ok(out)
}
