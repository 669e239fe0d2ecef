//! What a transfer uses: the way of an activation from one stage to another, and of a collective over many.

use super::Fabric;
use crate::collective::CollectiveKind;
use crate::fold::{Class, Folding};
use crate::layout::{Layout, Rank};
use crate::link::LinkModel;
use crate::plan::Plan;
use crate::scenario::{NodeId, Scenario};
use crate::units::Bytes;
use crate::uplinks::{self, Stop, lcm};
use sim_core::{Rate, ResourceId, SimDuration, Transfer};

/// One activity of the network: bytes over resources at once, after a latency, no faster than a cap.
#[derive(Debug)]
pub(super) struct Route {
    uses: Vec<(ResourceId, u32)>,
    latency: SimDuration,
    /// Highest rate of this one transfer, bytes/s.
    cap: f64,
    bytes: Bytes,
    /// Into how many such parts its bytes are cut, each of which uses everything with its weight.
    parts: u32,
}

impl Route {
    pub(super) fn transfer(&self) -> Transfer<'_> {
        let cap = Rate::from_bytes_per_s(self.cap).unwrap_or(Rate::MAX);
        Transfer { bytes: self.bytes.0, latency: self.latency, cap, uses: &self.uses }
    }

    /// How long it takes with nothing else on its links, s.
    pub(super) fn alone_s(&self) -> f64 {
        self.latency.as_secs_f64() + self.bytes.0 as f64 / self.cap
    }

    /// Bytes of the activity, all parts.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.times(self.parts.into())
    }
}

/// What a collective over replicas does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncKind {
    /// Sum of gradients, to all.
    AllReduce,
    /// Sum of gradients, a part to each.
    ReduceScatter,
    /// Parts of gradients or parameters, to all.
    AllGather,
}

impl std::fmt::Display for SyncKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SyncKind::AllReduce => "all-reduce",
            SyncKind::ReduceScatter => "reduce-scatter",
            SyncKind::AllGather => "all-gather",
        })
    }
}

impl SyncKind {
    fn collective(self) -> CollectiveKind {
        match self {
            SyncKind::AllReduce => CollectiveKind::AllReduce,
            SyncKind::ReduceScatter => CollectiveKind::ReduceScatter,
            SyncKind::AllGather => CollectiveKind::AllGather,
        }
    }

    /// Times that a ring goes around: its steps are so many times one less than its members.
    fn rounds(self) -> u64 {
        match self {
            SyncKind::AllReduce => 2,
            SyncKind::ReduceScatter | SyncKind::AllGather => 1,
        }
    }
}

/// Who takes part in a collective, and with what.
pub(super) struct Ring<'a> {
    pub(super) kind: SyncKind,
    /// Ranks in order: neighbours exchange.
    pub(super) ranks: &'a [usize],
    /// Devices around the ring: more than ranks where a rank has several with the same parameters.
    pub(super) members: u64,
    /// Such rings side by side through each node: 1 where the parts of a rank's devices together are `whole`.
    pub(super) side_by_side: u32,
    /// Bytes that are reduced or gathered: of a rank's tensor-parallel devices together, or of one where rings are side by side.
    pub(super) whole: Bytes,
    /// A ring inside a pipeline stands for those of its whole class.
    pub(super) of: Option<&'a Class>,
}

/// What routes are found in.
pub(super) struct Context<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) fabric: &'a Fabric,
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) folding: &'a Folding,
}

fn least(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

impl Context<'_> {
    pub(super) fn rank(&self, index: usize) -> &Rank {
        &self.layout.ranks[index]
    }

    /// The model of the link between two ranks.
    fn link(&self, a: &Rank, b: &Rank, near: bool) -> &LinkModel {
        if near {
            &self.scenario.groups[a.node().group as usize].inside
        } else {
            &self.scenario.node_links[a.node().group as usize][b.node().group as usize]
        }
    }

    /// The zone link between two nodes: its resource in this direction, and its latency.
    fn zone(&self, a: NodeId, b: NodeId) -> Option<(ResourceId, SimDuration)> {
        let (from, to) =
            (&self.scenario.groups[a.group as usize].zone, &self.scenario.groups[b.group as usize].zone);
        if from == to {
            return None;
        }
        let (i, link) = self.scenario.zone_link(from, to)?;
        Some((self.fabric.zone(i, link.zones.0 == *from), link.latency))
    }

    /// A boundary transfer: the activation is cut over the devices of the narrower side (as Megatron-LM's scatter-gather and
    /// DeepSpeed's partitioned activations do), so its bytes cross the NICs once, spread over a rank's nodes.
    pub(super) fn boundary(&self, class: &Class, from: usize, to: usize, bytes: Bytes) -> Route {
        let (a, b) = (self.rank(from), self.rank(to));
        let link = self.link(a, b, a.nodes == b.nodes);
        let streams = (a.tp * a.cp).min(b.tp * b.cp);
        let overheads = &self.scenario.training.overheads;
        let waits = if a.nodes == b.nodes { 0.0 } else { overheads.message_s };
        let overhead = SimDuration::from_secs_f64(overheads.transfer_s + waits);
        let latency = link.latency().saturating_add(overhead.unwrap_or(SimDuration::ZERO));
        let cap = link.transfer_rate(bytes, streams);
        let mut route = Route { uses: Vec::new(), latency, cap, bytes, parts: 1 };
        if a.nodes != b.nodes {
            for rank in [a, b] {
                route.cap = least(route.cap, self.cards(rank, streams) * rank.nodes.len() as f64);
            }
            // So many parts that every node of either side has a whole number of them, and every leaf.
            let of_nodes = lcm(a.nodes.len() as u32, b.nodes.len() as u32);
            let of_leaves = uplinks::parts([a, b].into_iter());
            let parts = of_nodes * of_leaves;
            route.bytes = bytes.share(parts);
            route.cap /= f64::from(parts);
            let ends = [(a, true), (b, false)];
            for (rank, out) in ends {
                let each = parts / rank.nodes.len() as u32;
                for (slot, node) in rank.nodes.iter().enumerate() {
                    let node = self.folding.canonical(*node);
                    let nic = if out { self.fabric.egress(node) } else { self.fabric.ingress(node) };
                    route.uses.push((nic, class.shares[rank.stage as usize][slot] * each));
                }
            }
            if self.fabric.has_leaves() {
                self.leaves_between(class, (a, b), (of_nodes, of_leaves), &mut route);
            }
            if let Some((zone, latency)) = self.zone(a.node(), b.node()) {
                route.uses.push((zone, class.count * parts));
                route.latency = route.latency.saturating_add(latency);
            }
        }
        route
    }

    /// The uplinks of a boundary transfer: of each of its parts that leaves a pod.
    fn leaves_between(
        &self,
        class: &Class,
        (a, b): (&Rank, &Rank),
        (of_nodes, of_leaves): (u32, u32),
        route: &mut Route,
    ) {
        let slot = |rank: &Rank, part: u32| (part / (of_nodes / rank.nodes.len() as u32)) as usize;
        for part in 0..of_nodes {
            let ends = [(a, slot(a, part), true), (b, slot(b, part), false)];
            if !uplinks::crosses((a, ends[0].1), (b, ends[1].1)) {
                continue;
            }
            for (rank, slot, up) in ends {
                self.up_or_down(class, rank, slot, (up, of_leaves), route);
            }
        }
    }

    /// The uplinks of one node of a rank of a class.
    fn up_or_down(
        &self,
        class: &Class,
        rank: &Rank,
        slot: usize,
        (up, parts): (bool, u32),
        route: &mut Route,
    ) {
        for (k, (leaf, weight)) in uplinks::weights(rank, slot, parts).enumerate() {
            let shares = class.leaf_shares(rank.stage, slot, k);
            let leaf = self.fabric.leaf(self.folding.canonical_leaf(leaf), up);
            route.uses.push((leaf, weight.saturating_mul(shares)));
        }
    }

    /// A ring over ranks in their order: every hop carries (n - 1) / n of the bytes each time around, so the ring goes at the
    /// pace of its slowest hop of the moment, and every step pays the longest latency. A ring over all pipelines is one
    /// activity.
    pub(super) fn ring(&self, ring: &Ring<'_>) -> Route {
        let n = ring.members.max(1);
        let rounds = ring.kind.rounds();
        // Where tensor-parallel groups spread over several nodes, each node carries its part.
        let spread = ring.ranks.iter().map(|r| self.rank(*r).spread()).min().unwrap_or(1);
        let whole = u128::from(ring.whole.share(spread).0);
        let sent = whole * u128::from(rounds) * u128::from(n - 1) / u128::from(n);
        let bytes = Bytes(u64::try_from(sent).unwrap_or(u64::MAX));
        let chunk = Bytes((ring.whole.0 / n).max(1));
        let stops = uplinks::stops(self.layout, ring.ranks);
        // Parts that every leaf has a whole number of.
        let parts = uplinks::parts(stops.iter().map(|s| s.rank));
        let bytes = bytes.share(parts);
        let mut route =
            Route { uses: Vec::new(), latency: SimDuration::ZERO, cap: f64::INFINITY, bytes, parts };
        let mut longest = SimDuration::ZERO;
        for (i, from) in stops.iter().enumerate() {
            let to = &stops[(i + 1) % stops.len()];
            let near = from.nodes == to.nodes;
            let link = self.link(from.rank, to.rank, near);
            let rate = link.transfer_rate(chunk, from.rank.tp.min(to.rank.tp)) / f64::from(spread);
            route.cap = if rate < route.cap { rate } else { route.cap };
            let mut latency = link.latency();
            if !near {
                for (stop, out) in [(from, true), (to, false)] {
                    for node in stop.nodes {
                        if let Some((node, weight)) = self.place(ring, stop.rank, *node) {
                            let nic = if out { self.fabric.egress(node) } else { self.fabric.ingress(node) };
                            route.uses.push((nic, weight.saturating_mul(parts)));
                        }
                    }
                }
                if self.fabric.has_leaves() {
                    uplinks::of_hop(from, to, |rank, slot, up| match ring.of {
                        Some(class) => self.up_or_down(class, rank, slot, (up, parts), &mut route),
                        None => {
                            let own = |(leaf, _): &(u32, u32)| self.folding.canonical_leaf(*leaf) == *leaf;
                            for (leaf, weight) in uplinks::weights(rank, slot, parts).filter(own) {
                                let weight = weight.saturating_mul(ring.side_by_side);
                                route.uses.push((self.fabric.leaf(leaf, up), weight));
                            }
                        }
                    });
                }
                if let Some((zone, zone_latency)) = self.zone(from.nodes[0], to.nodes[0]) {
                    let rings = ring.of.map_or(ring.side_by_side, |class| class.count);
                    route.uses.push((zone, rings.saturating_mul(spread).saturating_mul(parts)));
                    latency = latency.saturating_add(zone_latency);
                }
            }
            longest = longest.max(latency);
        }
        route.latency = SimDuration::from_ps(longest.as_ps().saturating_mul(rounds * (n - 1)));
        if let Some((latency_s, rate)) = self.as_nccl_does(ring, &stops) {
            route.cap = least(route.cap, rate / f64::from(spread));
            let latency = SimDuration::from_secs_f64(latency_s).unwrap_or(SimDuration::ZERO);
            route.latency = route.latency.max(latency);
        }
        route.cap /= f64::from(parts);
        route
    }

    /// NCCL's latency, and what it leaves of the cards' rate where a ring crosses alike nodes: headers, collisions, a protocol's
    /// flags. Each tensor-parallel rank has a ring of its own, over its own cards.
    fn as_nccl_does(&self, ring: &Ring<'_>, stops: &[Stop<'_>]) -> Option<(f64, f64)> {
        let Stop { rank: first, nodes: home, .. } = stops.first()?;
        let alike = |s: &Stop<'_>| s.rank.tp == first.tp && s.nodes[0].group == home[0].group;
        let mut nodes = stops.iter().map(|s| s.nodes[0]).collect::<Vec<_>>();
        nodes.dedup();
        if nodes.len() < 2 || !stops.iter().all(alike) {
            return None;
        }
        let g = home[0].group;
        self.scenario.groups[g as usize].nics?;
        let (link, side) = (&self.scenario.node_links[g as usize][g as usize], first.tp * ring.side_by_side);
        let ranks = u32::try_from(ring.members).ok()?;
        let on_node = ranks.div_ceil(nodes.len() as u32).saturating_mul(side).max(1);
        let nic = self.cards(first, on_node) / f64::from(side);
        let bytes = ring.whole.share(first.tp);
        let kind = ring.kind.collective();
        let (latency_s, rate) =
            self.fabric.ring_pace(g, kind, bytes, (ranks, nodes.len() as u32), (link, nic))?;
        Some((latency_s, rate * f64::from(first.tp)))
    }

    /// What so many of a rank's devices on one node can send together, bytes/s: each uses the cards next to it.
    fn cards(&self, rank: &Rank, devices: u32) -> f64 {
        let group = &self.scenario.groups[rank.node().group as usize];
        let all = group.nics.unwrap_or(1).max(1);
        let each = all.div_ceil(group.gpus_per_node).max(1);
        let used = devices.saturating_mul(each).clamp(1, all);
        group.nic.highest().as_bytes_per_s() * f64::from(used) / f64::from(all)
    }

    /// The node whose NIC a hop uses, and how often; none where another node stands for it.
    fn place(&self, ring: &Ring<'_>, rank: &Rank, node: NodeId) -> Option<(NodeId, u32)> {
        let canonical = self.folding.canonical(node);
        match ring.of {
            Some(class) => {
                let slot = rank.nodes.iter().position(|n| *n == node).unwrap_or(0);
                Some((canonical, class.shares[rank.stage as usize][slot]))
            }
            None => (canonical == node).then_some((canonical, ring.side_by_side)),
        }
    }
}
