//! The links that messages of a job take: those of the scenario's nodes, or its NICs wired as one of the plain fabrics.
//!
//! ```text
//!   GPU of one node:   port out of the sender ─ port in of the receiver          (an NVSwitch; the rate of `inside`)
//!   other node:        NIC out ─ zone link, if there is one ─ NIC in             (shared by the node's GPUs)
//! ```
//!
//! Where messages share links, a GPU's messages to other nodes together go no faster than one GPU can: a port of its own lies at
//! either end of the NICs. Where links serve one message after another there is none, as it would be one more to store at.

use std::fmt;
use std::str::FromStr;

use sim_core::generate::{LinkTimes, Route, Symmetry};
use sim_core::{
    CapacityProfile, CapacitySource, Network, NetworkBuilder, Rate, ResourceId, SimDuration, SimTime,
};
use thiserror::Error;

use crate::collective::messages::topology::{Links, WholeNanoseconds};
use crate::collective::messages::{Convention, Fabric as Plain, UnknownName};
use crate::lower::Fabric;
use crate::scenario::{DeviceId, NodeId, Scenario};
use crate::units::Bytes;

/// What connects the GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// The scenario's nodes and zones.
    Nodes,
    /// One link each way as fast as a NIC, wired so, a GPU at each end, whatever node it is in.
    Plain(Plain),
}

impl Topology {
    /// Every name there is.
    pub const NAMES: &'static [&'static str] = &["nodes", "ring", "switch", "full"];
}

impl FromStr for Topology {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match (text, text.parse()) {
            ("nodes", _) => Ok(Topology::Nodes),
            (_, Ok(plain)) => Ok(Topology::Plain(plain)),
            _ => Err(UnknownName { given: text.to_owned(), known: Self::NAMES }),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topology::Nodes => f.write_str("nodes"),
            Topology::Plain(plain) => plain.fmt(f),
        }
    }
}

/// Why a scenario's links do not carry a job.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WaysError {
    /// Fewer GPUs than ranks.
    #[error("{ranks} ranks, and the scenario has {gpus} GPUs")]
    Gpus {
        /// Ranks of the job.
        ranks: u32,
        /// GPUs of the scenario.
        gpus: u64,
    },
    /// A plain fabric has one kind of link.
    #[error("topology `{0}` has one kind of link, and the scenario's groups of nodes have several")]
    Unlike(Plain),
    /// Too many links.
    #[error("topology `full` takes at most 4096 ranks: {0}")]
    Full(u32),
}

#[derive(Clone, Debug)]
enum Kind {
    Plain(Links),
    Nodes {
        scenario: Box<Scenario>,
        fabric: Fabric,
        /// Where each rank is.
        ranks: Vec<(DeviceId, NodeId)>,
        /// The first port; rank r has 4 from 4 r on: out and in within the node, out and in to other nodes.
        ports: u32,
        /// Whether those to other nodes are used.
        shared: bool,
    },
}

/// The links, what each costs, and who takes which. Rank r is GPU r of the scenario, in the order of its groups.
#[derive(Clone, Debug)]
pub struct Ways {
    kind: Kind,
    network: Network,
    latencies: Vec<SimDuration>,
    /// Capacity at the start, for links that serve one message after another.
    rates: Vec<Rate>,
}

/// A switch and a pair of NICs have the latency of the way between two nodes in two halves.
fn halves(latency: SimDuration) -> (SimDuration, SimDuration) {
    let half = latency.as_ps() / 2;
    (SimDuration::from_ps(half), SimDuration::from_ps(latency.as_ps() - half))
}

impl Ways {
    /// The links of `scenario` for `ranks` ranks on a convention, from instant `at` of its traces.
    ///
    /// # Errors
    /// When the scenario has too few GPUs or links that do not make up `topology`.
    pub fn new(
        scenario: &Scenario,
        topology: Topology,
        convention: Convention,
        ranks: u32,
        at: SimTime,
    ) -> Result<Ways, WaysError> {
        if u64::from(ranks) > scenario.gpus() {
            return Err(WaysError::Gpus { ranks, gpus: scenario.gpus() });
        }
        let mut ways = match topology {
            Topology::Plain(plain) => Ways::plain(scenario, plain, ranks)?,
            Topology::Nodes => Ways::nodes(scenario, ranks, convention == Convention::Tideplan),
        };
        ways.rates = (0..ways.network.len() as u32)
            .map(|link| CapacitySource::at(ways.network.capacity(ResourceId(link)), at))
            .collect();
        Ok(ways)
    }

    fn plain(scenario: &Scenario, plain: Plain, ranks: u32) -> Result<Ways, WaysError> {
        if plain == Plain::Full && ranks > 4_096 {
            return Err(WaysError::Full(ranks));
        }
        let (nic, link) = (&scenario.groups[0].nic, &scenario.node_links[0][0]);
        let alike = scenario.groups.iter().all(|g| g.nic.same(nic))
            && scenario.node_links.iter().flatten().all(|l| l.latency() == link.latency());
        if !alike {
            return Err(WaysError::Unlike(plain));
        }
        let links = Links::new(plain, ranks);
        let (up, down) = halves(link.latency());
        let (mut network, mut latencies) = (NetworkBuilder::new(), Vec::new());
        for link_at in 0..links.links() {
            network.resource(nic.clone());
            latencies.push(match plain {
                Plain::Switch if link_at < ranks => up,
                Plain::Switch => down,
                Plain::Ring | Plain::Full => link.latency(),
            });
        }
        Ok(Ways { kind: Kind::Plain(links), network: network.build(), latencies, rates: Vec::new() })
    }

    fn nodes(scenario: &Scenario, ranks: u32, shared: bool) -> Ways {
        let fabric = Fabric::new(scenario);
        let mut network = NetworkBuilder::new();
        let ports = fabric.network.len() as u32;
        for link in 0..ports {
            network.resource(fabric.network.capacity(ResourceId(link)).clone());
        }
        let mut latencies = vec![SimDuration::ZERO; ports as usize];
        for (group, g) in scenario.groups.iter().enumerate() {
            let (out, inward) = halves(scenario.node_links[group][group].latency());
            for index in 0..g.nodes {
                let node = NodeId { group: group as u32, index };
                latencies[fabric.egress(node).0 as usize] = out;
                latencies[fabric.ingress(node).0 as usize] = inward;
            }
        }
        for (at, link) in scenario.zone_links.iter().enumerate() {
            latencies[fabric.zone(at, true).0 as usize] = link.latency;
            latencies[fabric.zone(at, false).0 as usize] = link.latency;
        }
        let devices = scenario
            .groups
            .iter()
            .zip(0..)
            .flat_map(|(g, group)| (0..g.gpus()).map(move |index| DeviceId { group, index }));
        let ranks: Vec<_> = devices.take(ranks as usize).map(|d| (d, scenario.node(d))).collect();
        for (device, _) in &ranks {
            let inside = &scenario.group(*device).inside;
            let outside = &scenario.node_links[device.group as usize][device.group as usize];
            let (out, inward) = halves(inside.latency());
            let none = SimDuration::ZERO;
            for (link, latency) in [(inside, out), (inside, inward), (outside, none), (outside, none)] {
                let port = Rate::from_bytes_per_s(link.best_rate(1)).unwrap_or(Rate::MAX);
                network.resource(CapacityProfile::constant(port));
                latencies.push(latency);
            }
        }
        let kind = Kind::Nodes { scenario: Box::new(scenario.clone()), fabric, ranks, ports, shared };
        Ways { kind, network: network.build(), latencies, rates: Vec::new() }
    }

    /// The links as resources.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }
}

impl Route for Ways {
    fn links(&self) -> u32 {
        self.network.len() as u32
    }

    fn link(&self, from: u32, to: u32, hop: u32) -> Option<u32> {
        let (scenario, fabric, ranks, ports, shared) = match &self.kind {
            Kind::Plain(links) => return links.link(from, to, hop),
            Kind::Nodes { scenario, fabric, ranks, ports, shared } => {
                (scenario, fabric, ranks, ports, *shared)
            }
        };
        let (a, b) = (ranks[from as usize].1, ranks[to as usize].1);
        if a == b {
            return match hop {
                0 => Some(ports + 4 * from),
                1 => Some(ports + 4 * to + 1),
                _ => None,
            };
        }
        let out = shared.then_some(ports + 4 * from + 2);
        let inward = shared.then_some(ports + 4 * to + 3);
        let (own, other) = (ranks[from as usize].0, ranks[to as usize].0);
        let crosses = scenario.pod(a) != scenario.pod(b);
        let uplinks = |device, up| {
            let leaf = if crosses { scenario.leaf(device) } else { None };
            leaf.map(|leaf| fabric.leaf(leaf, up).0)
        };
        let (from, to) = (&scenario.groups[a.group as usize].zone, &scenario.groups[b.group as usize].zone);
        let zone = if from == to { None } else { scenario.zone_link(from, to) };
        let zone = zone.map(|(at, link)| fabric.zone(at, link.zones.0 == *from).0);
        let (egress, ingress) = (Some(fabric.egress(a).0), Some(fabric.ingress(b).0));
        let way = [out, egress, uplinks(own, true), zone, uplinks(other, false), ingress, inward];
        way.into_iter().flatten().nth(hop as usize)
    }

    fn latency(&self, link: u32) -> Option<SimDuration> {
        Some(self.latencies[link as usize])
    }

    fn cap(&self, from: u32, to: u32, bytes: u64) -> Rate {
        let Kind::Nodes { scenario, ranks, .. } = &self.kind else { return Rate::MAX };
        let ((a, node_a), (b, node_b)) = (ranks[from as usize], ranks[to as usize]);
        let link = if node_a == node_b {
            &scenario.groups[a.group as usize].inside
        } else {
            &scenario.node_links[a.group as usize][b.group as usize]
        };
        Rate::from_bytes_per_s(link.transfer_rate(Bytes(bytes), 1)).unwrap_or(Rate::MAX)
    }

    fn orbit(&self, _link: u32, _symmetry: Symmetry) -> Option<u32> {
        None
    }
}

impl LinkTimes for Ways {
    fn times(&self, link: u32, bytes: u64) -> (SimDuration, SimDuration) {
        let at = link as usize;
        WholeNanoseconds::new(self.rates[at], self.latencies[at]).times(link, bytes)
    }

    fn alike(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        self.rates[a] == self.rates[b] && self.latencies[a] == self.latencies[b]
    }
}
