//! The resources that transfers share: a NIC each way for every node, and each way of every zone link.

use crate::scenario::{NodeId, Scenario};
use sim_core::{Network, NetworkBuilder, ResourceId};

/// The resources of a scenario's network: a NIC each way for every node, and each way of every zone link.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// The network, for the executor.
    pub network: Network,
    /// Number of the first node of each group, over all nodes.
    first_node: Vec<u32>,
    nodes: u32,
}

impl Fabric {
    /// The fabric of `scenario`.
    pub fn new(scenario: &Scenario) -> Fabric {
        let mut builder = NetworkBuilder::new();
        let (mut first_node, mut nodes) = (Vec::new(), 0u32);
        for group in &scenario.groups {
            first_node.push(nodes);
            nodes += group.nodes;
            for _ in 0..group.nodes {
                builder.resource(group.nic.clone());
                builder.resource(group.nic.clone());
            }
        }
        for link in &scenario.zone_links {
            builder.resource(link.capacity.clone());
            builder.resource(link.capacity.clone());
        }
        Fabric { network: builder.build(), first_node, nodes }
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
}
