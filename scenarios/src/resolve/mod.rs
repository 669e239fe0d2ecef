//! From what the file says to a [`Scenario`]: names found, defaults filled in, what belongs together checked.

mod changes;
mod cluster;
mod gpus;
mod happen;
mod network;
mod plan;
mod replay;

pub(crate) use plan::{checked, read as read_plan};

use crate::Overrides;
use crate::fault::{At, Faults, Place, Source};
use crate::files;
use crate::format::{ModelTable, SCHEMA_VERSION, ScenarioFile, SearchTable, TrainingTable};
use crate::nearest::suggestion;
use sim_models::scenario::{Scenario, SearchOptions};
use sim_models::units::Bytes;
use sim_models::workload::{ActivationModel, Model, Optimizer, Precision, Training};
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
        match files::read(path, most) {
            Ok(text) => {
                let whole = self.faults.add_source(path.display().to_string(), text);
                Some((self.faults.source(whole), whole))
            }
            Err(message) => {
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
    let model = file.model.as_ref().and_then(|t| self::model(t, cx.faults));
    let training = file.training.as_ref().and_then(|t| self::training(&t.value));
    let search_table = file.search.as_ref().map(|t| &t.value);
    let extrapolate = search_table.and_then(|t| t.extrapolate.as_ref()).is_some_and(|e| e.value);
    let workload = model.as_ref().zip(training.as_ref());
    let workload = workload.map(|(model, training)| cluster::Workload { model, training, extrapolate });
    let groups = cluster::groups(file, workload.as_ref(), cx);
    let (zone_links, links, happenings) = network::zone_links(file, cx);
    let (model, training, groups) = (model?, training?, groups?);
    let node_links = network::node_links(file, &groups, &zone_links, cx.faults)?;
    let replay = replay::replay(file, &groups, &zone_links, links, &happenings, cx);
    let mut scenario = Scenario {
        name: name.into(),
        about: file.about.as_ref().map_or_else(String::new, |a| a.value.clone()),
        model,
        training,
        groups,
        node_links,
        zone_links,
        plan: None,
        search: search_table.map_or_else(SearchOptions::default, search),
        replay,
    };
    if !cx.overrides.without_plan {
        scenario.plan = file.plan.as_ref().and_then(|p| plan::resolve(&p.value, &scenario, cx));
    }
    Some(scenario)
}

fn model(table: &At<ModelTable>, faults: &mut Faults) -> Option<Model> {
    let t = &table.value;
    let name = t.name.as_ref()?;
    // Sizes that make it a model of one's own, wherever they are given.
    let given = [
        t.blocks.as_ref().map(|v| v.place),
        t.hidden.as_ref().map(|v| v.place),
        t.heads.as_ref().map(|v| v.place),
        t.ffn_hidden.as_ref().map(|v| v.place),
        t.seq_len.as_ref().map(|v| v.place),
        t.vocab.as_ref().map(|v| v.place),
        t.positions.as_ref().map(|v| v.place),
        t.tied_embeddings.as_ref().map(|v| v.place),
    ];
    match (Model::builtin(&name.value.0), given.into_iter().flatten().min()) {
        (Some(model), None) => return Some(model),
        (Some(_), Some(place)) => {
            let message = format!("`{}` is a built-in model: its sizes are known", name.value.0);
            let help = "give a model of your own another name: the built-in's layer times are not its";
            faults.push(place, "T0304", message, help);
            return None;
        }
        (None, None) => {
            let names: Vec<&str> = Model::builtin_names().collect();
            let help = format!("{} (a model of your own needs its sizes)", suggestion(&name.value.0, &names));
            faults.push(name.place, "T0304", format!("unknown model `{}`", name.value.0), help);
            return None;
        }
        (None, Some(_)) => {}
    }
    for key in ["blocks", "hidden", "heads", "seq_len", "vocab"] {
        t.lacks(key, faults);
    }
    let (hidden, seq_len) = (t.hidden.as_ref()?.value.0, t.seq_len.as_ref()?.value.0);
    Some(Model {
        name: name.value.0.clone(),
        blocks: t.blocks.as_ref()?.value.u32(),
        hidden,
        heads: t.heads.as_ref()?.value.0,
        ffn_hidden: t.ffn_hidden.as_ref().map_or(4 * hidden, |v| v.value.0),
        seq_len,
        vocab: t.vocab.as_ref()?.value.0,
        positions: t.positions.as_ref().map_or(seq_len, |v| v.value.0),
        tied_embeddings: t.tied_embeddings.as_ref().is_none_or(|v| v.value),
    })
}

fn training(t: &TrainingTable) -> Option<Training> {
    Some(Training {
        global_batch: t.global_batch.as_ref()?.value.u32(),
        precision: t.precision.as_ref().map_or(Precision::Fp32, |v| v.value),
        optimizer: t.optimizer.as_ref().map_or(Optimizer::Adam, |v| v.value),
        memory_reserve: t.memory_reserve.as_ref().map_or(Bytes(1 << 30), |v| v.value.0),
        activations: ActivationModel::default(),
    })
}

fn search(t: &SearchTable) -> SearchOptions {
    let default = SearchOptions::default();
    let mut micro_batches: Vec<u32> =
        t.micro_batches.iter().flat_map(|list| &list.value).map(|m| m.value.u32()).collect();
    micro_batches.sort_unstable();
    micro_batches.dedup();
    SearchOptions {
        max_simulations: t.max_simulations.as_ref().map_or(default.max_simulations, |v| v.value.0),
        micro_batches,
        max_stages: t.max_stages.as_ref().map_or(default.max_stages, |v| v.value.u32()),
    }
}
