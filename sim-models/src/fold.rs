//! Folding: pipelines that cannot be told apart are simulated once.
//!
//! Two pipelines are alike when they are of one plan group (same layers, TP, micro-batches), stand on nodes of the same
//! groups that change alike, and those nodes carry the same mix of alike pipelines' stages. This is colour refinement of the graph of
//! pipelines and nodes: the colours are refined until every node of a colour carries the same number of stages of each
//! colour. Then, if alike pipelines are in the same state, every shared resource of a colour has the same load, max-min
//! fair rates (which are unique) are the same, and they stay in the same state: the folded run has the unfolded run's
//! times to the picosecond. One NIC stands for all of its colour, with each transfer weighted by how many of its like
//! that NIC carries; a link between zones is one link, so there a transfer counts once for every pipeline it stands for.

use crate::layout::Layout;
use crate::scenario::NodeId;
use std::collections::BTreeMap;

/// Which pipelines are simulated, and for how many others.
#[derive(Clone, Debug)]
pub struct Folding {
    /// Pipelines to simulate, in order, each with how many it stands for (itself included).
    pub classes: Vec<Class>,
    /// The node that stands for a node.
    canonical: BTreeMap<NodeId, NodeId>,
}

/// Alike pipelines.
#[derive(Clone, Debug)]
pub struct Class {
    /// The one to simulate, an index into [`Layout::pipelines`].
    pub pipeline: usize,
    /// How many there are.
    pub count: u32,
    /// For each stage and each of its nodes: how many pipelines of the class have that stage on the same node.
    pub shares: Vec<Vec<u32>>,
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
                }
            })
            .collect();
        Folding { classes, canonical: BTreeMap::new() }
    }

    /// Alike pipelines together.
    pub fn of(layout: &Layout) -> Folding {
        let nodes = |p: usize| layout.ranks[layout.pipelines[p].stages.clone()].iter().flat_map(|r| &r.nodes);
        let count = layout.pipelines.len();
        let mut colours = number((0..count).map(|p| {
            let groups: Vec<u32> = nodes(p).map(|n| n.group).collect();
            (layout.pipelines[p].group, layout.pipelines[p].micro_batches, groups)
        }));
        loop {
            let node_colour = node_colours(layout, &colours.0);
            let refined = number((0..count).map(|p| {
                let seen: Vec<NodeId> = nodes(p).copied().collect();
                let around: Vec<(u32, usize)> = seen
                    .iter()
                    .map(|n| (node_colour[n], seen.iter().position(|m| m == n).unwrap_or(0)))
                    .collect();
                (colours.0[p], around)
            }));
            let stable = refined.1 == colours.1;
            colours = refined;
            if stable {
                return Folding::from_colours(layout, &colours.0, &node_colour);
            }
        }
    }

    fn from_colours(layout: &Layout, colours: &[u32], node_colour: &BTreeMap<NodeId, u32>) -> Folding {
        let mut first_node: BTreeMap<u32, NodeId> = BTreeMap::new();
        let mut canonical = BTreeMap::new();
        for (node, colour) in node_colour {
            canonical.insert(*node, *first_node.entry(*colour).or_insert(*node));
        }
        let mut on_node: BTreeMap<(NodeId, u32, u32), u32> = BTreeMap::new();
        for rank in &layout.ranks {
            for node in &rank.nodes {
                *on_node.entry((*node, colours[rank.pipeline], rank.stage)).or_default() += 1;
            }
        }
        let mut classes: Vec<Class> = Vec::new();
        let mut class_of: BTreeMap<u32, usize> = BTreeMap::new();
        for (p, colour) in colours.iter().enumerate() {
            if let Some(&c) = class_of.get(colour) {
                classes[c].count += 1;
                continue;
            }
            class_of.insert(*colour, classes.len());
            let ranks = &layout.ranks[layout.pipelines[p].stages.clone()];
            let share = |r: &crate::layout::Rank| {
                r.nodes.iter().map(|node| on_node[&(*node, *colour, r.stage)]).collect()
            };
            let shares = ranks.iter().map(share).collect();
            classes.push(Class { pipeline: p, count: 1, shares });
        }
        Folding { classes, canonical }
    }

    /// Whether a pipeline stands for another.
    pub fn is_folded(&self) -> bool {
        self.classes.iter().any(|c| c.count > 1)
    }

    /// The node whose resources stand for those of `node`.
    pub fn canonical(&self, node: NodeId) -> NodeId {
        self.canonical.get(&node).copied().unwrap_or(node)
    }
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

/// What a node carries: a colour, its stage and which of the stage's nodes it is.
type Carried = (u32, (u32, u32));

/// A node's colour: its group, and the sorted list of what it carries.
fn node_colours(layout: &Layout, colours: &[u32]) -> BTreeMap<NodeId, u32> {
    let mut carried: BTreeMap<NodeId, Vec<Carried>> = BTreeMap::new();
    for rank in &layout.ranks {
        for (slot, node) in rank.nodes.iter().enumerate() {
            let stage = (rank.stage, slot as u32);
            carried.entry(*node).or_default().push((colours[rank.pipeline], stage));
        }
    }
    for list in carried.values_mut() {
        list.sort_unstable();
    }
    let (numbers, _) = number(carried.iter().map(|(node, list)| (node.group, layout.apart.get(node), list)));
    carried.keys().copied().zip(numbers).collect()
}
