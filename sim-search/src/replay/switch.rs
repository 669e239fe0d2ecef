//! What a switch moves: the state that a device needs and does not hold, from whoever holds it, over the real links.
//!
//! State is what memory counts as parameters and optimizer. A layer split over TP ranks is an interval; what of a device's
//! new interval lies in its old one stays. The rest comes from a holder: on the same node at no cost, else in the same
//! zone, else over the WAN, holders taking turns. What nobody that is there holds comes from the last checkpoint.

use super::plans::Line;
use sim_core::{GraphBuilder, Rate, ResourceId, SimDuration, TaskGraph, Transfer};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::memory;
use sim_models::plan::Plan;
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use std::collections::BTreeMap;

/// Bytes between nodes. Without a source they come from where checkpoints are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    pub(crate) between: BTreeMap<(NodeId, NodeId), u64>,
    pub(crate) restored: BTreeMap<NodeId, u64>,
}

impl Moves {
    pub(crate) fn bytes(&self) -> u64 {
        self.between.values().chain(self.restored.values()).sum()
    }
}

/// What one device holds of one layer: `[from, to)` in [`WHOLE`]ths.
type Slice = (u64, u64);

/// A number that every usual TP divides.
const WHOLE: u64 = 720_720;

fn slice(position: usize, tp: u32) -> Slice {
    let (i, tp) = (position as u64 % u64::from(tp.max(1)), u64::from(tp.max(1)));
    (WHOLE * i / tp, WHOLE * (i + 1) / tp)
}

/// Bytes of state of each layer on one device of a rank, in the order of its layers.
fn layer_bytes(
    scenario: &Scenario,
    plan: &Plan,
    layout: &Layout,
    rank: &sim_models::layout::Rank,
) -> Vec<(u32, u64)> {
    let memory = memory::of_rank(scenario, plan, layout, rank);
    let state = u128::from(memory.parameters.0) + u128::from(memory.optimizer.0);
    let weights: Vec<(u32, u128)> =
        rank.layers.iter().map(|l| (l, u128::from(scenario.model.parameters(l, rank.tp)))).collect();
    let all = weights.iter().map(|w| w.1).sum::<u128>().max(1);
    weights.into_iter().map(|(l, w)| (l, (state * w / all) as u64)).collect()
}

/// What must move for `new` to run where `old` ran, which lost `down`. `old` of `None`: everything comes from a checkpoint.
pub(crate) fn moves(
    scenario: &Scenario,
    old: Option<&(Plan, Layout)>,
    (plan, layout): &(Plan, Layout),
    down: &[NodeId],
) -> Moves {
    let mut held: BTreeMap<(DeviceId, u32), Slice> = BTreeMap::new();
    let mut holders: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    for rank in old.iter().flat_map(|(_, layout)| &layout.ranks) {
        for (position, device) in rank.devices.iter().enumerate() {
            let node = scenario.node(*device);
            if down.contains(&node) {
                continue;
            }
            for layer in rank.layers.iter() {
                held.insert((*device, layer), slice(position, rank.tp));
                let list = holders.entry(layer).or_default();
                if !list.contains(&node) {
                    list.push(node);
                }
            }
        }
    }
    let mut moves = Moves::default();
    let mut turn = 0usize;
    for rank in &layout.ranks {
        let bytes = layer_bytes(scenario, plan, layout, rank);
        for (position, device) in rank.devices.iter().enumerate() {
            let node = scenario.node(*device);
            let zone = &scenario.groups[node.group as usize].zone;
            let (from, to) = slice(position, rank.tp);
            for &(layer, size) in &bytes {
                let kept =
                    held.get(&(*device, layer)).map_or(0, |h| to.min(h.1).saturating_sub(from.max(h.0)));
                let lacks = (to - from).saturating_sub(kept);
                let need =
                    (u128::from(size) * u128::from(lacks)).div_ceil(u128::from((to - from).max(1))) as u64;
                if need == 0 {
                    continue;
                }
                let Some(list) = holders.get(&layer) else {
                    *moves.restored.entry(node).or_default() += need;
                    continue;
                };
                if list.contains(&node) {
                    continue;
                }
                let near: Vec<NodeId> = list
                    .iter()
                    .filter(|n| scenario.groups[n.group as usize].zone == *zone)
                    .copied()
                    .collect();
                let from = if near.is_empty() { list } else { &near };
                *moves.between.entry((from[turn % from.len()], node)).or_default() += need;
                turn += 1;
            }
        }
    }
    moves
}

/// What must move for the pipelines `back` of a plan to join those that are not in `out`: the whole state of each of their
/// stages, from the same stage of a pipeline of their group, pipelines taking turns. `None` when a group has none left.
pub(crate) fn rejoining(lines: &[Line], back: &[u32], out: &[u32]) -> Option<Moves> {
    let mut moves = Moves::default();
    for (turn, p) in back.iter().enumerate() {
        let line = &lines[*p as usize];
        let whole = (0..)
            .zip(lines)
            .filter(|(i, l)| l.group == line.group && !back.contains(i) && out.binary_search(i).is_err());
        let whole: Vec<&Line> = whole.map(|(_, l)| l).collect();
        let from = whole.get(turn % whole.len().max(1))?;
        for (stage, source) in line.stages.iter().zip(&from.stages) {
            for (i, (node, bytes)) in stage.iter().enumerate() {
                let source = source[i % source.len()].0;
                if source != *node {
                    *moves.between.entry((source, *node)).or_default() += bytes;
                }
            }
        }
    }
    Some(moves)
}

/// What a checkpoint writes: one copy of every layer, by the first that holds it.
pub(crate) fn checkpoint(scenario: &Scenario, (plan, layout): &(Plan, Layout)) -> BTreeMap<NodeId, u64> {
    let mut written: BTreeMap<u32, usize> = BTreeMap::new();
    let mut bytes: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (r, rank) in layout.ranks.iter().enumerate() {
        let sizes = layer_bytes(scenario, plan, layout, rank);
        for (layer, size) in sizes {
            if *written.entry(layer).or_insert(r) == r {
                for device in &rank.devices {
                    *bytes.entry(scenario.node(*device)).or_default() += size;
                }
            }
        }
    }
    bytes
}

/// The shared link between two zones in one direction, and its latency.
fn zone(scenario: &Scenario, fabric: &Fabric, from: &str, to: &str) -> Option<(ResourceId, SimDuration)> {
    if from == to {
        return None;
    }
    let (i, link) = scenario.zone_link(from, to)?;
    Some((fabric.zone(i, link.zones.0 == *from), link.latency))
}

/// Something that moves, and what it uses.
struct Way {
    uses: Vec<(ResourceId, u32)>,
    latency: SimDuration,
    cap: Rate,
}

impl Way {
    fn new(latency: SimDuration, cap: Rate) -> Way {
        Way { uses: Vec::new(), latency, cap }
    }

    /// Adds a link between two zones, where there is one.
    fn zone(&mut self, found: Option<(ResourceId, SimDuration)>) {
        if let Some((resource, wait)) = found {
            self.uses.push((resource, 1));
            self.latency = self.latency.saturating_add(wait);
        }
    }

    /// As a task. `ends` are nodes with whether it goes up from them or down to them; where it leaves their pod it is spread
    /// over all its leaves: so many parts that each leaf carries whole ones.
    fn add(
        self,
        builder: &mut GraphBuilder,
        scenario: &Scenario,
        fabric: &Fabric,
        bytes: u64,
        ends: &[(NodeId, bool)],
    ) {
        let leaves = |node: NodeId| scenario.groups[node.group as usize].leaves;
        let pods: Vec<Option<u32>> = ends.iter().map(|(node, _)| scenario.pod(*node)).collect();
        let crosses = pods.len() < 2 || pods[0] != pods[1];
        let of = |node: NodeId| if crosses { leaves(node).map_or(1, |l| l.rails) } else { 1 };
        let parts = ends.iter().fold(1u32, |all, (node, _)| all.saturating_mul(of(*node)));
        let mut uses: Vec<(ResourceId, u32)> = self.uses.iter().map(|(r, w)| (*r, w * parts)).collect();
        for ((node, up), pod) in ends.iter().zip(&pods) {
            let Some(pod) = pod.filter(|_| crosses) else { continue };
            uses.extend((pod..pod + of(*node)).map(|leaf| (fabric.leaf(leaf, *up), parts / of(*node))));
        }
        let cap =
            if self.cap == Rate::MAX { self.cap } else { Rate::from_raw(self.cap.raw() / u64::from(parts)) };
        let bytes = bytes.div_ceil(u64::from(parts));
        builder.transfer(Transfer { bytes, latency: self.latency, cap, uses: &uses }, &[], &[]);
    }
}

/// The moves as transfers, all at once.
pub(crate) fn graph(scenario: &Scenario, fabric: &Fabric, moves: &Moves) -> TaskGraph {
    let mut builder = GraphBuilder::new();
    let storage = scenario.replay.options.checkpoint_zone.as_deref();
    let zone_of = |node: &NodeId| scenario.groups[node.group as usize].zone.as_str();
    for ((from, to), bytes) in &moves.between {
        let link = &scenario.node_links[from.group as usize][to.group as usize];
        let streams = scenario.groups[from.group as usize].gpus_per_node;
        let cap = Rate::from_bytes_per_s(link.best_rate(streams)).unwrap_or(Rate::MAX);
        let mut way = Way::new(link.latency(), cap);
        way.uses.extend([(fabric.egress(*from), 1), (fabric.ingress(*to), 1)]);
        way.zone(zone(scenario, fabric, zone_of(from), zone_of(to)));
        way.add(&mut builder, scenario, fabric, *bytes, &[(*from, true), (*to, false)]);
    }
    for (node, bytes) in &moves.restored {
        let mut way = Way::new(SimDuration::ZERO, Rate::MAX);
        way.uses.push((fabric.ingress(*node), 1));
        way.zone(storage.and_then(|s| zone(scenario, fabric, s, zone_of(node))));
        way.add(&mut builder, scenario, fabric, *bytes, &[(*node, false)]);
    }
    builder.build().unwrap_or_default()
}

/// A checkpoint as transfers, all at once.
pub(crate) fn checkpoint_graph(
    scenario: &Scenario,
    fabric: &Fabric,
    bytes: &BTreeMap<NodeId, u64>,
) -> TaskGraph {
    let mut builder = GraphBuilder::new();
    let storage = scenario.replay.options.checkpoint_zone.as_deref();
    for (node, bytes) in bytes {
        let mut way = Way::new(SimDuration::ZERO, Rate::MAX);
        way.uses.push((fabric.egress(*node), 1));
        let of = scenario.groups[node.group as usize].zone.as_str();
        way.zone(storage.and_then(|s| zone(scenario, fabric, of, s)));
        way.add(&mut builder, scenario, fabric, *bytes, &[(*node, true)]);
    }
    builder.build().unwrap_or_default()
}
