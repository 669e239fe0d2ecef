//! What each shared link carried over time.

use crate::fold::Folding;
use crate::lower::{Fabric, Lowering};
use crate::scenario::{NodeId, Scenario};
use sim_core::graph::TaskView;
use sim_core::observe::{LinkLoad, LinkUse};
use sim_core::{CapacitySource, Rate, ResourceId, SimTime, TaskId};
use std::collections::BTreeMap;

/// A link that transfers share: one way of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// The NIC of a node.
    Nic {
        /// The node.
        node: NodeId,
        /// Whether out of the node, or into it.
        out: bool,
    },
    /// The link between two zones.
    Zone {
        /// Index into [`Scenario::zone_links`].
        link: usize,
        /// Whether from the first of its zones to the second, or back.
        forward: bool,
    },
    /// The uplinks of a leaf switch.
    Leaf {
        /// Index into [`Scenario::leaves`].
        leaf: u32,
        /// Whether up to the spines, or down from them.
        up: bool,
    },
}

impl Link {
    /// Every shared link of a scenario: NICs by node, the links between zones, the leaves.
    pub fn all(scenario: &Scenario) -> Vec<Link> {
        let mut list = Vec::new();
        for (group, nodes) in scenario.groups.iter().enumerate() {
            for index in 0..nodes.nodes {
                let node = NodeId { group: group as u32, index };
                list.extend([true, false].map(|out| Link::Nic { node, out }));
            }
        }
        for link in 0..scenario.zone_links.len() {
            list.extend([true, false].map(|forward| Link::Zone { link, forward }));
        }
        for leaf in 0..scenario.leaves.len() as u32 {
            list.extend([true, false].map(|up| Link::Leaf { leaf, up }));
        }
        list
    }

    /// Its name: `a100 node 3 NIC out`, `wan from east`, `a100-leaf-0 up`.
    pub fn name(self, scenario: &Scenario) -> String {
        match self {
            Link::Nic { node, out } => {
                let group = &scenario.groups[node.group as usize].name;
                format!("{group} node {} NIC {}", node.index, if out { "out" } else { "in" })
            }
            Link::Zone { link, forward } => {
                let link = &scenario.zone_links[link];
                format!("{} from {}", link.name, if forward { &link.zones.0 } else { &link.zones.1 })
            }
            Link::Leaf { leaf, up } => {
                format!("{} {}", scenario.leaves[leaf as usize].name, if up { "up" } else { "down" })
            }
        }
    }

    fn resource(self, fabric: &Fabric) -> ResourceId {
        match self {
            Link::Nic { node, out: true } => fabric.egress(node),
            Link::Nic { node, out: false } => fabric.ingress(node),
            Link::Zone { link, forward } => fabric.zone(link, forward),
            Link::Leaf { leaf, up } => fabric.leaf(leaf, up),
        }
    }

    /// The link whose load stands for this one's.
    fn representative(self, folding: &Folding) -> Link {
        match self {
            Link::Nic { node, out } => Link::Nic { node: folding.canonical(node), out },
            Link::Leaf { leaf, up } => Link::Leaf { leaf: folding.canonical_leaf(leaf), up },
            zone @ Link::Zone { .. } => zone,
        }
    }
}

/// What a link carried.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// The link, or the one that stands for others which carry the same.
    pub link: Link,
    /// How many links this is.
    pub count: u32,
    /// Bytes that the plan sends over it.
    pub bytes: u64,
    /// Bytes/s over the whole iteration.
    pub mean_rate: f64,
    /// What it carried over what it could have carried in the iteration, 0 to 1; 0 where it could carry nothing.
    pub mean_utilisation: f64,
    /// The most of its capacity that was in use at once, 0 to 1.
    pub peak_utilisation: f64,
    /// Load and capacity from an instant of the iteration on: the first from its start, neighbours differ.
    pub loads: Vec<LinkLoad>,
}

/// Which link a resource is.
pub(super) fn by_resource(scenario: &Scenario, fabric: &Fabric) -> BTreeMap<ResourceId, Link> {
    Link::all(scenario).into_iter().map(|link| (link.resource(fabric), link)).collect()
}

/// A watched run.
pub(super) struct Carried<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) fabric: &'a Fabric,
    pub(super) folding: &'a Folding,
    pub(super) lowering: &'a Lowering,
    pub(super) loads: &'a LinkUse<'a>,
    pub(super) origin: SimTime,
    pub(super) end: SimTime,
}

/// A report for each link that stands for itself, and every link with the index of its report.
pub(super) fn reports(c: &Carried<'_>) -> (Vec<LinkReport>, Vec<(Link, usize)>) {
    let bytes = c.bytes();
    let mut reports: Vec<LinkReport> = Vec::new();
    let mut place: BTreeMap<Link, usize> = BTreeMap::new();
    let every: Vec<(Link, usize)> = Link::all(c.scenario)
        .into_iter()
        .map(|link| {
            let own = link.representative(c.folding);
            let at = *place.entry(own).or_insert_with(|| {
                reports.push(c.report(own, &bytes));
                reports.len() - 1
            });
            reports[at].count += 1;
            (link, at)
        })
        .collect();
    (reports, every)
}

impl Carried<'_> {
    /// Bytes of all transfers over each resource.
    fn bytes(&self) -> Vec<u128> {
        let mut bytes = vec![0u128; self.fabric.network.len()];
        let mut add = |task: TaskId| {
            if let TaskView::Transfer(transfer) = self.lowering.graph.view(task) {
                for (resource, weight) in transfer.uses {
                    bytes[resource.index()] += u128::from(transfer.bytes) * u128::from(*weight);
                }
            }
        };
        for map in &self.lowering.maps {
            for boundary in &map.boundaries {
                (boundary.first..boundary.first + boundary.count).for_each(|task| add(TaskId(task)));
            }
            map.syncs.iter().for_each(|sync| add(sync.task));
            map.exchanges().for_each(|(.., task)| add(task));
        }
        bytes
    }

    fn report(&self, link: Link, bytes: &[u128]) -> LinkReport {
        let resource = link.resource(self.fabric);
        let loads = self.steps(resource);
        let (mut used, mut capacity, mut peak) = (0.0, 0.0, 0.0);
        let ends = loads.iter().skip(1).map(|l| l.from).chain([self.end]);
        for (load, to) in loads.iter().zip(ends) {
            let secs = to.saturating_since(load.from).as_secs_f64();
            used += load.used.as_bytes_per_s() * secs;
            capacity += load.capacity.as_bytes_per_s() * secs;
            if load.capacity > Rate::ZERO && secs > 0.0 {
                let share = load.used.as_bytes_per_s() / load.capacity.as_bytes_per_s();
                peak = if share > peak { share } else { peak };
            }
        }
        let over = |all: f64| if all > 0.0 { used / all } else { 0.0 };
        LinkReport {
            link,
            count: 0,
            bytes: u64::try_from(bytes[resource.index()]).unwrap_or(u64::MAX),
            mean_rate: over(self.end.as_secs_f64()),
            mean_utilisation: over(capacity),
            peak_utilisation: peak,
            loads,
        }
    }

    /// Load and capacity of a resource over the iteration. A run tells of capacities while they are in use alone, so they are
    /// read from the profile.
    fn steps(&self, resource: ResourceId) -> Vec<LinkLoad> {
        let profile = self.fabric.network.capacity(resource).shifted(self.origin);
        let mut loads = self.loads.loads(resource).iter().peekable();
        let mut now = LinkLoad { from: SimTime::ZERO, used: Rate::ZERO, capacity: profile.at(SimTime::ZERO) };
        let mut change = profile.next_change(SimTime::ZERO);
        let mut steps: Vec<LinkLoad> = Vec::new();
        loop {
            while let Some(load) = loads.next_if(|l| l.from <= now.from) {
                now.used = load.used;
            }
            while let Some((at, rate)) = change.filter(|(at, _)| *at <= now.from) {
                now.capacity = rate;
                change = profile.next_change(at);
            }
            let same = steps.last().is_some_and(|l| (l.used, l.capacity) == (now.used, now.capacity));
            if !same {
                steps.push(now);
            }
            let next = loads.peek().map(|l| l.from).into_iter().chain(change.map(|(at, _)| at)).min();
            match next.filter(|at| *at <= self.end) {
                Some(at) => now.from = at,
                None => return steps,
            }
        }
    }
}
