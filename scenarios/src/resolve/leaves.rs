//! `fabric` and `leaves`: leaf switches, their uplinks, and what changes on those.

use super::background::Loads;
use super::changes::Bound;
use super::happen::Happenings;
use super::network::over_time;
use crate::fault::{At, Faults};
use crate::format::{FabricTable, NodesTable, ScenarioFile};
use sim_core::Rate;
use sim_models::scenario::{Leaf, Leaves, NodeGroup};
use sim_models::timeline::Timeline;
use std::collections::BTreeMap;

/// Leaf switches of one group of nodes.
struct Shape<'a> {
    table: &'a At<FabricTable>,
    leaves: Leaves,
    count: u32,
}

/// The leaves of a group: its own, or those of the network.
fn shape<'a>(file: &'a ScenarioFile, nodes: &'a NodesTable) -> Option<Shape<'a>> {
    let network = file.network.as_ref().and_then(|n| n.value.fabric.as_ref());
    let table = nodes.leaves.as_ref().or(network)?;
    let gpus = nodes.gpus_per_node.as_ref()?.value.u32();
    let cards = nodes.nics.as_ref().map_or(gpus, |n| n.value.u32().min(gpus));
    let rails = if table.value.rails.as_ref().is_some_and(|r| r.value) { cards } else { 1 };
    let leaves = Leaves { first: 0, nodes: table.value.leaf_nodes.as_ref()?.value.u32(), rails };
    Some(Shape { table, leaves, count: leaves.count(nodes.count.as_ref()?.value.u32()) })
}

fn name(group: &str, leaves: &Leaves, leaf: u32) -> String {
    match leaves.rails {
        1 => format!("{group}-leaf-{leaf}"),
        rails => format!("{group}-leaf-{}-rail-{}", leaf / rails, leaf % rails),
    }
}

/// Names of all leaves.
pub(super) fn names(file: &ScenarioFile) -> Vec<String> {
    let mut names = Vec::new();
    for nodes in file.nodes.iter().flat_map(|n| &n.value) {
        if let (Some(shape), Some(group)) = (shape(file, &nodes.value), &nodes.value.name) {
            names.extend((0..shape.count).map(|leaf| name(&group.value.0, &shape.leaves, leaf)));
        }
    }
    names
}

/// The leaves, group by group, and those that change over time. `groups` learn of theirs.
pub(super) fn leaves(
    file: &ScenarioFile,
    groups: &mut [NodeGroup],
    mut traces: BTreeMap<String, Option<Bound>>,
    (happenings, loads): (&Happenings, &Loads),
    faults: &mut Faults,
) -> (Vec<Leaf>, BTreeMap<u32, Timeline>) {
    let (mut list, mut changes) = (Vec::new(), BTreeMap::new());
    let tables = file.nodes.iter().flat_map(|n| &n.value);
    for (group, nodes) in groups.iter_mut().zip(tables) {
        let Some(Shape { table, leaves, count }) = shape(file, &nodes.value) else { continue };
        let leaves = Leaves { first: list.len() as u32, ..leaves };
        group.leaves = Some(leaves);
        let factor = table.value.oversubscription.as_ref().map_or(1.0, |o| o.value.0);
        let below = group.nic.highest().as_bytes_per_s() * f64::from(leaves.nodes) / f64::from(leaves.rails);
        let level = match Rate::from_bytes_per_s(below / factor) {
            Ok(rate) if rate > Rate::ZERO => rate,
            _ => {
                let message = format!("uplinks of {:.3e} B/s are out of range", below / factor);
                faults.push(table.place, "T0314", message, "look at `oversubscription` and `leaf_nodes`");
                continue;
            }
        };
        for leaf in 0..count {
            let name = name(&group.name, &leaves, leaf);
            let bound = traces.remove(&name);
            let events = happenings.capacity.get(&name).filter(|s| !s.is_empty());
            let traced = bound.is_some() || events.is_some();
            let found = over_time(Some(level), bound.flatten(), faults);
            let Some((mut capacity, mut line)) = found else { continue };
            if let Some(stretches) = events {
                line = line.overlaid(stretches.clone());
                capacity = line.profile(0);
            }
            let left = loads.less(&name, &line, Some(level), faults);
            let traced = traced || left.is_some();
            if let Some(left) = left {
                line = left;
                capacity = line.profile(0);
            }
            if traced {
                changes.insert(list.len() as u32, line);
            }
            list.push(Leaf { name, capacity });
        }
    }
    for table in file.events.iter().flat_map(|e| &e.value) {
        if let (Some(link), Some(latency)) = (&table.value.link, &table.value.latency)
            && list.iter().any(|leaf| leaf.name == link.value.0)
        {
            let help = "`capacity` or `down`; latencies are those of nodes and zones";
            faults.push(latency.place, "T0407", "the uplinks of a leaf have no latency", help);
        }
    }
    (list, changes)
}
