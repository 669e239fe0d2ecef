//! The pipelines of a combination on their devices, before micro-batches are shared out. Where they stand does not depend on
//! their shares: who shares which NIC and over which links rings go is known, and of transfers what alike pipelines do to
//! each other.

use super::Setting;
use super::beside::{self, PartOf};
use super::borders::{Borders, Common};
use super::cuts::View;
use super::rings::{Hop, OneOf, Rings, one_where};
use super::sending::{Sender, Sending, split};
use super::setting::{Gradients, Shared};
use super::zones::{Crossing, Where, Zones};
use crate::place::{self, Place};
use crate::rules::Rule;
use crate::space::{StageShape, Template};
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// The pipelines of one template on their devices.
pub struct Standing<'t> {
    /// Which, and how many.
    pub of: PartOf<'t>,
    /// By stage, replica by replica.
    pub devices: Vec<Vec<DeviceId>>,
    /// Its transfers.
    pub sending: Arc<Sending>,
    /// What its gradients go over.
    pub gradients: Gradients,
}

/// The parts of a combination on their devices.
///
/// # Errors
/// The rule that throws them out.
pub fn stand<'t>(
    rings: &Rings<'_>,
    (micro_batch, how): (u32, Place),
    parts: &[PartOf<'t>],
) -> Result<Vec<Standing<'t>>, Rule> {
    let scenario = rings.scenario();
    let whole: Vec<(&Template, u32)> = parts.iter().map(|p| (p.template, p.pipelines)).collect();
    let devices = place::devices(rings.kinds(), &whole, how).ok_or(Rule::Devices)?;
    let hops = Hops::new(scenario, parts, &devices);
    let pipelines = parts.iter().map(|p| p.pipelines).sum();
    let copies = |p: &PartOf<'_>| p.template.stages.iter().map(|s| s.split.cp).max().unwrap_or(1);
    let replicas = parts.iter().map(|p| u64::from(p.pipelines) * u64::from(copies(p))).sum();
    let mut list = Vec::with_capacity(parts.len());
    for (p, (part, devices)) in parts.iter().zip(devices).enumerate() {
        let ring =
            |s: usize| rings.ring(&part.cost.stages[s], (part.pipelines, pipelines), hops.of(rings, p, s));
        let own: Vec<_> = (0..part.cost.stages.len()).map(ring).collect();
        let crossing = hops.crossing(rings.zones(), p).into_iter();
        let crossing = crossing.map(|c| Shared::new(c.first..c.end, pipelines, c.cut.into()));
        let nics = hops.nics(p).into_iter().map(|(stages, group, others)| {
            let rate = scenario.groups[group as usize].nic.highest().as_bytes_per_s();
            Shared::new(stages, pipelines, (rate, 0.0)).beside(others)
        });
        let links = nics.chain(crossing).collect();
        let common = Common { most: beside::common(parts, p), at: Borders::ALL };
        let gradients = Gradients { rings: own, links, replicas, common };
        let overlap_p2p = part.cost.recipe.overlap_p2p;
        let sender = Sender::new(rings, micro_batch, part.template, overlap_p2p, &devices, hops.shared(p));
        list.push(Standing { of: *part, devices, sending: rings.sending(sender), gradients });
    }
    Ok(list)
}

/// The numbers of micro-batches that each part may run within `time` of a batch of `need`, in order. A border is common to all parts
/// only where each has one in a cut with which it runs no less than the others leave.
pub fn shares(parts: &[Standing<'_>], rings: &Rings<'_>, time: u64, need: u32) -> Vec<Vec<u32>> {
    let all = |at: &dyn Fn(usize) -> Borders| -> Vec<Vec<u32>> {
        parts.iter().enumerate().map(|(p, part)| part.shares(rings, time, need, at(p))).collect()
    };
    let lists = all(&|_| Borders::ALL);
    let most: Vec<u32> = lists.iter().map(|list| list.last().copied().unwrap_or(0)).collect();
    let sum: u32 = most.iter().sum();
    if sum < need || parts.len() < 2 || !parts[0].of.cost.recipe.waits() {
        return lists;
    }
    let inner = |((part, list), most): ((&Standing<'_>, &Vec<u32>), &u32)| {
        let least = need.saturating_sub(sum - most);
        part.inner(rings, &list[list.partition_point(|n| *n < least)..], time)
    };
    let inner: Vec<Borders> = parts.iter().zip(&lists).zip(&most).map(inner).collect();
    all(&|p| others(&inner, p))
}

/// The borders that all parts but one may have.
pub fn others(inner: &[Borders], part: usize) -> Borders {
    let others = inner.iter().enumerate().filter(|(q, _)| *q != part);
    others.map(|(_, at)| *at).fold(Borders::ALL, Borders::and)
}

/// The transfers of the pipelines of a part, whatever the others are, where these have the first devices of their kinds;
/// `None` when there are not enough.
pub fn first(rings: &Rings<'_>, how: (u32, Place), part: &PartOf<'_>) -> Option<Arc<Sending>> {
    let (kinds, scenario) = (rings.kinds(), rings.scenario());
    let devices = place::devices(kinds, &[(part.template, part.pipelines)], how.1)?.pop()?;
    // A part of one kind has that kind for itself. Else others may be where there is room on the last node.
    let mut shared = Vec::new();
    for (k, kind) in kinds.iter().enumerate().filter(|_| part.template.one_kind().is_none()) {
        let stages = part.template.stages.iter().zip(&devices).filter(|(shape, _)| shape.kind as usize == k);
        let last = stages.filter_map(|(_, list)| list.last()).max();
        if let Some(last) = last.filter(|last| (last.index + 1) % kind.gpus_per_node > 0) {
            shared.push(scenario.node(*last));
        }
    }
    shared.sort_unstable();
    let overlap_p2p = part.cost.recipe.overlap_p2p;
    Some(rings.sending(Sender::new(rings, how.0, part.template, overlap_p2p, &devices, shared)))
}

impl Standing<'_> {
    /// The numbers of micro-batches up to `most` that all its pipelines may run within `time`, in order, where only the borders `at`
    /// may be common to all parts.
    fn shares(&self, rings: &Rings<'_>, time: u64, most: u32, at: Borders) -> Vec<u32> {
        let (cost, pipelines) = (self.of.cost, self.of.pipelines);
        let mut known: BTreeMap<usize, u32> = BTreeMap::new();
        let mut fits = |total: &u32| {
            let ways = self.sending.ways(rings, total % pipelines);
            // Those that run one more, if any do, and the others.
            ways.into_iter().zip([total.div_ceil(pipelines), total / pipelines]).all(|(way, n)| {
                let around = || self.around(way).common_at(at);
                n <= *known.entry(way).or_insert_with(|| cost.most_within(&around(), time, most))
            })
        };
        let whole = (pipelines..=most).filter(|total| total.is_multiple_of(cost.team));
        whole.filter(|total| fits(total)).collect()
    }

    /// What surrounds the pipelines that have certain transfers.
    fn around(&self, way: usize) -> Setting {
        self.sending.transfers(way).sharing(&self.gradients)
    }

    /// Inner borders of the cuts with which its pipelines may run one of these numbers of micro-batches within `time`.
    fn inner(&self, rings: &Rings<'_>, shares: &[u32], time: u64) -> Borders {
        let mut ways: BTreeMap<usize, u32> = BTreeMap::new();
        for total in shares {
            let most = ways.entry(self.sending.ways(rings, total % self.of.pipelines)[0]).or_insert(u32::MAX);
            *most = total.div_ceil(self.of.pipelines).min(*most);
        }
        let of = |(way, each): (usize, u32)| self.of.cost.inner(&self.around(way), each, time);
        ways.into_iter().map(of).fold(Borders::NONE, Borders::or)
    }

    /// Those of equal shares as their cuts see them with so many micro-batches for all, the larger share first.
    pub fn views(&self, rings: &Rings<'_>, total: u32) -> Vec<View> {
        let ways = self.sending.ways(rings, total % self.of.pipelines);
        let of =
            |(way, (_, micro_batches)): (usize, (u32, u32))| View { micro_batches, around: self.around(way) };
        ways.into_iter().zip(split(self.of.pipelines, total)).map(of).collect()
    }
}

/// Where the ranks of a stage of a part are in one node group: whether on several nodes, and whether some share one.
struct Spread {
    group: u32,
    several_nodes: bool,
    neighbours: bool,
}

/// Stages on a node, its group, and stages of other parts there.
type Nic = (Range<usize>, u32, Vec<(usize, Range<usize>)>);

/// Where the ranks of each part and stage are.
struct Hops {
    /// Nodes by part and stage, one for each rank.
    nodes: Vec<Vec<Vec<NodeId>>>,
    /// By part and stage, group by group.
    ranks: Vec<Vec<Vec<Spread>>>,
    /// Node groups of each part, in order.
    groups: Vec<Vec<u32>>,
}

impl Hops {
    fn new(scenario: &Scenario, parts: &[PartOf<'_>], devices: &[Vec<Vec<DeviceId>>]) -> Hops {
        let of_part = |(part, devices): (&PartOf<'_>, &Vec<Vec<DeviceId>>)| -> Vec<Vec<NodeId>> {
            let stages = part.template.stages.iter().zip(devices);
            let nodes = |(shape, devices): (&StageShape, &Vec<DeviceId>)| {
                let ranks = devices.chunks(shape.split.width() as usize);
                ranks.map(|d| scenario.node(d[0])).collect()
            };
            stages.map(nodes).collect()
        };
        let nodes: Vec<Vec<Vec<NodeId>>> = parts.iter().zip(devices).map(of_part).collect();
        let spread = |mut list: Vec<NodeId>| -> Vec<Spread> {
            list.sort_unstable();
            let of = |same: &[NodeId]| Spread {
                group: same[0].group,
                several_nodes: same[0] != same[same.len() - 1],
                neighbours: same.windows(2).any(|n| n[0] == n[1]),
            };
            list.chunk_by(|a, b| a.group == b.group).map(of).collect()
        };
        let ranks: Vec<Vec<Vec<Spread>>> =
            nodes.iter().map(|stages| stages.iter().cloned().map(spread).collect()).collect();
        let groups = |stages: &Vec<Vec<Spread>>| {
            let mut groups: Vec<u32> = stages.iter().flatten().map(|s| s.group).collect();
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        let groups = ranks.iter().map(groups).collect();
        Hops { nodes, ranks, groups }
    }

    /// Neighbouring stages of a part that some node has all of, from the first or to the last, and whose rings leave it; with the node's
    /// group, and stages of other parts on it where only rings of other layers than theirs are known to.
    fn nics(&self, part: usize) -> Vec<Nic> {
        let stages = &self.nodes[part];
        let mut of_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (s, nodes) in stages.iter().enumerate() {
            for node in nodes {
                of_node.entry(*node).or_default().push(s);
            }
        }
        let mut list: Vec<Nic> = Vec::new();
        for (node, mut held) in of_node {
            held.dedup();
            let on = |s: &usize| stages[*s].iter().all(|n| *n == node);
            // Another part that is nowhere on the node has every layer elsewhere; one that is somewhere, those of its other stages.
            let mut others = Vec::new();
            let mut leaves = false;
            for (q, of) in self.nodes.iter().enumerate().filter(|(q, _)| *q != part) {
                let here = |s: &usize| of[*s].contains(&node);
                match ((0..of.len()).find(here), (0..of.len()).rfind(here)) {
                    (Some(first), Some(last)) => others.push((q, first..last + 1)),
                    _ => leaves = true,
                }
            }
            for run in held.chunk_by(|a, b| a + 1 == *b) {
                let (first, end) = (run[0], run[run.len() - 1] + 1);
                let whole = first == 0 || end == stages.len();
                let known = leaves || !run.iter().any(on);
                if run.len() > 1 && whole && (known || !others.is_empty()) {
                    list.push((first..end, node.group, if known { Vec::new() } else { others.clone() }));
                }
            }
        }
        list.sort_by_key(|(stages, group, _)| (stages.start, stages.end, *group));
        list.dedup();
        list
    }

    /// Neighbouring stages of a part whose rings all cross between zones.
    fn crossing(&self, zones: &Zones, part: usize) -> Vec<Crossing> {
        let of = |spread: &Vec<Spread>| spread.iter().fold(0, |set, s| set | zones.set_of_group(s.group));
        let own = self.ranks[part].iter().map(of).map(|set| Where { each: set, any: set });
        let others = self.ranks.iter().enumerate().filter(|(q, _)| *q != part);
        let others = others
            .map(|(_, stages)| Where { each: 0, any: stages.iter().map(of).fold(0, |all, set| all | set) });
        zones.crossing(&own.collect::<Vec<_>>(), &others.collect::<Vec<_>>(), 0)
    }

    /// Nodes of a part that others are on, too.
    fn shared(&self, part: usize) -> Vec<NodeId> {
        let mine: BTreeSet<NodeId> = self.nodes[part].iter().flatten().copied().collect();
        let others = self.nodes.iter().enumerate().filter(|(q, _)| *q != part);
        let others: BTreeSet<NodeId> =
            others.flat_map(|(_, stages)| stages.iter().flatten().copied()).collect();
        mine.intersection(&others).copied().collect()
    }

    /// Hops that every ring of a stage of a part has, whatever stages of the other parts are in it.
    fn of(&self, rings: &Rings<'_>, part: usize, stage: usize) -> Vec<OneOf> {
        let mine = &self.ranks[part][stage];
        // Ranks of the part are of this stage.
        let others = self.groups.iter().enumerate().filter(|(q, _)| *q != part);
        let others = others.flat_map(|(_, groups)| groups.iter().copied());
        let mut all: Vec<u32> = mine.iter().map(|spread| spread.group).chain(others).collect();
        all.sort_unstable();
        all.dedup();
        let mut hops = Vec::new();
        for Spread { group: g, several_nodes, neighbours } in mine {
            // Ranks of a node are neighbours in the ring, and nodes of a group are.
            if *neighbours {
                hops.push(vec![Hop::Inside(*g)]);
            }
            if *several_nodes {
                hops.push(vec![Hop::Nodes(*g, *g)]);
            }
            let elsewhere = |(q, groups): (usize, &Vec<u32>)| q != part && !groups.contains(g);
            if mine.len() > 1 || self.groups.iter().enumerate().any(elsewhere) {
                let leave = |h: &u32| Hop::Nodes(*g, *h);
                hops.push(all.iter().filter(|h| *h != g).map(leave).collect());
            }
        }
        // With ranks in a zone where some part has none, or in several, a ring crosses between zones.
        let zone = |g: u32| rings.zones().of_group(g);
        let without = |z: u32| self.groups.iter().any(|groups| groups.iter().all(|g| zone(*g) != z));
        let own: BTreeSet<u32> = mine.iter().map(|spread| zone(spread.group)).collect();
        for z in own.iter().filter(|z| own.len() > 1 || without(**z)) {
            hops.push(one_where(&all, |a, b| zone(a) == *z && zone(b) != *z));
        }
        if let ([one], [stages]) = (&mine[..], &self.nodes[..])
            && stages[stage].len() == 1
        {
            // The ring of a rank that holds its parameters several times.
            hops.push(vec![Hop::Inside(one.group)]);
        }
        if hops.is_empty() {
            // Whoever is next, if there is anyone.
            let next = |g: &u32| {
                let nodes: Vec<Hop> = all.iter().map(|h| Hop::Nodes(*g, *h)).collect();
                [&[Hop::Inside(*g)], &nodes[..]].concat()
            };
            hops.extend(mine.iter().map(|spread| next(&spread.group)));
        }
        hops
    }
}
