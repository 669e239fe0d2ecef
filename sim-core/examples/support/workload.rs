//! The published workload of dslab's network benchmark: every host sends to every other over shared links.
//!
//! Links carry 1 GB/s (1,000 MB/s) in both directions together, with 0.1 ms of latency each; sizes are uniform in 1 to
//! 1,000 MB, starts uniform in 0 to 10 s. The tree has 8 stars; the fat tree 8 lower and 4 upper switches.

use sim_core::{
    CapacityProfile, GraphBuilder, Network, NetworkBuilder, Rate, ResourceId, SimDuration, SimTime,
    TaskGraph, Transfer,
};

use super::Random;

const LINK_BYTES_PER_S: f64 = 1e9;
const LATENCY_PS: u64 = 100_000_000;

/// A topology by the name of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    Star,
    Mesh,
    Tree,
    FatTree,
}

impl std::str::FromStr for Topology {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "star" => Ok(Self::Star),
            "mesh" => Ok(Self::Mesh),
            "tree" => Ok(Self::Tree),
            "fat-tree" => Ok(Self::FatTree),
            _ => Err(()),
        }
    }
}

const STARS: usize = 8;
const UPPER: usize = 4;

struct Fabric {
    net: NetworkBuilder,
    hosts: usize,
    topology: Topology,
}

impl Fabric {
    fn new(topology: Topology, hosts: usize) -> Self {
        let mut net = NetworkBuilder::new();
        let mut links = |count: usize, share: f64| {
            for _ in 0..count {
                let rate = Rate::from_bytes_per_s(LINK_BYTES_PER_S * share).expect("a rate");
                net.resource(CapacityProfile::constant(rate));
            }
        };
        let a_star = (hosts / STARS).max(1) as f64;
        match topology {
            Topology::Star => links(hosts, 1.0),
            Topology::Mesh => links(hosts * (hosts - 1) / 2, 1.0),
            Topology::Tree => {
                links(hosts, 1.0);
                links(STARS, a_star);
            }
            Topology::FatTree => {
                links(hosts, 1.0);
                links(STARS * UPPER, a_star / UPPER as f64);
            }
        }
        Self { net, hosts, topology }
    }

    fn path(&self, from: usize, to: usize) -> Vec<(ResourceId, u32)> {
        let link = |i: usize| (ResourceId(i as u32), 1);
        let star = |host: usize| host * STARS / self.hosts;
        match self.topology {
            Topology::Star => vec![link(from), link(to)],
            Topology::Mesh => {
                let (a, b) = (from.max(to), from.min(to));
                vec![link(a * (a - 1) / 2 + b)]
            }
            _ if star(from) == star(to) => vec![link(from), link(to)],
            Topology::Tree => {
                vec![link(from), link(self.hosts + star(from)), link(self.hosts + star(to)), link(to)]
            }
            Topology::FatTree => {
                let upper = (from + to) % UPPER;
                let up = |host: usize| link(self.hosts + star(host) * UPPER + upper);
                vec![link(from), up(from), up(to), link(to)]
            }
        }
    }
}

/// The network, and the graph of all transfers.
pub fn all_to_all(topology: Topology, hosts: usize, seed: u64) -> (Network, TaskGraph) {
    let fabric = Fabric::new(topology, hosts);
    let mut random = Random::new(seed);
    let mut graph = GraphBuilder::new();
    for from in 0..hosts {
        for to in (0..hosts).filter(|&to| to != from) {
            let bytes = 1_000_000 + random.below(999_000_001);
            let start = random.below(10_000_000_000_001);
            let uses = fabric.path(from, to);
            let latency = SimDuration::from_ps(LATENCY_PS * uses.len() as u64);
            let wait = graph.delay(SimDuration::from_ps(start), &[], &[]);
            graph.transfer(Transfer { bytes, latency, cap: Rate::MAX, uses: &uses }, &[], &[wait]);
        }
    }
    (fabric.net.build(), graph.build().expect("a graph"))
}

/// Transfers that share nothing: each on a resource of its own, with one capacity change under way; starts uniform in 0 to
/// 1 ms.
pub fn disjoint(flows: usize, seed: u64) -> (Network, TaskGraph) {
    let mut random = Random::new(seed);
    let mut net = NetworkBuilder::new();
    let mut graph = GraphBuilder::new();
    let rate = |bytes_per_s| Rate::from_bytes_per_s(bytes_per_s).expect("a rate");
    for _ in 0..flows {
        let start = random.below(1_000_000_000);
        let change = SimTime::from_ps(start + 200_000_000 + random.below(100_000_000));
        let profile = CapacityProfile::steps(rate(1e9), vec![(change, rate(2e9))]).expect("a profile");
        let link = net.resource(profile);
        let wait = graph.delay(SimDuration::from_ps(start), &[], &[]);
        let bytes = 500_000 + random.below(500_000);
        let uses = [(link, 1)];
        graph.transfer(
            Transfer { bytes, latency: SimDuration::ZERO, cap: Rate::MAX, uses: &uses },
            &[],
            &[wait],
        );
    }
    (net.build(), graph.build().expect("a graph"))
}
