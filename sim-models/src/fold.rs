//! Folding: pipelines that cannot be told apart are simulated once.
//!
//! Two pipelines are alike when they are of one plan group (same layers, TP, micro-batches), stand on nodes of the same
//! groups that change alike, and those nodes carry the same mix of alike pipelines' stages and as many hops of each ring of
//! gradients. This is colour refinement of the graph of pipelines and nodes: the colours are refined until every node of a
//! colour carries the same number of stages of each colour. Then, if alike pipelines are in the same state, every shared
//! resource of a colour has the same load, max-min fair rates (which are unique) are the same, and they stay in the same
//! state: the folded run has the unfolded run's times to the picosecond. One NIC stands for all of its colour, with each
//! transfer weighted by how many of its like that NIC carries; a link between zones is one link, so there a transfer counts
//! once for every pipeline it stands for.
//! The uplinks of leaf switches are coloured in the same way, by what they carry of pipelines and of rings, and pipelines by
//! the colours of their leaves and by which of their nodes are in one pod. Stages whose layers send to other nodes are alike
//! where they take each of their links as often ([`Crossing`]).
//! Jobs that share a cluster are folded together: no two jobs' pipelines are alike, and a node's colour says what it carries
//! of each.

use crate::crossings::Crossing;
use crate::layout::Layout;
use crate::scenario::NodeId;
use crate::uplinks::{self, Uplinks};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which pipelines are simulated, and for how many others.
#[derive(Clone, Debug, Default)]
pub struct Folding {
    /// Pipelines to simulate, in order, each with how many it stands for (itself included).
    pub classes: Vec<Class>,
    /// The node that stands for a node.
    canonical: Arc<BTreeMap<NodeId, NodeId>>,
    /// The leaf switch that stands for a leaf.
    canonical_leaf: Arc<BTreeMap<u32, u32>>,
}

/// Alike pipelines.
#[derive(Clone, Debug)]
pub struct Class {
    /// The one to simulate, an index into [`Layout::pipelines`].
    pub pipeline: usize,
    /// How many there are.
    pub count: u32,
    /// For each stage and each of its nodes: how many pipelines of the class have this one of that stage's nodes there.
    pub shares: Vec<Vec<u32>>,
    /// For each stage, each of its nodes and each leaf of that: how many pipelines of the class have the same there. Empty where
    /// each counts for itself.
    leaf_shares: Vec<Vec<Vec<u32>>>,
}

impl Class {
    /// How many pipelines of the class have their leaf number `k` of node `slot` of a stage where this one has it.
    pub(crate) fn leaf_shares(&self, stage: u32, slot: usize, k: usize) -> u32 {
        let of_stage = self.leaf_shares.get(stage as usize).and_then(|s| s.get(slot));
        of_stage.and_then(|s| s.get(k)).copied().unwrap_or(1)
    }
}

impl Folding {
    /// Every pipeline by itself.
    pub fn none(layout: &Layout) -> Folding {
        let classes = (0..layout.pipelines.len())
            .map(|p| {
                let ranks = &layout.ranks[layout.pipelines[p].stages.clone()];
                Class {
                    pipeline: p,
                    count: 1,
                    shares: ranks.iter().map(|r| vec![1; r.nodes.len()]).collect(),
                    leaf_shares: Vec::new(),
                }
            })
            .collect();
        Folding { classes, ..Folding::default() }
    }

    /// Alike pipelines together.
    pub fn of(layout: &Layout) -> Folding {
        Folding::together(&[layout]).swap_remove(0)
    }

    /// The same of jobs that share a cluster: a folding for each.
    pub fn together(layouts: &[&Layout]) -> Vec<Folding> {
        let pipelines = Pipelines::of(layouts);
        let mut colours = number(pipelines.list.iter().map(|&(job, p)| {
            let groups: Vec<u32> = pipelines.nodes(job, p).map(|n| n.group).collect();
            let pipeline = &layouts[job].pipelines[p];
            let crossings: Vec<&[Crossing]> = pipelines.crossings(job, p).collect();
            (job, pipeline.group, pipeline.micro_batches, groups, crossings)
        }));
        let (hops, footprints) = (pipelines.hops(), pipelines.footprints());
        loop {
            let node_colour = pipelines.node_colours(&colours.0, &hops);
            let leaf_colour = pipelines.leaf_colours(&colours.0, &footprints);
            let refined = number(pipelines.list.iter().zip(&colours.0).map(|(&(job, p), colour)| {
                let seen: Vec<NodeId> = pipelines.nodes(job, p).copied().collect();
                let around: Vec<(u32, usize)> = seen
                    .iter()
                    .map(|n| (node_colour[n], seen.iter().position(|m| m == n).unwrap_or(0)))
                    .collect();
                (*colour, around, pipelines.under(job, p, &leaf_colour))
            }));
            let stable = refined.1 == colours.1;
            colours = refined;
            if stable {
                return pipelines.foldings(&colours.0, &node_colour, &leaf_colour);
            }
        }
    }

    /// Whether a pipeline stands for another.
    pub fn is_folded(&self) -> bool {
        self.classes.iter().any(|c| c.count > 1)
    }

    /// The node whose resources stand for those of `node`.
    pub fn canonical(&self, node: NodeId) -> NodeId {
        self.canonical.get(&node).copied().unwrap_or(node)
    }

    /// The leaf switch whose uplinks stand for those of `leaf`.
    pub fn canonical_leaf(&self, leaf: u32) -> u32 {
        self.canonical_leaf.get(&leaf).copied().unwrap_or(leaf)
    }
}

/// The pipelines of all jobs.
struct Pipelines<'a> {
    layouts: &'a [&'a Layout],
    /// Job and pipeline, in order.
    list: Vec<(usize, usize)>,
    /// Index in the list of each job's first pipeline.
    first: Vec<usize>,
}

impl<'a> Pipelines<'a> {
    fn of(layouts: &'a [&'a Layout]) -> Pipelines<'a> {
        let mut pipelines = Pipelines { layouts, list: Vec::new(), first: Vec::new() };
        for (job, layout) in layouts.iter().enumerate() {
            pipelines.first.push(pipelines.list.len());
            pipelines.list.extend((0..layout.pipelines.len()).map(|p| (job, p)));
        }
        pipelines
    }

    /// Nodes of a pipeline, stage by stage.
    fn nodes(&self, job: usize, pipeline: usize) -> impl Iterator<Item = &'a NodeId> {
        let layout = self.layouts[job];
        layout.ranks[layout.pipelines[pipeline].stages.clone()].iter().flat_map(|r| &r.nodes)
    }

    /// What the layers of a pipeline's stages send to other nodes, those that send something.
    fn crossings(&self, job: usize, pipeline: usize) -> impl Iterator<Item = &'a [Crossing]> {
        let layout = self.layouts[job];
        let ranks = &layout.ranks[layout.pipelines[pipeline].stages.clone()];
        ranks.iter().map(|r| &r.crossings[..]).filter(|c| !c.is_empty())
    }

    /// Calls `f` with every node of every stage: the node, the pipeline's index in the list, stage, which of its nodes.
    fn each_node(&self, mut f: impl FnMut(NodeId, usize, (u32, u32))) {
        for (layout, first) in self.layouts.iter().zip(&self.first) {
            for rank in &layout.ranks {
                for (slot, node) in rank.nodes.iter().enumerate() {
                    f(*node, first + rank.pipeline, (rank.stage, slot as u32));
                }
            }
        }
    }

    /// Nodes by the hops of every job's rings that take their NICs: the same number where the same do, as often.
    fn hops(&self) -> BTreeMap<NodeId, u32> {
        let mut hops: Vec<(NodeId, Hop)> = Vec::new();
        for (job, layout) in self.layouts.iter().enumerate() {
            for (group, sync) in (0..).zip(&layout.syncs) {
                for (from, to) in uplinks::hops(&uplinks::stops(layout, &sync.ranks)) {
                    for (stop, out) in [(from, true), (to, false)] {
                        hops.extend(stop.nodes.iter().map(|node| (*node, (job, group, out))));
                    }
                }
            }
        }
        hops.sort_unstable();
        let by_node = || hops.chunk_by(|a, b| a.0 == b.0);
        let (numbers, _) = number(by_node().map(|own| own.iter().map(|h| h.1).collect::<Vec<Hop>>()));
        by_node().map(|own| own[0].0).zip(numbers).collect()
    }

    /// A node's colour: its group, whether it changes on its own, and the sorted lists of what it carries.
    fn node_colours(&self, colours: &[u32], hops: &BTreeMap<NodeId, u32>) -> BTreeMap<NodeId, u32> {
        let mut carried: BTreeMap<NodeId, Vec<Carried>> = BTreeMap::new();
        self.each_node(|node, pipeline, place| {
            carried.entry(node).or_default().push((colours[pipeline], place));
        });
        for list in carried.values_mut() {
            list.sort_unstable();
        }
        let apart = |node| self.layouts.first().and_then(|layout| layout.apart.get(node));
        let (numbers, _) =
            number(carried.iter().map(|(node, list)| (node.group, apart(node), hops.get(node), list)));
        carried.keys().copied().zip(numbers).collect()
    }

    /// What the rings of every job put on each leaf: (job, synchronisation, up), parts.
    fn footprints(&self) -> BTreeMap<u32, Rings> {
        let mut found: BTreeMap<u32, Rings> = BTreeMap::new();
        for (job, layout) in self.layouts.iter().enumerate() {
            if layout.ranks.iter().any(|r| !r.uplinks.is_empty()) {
                for (leaf, own) in uplinks::footprints(layout) {
                    let own = own.into_iter().map(|((group, up), parts)| ((job, group, up), parts));
                    found.entry(leaf).or_default().extend(own);
                }
            }
        }
        found
    }

    /// Calls `f` with every leaf of every node of every stage: leaf, the pipeline's index in the list, where, parts.
    fn each_leaf(&self, mut f: impl FnMut(u32, usize, Below, (u32, u32))) {
        for (layout, first) in self.layouts.iter().zip(&self.first) {
            for rank in &layout.ranks {
                for (slot, uplinks) in (0u32..).zip(&rank.uplinks) {
                    for (uplinks, k, (leaf, parts)) in uplinks
                        .iter()
                        .flat_map(|u| u.leaves.iter().enumerate().map(move |(k, leaf)| (u, k as u32, *leaf)))
                    {
                        f(leaf, first + rank.pipeline, ((rank.stage, slot), k), (parts, uplinks.parts()));
                    }
                }
            }
        }
    }

    /// A leaf's colour: whether it changes on its own, what rings put on it, and the sorted list of what it carries.
    fn leaf_colours(&self, colours: &[u32], footprints: &BTreeMap<u32, Rings>) -> BTreeMap<u32, u32> {
        let mut carried: BTreeMap<u32, Vec<CarriedByLeaf>> = BTreeMap::new();
        self.each_leaf(|leaf, pipeline, place, parts| {
            carried.entry(leaf).or_default().push((colours[pipeline], place, parts));
        });
        for list in carried.values_mut() {
            list.sort_unstable();
        }
        let apart = |leaf| self.layouts.first().and_then(|layout| layout.apart_leaves.get(leaf));
        let (numbers, _) =
            number(carried.iter().map(|(leaf, list)| (apart(leaf), footprints.get(leaf), list)));
        carried.keys().copied().zip(numbers).collect()
    }

    /// For each node of a pipeline: which of them is the first in its pod, and its leaves with their parts.
    fn under(
        &self,
        job: usize,
        pipeline: usize,
        leaf_colour: &BTreeMap<u32, u32>,
    ) -> Vec<(usize, Vec<(u32, u32)>)> {
        let layout = self.layouts[job];
        let ranks = &layout.ranks[layout.pipelines[pipeline].stages.clone()];
        let places: Vec<Option<&Uplinks>> =
            ranks.iter().flat_map(|r| &r.uplinks).map(Option::as_ref).collect();
        let pod = |u: &Option<&Uplinks>| u.map(|u| u.pod);
        let of = |place: &Option<&Uplinks>| {
            let first = places.iter().position(|p| pod(p) == pod(place)).unwrap_or(0);
            let leaves = place.iter().flat_map(|u| &u.leaves);
            (first, leaves.map(|(leaf, parts)| (leaf_colour[leaf], *parts)).collect())
        };
        places.iter().map(of).collect()
    }

    fn foldings(
        &self,
        colours: &[u32],
        node_colour: &BTreeMap<NodeId, u32>,
        leaf_colour: &BTreeMap<u32, u32>,
    ) -> Vec<Folding> {
        let canonical = Arc::new(representatives(node_colour));
        let canonical_leaf = Arc::new(representatives(leaf_colour));
        let mut on_leaf: BTreeMap<(u32, u32, Below), u32> = BTreeMap::new();
        self.each_leaf(|leaf, pipeline, place, _| {
            *on_leaf.entry((leaf, colours[pipeline], place)).or_default() += 1;
        });
        let mut on_node: BTreeMap<(NodeId, Carried), u32> = BTreeMap::new();
        self.each_node(|node, pipeline, place| {
            *on_node.entry((node, (colours[pipeline], place))).or_default() += 1;
        });
        let none = || Folding {
            classes: Vec::new(),
            canonical: canonical.clone(),
            canonical_leaf: canonical_leaf.clone(),
        };
        let mut foldings: Vec<Folding> = self.layouts.iter().map(|_| none()).collect();
        let mut class_of: BTreeMap<u32, usize> = BTreeMap::new();
        for (&(job, p), colour) in self.list.iter().zip(colours) {
            let (layout, classes) = (self.layouts[job], &mut foldings[job].classes);
            if let Some(&c) = class_of.get(colour) {
                classes[c].count += 1;
                continue;
            }
            class_of.insert(*colour, classes.len());
            let ranks = &layout.ranks[layout.pipelines[p].stages.clone()];
            let share = |r: &crate::layout::Rank| {
                let slots = (0u32..).zip(&r.nodes);
                slots.map(|(slot, node)| on_node[&(*node, (*colour, (r.stage, slot)))]).collect()
            };
            let shares = ranks.iter().map(share).collect();
            let leaf_share = |r: &crate::layout::Rank| -> Vec<Vec<u32>> {
                let of = |(slot, uplinks): (u32, &Option<Uplinks>)| {
                    let leaves = (0u32..).zip(uplinks.iter().flat_map(|u| &u.leaves));
                    leaves.map(|(k, (leaf, _))| on_leaf[&(*leaf, *colour, ((r.stage, slot), k))]).collect()
                };
                (0u32..).zip(&r.uplinks).map(of).collect()
            };
            let leaf_shares =
                if on_leaf.is_empty() { Vec::new() } else { ranks.iter().map(leaf_share).collect() };
            classes.push(Class { pipeline: p, count: 1, shares, leaf_shares });
        }
        foldings
    }
}

/// The first of each colour, for all of it.
fn representatives<K: Ord + Copy>(colours: &BTreeMap<K, u32>) -> BTreeMap<K, K> {
    let mut first: BTreeMap<u32, K> = BTreeMap::new();
    colours.iter().map(|(key, colour)| (*key, *first.entry(*colour).or_insert(*key))).collect()
}

/// Equal keys get equal numbers, in order of first appearance; and how many numbers there are.
fn number<K: Ord>(keys: impl Iterator<Item = K>) -> (Vec<u32>, usize) {
    let mut seen = BTreeMap::new();
    let colours = keys
        .map(|key| {
            let next = seen.len() as u32;
            *seen.entry(key).or_insert(next)
        })
        .collect();
    (colours, seen.len())
}

/// A hop of a ring from a node or to it: job, synchronisation, whether it goes out.
type Hop = (usize, u32, bool);

/// What a node carries: a colour, its stage and which of the stage's nodes it is.
type Carried = (u32, (u32, u32));

/// Where a leaf comes in a pipeline: stage, which of its nodes, which of that node's leaves.
type Below = ((u32, u32), u32);

/// What a leaf carries: a colour, where, and its parts of how many.
type CarriedByLeaf = (u32, Below, (u32, u32));

/// What rings put on a leaf: job, synchronisation, up or down, and how many parts.
type Rings = Vec<((usize, u32, bool), u32)>;
