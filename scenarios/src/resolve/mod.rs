//! From what the file says to a [`Scenario`]: names found, defaults filled in, what belongs together checked.

mod background;
mod changes;
mod cluster;
mod cost;
mod gpus;
mod happen;
mod jobs;
mod leaves;
mod model;
mod network;
mod plan;
mod replay;

pub(crate) use plan::{checked, read as read_plan};

use crate::Overrides;
use crate::fault::{At, Faults, Place, Source};
use crate::files;
use crate::format::{ModelTable, SCHEMA_VERSION, ScenarioFile, SearchTable, TrainingTable};
use crate::nearest::suggestion;
use crate::read::{Int, Time};
use sim_models::framework::{self, Calibration, Framework};
use sim_models::plan::Schedule;
use sim_models::scenario::{Scenario, SearchOptions, Ways};
use sim_models::units::Bytes;
use sim_models::workload::{Model, Optimizer, Overheads, Precision, Training};
use std::path::Path;
use std::sync::Arc;

/// What a resolution knows besides the file.
pub(crate) struct Context<'a> {
    pub(crate) base: Option<&'a Path>,
    pub(crate) overrides: &'a Overrides,
    pub(crate) faults: &'a mut Faults,
}

impl Context<'_> {
    /// The text of a file that the scenario names, and its place.
    fn file(&mut self, path: &At<String>, most: u64) -> Option<(Arc<Source>, Place)> {
        let full = self.base.unwrap_or(Path::new("")).join(&path.value);
        self.text(&full, most, path.place)
    }

    fn text(&mut self, path: &Path, most: u64, place: Place) -> Option<(Arc<Source>, Place)> {
        match files::text(path, most) {
            Ok(text) => {
                let whole = self.faults.add_source(path.display().to_string(), text);
                Some((self.faults.source(whole), whole))
            }
            Err(why) => {
                let message = format!("cannot read `{}`: {why}", path.display());
                self.faults.push(place, "T0109", message, "");
                None
            }
        }
    }
}

/// The scenario; `None`, or one that must not be used, when there are faults.
pub(crate) fn scenario(file: &ScenarioFile, name: &str, cx: &mut Context<'_>) -> Option<Scenario> {
    if let Some(version) = &file.schema_version
        && version.value.0 != SCHEMA_VERSION
    {
        let message = format!("the format has no version {}", version.value.0);
        cx.faults.push(version.place, "T0110", message, format!("write `schema_version = {SCHEMA_VERSION}`"));
    }
    let search_table = file.search.as_ref().map(|t| &t.value);
    let extrapolate = search_table.and_then(|t| t.extrapolate.as_ref()).is_some_and(|e| e.value);
    let first = jobs::first(file, cx.faults);
    let found = workload(first.0, first.1, extrapolate, cx);
    let groups = cluster::groups(file, found.as_ref(), cx);
    let names = leaves::names(file);
    let network::Links { zone_links, changes, happenings, traces, loads } =
        network::zone_links(file, &names, cx);
    let (cluster::Workload { model, training, .. }, mut groups) = (found?, groups?);
    let (leaves, leaf_changes) = leaves::leaves(file, &mut groups, traces, (&happenings, &loads), cx.faults);
    let node_links = network::node_links(file, &groups, &zone_links, cx.faults)?;
    let mut replay = replay::replay(file, &groups, &zone_links, changes, (&happenings, &loads), cx);
    replay.leaves = leaf_changes;
    let cost = cost::cost(file, &groups, &zone_links, cx.faults);
    let mut scenario = Scenario {
        name: name.into(),
        about: file.about.as_ref().map_or_else(String::new, |a| a.value.clone()),
        model,
        training,
        groups,
        node_links,
        zone_links,
        leaves,
        plan: None,
        search: search_table.map_or_else(SearchOptions::default, |t| search(t, cx.faults)),
        cost,
        replay,
        jobs: Vec::new(),
    };
    if !cx.overrides.without_plan {
        scenario.plan = file.plan.as_ref().and_then(|p| plan::resolve(&p.value, &scenario, cx));
    }
    if let (Some(table), None) = (search_table, &file.jobs) {
        degrees(table, &scenario.model, cx.faults);
    }
    scenario.jobs = jobs::jobs(file, &scenario, extrapolate, cx);
    Some(scenario)
}

/// What is trained and how; `None` when either is missing or at fault.
fn workload(
    model: Option<&At<ModelTable>>,
    recipe: Option<&At<TrainingTable>>,
    extrapolate: bool,
    cx: &mut Context<'_>,
) -> Option<cluster::Workload> {
    let model = model.and_then(|t| model::model(t, cx));
    let framework = recipe.map_or(Ok(None), |t| framework(&t.value, cx.faults));
    let framework = framework.map(|named| named.map(|f| model.as_ref().map_or(f, |m| f.training(m))));
    let training = recipe.zip(framework.ok());
    let training = training.and_then(|(t, framework)| training_of(&t.value, framework, cx.faults));
    Some(cluster::Workload { model: model?, training: training?, framework: framework.ok()?, extrapolate })
}

/// The framework that is named, if one is.
fn framework(t: &TrainingTable, faults: &mut Faults) -> Result<Option<&'static Framework>, ()> {
    let Some(name) = &t.framework else { return Ok(None) };
    let found = framework::all().iter().find(|f| f.name.eq_ignore_ascii_case(&name.value.0));
    if found.is_none() {
        let names: Vec<&str> = framework::all().iter().map(|f| f.name.as_str()).collect();
        let message = format!("unknown framework `{}`", name.value.0);
        faults.push(name.place, "T0304", message, suggestion(&name.value.0, &names));
    }
    found.map(Some).ok_or(())
}

fn training_of(
    t: &TrainingTable,
    framework: Option<&'static Framework>,
    faults: &mut Faults,
) -> Option<Training> {
    let precision = t.precision.as_ref().map_or(Precision::Fp32, |v| v.value);
    let habit = framework.map_or(0, |f| f.habits.gradient_bytes);
    let gradient_bytes = match &t.gradient_bits {
        None => precision.activation_bytes().max(habit),
        Some(bits) if matches!(bits.value.0, 16 | 32) => bits.value.0 / 8,
        Some(bits) => {
            faults.push(bits.place, "T0107", format!("`{}` is not 16 or 32", bits.value.0), "");
            return None;
        }
    };
    let base = Training::new(t.global_batch.as_ref()?.value.u32(), precision);
    let fitted = framework.map(|f| (Calibration::builtin().keeps(f), Calibration::builtin().overheads(f)));
    let added = fitted.map_or(Overheads::default(), |(_, overheads)| overheads);
    let reserve = fitted
        .map_or(base.memory_reserve, |(keeps, _)| Bytes::from_f64(keeps.reserve_gib * (1u64 << 30) as f64));
    let seconds =
        |time: &Option<At<Time>>, other: f64| time.as_ref().map_or(other, |t| t.value.0.as_secs_f64());
    Some(Training {
        optimizer: t.optimizer.as_ref().map_or(Optimizer::Adam, |v| v.value),
        gradient_bytes,
        memory_reserve: t.memory_reserve.as_ref().map_or(reserve, |v| v.value.0),
        overheads: Overheads {
            iteration_s: seconds(&t.iteration_overhead, added.iteration_s),
            transfer_s: seconds(&t.transfer_overhead, added.transfer_s),
            slowdown: t.overlap_slowdown.as_ref().map_or(added.slowdown, |v| v.value.0),
            ..added
        },
        activations: fitted.map_or(base.activations, |(keeps, _)| keeps.activations_in(precision)),
        buffers: fitted.map_or(base.buffers, |(keeps, _)| keeps.buffers),
        ..base
    })
}

fn search(t: &SearchTable, faults: &mut Faults) -> SearchOptions {
    let default = SearchOptions::default();
    let several = |s: &&At<Schedule>| s.value == Schedule::Interleaved;
    if let Some(s) = t.schedule.iter().flat_map(|list| &list.value).find(several) {
        let message = "the search gives a stage one range of layers, `interleaved` has several";
        faults.push(s.place, "T0107", message, "`1f1b`, `gpipe` or `zero-bubble`");
    }
    SearchOptions {
        max_simulations: t.max_simulations.as_ref().map_or(default.max_simulations, |v| v.value.0),
        micro_batches: each(&t.micro_batches, |m| m.u32()),
        max_stages: t.max_stages.as_ref().map_or(default.max_stages, |v| v.value.u32()),
        every_number: t.every_number.as_ref().map_or(default.every_number, |v| v.value),
        ways: Ways {
            schedule: each(&t.schedule, |s| *s),
            recompute: each(&t.recompute, |r| *r),
            cp: each(&t.cp, |d| d.u32()),
            ep: each(&t.ep, |d| d.u32()),
            zero: each(&t.zero, |z| z.u32() as u8),
            sequence_parallel: each(&t.sequence_parallel, |b| *b),
            overlap_p2p: each(&t.overlap_p2p, |b| *b),
            overlap_gradients: each(&t.overlap_gradients, |b| *b),
            gradient_bucket: t.gradient_bucket.as_ref().map(|b| b.value.0),
        },
    }
}

/// Degrees to search that no stage of the model can have.
fn degrees(t: &SearchTable, model: &Model, faults: &mut Faults) {
    let divides = |cp: &&At<Int<1, 65536>>| !model.seq_len.is_multiple_of(cp.value.0);
    for cp in t.cp.iter().flat_map(|list| &list.value).filter(divides) {
        let message = format!("cp {} does not divide the sequence of {} tokens", cp.value.0, model.seq_len);
        faults.push(cp.place, "T0213", message, "parts of a sequence are alike");
    }
    for ep in t.ep.iter().flat_map(|list| &list.value).filter(|ep| ep.value.0 > 1) {
        let degree = ep.value.0;
        match &model.experts {
            None => {
                let message = format!("ep {degree}, and `{}` has no experts", model.name);
                faults.push(ep.place, "T0213", message, "1");
            }
            Some(experts) if !experts.count.is_multiple_of(degree) => {
                let message = format!("ep {degree} does not divide the {} experts", experts.count);
                faults.push(ep.place, "T0213", message, "ranks hold whole experts, each as many");
            }
            Some(_) => {}
        }
    }
}

/// A list without doubles, in order.
fn each<T, U: Ord>(list: &Option<At<Vec<At<T>>>>, of: impl Fn(&T) -> U) -> Vec<U> {
    let mut list: Vec<U> = list.iter().flat_map(|l| &l.value).map(|v| of(&v.value)).collect();
    list.sort_unstable();
    list.dedup();
    list
}
