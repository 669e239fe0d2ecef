//! A part of a cluster as a scenario of its own, and a plan on it as a plan on the whole.

use sim_models::plan::{DeviceRange, Plan};
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use std::collections::BTreeMap;

/// Some nodes of each group of a scenario.
pub(super) struct Part {
    /// The scenario on these nodes alone. Groups without any are left out.
    pub(super) scenario: Scenario,
    /// By name of a group, GPUs of a node and what its nodes are called in the whole.
    names: BTreeMap<String, (u32, Vec<u32>)>,
}

impl Part {
    /// Of `whole`, by group, these nodes, in order.
    pub(super) fn new(whole: &Scenario, nodes: &[Vec<u32>]) -> Part {
        let kept: Vec<usize> = (0..whole.groups.len()).filter(|g| !nodes[*g].is_empty()).collect();
        let mut scenario = whole.clone();
        let mut names = BTreeMap::new();
        scenario.groups = Vec::with_capacity(kept.len());
        for &g in &kept {
            let mut group = whole.groups[g].clone();
            group.nodes = nodes[g].len() as u32;
            // Its nodes need not be those of whole pods: leaf switches count where the jobs are simulated together.
            group.leaves = None;
            names.insert(group.name.clone(), (group.gpus_per_node, nodes[g].clone()));
            scenario.groups.push(group);
        }
        let row = |a: &usize| kept.iter().map(|b| whole.node_links[*a][*b].clone()).collect();
        scenario.node_links = kept.iter().map(row).collect();
        scenario.cost.node_hour = kept.iter().map(|g| whole.cost.node(*g)).collect();
        let node = |n: &NodeId| {
            let group = kept.iter().position(|g| *g == n.group as usize)?;
            let index = nodes[n.group as usize].binary_search(&n.index).ok()?;
            Some(NodeId { group: group as u32, index: index as u32 })
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
        scenario.leaves = Vec::new();
        scenario.plan = None;
        Part { scenario, names }
    }

    /// A plan on the part as one on the whole.
    pub(super) fn in_whole(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for stage in plan.pipelines.iter_mut().flat_map(|p| &mut p.stages) {
            stage.devices = stage.devices.iter().flat_map(|range| self.range_in_whole(range)).collect();
        }
        plan
    }

    /// Devices of one range, in as few ranges as the order of the nodes allows.
    fn range_in_whole(&self, range: &DeviceRange) -> Vec<DeviceRange> {
        let Some((size, nodes)) = self.names.get(&range.group) else { return vec![range.clone()] };
        let mut list: Vec<DeviceRange> = Vec::new();
        for index in range.first..=range.last {
            let device = nodes[(index / size) as usize] * size + index % size;
            match list.last_mut() {
                Some(last) if last.last + 1 == device => last.last = device,
                _ => list.push(DeviceRange { group: range.group.clone(), first: device, last: device }),
            }
        }
        list
    }
}

/// What is of the part, under its names there.
fn renamed<K: Ord, V: Clone>(map: &BTreeMap<K, V>, name: impl Fn(&K) -> Option<K>) -> BTreeMap<K, V> {
    map.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
}
