//! A part of a cluster as a scenario of its own, and a plan on it as a plan on the whole.

use sim_models::plan::{DeviceRange, Plan};
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use std::collections::BTreeMap;
use std::ops::Range;

/// Some nodes of each group of a scenario.
pub(super) struct Part {
    /// The scenario on these nodes alone. Groups without any are left out.
    pub(super) scenario: Scenario,
    /// By name of a group, by how much its devices are called higher in the whole.
    shift: BTreeMap<String, u32>,
}

impl Part {
    /// Of `whole`, by group, the nodes of a range.
    pub(super) fn new(whole: &Scenario, nodes: &[Range<u32>]) -> Part {
        let kept: Vec<usize> = (0..whole.groups.len()).filter(|g| !nodes[*g].is_empty()).collect();
        let mut scenario = whole.clone();
        let mut shift = BTreeMap::new();
        scenario.groups = Vec::with_capacity(kept.len());
        for &g in &kept {
            let mut group = whole.groups[g].clone();
            group.nodes = nodes[g].end - nodes[g].start;
            shift.insert(group.name.clone(), nodes[g].start * group.gpus_per_node);
            scenario.groups.push(group);
        }
        let row = |a: &usize| kept.iter().map(|b| whole.node_links[*a][*b].clone()).collect();
        scenario.node_links = kept.iter().map(row).collect();
        scenario.cost.node_hour = kept.iter().map(|g| whole.cost.node(*g)).collect();
        let node = |n: &NodeId| {
            let group = kept.iter().position(|g| *g == n.group as usize)?;
            let range = &nodes[n.group as usize];
            let index = range.contains(&n.index).then(|| n.index - range.start)?;
            Some(NodeId { group: group as u32, index })
        };
        let device = |d: &DeviceId| {
            let size = whole.group(*d).gpus_per_node;
            let n = node(&NodeId { group: d.group, index: d.index / size })?;
            Some(DeviceId { group: n.group, index: n.index * size + d.index % size })
        };
        let replay = &whole.replay;
        scenario.replay.nics = renamed(&replay.nics, node);
        scenario.replay.up = renamed(&replay.up, node);
        scenario.replay.speeds = renamed(&replay.speeds, device);
        scenario.plan = None;
        Part { scenario, shift }
    }

    /// A plan on the part as one on the whole.
    pub(super) fn in_whole(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        let stages = plan.pipelines.iter_mut().flat_map(|p| &mut p.stages);
        for range in stages.flat_map(|s| &mut s.devices) {
            let shift = self.shift.get(&range.group).copied().unwrap_or(0);
            *range = DeviceRange {
                group: std::mem::take(&mut range.group),
                first: range.first + shift,
                last: range.last + shift,
            };
        }
        plan
    }
}

/// What is of the part, under its names there.
fn renamed<K: Ord, V: Clone>(map: &BTreeMap<K, V>, name: impl Fn(&K) -> Option<K>) -> BTreeMap<K, V> {
    map.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
}
