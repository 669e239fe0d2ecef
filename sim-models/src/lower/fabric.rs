//! The resources that transfers share: a NIC each way for every node, each way of every zone link, the uplinks of every leaf up
//! and down, and the speed of every GPU that is slowed at times.

use crate::collective::{CollectiveKind, Group, Nccl, Wires};
use crate::link::LinkModel;
use crate::scenario::{DeviceId, NodeGroup, NodeId, Scenario};
use crate::units::Bytes;
use sim_core::{Network, NetworkBuilder, ResourceId};
use std::collections::BTreeMap;

/// The resources of a scenario: see the head of this file.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// The network, for the executor.
    pub network: Network,
    /// Number of the first node of each group, over all nodes.
    first_node: Vec<u32>,
    nodes: u32,
    zone_links: u32,
    leaves: u32,
    speeds: BTreeMap<DeviceId, ResourceId>,
    /// How NCCL uses the nodes of each group.
    nccl: Vec<Option<Nccl>>,
}

impl Fabric {
    /// The fabric of `scenario`.
    pub fn new(scenario: &Scenario) -> Fabric {
        let mut builder = NetworkBuilder::new();
        let (mut first_node, mut nodes) = (Vec::new(), 0u32);
        let replay = &scenario.replay;
        for (g, group) in scenario.groups.iter().enumerate() {
            first_node.push(nodes);
            nodes += group.nodes;
            for index in 0..group.nodes {
                let own = replay.nics.get(&NodeId { group: g as u32, index }).map(|line| line.profile(0));
                let nic = own.unwrap_or_else(|| group.nic.clone());
                builder.resource(nic.clone());
                builder.resource(nic);
            }
        }
        for link in &scenario.zone_links {
            builder.resource(link.capacity.clone());
            builder.resource(link.capacity.clone());
        }
        for (leaf, index) in scenario.leaves.iter().zip(0..) {
            let own = replay.leaves.get(&index).map(|line| line.profile(0));
            let uplinks = own.unwrap_or_else(|| leaf.capacity.clone());
            builder.resource(uplinks.clone());
            builder.resource(uplinks);
        }
        let (zone_links, leaves) = (scenario.zone_links.len() as u32, scenario.leaves.len() as u32);
        let speeds = replay.speeds.iter().map(|(d, line)| (*d, builder.resource(line.profile(0)))).collect();
        let nccl = scenario.groups.iter().map(NodeGroup::nccl).collect();
        Fabric { network: builder.build(), first_node, nodes, zone_links, leaves, speeds, nccl }
    }

    /// The speed of a GPU, where it is slowed at times.
    pub fn speed(&self, device: DeviceId) -> Option<ResourceId> {
        self.speeds.get(&device).copied()
    }

    /// What paces the compute of devices that run in lock step: the slowest of those that are slowed at times.
    pub(crate) fn pace(&self, devices: &[DeviceId]) -> Vec<(ResourceId, u32)> {
        if self.speeds.is_empty() {
            return Vec::new();
        }
        devices.iter().filter_map(|d| self.speed(*d)).map(|r| (r, 1)).collect()
    }

    /// What a ring of a collective waits for before its first byte, s, and the most that passes through a node's cards, bytes/s,
    /// as NCCL runs it over a link whose rate is that of its wire.
    pub(super) fn ring_pace(
        &self,
        group: u32,
        kind: CollectiveKind,
        bytes: Bytes,
        (ranks, nodes): (u32, u32),
        (link, nic): (&LinkModel, f64),
    ) -> Option<(f64, f64)> {
        let model = self.nccl.get(group as usize)?.as_ref()?;
        let wires = Wires { inside: None, between: Some(link), nic, added_s: 0.0 };
        let group = Group::new(ranks.next_multiple_of(nodes), nodes).ok()?;
        let time = model.group_time(&wires, kind, bytes, group).ok()?;
        (time.rate.is_finite() && time.rate > 0.0).then_some((time.latency_s, time.rate))
    }

    fn node(&self, node: NodeId) -> u32 {
        self.first_node[node.group as usize] + node.index
    }

    /// The NIC of a node, outward.
    pub fn egress(&self, node: NodeId) -> ResourceId {
        ResourceId(2 * self.node(node))
    }

    /// The NIC of a node, inward.
    pub fn ingress(&self, node: NodeId) -> ResourceId {
        ResourceId(2 * self.node(node) + 1)
    }

    /// A zone link (index into [`Scenario::zone_links`]), from its first zone to its second or back.
    pub fn zone(&self, link: usize, forward: bool) -> ResourceId {
        ResourceId(2 * (self.nodes + link as u32) + u32::from(!forward))
    }

    /// Whether there are leaf switches.
    pub fn has_leaves(&self) -> bool {
        self.leaves > 0
    }

    /// The uplinks of a leaf (index into [`Scenario::leaves`]), up or down.
    pub fn leaf(&self, leaf: u32, up: bool) -> ResourceId {
        ResourceId(2 * (self.nodes + self.zone_links + leaf) + u32::from(!up))
    }
}
