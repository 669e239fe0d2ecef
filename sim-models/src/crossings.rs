//! Which links the exchanges inside a stage's layers take to other nodes.
//!
//! ```text
//!   tensor    a ring over the nodes of each tensor-parallel group:       n0 -> n1 -> n0
//!   context   a ring over the devices of each context-parallel ring, of which the hops count that leave a node
//!   expert    from each device to each other of its experts' group that is on another node
//! ```
//!
//! Both ends of a hop are the rank's own, but for experts: the other devices there are of other ranks, which count their own
//! ends.

use crate::layer_times::Exchange;
use crate::layout::Rank;
use crate::scenario::{DeviceId, NodeId, Scenario};

/// What one exchange takes: so many times the bytes of a [`Sent`](crate::layer_times::Sent).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crossing {
    /// The exchange.
    pub exchange: Exchange,
    /// At each of the rank's nodes.
    pub ends: Vec<End>,
    /// Over links between zones: index into [`Scenario::zone_links`], whether from its first zone to its second, how often.
    pub zones: Vec<(usize, bool, u32)>,
}

/// How often a node's links are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Its NIC, out.
    pub sent: u32,
    /// Its NIC, in.
    pub received: u32,
    /// The uplinks of its leaf, up.
    pub up: u32,
    /// The same, down.
    pub down: u32,
}

/// Takes hops one by one.
struct Counter<'a> {
    scenario: &'a Scenario,
    nodes: &'a [NodeId],
    crossing: Crossing,
}

impl Counter<'_> {
    fn slot(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|n| *n == node)
    }

    fn leaves_pod(&self, from: NodeId, to: NodeId) -> u32 {
        u32::from(self.scenario.pod(from) != self.scenario.pod(to))
    }

    /// Both ends are the rank's.
    fn hop(&mut self, from: NodeId, to: NodeId) {
        let out = self.leaves_pod(from, to);
        if let Some(slot) = self.slot(from) {
            self.crossing.ends[slot].sent += 1;
            self.crossing.ends[slot].up += out;
        }
        if let Some(slot) = self.slot(to) {
            self.crossing.ends[slot].received += 1;
            self.crossing.ends[slot].down += out;
        }
    }

    /// To and from a device of another rank, whose end is its own.
    fn pair(&mut self, own: NodeId, other: NodeId) {
        let out = self.leaves_pod(own, other);
        let Some(slot) = self.slot(own) else { return };
        let end = &mut self.crossing.ends[slot];
        end.sent += 1;
        end.received += 1;
        end.up += out;
        end.down += out;
        let zone = |n: NodeId| &self.scenario.groups[n.group as usize].zone;
        let (from, to) = (zone(own), zone(other));
        if from == to {
            return;
        }
        let Some((link, between)) = self.scenario.zone_link(from, to) else { return };
        let forward = between.zones.0 == *from;
        match self.crossing.zones.iter_mut().find(|z| (z.0, z.1) == (link, forward)) {
            Some(known) => known.2 += 1,
            None => self.crossing.zones.push((link, forward, 1)),
        }
    }
}

/// The crossings of a rank whose layers send something; `stage` are the devices of its stage's replicas, of which its own begin
/// at `first`.
pub(crate) fn of(scenario: &Scenario, rank: &Rank, stage: &[DeviceId], first: usize) -> Vec<Crossing> {
    let sent = rank.layers.chunks().iter().map(|r| rank.times.sent(*r));
    let sent = sent.fold(Default::default(), crate::layer_times::LayerSent::plus);
    let (tp, own) = (rank.tp as usize, &rank.devices);
    let node = |d: &DeviceId| scenario.node(*d);
    let mut list = Vec::new();
    for (i, exchange) in Exchange::ALL.into_iter().enumerate() {
        let bytes = [sent.forward, sent.backward].map(|pass| pass.sent[i].time);
        if bytes.iter().all(|time| time.as_ps() == 0) {
            continue;
        }
        let ends = vec![End::default(); rank.nodes.len()];
        let crossing = Crossing { exchange, ends, zones: Vec::new() };
        let mut counter = Counter { scenario, nodes: &rank.nodes, crossing };
        match exchange {
            Exchange::Tensor => {
                for group in own.chunks(tp) {
                    let nodes = crate::layout::nodes_of(scenario, group);
                    let next = nodes.iter().cycle().skip(1);
                    nodes.iter().zip(next).filter(|(a, b)| a != b).for_each(|(a, b)| counter.hop(*a, *b));
                }
            }
            Exchange::Context => {
                for ring in 0..tp {
                    let devices = own.iter().skip(ring).step_by(tp).map(node);
                    let next = devices.clone().cycle().skip(1);
                    devices.zip(next).filter(|(a, b)| a != b).for_each(|(a, b)| counter.hop(a, b));
                }
            }
            Exchange::Expert => {
                let ep = rank.ep as usize;
                for (at, device) in (first..).zip(own) {
                    let from = at / ep * ep;
                    let group = stage.iter().skip(from).take(ep).map(node);
                    group.filter(|n| *n != node(device)).for_each(|n| counter.pair(node(device), n));
                }
            }
        }
        counter.crossing.zones.sort_unstable();
        list.push(counter.crossing);
    }
    list
}
