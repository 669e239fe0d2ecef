//! `[[nodes]]`: GPUs, their layer times, and what connects those of one node.

use super::Context;
use super::gpus::Gpus;
use crate::fault::{At, Faults};
use crate::files;
use crate::format::{MOST_GPUS, NodesTable, ScenarioFile};
use sim_core::CapacityProfile;
use sim_models::calibrate::{DeviceFile, FabricFile};
use sim_models::collective::{Fabric, Nccl};
use sim_models::device::constants::FrameworkConstants;
use sim_models::device::{Device, Format, Gpu, LayerTable, MeasuredLayers, Roofline};
use sim_models::framework::{Calibration, Framework};
use sim_models::layer_times::{LayerTimes, OnDevice, Outside};
use sim_models::link::{FittedCurve, LinkModel, StreamRate, fitted_between_nodes, fitted_inside_node};
use sim_models::scenario::NodeGroup;
use sim_models::units::Bytes;
use sim_models::workload::{Model, Training};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most groups: links are kept for every pair of them.
const MOST_GROUPS: usize = 256;

/// What is run on every group.
pub(super) struct Workload {
    pub(super) model: Model,
    pub(super) training: Training,
    /// The program that trains, where it is named: its fitted constants are taken.
    pub(super) framework: Option<&'static Framework>,
    /// Whether measured layer times are carried on to what was not measured.
    pub(super) extrapolate: bool,
}

/// The groups; `None` when one of them is at fault.
pub(super) fn groups(
    file: &ScenarioFile,
    workload: Option<&Workload>,
    cx: &mut Context<'_>,
) -> Option<Vec<NodeGroup>> {
    let gpus = Gpus::new(file, cx.faults);
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
    let count: u64 = nodes.value.iter().filter_map(|t| gpus_of(&t.value)).sum();
    if count > MOST_GPUS {
        cx.faults.push(nodes.place, "T0309", format!("{count} GPUs: at most {MOST_GPUS} are simulated"), "");
        return None;
    }
    if names.len() < nodes.value.len() {
        return None;
    }
    let groups: Vec<_> = nodes.value.iter().map(|t| group(t, file, workload, &gpus, cx)).collect();
    groups.into_iter().collect()
}

fn gpus_of(t: &NodesTable) -> Option<u64> {
    Some(t.count.as_ref()?.value.0 * t.gpus_per_node.as_ref()?.value.0)
}

fn group(
    table: &At<NodesTable>,
    file: &ScenarioFile,
    workload: Option<&Workload>,
    gpus: &Gpus,
    cx: &mut Context<'_>,
) -> Option<NodeGroup> {
    let t = &table.value;
    let mut gpu = gpus.find(t.gpu.as_ref()?, cx.faults)?;
    match (&t.memory, workload.and_then(|w| w.framework)) {
        (Some(memory), _) => gpu.memory = memory.value.0,
        (None, Some(framework)) => {
            // What the framework's allocator holds and cannot use.
            let lost = Calibration::builtin().keeps(framework.on(&gpu)).fragmentation;
            gpu.memory = Bytes::from_f64(gpu.memory.0 as f64 * (1.0 - lost));
        }
        (None, None) => {}
    }
    let zone = t.zone.as_ref().map_or_else(|| "default".to_string(), |z| z.value.0.clone());
    let gpus_per_node = t.gpus_per_node.as_ref()?.value.u32();
    let nic = nic(t, file, &gpu, &zone, cx.faults);
    let collectives = match &t.fabric {
        Some(file) => Some(collectives(file, &gpu, gpus_per_node, cx)?),
        None => None,
    };
    let built = collectives.or_else(|| Nccl::of(&gpu, gpus_per_node).ok());
    // What was fitted on a framework's runs holds what training leaves of the links.
    let framework = workload.and_then(|w| w.framework).filter(|_| collectives.is_none());
    let built = built.map(|nccl| framework.map_or(nccl, |_| Calibration::builtin().nccl(&gpu, nccl)));
    let collectives = collectives.or_else(|| framework.and(built));
    let wired = built.map_or_else(|| Fabric::of(&gpu, gpus_per_node), |nccl| *nccl.fabric());
    let inside = inside(t, &gpu, &wired);
    let outside = nic.as_ref().map(|nic| outside(file, &gpu, &zone, nic, gpus_per_node));
    let nccl = built.filter(|_| t.inside.is_none());
    let layers = layers(t, &gpu, (nccl, inside.clone(), outside), workload?, cx)?;
    Some(NodeGroup {
        name: t.name.as_ref()?.value.0.clone(),
        nodes: t.count.as_ref()?.value.u32(),
        gpus_per_node,
        layers: Arc::new(layers),
        inside,
        nic: nic?,
        nics: t.nics.as_ref().map(|n| n.value.u32()),
        zone,
        gpu,
        collectives,
        leaves: None,
    })
}

/// Measured times where there are any, and the roofline of the catalogue's figures where there are none.
fn layers(
    t: &NodesTable,
    gpu: &Gpu,
    (nccl, inside, outside): (Option<Nccl>, LinkModel, Option<Outside>),
    workload: &Workload,
    cx: &mut Context<'_>,
) -> Option<LayerTimes> {
    let Workload { model, training, framework, extrapolate } = workload;
    let (framework, extrapolate) = (*framework, *extrapolate);
    let format = Format::from(training.precision);
    let table = match (&t.profile, &t.device) {
        (Some(profile), _) => Some(profiled(profile, model, cx)?),
        (None, Some(_)) => None,
        (None, None) => LayerTable::shipped_for(model, gpu, format),
    };
    if let Some(file) = &t.device {
        let device = Device::Roofline(calibrated(file, gpu, cx)?);
        let device = OnDevice { device, model: model.clone(), format, nccl, inside, outside };
        return Some(match table {
            Some(table) => LayerTimes::carried_on(table, device),
            None => LayerTimes::modelled(device),
        });
    }
    if !extrapolate && let Some(table) = table {
        return Some(LayerTimes::measured(table));
    }
    let device = match framework {
        None => Device::of(gpu, model, format, FrameworkConstants::default(), table.as_ref()),
        Some(framework) => {
            let calibration = Calibration::builtin();
            let (device, framework) = (calibration.device(gpu), calibration.kernels(framework.on(gpu)));
            let roofline = Roofline { gpu: gpu.clone(), device, framework };
            match &table {
                Some(table) => Device::Table(MeasuredLayers::new(table, model, format, roofline)),
                None => Device::Roofline(roofline),
            }
        }
    };
    let device = OnDevice { device, model: model.clone(), format, nccl, inside, outside };
    Some(match table {
        Some(table) => LayerTimes::carried_on(table, device),
        None => LayerTimes::modelled(device),
    })
}

/// The roofline of a device file.
fn calibrated(device: &At<String>, gpu: &Gpu, cx: &mut Context<'_>) -> Option<Roofline> {
    let (text, whole) = cx.file(device, files::DOCUMENT)?;
    match DeviceFile::from_toml(&text.text) {
        Ok(file) if file.gpu == gpu.name => {
            Some(Roofline { gpu: gpu.clone(), device: file.device, framework: file.framework })
        }
        Ok(file) => {
            let message = format!("the device file is of `{}`, the nodes have `{}`", file.gpu, gpu.name);
            cx.faults.push(device.place, "T0311", message, "calibrate the GPU that the nodes have");
            None
        }
        Err(error) => {
            cx.faults.push(whole, "T0311", error.to_string(), "a file that `tideplan calibrate` wrote");
            None
        }
    }
}

/// The layer times of a file of one's own.
fn profiled(profile: &At<String>, model: &Model, cx: &mut Context<'_>) -> Option<LayerTable> {
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
        let message =
            format!("layer times of {} layers, and `{}` has {}", table.layers(), model.name, model.layers());
        cx.faults.push(profile.place, "T0306", message, "blocks, and one each for embedding and head");
        return None;
    }
    Some(table)
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
    // A single node has nobody to talk to.
    let alone = file.nodes.as_ref().is_some_and(|n| n.value.len() == 1)
        && table.count.as_ref().is_some_and(|c| c.value.0 == 1);
    let best = fitted_between_nodes(zone, &gpu.name, &gpu.name).map(|c| curves(c).wire_rate());
    let best = best.or(alone.then_some(gpu.memory_bandwidth));
    match best.map(sim_core::Rate::from_bytes_per_s) {
        Some(Ok(rate)) => Some(CapacityProfile::constant(rate)),
        _ => {
            let message = format!("nothing says how fast nodes of `{}` reach each other", gpu.name);
            let help = "give `[network]` a `rate`: it is their NIC's too, where they have no `nic`";
            faults.push(table.gpu.as_ref()?.place, "T0308", message, help);
            None
        }
    }
}

/// The way of one GPU to another node of its group.
fn outside(file: &ScenarioFile, gpu: &Gpu, zone: &str, nic: &CapacityProfile, gpus_per_node: u32) -> Outside {
    let share = nic.highest().as_bytes_per_s() / f64::from(gpus_per_node.max(1));
    let network = file.network.as_ref().map(|n| &n.value);
    let latency = network.and_then(|n| n.latency.as_ref()).map_or(0.0, |l| l.value.0.as_secs_f64());
    let constant = network.and_then(|n| n.rate.as_ref()).map(|r| r.value.0.as_bytes_per_s());
    let link = match (constant, fitted_between_nodes(zone, &gpu.name, &gpu.name)) {
        (None, Some(measured)) => curves(measured),
        (rate, _) => LinkModel::constant(rate.unwrap_or(nic.highest().as_bytes_per_s()), latency),
    };
    Outside { link, share }
}

/// As given, as measured, or as the maker wires the GPU. A fabric file comes before what is shipped.
fn inside(table: &NodesTable, gpu: &Gpu, fabric: &Fabric) -> LinkModel {
    match (&table.inside, fitted_inside_node(&gpu.name)) {
        (Some(rate), _) => LinkModel::constant(rate.value.0.as_bytes_per_s(), 0.0),
        (None, Some(measured)) if table.fabric.is_none() => curves(measured),
        (None, _) => fabric.inside(),
    }
}

/// What collectives cost, as a fabric file says.
fn collectives(file: &At<String>, gpu: &Gpu, gpus_per_node: u32, cx: &mut Context<'_>) -> Option<Nccl> {
    let (text, whole) = cx.file(file, files::DOCUMENT)?;
    let read = FabricFile::from_toml(&text.text).and_then(|file| Ok((file.nccl()?, file)));
    let of_these = |f: &FabricFile| f.gpu == gpu.name && f.fabric.gpus_per_node == gpus_per_node;
    match read {
        Ok((nccl, found)) if of_these(&found) => Some(nccl),
        Ok((_, found)) => {
            let message = format!(
                "the fabric file is of nodes of {} x `{}`, the nodes have {gpus_per_node} x `{}`",
                found.fabric.gpus_per_node, found.gpu, gpu.name
            );
            cx.faults.push(file.place, "T0312", message, "calibrate the nodes that there are");
            None
        }
        Err(error) => {
            cx.faults.push(whole, "T0312", error.to_string(), "a file that `tideplan calibrate` wrote");
            None
        }
    }
}
