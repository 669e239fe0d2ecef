//! A scenario, resolved: what is trained, on which nodes, over which links, and how to search. Plain data: the
//! `scenarios` crate makes it from a file, a program can make it by hand.
//!
//! ```text
//!   node of group "a100"                            node of group "v100"
//!   GPU 0 .. gpus_per_node-1 -- intra link          ...
//!        \__ NIC (one resource out, one in) __ leaf's uplinks (one up, one down) __ zone link (a resource each way) __ ...
//! ```

use crate::collective::Nccl;
use crate::cost::Cost;
use crate::device::Gpu;
use crate::layer_times::LayerTimes;
use crate::link::LinkModel;
use crate::plan::{DeviceRange, Plan, Recompute, Schedule};
use crate::replay::Replay;
use crate::units::Bytes;
use crate::workload::{Model, Training};
use sim_core::{CapacityProfile, SimDuration};
use std::sync::Arc;

/// Everything a simulation or a search needs. See the head of this file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name: a built-in's, or the file's stem.
    pub name: String,
    /// One line on what it is.
    pub about: String,
    /// What is trained.
    pub model: Model,
    /// How.
    pub training: Training,
    /// Nodes, by group of alike ones. Names are unique.
    pub groups: Vec<NodeGroup>,
    /// Between nodes: `node_links[a][b]` from a node of group `a` to another node, of group `b`.
    pub node_links: Vec<Vec<LinkModel>>,
    /// Shared links between zones. A pair of zones without one is limited by its NICs and `node_links` alone.
    pub zone_links: Vec<ZoneLink>,
    /// Leaf switches, group by group: what leaves one shares its uplinks. None where nodes have the fabric to themselves.
    pub leaves: Vec<Leaf>,
    /// The plan that the scenario names.
    pub plan: Option<Plan>,
    /// What the search may do.
    pub search: SearchOptions,
    /// What nodes and bytes cost.
    pub cost: Cost,
    /// What changes while a job runs, and how a replay goes.
    pub replay: Replay,
    /// Jobs that share the cluster, in place of one; model, recipe and layer times above are then the first job's.
    pub jobs: Vec<Job>,
}

/// One of several jobs that share a cluster.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name. Unique.
    pub name: String,
    /// When its iteration starts, after the first instant.
    pub start: SimDuration,
    /// Iterations that it is to run. At least 1.
    pub iterations: u64,
    /// How much it counts when it is done. At least 1.
    pub weight: u64,
    /// Nodes that it may use, as ranges of nodes; empty: all.
    pub nodes: Vec<DeviceRange>,
    /// The cluster as it sees it: the same nodes and links, with its model, its recipe, its plan, and no jobs.
    pub scenario: Scenario,
}

impl Job {
    /// Whether it may use a device.
    pub fn may_use(&self, device: DeviceId) -> bool {
        let node = self.scenario.node(device);
        let name = &self.scenario.group(device).name;
        let among = |r: &DeviceRange| r.group == *name && (r.first..=r.last).contains(&node.index);
        self.nodes.is_empty() || self.nodes.iter().any(among)
    }
}

/// Most jobs that share a cluster.
pub const MOST_JOBS: usize = 16;

/// Alike nodes in one zone.
#[derive(Clone, Debug)]
pub struct NodeGroup {
    /// Its name, by which plans call its devices.
    pub name: String,
    /// Zone, as links call it.
    pub zone: String,
    /// How many nodes. At least 1.
    pub nodes: u32,
    /// GPUs of a node. At least 1.
    pub gpus_per_node: u32,
    /// The GPU.
    pub gpu: Gpu,
    /// Layer times of the scenario's model on it.
    pub layers: Arc<LayerTimes>,
    /// Between GPUs of one node.
    pub inside: LinkModel,
    /// A node's NICs together, each way: shared by all its transfers to other nodes.
    pub nic: CapacityProfile,
    /// How many cards that are, where it is said: a GPU sends through those next to it, one of eight where there are eight, and
    /// collectives reach what NCCL leaves of them. `None`: a GPU sends through all, and links say what transfers reach.
    pub nics: Option<u32>,
    /// What collectives among its GPUs cost, where it was measured (a fabric file).
    pub collectives: Option<Nccl>,
    /// The leaf switches that its nodes are on.
    pub leaves: Option<Leaves>,
}

/// The leaf switches of a group: a pod of `nodes` nodes is on one of them with all its cards, or on one for each rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// The first, an index into [`Scenario::leaves`].
    pub first: u32,
    /// Nodes of a pod; the last may have fewer. At least 1.
    pub nodes: u32,
    /// Leaves of a pod: GPU `i` of a node sends through leaf `i * rails / gpus_per_node`. At least 1.
    pub rails: u32,
}

impl Leaves {
    /// Leaf switches of a group of so many nodes.
    pub fn count(&self, nodes: u32) -> u32 {
        nodes.div_ceil(self.nodes.max(1)).saturating_mul(self.rails)
    }
}

/// A leaf switch. What goes from it to another, or to another zone, shares its uplinks; what stays below it does not.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its name, by which traces call it. Unique, among zone links too.
    pub name: String,
    /// Its uplinks together, up and down each, over the clock of the traces.
    pub capacity: CapacityProfile,
}

impl NodeGroup {
    /// GPUs of the group.
    pub fn gpus(&self) -> u32 {
        self.nodes.saturating_mul(self.gpus_per_node)
    }

    /// What collectives among its GPUs cost: as measured, or as over every fabric that was. `None` for a GPU whose links are
    /// out of range.
    pub fn nccl(&self) -> Option<Nccl> {
        self.collectives.or_else(|| Nccl::of(&self.gpu, self.gpus_per_node).ok())
    }
}

/// A link between two zones, full duplex: each way has the whole capacity.
#[derive(Clone, Debug)]
pub struct ZoneLink {
    /// Its name, by which traces call it. Unique.
    pub name: String,
    /// The zones.
    pub zones: (String, String),
    /// Capacity each way, over the clock of the traces.
    pub capacity: CapacityProfile,
    /// Time before the first byte.
    pub latency: SimDuration,
}

/// What the search may do: `[search]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchOptions {
    /// Simulations after which the search stops with its best so far.
    pub max_simulations: u64,
    /// Micro-batch sizes to try; empty: those of the groups' [`LayerTimes::micro_batches`].
    pub micro_batches: Vec<u32>,
    /// Most stages of a pipeline.
    pub max_stages: u32,
    /// Whether every number of pipelines of a template is tried, or some.
    pub every_number: bool,
    /// Ways to train.
    pub ways: Ways,
}

/// Ways to train that a search tries, besides where layers and pipelines stand. An empty list leaves it at the usual: see
/// docs/space.md.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Orders of the passes; one range of layers a stage.
    pub schedule: Vec<Schedule>,
    /// What backward passes do again.
    pub recompute: Vec<Recompute>,
    /// Degrees of context parallelism.
    pub cp: Vec<u32>,
    /// Degrees of expert parallelism.
    pub ep: Vec<u32>,
    /// What replicas share out.
    pub zero: Vec<u8>,
    /// Whether norms and dropouts are split over tensor-parallel ranks.
    pub sequence_parallel: Vec<bool>,
    /// Whether transfers between stages run beside compute.
    pub overlap_p2p: Vec<bool>,
    /// Whether gradients are sent while the last backward passes run.
    pub overlap_gradients: Vec<bool>,
    /// Size of the pieces in which they then are.
    pub gradient_bucket: Option<Bytes>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions {
            max_simulations: 2_000,
            micro_batches: Vec::new(),
            max_stages: 8,
            every_number: false,
            ways: Ways::default(),
        }
    }
}

/// One device: its group and its index there. Order is the order of groups, then of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Index into [`Scenario::groups`].
    pub group: u32,
    /// Index in the group; the node is `index / gpus_per_node`.
    pub index: u32,
}

/// One node: its group and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Index into [`Scenario::groups`].
    pub group: u32,
    /// Index in the group.
    pub index: u32,
}

impl Scenario {
    /// GPUs of the cluster.
    pub fn gpus(&self) -> u64 {
        self.groups.iter().map(|g| u64::from(g.gpus())).sum()
    }

    /// The group a device range or a plan names.
    pub fn group_index(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|g| g.name == name)
    }

    /// The group of a device.
    pub fn group(&self, device: DeviceId) -> &NodeGroup {
        &self.groups[device.group as usize]
    }

    /// The node a device is on.
    pub fn node(&self, device: DeviceId) -> NodeId {
        NodeId { group: device.group, index: device.index / self.group(device).gpus_per_node }
    }

    /// The pod of leaf switches that a node is in: its first leaf, an index into [`Scenario::leaves`]. `None` where there are
    /// none.
    pub fn pod(&self, node: NodeId) -> Option<u32> {
        let leaves = self.groups[node.group as usize].leaves?;
        Some(leaves.first + node.index / leaves.nodes.max(1) * leaves.rails)
    }

    /// The leaf switch that a device sends through, an index into [`Scenario::leaves`].
    pub fn leaf(&self, device: DeviceId) -> Option<u32> {
        let group = self.group(device);
        let leaves = group.leaves?;
        let pod = self.pod(self.node(device))?;
        let rail = device.index % group.gpus_per_node * leaves.rails / group.gpus_per_node;
        Some(pod + rail)
    }

    /// How a report and a plan write a device: `a100:7`.
    pub fn device_name(&self, device: DeviceId) -> String {
        let group = self.group(device).name.clone();
        DeviceRange { group, first: device.index, last: device.index }.to_string()
    }

    /// The shared link between two zones, if there is one.
    pub fn zone_link(&self, a: &str, b: &str) -> Option<(usize, &ZoneLink)> {
        self.zone_links
            .iter()
            .enumerate()
            .find(|(_, l)| (l.zones.0 == a && l.zones.1 == b) || (l.zones.0 == b && l.zones.1 == a))
    }
}
