//! What goes over the uplinks of leaf switches.
//!
//! ```text
//!            spines
//!          //      \\        uplinks: one resource up and one down for each leaf
//!       leaf 0    leaf 1
//!       /  \      /  \       a transfer to a node below the same leaf does not touch them
//!      n0  n1    n2  n3
//! ```
//!
//! Where a pod of nodes has a leaf for each rail, a node's traffic is spread over the rails of the GPUs that make it; between
//! rails it goes inside the nodes, so that it leaves the pod by its own rail's leaf or not at all.

use crate::layout::{Layout, Rank};
use crate::scenario::{DeviceId, NodeId, Scenario};
use std::collections::BTreeMap;

/// How devices of one node reach the rest of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplinks {
    /// The pod of leaves that the node is in: its first leaf, an index into [`Scenario::leaves`].
    pub pod: u32,
    /// The leaves that the devices send through, each with its parts of the traffic.
    pub leaves: Vec<(u32, u32)>,
}

impl Uplinks {
    /// Parts of the traffic, all leaves together.
    pub fn parts(&self) -> u32 {
        self.leaves.iter().map(|l| l.1).sum::<u32>().max(1)
    }

    /// Of devices, node by node in the order of `nodes`; nothing where the scenario has no leaves.
    pub(crate) fn of(scenario: &Scenario, devices: &[DeviceId], nodes: &[NodeId]) -> Vec<Option<Uplinks>> {
        if scenario.leaves.is_empty() {
            return Vec::new();
        }
        let mut list: Vec<Option<Uplinks>> = vec![None; nodes.len()];
        for device in devices {
            let node = scenario.node(*device);
            let slot = nodes.iter().position(|n| *n == node).unwrap_or(0);
            let (Some(leaf), Some(pod)) = (scenario.leaf(*device), scenario.pod(node)) else { continue };
            let uplinks = list[slot].get_or_insert_with(|| Uplinks { pod, leaves: Vec::new() });
            match uplinks.leaves.iter_mut().find(|l| l.0 == leaf) {
                Some((_, parts)) => *parts += 1,
                None => uplinks.leaves.push((leaf, 1)),
            }
        }
        // One leaf takes it all, however many devices there are.
        for uplinks in list.iter_mut().flatten() {
            if let [(_, parts)] = uplinks.leaves.as_mut_slice() {
                *parts = 1;
            }
        }
        list
    }
}

/// Parts into which the traffic of ranks is cut, so that each of their leaves carries whole ones.
pub(crate) fn parts<'a>(ranks: impl Iterator<Item = &'a Rank>) -> u32 {
    ranks.flat_map(|r| r.uplinks.iter().flatten()).fold(1, |all, uplinks| lcm(all, uplinks.parts()))
}

pub(crate) fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

/// Whether what goes from one of a rank's nodes to one of another's leaves the pod.
pub(crate) fn crosses((a, slot_a): (&Rank, usize), (b, slot_b): (&Rank, usize)) -> bool {
    let pod = |rank: &Rank, slot: usize| rank.uplinks.get(slot).and_then(|u| u.as_ref()).map(|u| u.pod);
    pod(a, slot_a) != pod(b, slot_b)
}

/// Where a ring stops: a rank, or a part of one whose copies are on several nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop<'a> {
    pub(crate) rank: &'a Rank,
    /// The first of its nodes, an index into those of the rank.
    pub(crate) first: usize,
    pub(crate) nodes: &'a [NodeId],
}

/// The stops of a ring over ranks, in order.
pub(crate) fn stops<'a>(layout: &'a Layout, ranks: &[usize]) -> Vec<Stop<'a>> {
    let mut stops = Vec::with_capacity(ranks.len());
    for rank in ranks.iter().map(|r| &layout.ranks[*r]) {
        let each = rank.spread() as usize;
        let of = |(i, nodes)| Stop { rank, first: i * each, nodes };
        stops.extend(rank.nodes.chunks(each).enumerate().map(of));
    }
    stops
}

/// The hops of a ring that leave a node: from one stop to the next.
pub(crate) fn hops<'s, 'a>(stops: &'s [Stop<'a>]) -> impl Iterator<Item = (&'s Stop<'a>, &'s Stop<'a>)> {
    let next = stops.iter().cycle().skip(1);
    stops.iter().zip(next).filter(|(from, to)| from.nodes != to.nodes)
}

/// Calls `f` with each node of a hop whose traffic leaves its pod: a rank, which of its nodes, and whether it goes up or down.
pub(crate) fn of_hop<'a>(from: &Stop<'a>, to: &Stop<'a>, mut f: impl FnMut(&'a Rank, usize, bool)) {
    let place =
        |stop: &Stop<'a>, i: usize, of: usize| (stop.rank, stop.first + i * stop.nodes.len() / of.max(1));
    for (one, other, up) in [(from, to, true), (to, from, false)] {
        for i in 0..one.nodes.len() {
            let own = place(one, i, one.nodes.len());
            if crosses(own, place(other, i, one.nodes.len())) {
                f(own.0, own.1, up);
            }
        }
    }
}

/// What the rings of a layout put on a leaf's uplinks: by synchronisation group, up or down, parts.
pub(crate) type Footprint = BTreeMap<(u32, bool), u32>;

/// The footprint of all rings on each leaf.
pub(crate) fn footprints(layout: &Layout) -> BTreeMap<u32, Footprint> {
    let mut found: BTreeMap<u32, Footprint> = BTreeMap::new();
    for (group, sync) in (0..).zip(&layout.syncs) {
        let stops = stops(layout, &sync.ranks);
        let all = parts(stops.iter().map(|s| s.rank));
        for (from, to) in hops(&stops) {
            of_hop(from, to, |rank, slot, up| {
                for (leaf, weight) in weights(rank, slot, all) {
                    *found.entry(leaf).or_default().entry((group, up)).or_default() += weight;
                }
            });
        }
    }
    found
}

/// The leaves of one of a rank's nodes, each with its share of `all` parts.
pub(crate) fn weights(rank: &Rank, slot: usize, all: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
    let uplinks = rank.uplinks.get(slot).and_then(|u| u.as_ref());
    uplinks
        .into_iter()
        .flat_map(move |u| u.leaves.iter().map(move |(leaf, own)| (*leaf, all / u.parts() * own)))
}
