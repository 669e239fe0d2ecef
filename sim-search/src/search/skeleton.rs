//! A plan but for its cuts: micro-batches shared out, devices placed, alike pipelines folded. What it costs at least is
//! known better than of a combination: who shares which NIC, and over which links rings go.

use crate::cost::rings::{Hop, OneOf};
use crate::cost::{Setting, floor_ps, lower};
use crate::place::{self, Part};
use crate::rules::Rule;
use crate::space::Template;
use crate::tree::{Choice, Root, SCHEDULE, Tree};
use sim_models::fold::Folding;
use sim_models::layer_times::LayerSums;
use sim_models::layout::{Layout, Pipeline, Rank};
use sim_models::plan::{LayerRange, Plan, Recompute};
use sim_models::scenario::{DeviceId, NodeId};
use sim_models::units::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// See the head of this file.
pub(crate) struct Skeleton<'t> {
    tree: &'t Tree<'t>,
    micro_batch: u32,
    pub(crate) parts: Vec<SkeletonPart<'t>>,
    /// No plan with these shares is faster, by what the links between zones carry; ps.
    pub(crate) floor: u64,
    /// Whether all rings share one link between zones.
    shared: bool,
}

/// The pipelines of one choice.
pub(crate) struct SkeletonPart<'t> {
    pub(crate) choice: &'t Choice,
    /// Micro-batches of those that have most.
    pub(crate) most: u32,
    /// Around those.
    pub(crate) setting: Setting,
    groups: Vec<Group>,
}

/// Pipelines with equal shares.
struct Group {
    replicas: u32,
    micro_batches: u32,
    /// By stage, replica by replica.
    devices: Vec<Vec<DeviceId>>,
}

/// Pipelines and micro-batches of up to two groups that differ by one: `total` micro-batches on `pipelines`.
fn split(pipelines: u32, total: u32) -> Vec<(u32, u32)> {
    let (each, more) = (total / pipelines, total % pipelines);
    [(more, each + 1), (pipelines - more, each)].into_iter().filter(|(n, _)| *n > 0).collect()
}

impl<'t> Skeleton<'t> {
    /// Of a combination with so many micro-batches for each part.
    pub(crate) fn new(
        tree: &'t Tree<'t>,
        root: &Root,
        parts: &[usize],
        shares: &[u32],
    ) -> Result<Skeleton<'t>, Rule> {
        let frame = tree.frames[root.frame];
        let choices: Vec<&Choice> = parts.iter().map(|p| &tree.choices[*p]).collect();
        let mut shapes: Vec<(&Template, u32)> = Vec::new();
        let mut owners = Vec::new();
        let mut counts = Vec::new();
        for (p, (choice, total)) in choices.iter().zip(shares).enumerate() {
            for (replicas, micro_batches) in split(choice.pipelines, *total) {
                if micro_batches == 0 {
                    return Err(Rule::TooFewMicroBatches);
                }
                shapes.push((&tree.templates[choice.template], replicas));
                owners.push(p);
                counts.push((replicas, micro_batches));
            }
        }
        let devices = place::devices(tree.kinds, &shapes, frame.place).ok_or(Rule::Devices)?;
        let layout = lay_out(tree, &shapes, &counts, &devices);
        let folding = Folding::of(&layout);
        let hops = Hops::new(&layout, &owners, parts.len());
        let pipelines = layout.pipelines.len() as u32;
        let mut skeleton =
            Skeleton { tree, micro_batch: frame.micro_batch, parts: Vec::new(), floor: 0, shared: false };
        for (p, choice) in choices.iter().enumerate() {
            let first = owners.iter().position(|o| *o == p).unwrap_or(0);
            let of_first = folding.classes.iter().filter(|c| layout.pipelines[c.pipeline].group == first);
            let class =
                of_first.max_by_key(|c| (c.count, std::cmp::Reverse(c.pipeline))).ok_or(Rule::Devices)?;
            let ring = |s: usize| tree.rings.ring(&choice.cost.stages[s], pipelines, hops.of(p, s));
            let rings = (0..choice.cost.stages.len()).map(ring).collect();
            let setting = Setting::of_class(tree.scenario, &layout, class, frame.micro_batch, rings);
            skeleton.parts.push(SkeletonPart { choice, most: counts[first].1, setting, groups: Vec::new() });
        }
        for ((owner, (replicas, micro_batches)), devices) in owners.iter().zip(counts).zip(devices) {
            skeleton.parts[*owner].groups.push(Group { replicas, micro_batches, devices });
        }
        skeleton.cross_zones(parts, pipelines);
        Ok(skeleton)
    }

    /// Where every ring crosses the one link between two zones, that link carries all gradients after the first of them
    /// are there.
    fn cross_zones(&mut self, parts: &[usize], pipelines: u32) {
        let scenario = self.tree.scenario;
        let zones: BTreeSet<&str> = scenario.groups.iter().map(|g| g.zone.as_str()).collect();
        let zones: Vec<&str> = zones.into_iter().collect();
        let [a, b] = zones[..] else { return };
        let Some((_, link)) = scenario.zone_link(a, b) else { return };
        if !self.tree.across(parts).contains(&true) {
            return;
        }
        self.shared = true;
        let n = f64::from(pipelines);
        let bytes = |p: &SkeletonPart<'_>| p.choice.cost.stages[0].gradients(0, p.choice.cost.layers);
        let bytes = self.parts.iter().map(bytes).min().unwrap_or(0) as f64;
        // Cut to whole bytes, ring by ring.
        let sent = 2.0 * (n - 1.0) / n * bytes - f64::from(scenario.model.layers());
        let rings = floor_ps(
            sent / link.capacity.highest().as_bytes_per_s() + 2.0 * (n - 1.0) * link.latency.as_secs_f64(),
        );
        let released = |p: &SkeletonPart<'_>| {
            let stages = p.choice.cost.stages.len() as u64;
            u64::from(p.most).saturating_sub(stages + 1).saturating_mul(p.choice.bottleneck)
        };
        self.floor = self.parts.iter().map(released).max().unwrap_or(0).saturating_add(rings);
    }

    /// No plan with these shares is faster, over all cuts that fit; `None` when that is above `limit` or none fits.
    pub(crate) fn bound(&self, limit: u64) -> Option<u64> {
        let mut bound = self.floor;
        if bound > limit {
            return None;
        }
        for p in &self.parts {
            bound = bound.max(p.choice.cost.bound(p.most, &p.setting, limit)?);
        }
        Some(bound)
    }

    /// A part none of whose cuts fits, and what the nearest lacks in bytes.
    pub(crate) fn lacks(&self) -> Option<(usize, i128)> {
        let of = |p: &SkeletonPart<'_>| (p.choice.template, p.choice.cost.least_excess(p.most));
        self.parts.iter().map(of).find(|(_, lacks)| *lacks > 0)
    }

    /// Inner borders of each part, as they stand in a key, for the cuts with the least bound.
    pub(crate) fn best_cuts(&self) -> Option<Vec<u32>> {
        let mut key = Vec::new();
        for p in &self.parts {
            let borders = p.choice.cost.partition(p.most, &p.setting)?;
            key.extend(borders[1..borders.len() - 1].iter().map(|b| *b as u32));
        }
        Some(key)
    }

    /// Borders of each part from the end of a key.
    fn borders(&self, inner: &[u32]) -> Vec<Vec<usize>> {
        let mut rest = inner;
        let mut list = Vec::new();
        for p in &self.parts {
            let (mine, after) = rest.split_at(p.choice.cost.stages.len() - 1);
            let mut borders = vec![0];
            borders.extend(mine.iter().map(|b| *b as usize));
            borders.push(p.choice.cost.layers);
            list.push(borders);
            rest = after;
        }
        list
    }

    /// The plan with these inner borders.
    pub(crate) fn plan(&self, inner: &[u32]) -> Plan {
        let borders = self.borders(inner);
        let mut pipelines = Vec::new();
        for (p, borders) in self.parts.iter().zip(&borders) {
            let template = &self.tree.templates[p.choice.template];
            for g in &p.groups {
                let part = Part { template, borders, replicas: g.replicas, micro_batches: g.micro_batches };
                pipelines.push(place::group(self.tree.scenario, &part, &g.devices));
            }
        }
        Plan { micro_batch: self.micro_batch, schedule: SCHEDULE, pipelines, ..Plan::default() }
    }

    /// What an iteration with these inner borders is likely to take, ps. Decides what is tried first; excludes nothing.
    /// Pipelines cut at unlike layers share gradients in many small rings, each as slow as its slowest hop.
    pub(crate) fn estimate(&self, inner: &[u32]) -> u64 {
        let borders = self.borders(inner);
        let mut cuts: Vec<usize> = borders.iter().flatten().copied().collect();
        cuts.sort_unstable();
        cuts.dedup();
        let rings: Vec<(usize, u64)> =
            cuts.windows(2).map(|c| (c[0], self.likely_ring((c[0], c[1]), &borders))).collect();
        let (mut most, mut released) = (0u64, vec![(0u64, 0u64); rings.len()]);
        for (p, borders) in self.parts.iter().zip(&borders) {
            let cost = &p.choice.cost;
            for (s, stage) in borders.windows(2).enumerate() {
                let end = cost.passes_end(s, stage[0], stage[1], p.most, &p.setting);
                let mut after = cost.stages[s].update(stage[0], stage[1]);
                for ((layer, time), released) in rings.iter().zip(&mut released) {
                    if (stage[0]..stage[1]).contains(layer) {
                        after = after.saturating_add(*time);
                        *released = (released.0.max(end), *time);
                    }
                }
                most = most.max(end.saturating_add(after));
            }
        }
        if self.shared { most.max(one_after_another(released)) } else { most }
    }

    /// The ring of layers `layers.0 .. layers.1` at its slowest hop, each step paying the longest latency.
    fn likely_ring(&self, layers: (usize, usize), borders: &[Vec<usize>]) -> u64 {
        let scenario = self.tree.scenario;
        let (mut ranks, mut whole) = (Vec::new(), 0);
        for (p, borders) in self.parts.iter().zip(borders) {
            let s = borders.partition_point(|b| *b <= layers.0) - 1;
            let stage = &p.choice.cost.stages[s];
            whole = whole.max(stage.gradients(layers.0, layers.1));
            for g in &p.groups {
                let nodes = g.devices[s].chunks(stage.tp as usize).map(|d| (scenario.node(d[0]), stage.tp));
                ranks.extend(nodes);
            }
        }
        if ranks.len() < 2 {
            return 0;
        }
        ranks.sort_unstable();
        let n = ranks.len() as f64;
        let chunk = Bytes((whole / ranks.len() as u64).max(1));
        let mut hops = BTreeSet::new();
        for (i, (from, tp)) in ranks.iter().enumerate() {
            let (to, other) = ranks[(i + 1) % ranks.len()];
            hops.insert((from.group, to.group, *from == to, (*tp).min(other)));
        }
        let (mut rate, mut longest) = (f64::INFINITY, 0.0);
        for (from, to, inside, streams) in hops {
            let (a, b) = (&scenario.groups[from as usize], &scenario.groups[to as usize]);
            let link = if inside { &a.inside } else { &scenario.node_links[from as usize][to as usize] };
            rate = lower(rate, link.transfer_rate(chunk, streams));
            let mut latency = link.latency_s;
            if !inside {
                let nics = lower(a.nic.highest().as_bytes_per_s(), b.nic.highest().as_bytes_per_s());
                rate = lower(rate, nics);
                if let Some((_, zone)) = scenario.zone_link(&a.zone, &b.zone).filter(|_| a.zone != b.zone) {
                    rate = lower(rate, zone.capacity.highest().as_bytes_per_s());
                    latency += zone.latency.as_secs_f64();
                }
            }
            longest = if latency > longest { latency } else { longest };
        }
        floor_ps(2.0 * (n - 1.0) * (whole as f64 / n / rate + longest))
    }
}

/// The least end of rings that share a link, as (when its gradients are there, how long it takes): the link does one thing
/// after another.
fn one_after_another(mut rings: Vec<(u64, u64)>) -> u64 {
    rings.sort_unstable();
    let (mut left, mut bound) = (0u64, 0u64);
    for (end, time) in rings.into_iter().rev() {
        left = left.saturating_add(time);
        bound = bound.max(end.saturating_add(left));
    }
    bound
}

/// Pipelines on their devices, without layers: what folding looks at.
fn lay_out(
    tree: &Tree<'_>,
    shapes: &[(&Template, u32)],
    counts: &[(u32, u32)],
    devices: &[Vec<Vec<DeviceId>>],
) -> Layout {
    let mut layout = Layout {
        pipelines: Vec::new(),
        ranks: Vec::new(),
        syncs: Vec::new(),
        evidence: sim_models::device::Evidence::Measured,
        spread: 0.0,
    };
    for (group, ((template, replicas), devices)) in shapes.iter().zip(devices).enumerate() {
        for replica in 0..*replicas as usize {
            let first = layout.ranks.len();
            for (s, shape) in template.stages.iter().enumerate() {
                let tp = shape.tp as usize;
                let devices = devices[s][replica * tp..(replica + 1) * tp].to_vec();
                layout.ranks.push(Rank {
                    pipeline: layout.pipelines.len(),
                    stage: s as u32,
                    layers: LayerRange { first: s as u32, last: s as u32 }.into(),
                    tp: shape.tp,
                    cp: 1,
                    ep: 1,
                    recompute: Recompute::None,
                    nodes: vec![tree.scenario.node(devices[0])],
                    devices,
                    times: LayerSums::default(),
                });
            }
            let stages = first..layout.ranks.len();
            layout.pipelines.push(Pipeline { group, micro_batches: counts[group].1, stages });
        }
    }
    layout
}

/// By node group, the nodes that ranks are on and how many of them one node has at most.
type ByGroup = BTreeMap<u32, (BTreeSet<NodeId>, u32)>;

/// Where the ranks of each part and stage are.
struct Hops {
    /// By part and stage.
    ranks: Vec<Vec<ByGroup>>,
    /// Node groups of each part.
    groups: Vec<BTreeSet<u32>>,
}

impl Hops {
    fn new(layout: &Layout, owners: &[usize], parts: usize) -> Hops {
        let mut hops = Hops { ranks: vec![Vec::new(); parts], groups: vec![BTreeSet::new(); parts] };
        let mut on_node: BTreeMap<(usize, u32, NodeId), u32> = BTreeMap::new();
        for rank in &layout.ranks {
            let part = owners[layout.pipelines[rank.pipeline].group];
            *on_node.entry((part, rank.stage, rank.node())).or_default() += 1;
        }
        for ((part, stage, node), count) in on_node {
            let stages = &mut hops.ranks[part];
            stages.resize_with(stages.len().max(stage as usize + 1), BTreeMap::new);
            let (nodes, most) = stages[stage as usize].entry(node.group).or_default();
            nodes.insert(node);
            *most = count.max(*most);
            hops.groups[part].insert(node.group);
        }
        hops
    }

    /// Hops that every ring of a stage of a part has, whatever stages of the other parts are in it.
    fn of(&self, part: usize, stage: usize) -> Vec<OneOf> {
        let mine = &self.ranks[part][stage];
        let all: BTreeSet<u32> = self.groups.iter().flatten().copied().collect();
        let mut hops = Vec::new();
        for (g, (nodes, most)) in mine {
            // Ranks of a node are neighbours in the ring, and nodes of a group are.
            if *most > 1 {
                hops.push(vec![Hop::Inside(*g)]);
            }
            if nodes.len() > 1 {
                hops.push(vec![Hop::Nodes(*g, *g)]);
            }
            let elsewhere = |(q, groups): (usize, &BTreeSet<u32>)| q != part && !groups.contains(g);
            if mine.len() > 1 || self.groups.iter().enumerate().any(elsewhere) {
                let leave = |h: &u32| Hop::Nodes(*g, *h);
                hops.push(all.iter().filter(|h| *h != g).map(leave).collect());
            }
        }
        hops
    }
}

impl Skeleton<'_> {
    /// Whether these lists of cuts hold all that fit.
    pub(crate) fn holds_all(&self, lists: &[Vec<crate::cost::cuts::Cut>]) -> bool {
        let all = |(p, list): (&SkeletonPart<'_>, &Vec<_>)| {
            p.choice.cost.cuts(p.most, &p.setting, u64::MAX, list.len()).is_ok()
        };
        self.parts.iter().zip(lists).all(all)
    }
}
