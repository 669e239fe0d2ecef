//! `[[nodes]]`: GPUs from the catalogue, their layer times, and what connects those of one node.

use super::Context;
use crate::fault::{At, Faults};
use crate::files;
use crate::format::{MOST_GPUS, NodesTable, ScenarioFile};
use crate::nearest::list;
use sim_core::CapacityProfile;
use sim_models::device::{Catalogue, Gpu, LayerTable};
use sim_models::link::{FittedCurve, LinkModel, StreamRate, fitted_between_nodes, fitted_inside_node};
use sim_models::scenario::NodeGroup;
use sim_models::workload::{Model, Precision, Training};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most groups: links are kept for every pair of them.
const MOST_GROUPS: usize = 256;

/// The groups; `None` when one of them is at fault.
pub(super) fn groups(
    file: &ScenarioFile,
    model: Option<&Model>,
    training: Option<&Training>,
    cx: &mut Context<'_>,
) -> Option<Vec<NodeGroup>> {
    let nodes = file.nodes.as_ref()?;
    if nodes.value.is_empty() && cx.faults.count() == 0 {
        cx.faults.push(nodes.place, "T0309", "a scenario without nodes", "at least one group of `[[nodes]]`");
        return None;
    }
    if nodes.value.len() > MOST_GROUPS {
        let message = format!("{} groups of nodes: at most {MOST_GROUPS} are read", nodes.value.len());
        cx.faults.push(nodes.place, "T0309", message, "alike nodes of one zone are one group, with `count`");
        return None;
    }
    let mut names = BTreeSet::new();
    for name in nodes.value.iter().filter_map(|t| t.value.name.as_ref()) {
        if !names.insert(&name.value.0) {
            let message = format!("two groups of nodes are called `{}`", name.value.0);
            cx.faults.push(name.place, "T0301", message, "each needs a name of its own");
        }
    }
    let gpus: u64 = nodes.value.iter().filter_map(|t| gpus_of(&t.value)).sum();
    if gpus > MOST_GPUS {
        cx.faults.push(nodes.place, "T0309", format!("{gpus} GPUs: at most {MOST_GPUS} are simulated"), "");
        return None;
    }
    if names.len() < nodes.value.len() {
        return None;
    }
    let groups: Vec<_> = nodes.value.iter().map(|t| group(t, file, model, training, cx)).collect();
    groups.into_iter().collect()
}

fn gpus_of(t: &NodesTable) -> Option<u64> {
    Some(t.count.as_ref()?.value.0 * t.gpus_per_node.as_ref()?.value.0)
}

fn group(
    table: &At<NodesTable>,
    file: &ScenarioFile,
    model: Option<&Model>,
    training: Option<&Training>,
    cx: &mut Context<'_>,
) -> Option<NodeGroup> {
    let t = &table.value;
    let gpu_name = t.gpu.as_ref()?;
    let mut gpu = match Catalogue::builtin().find(&gpu_name.value.0) {
        Ok(gpu) => gpu.clone(),
        Err(error) => {
            let message = format!("unknown GPU `{}`", gpu_name.value.0);
            cx.faults.push(gpu_name.place, "T0303", message, format!("did you mean `{}`?", error.nearest));
            return None;
        }
    };
    if let Some(memory) = &t.memory {
        gpu.memory = memory.value.0;
    }
    // A GPU that nothing is known of: its layer times are what is missed first.
    let layers = layers(t, &gpu, model?, training, cx)?;
    let zone = t.zone.as_ref().map_or_else(|| "default".to_string(), |z| z.value.0.clone());
    let gpus_per_node = t.gpus_per_node.as_ref()?.value.u32();
    let nic = nic(t, file, &gpu, &zone, cx.faults);
    let inside = inside(t, &gpu, gpus_per_node, cx.faults);
    Some(NodeGroup {
        name: t.name.as_ref()?.value.0.clone(),
        nodes: t.count.as_ref()?.value.u32(),
        gpus_per_node,
        layers: Some(Arc::new(layers)),
        inside: inside?,
        nic: nic?,
        zone,
        gpu,
    })
}

fn layers(
    t: &NodesTable,
    gpu: &Gpu,
    model: &Model,
    training: Option<&Training>,
    cx: &mut Context<'_>,
) -> Option<LayerTable> {
    if let Some(profile) = &t.profile {
        let (text, whole) = cx.file(profile, files::TABLE)?;
        let table = match LayerTable::from_csv(&text.text) {
            Ok(table) => table,
            Err(error) => {
                let place = cx.faults.line(whole, error.line);
                cx.faults.push(place, "T0306", error.what, "");
                return None;
            }
        };
        if table.layers() != model.layers() {
            let message = format!(
                "layer times of {} layers, and `{}` has {}",
                table.layers(),
                model.name,
                model.layers()
            );
            cx.faults.push(profile.place, "T0306", message, "blocks, and one each for embedding and head");
            return None;
        }
        return Some(table);
    }
    let place = t.gpu.as_ref()?.place;
    let shipped = LayerTable::shipped(&model.name, &gpu.name);
    let precision = training.map_or(Precision::Fp32, |t| t.precision);
    match shipped {
        Some(_) if precision != Precision::Fp32 => {
            let message = format!(
                "no layer times of `{}` on `{}` in this precision: they were measured in fp32",
                model.name, gpu.name
            );
            cx.faults.push(
                place,
                "T0305",
                message,
                "write `precision = \"fp32\"`, or give the nodes a `profile` of your own",
            );
            None
        }
        Some(table) => Some(table),
        None => {
            let message = format!("no layer times of `{}` on `{}`", model.name, gpu.name);
            cx.faults.push(place, "T0305", message, measured(model));
            None
        }
    }
}

/// What there are layer times of.
fn measured(model: &Model) -> String {
    let gpus: Vec<&str> = Catalogue::builtin()
        .gpus()
        .iter()
        .filter(|g| {
            LayerTable::shipped_names()
                .any(|(m, gpu)| m.eq_ignore_ascii_case(&model.name) && gpu.eq_ignore_ascii_case(&g.name))
        })
        .map(|g| g.name.as_str())
        .collect();
    if gpus.is_empty() {
        let models: BTreeSet<&str> = LayerTable::shipped_names().map(|(m, _)| m).collect();
        let models: Vec<&str> = models.into_iter().collect();
        return format!("there are some of {}; others need a `profile` of your own", list(&models));
    }
    format!("there are some on {}; others need a `profile` of your own", list(&gpus))
}

/// A link of shipped curves; their start latency is in them.
pub(super) fn curves(curves: &[(u32, FittedCurve)]) -> LinkModel {
    LinkModel { latency_s: 0.0, rate: StreamRate::Fitted(curves.to_vec()) }
}

fn nic(
    table: &NodesTable,
    file: &ScenarioFile,
    gpu: &Gpu,
    zone: &str,
    faults: &mut Faults,
) -> Option<CapacityProfile> {
    let constant = file.network.as_ref().and_then(|n| n.value.rate.as_ref());
    if let Some(rate) = table.nic.as_ref().or(constant) {
        return Some(CapacityProfile::constant(rate.value.0));
    }
    let best = fitted_between_nodes(zone, &gpu.name, &gpu.name).map(|c| curves(c).wire_rate());
    match best.map(sim_core::Rate::from_bytes_per_s) {
        Some(Ok(rate)) => Some(CapacityProfile::constant(rate)),
        _ => {
            table.lacks("nic", faults);
            None
        }
    }
}

fn inside(table: &NodesTable, gpu: &Gpu, gpus_per_node: u32, faults: &mut Faults) -> Option<LinkModel> {
    if let Some(rate) = &table.inside {
        return Some(LinkModel::constant(rate.value.0.as_bytes_per_s(), 0.0));
    }
    match fitted_inside_node(&gpu.name) {
        Some(measured) => Some(curves(measured)),
        // Nothing moves inside a node of one GPU.
        None if gpus_per_node == 1 => Some(LinkModel::constant(gpu.memory_bandwidth, 0.0)),
        None => {
            table.lacks("inside", faults);
            None
        }
    }
}
