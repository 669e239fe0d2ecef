//! What the transfers of a part's pipelines take on their devices: alike pipelines transfer at the same time, so each has its
//! share of a NIC or a link between zones at most. How many of them are alike depends on who runs one micro-batch more.

use super::Setting;
use super::rings::Rings;
use super::rounded;
use crate::space::{StageShape, Template};
use sim_models::device::Evidence;
use sim_models::fold::{Class, Folding};
use sim_models::layer_times::LayerSums;
use sim_models::layout::{self, Layout, Pipeline, Rank};
use sim_models::plan::LayerRange;
use sim_models::scenario::{DeviceId, NodeId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Pipelines on their devices: what makes their transfers what they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    stages: Vec<StageShape>,
    pipelines: u32,
    team: u32,
    micro_batch: u32,
    overlap_p2p: bool,
    /// Of each stage, where the first devices of its pipelines are in the list of its kind.
    at: Vec<Vec<Run>>,
    /// Nodes that other parts are on, too: nothing is known of what they do there.
    shared: Vec<NodeId>,
}

/// So many devices, each so much further on than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    first: u32,
    count: u32,
    further: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Sending {
    of: Sender,
    islands: Vec<Island>,
    known: Mutex<Known>,
    /// See [`Sending::unevenly`].
    uneven: OnceLock<Vec<(u32, [Option<usize>; 2])>>,
}

/// Pipelines in a row that share no node with others.
#[derive(Debug)]
struct Island {
    members: Range<u32>,
    /// Equal for islands that cannot be told apart.
    kind: usize,
}

#[derive(Debug, Default)]
struct Known {
    /// Different transfers, without rings.
    all: Vec<Arc<Setting>>,
    /// Which of them pipelines have.
    of: BTreeMap<Alike, usize>,
}

/// Pipelines with as many micro-batches: those of so many whole islands of a kind, or all of a range where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alike {
    Islands(usize, u32),
    Range(u32, u32),
}

/// Whether all pipelines of an island are in a run.
fn within(members: &Range<u32>, run: &Range<u32>) -> bool {
    run.start <= members.start && members.end <= run.end
}

/// Up to so many pipelines are looked at closely where they are one island.
const FEW: u32 = 8;

/// The transfers that a pipeline has at best, wherever it is and whatever others do.
pub const ANYWHERE: usize = usize::MAX;

/// Pipelines and micro-batches of up to two groups that differ by one: `total` micro-batches on `pipelines`.
pub(super) fn split(pipelines: u32, total: u32) -> Vec<(u32, u32)> {
    let (each, more) = (total / pipelines, total % pipelines);
    [(more, each + 1), (pipelines - more, each)].into_iter().filter(|(n, _)| *n > 0).collect()
}

impl Sender {
    /// Of pipelines placed so on their devices, by stage and replica by replica; others are on the nodes `shared`, too.
    pub fn new(
        rings: &Rings<'_>,
        micro_batch: u32,
        template: &Template,
        overlap_p2p: bool,
        devices: &[Vec<DeviceId>],
        shared: Vec<NodeId>,
    ) -> Sender {
        let at = |(shape, devices): (&StageShape, &Vec<DeviceId>)| {
            let list = &rings.kinds()[shape.kind as usize].devices;
            let mut runs: Vec<Run> = Vec::new();
            for replica in devices.chunks(shape.split.width() as usize) {
                let at = list.partition_point(|d| *d < replica[0]) as u32;
                match runs.last_mut() {
                    Some(run) if run.count == 1 && at > run.first => {
                        (run.count, run.further) = (2, at - run.first);
                    }
                    Some(run) if run.first + run.count * run.further == at => run.count += 1,
                    _ => runs.push(Run { first: at, count: 1, further: 0 }),
                }
            }
            runs
        };
        Sender {
            stages: template.stages.clone(),
            pipelines: devices[0].len() as u32 / template.stages[0].split.width(),
            team: template.team(),
            micro_batch,
            overlap_p2p,
            at: template.stages.iter().zip(devices).map(at).collect(),
            shared,
        }
    }

    /// The node of a stage of a pipeline.
    fn node(&self, rings: &Rings<'_>, pipeline: u32, stage: usize) -> NodeId {
        let list = &rings.kinds()[self.stages[stage].kind as usize].devices;
        let mut left = pipeline;
        for run in &self.at[stage] {
            if left < run.count {
                return rings.scenario().node(list[(run.first + left * run.further) as usize]);
            }
            left -= run.count;
        }
        unreachable!("every pipeline has devices")
    }

    /// Nodes that change by themselves or carry something else, numbered.
    fn apart(&self, rings: &Rings<'_>) -> BTreeMap<NodeId, u32> {
        let mut apart = layout::apart(rings.scenario());
        let next = apart.values().max().map_or(0, |n| n + 1);
        apart.extend(self.shared.iter().copied().zip(next..));
        apart
    }

    fn islands(&self, rings: &Rings<'_>) -> Vec<Island> {
        let mut rows: Vec<Range<u32>> = Vec::new();
        let mut on: BTreeMap<NodeId, u32> = BTreeMap::new();
        for p in 0..self.pipelines {
            let nodes = (0..self.stages.len()).map(|s| self.node(rings, p, s));
            // All from the first pipeline on that one of its nodes has.
            let first = nodes.map(|node| *on.entry(node).or_insert(p)).min().unwrap_or(p);
            let joined = rows.iter().rposition(|row| row.end <= first).map_or(0, |at| at + 1);
            let start = rows.get(joined).map_or(p, |row| row.start);
            rows.truncate(joined);
            rows.push(start..p + 1);
        }
        let apart = self.apart(rings);
        let mut kinds: BTreeMap<Vec<(u32, u32, Option<u32>)>, usize> = BTreeMap::new();
        let of = |members: Range<u32>| {
            // Which of its nodes each stage of each pipeline is on.
            let mut seen: BTreeMap<NodeId, u32> = BTreeMap::new();
            let mut signature = Vec::new();
            for p in members.clone() {
                for s in 0..self.stages.len() {
                    let node = self.node(rings, p, s);
                    let next = seen.len() as u32;
                    let index = *seen.entry(node).or_insert(next);
                    signature.push((node.group, index, apart.get(&node).copied()));
                }
            }
            let next = kinds.len();
            Island { members, kind: *kinds.entry(signature).or_insert(next) }
        };
        rows.into_iter().map(of).collect()
    }
}

impl Sending {
    pub(super) fn new(rings: &Rings<'_>, of: Sender) -> Sending {
        let islands = of.islands(rings);
        let (known, uneven) = Default::default();
        Sending { of, islands, known, uneven }
    }

    /// Which transfers pipelines have of which the first `more` run one micro-batch more than the others: those, then the others,
    /// as far as there are any.
    pub fn ways(&self, rings: &Rings<'_>, more: u32) -> Vec<usize> {
        let mut first = 0;
        let way = |(replicas, _): (u32, u32)| {
            let run = first..first + replicas;
            first = run.end;
            self.way(rings, run)
        };
        split(self.of.pipelines, self.of.pipelines + more).into_iter().map(way).collect()
    }

    /// The most micro-batches of all pipelines, one each at least, where one with certain transfers can run `each`, those of
    /// [`ANYWHERE`] among them; 0 when there are none.
    pub fn most(&self, rings: &Rings<'_>, mut each: impl FnMut(usize) -> u32) -> u32 {
        let pipelines = self.of.pipelines;
        let mut most = each(self.ways(rings, 0)[0]).saturating_mul(pipelines);
        for (more, [first, others]) in self.uneven.get_or_init(|| self.unevenly(rings)) {
            let total =
                |own: u32| if own > 0 { own.saturating_mul(pipelines).saturating_add(*more) } else { 0 };
            // Those that run one more, and the others.
            let mut own = first.map_or(u32::MAX, |way| each(way).saturating_sub(1));
            if total(own) > most
                && let Some(way) = others
            {
                own = own.min(each(*way));
            }
            most = most.max(total(own));
        }
        most
    }

    /// The same where `each` is told by the transfers, `anywhere` those at best.
    pub fn most_by(&self, rings: &Rings<'_>, anywhere: &Setting, each: impl Fn(&Setting) -> u32) -> u32 {
        let mut known = BTreeMap::new();
        let new = |way| if way == ANYWHERE { each(anywhere) } else { each(&self.transfers(way)) };
        self.most(rings, |way| *known.entry(way).or_insert_with(|| new(way)))
    }

    /// The different transfers of those that run one micro-batch more and of the others, with the most of the former that have them.
    /// Those of less than an island are not looked at where the others tell enough, nor how alike those of one large island are.
    fn unevenly(&self, rings: &Rings<'_>) -> Vec<(u32, [Option<usize>; 2])> {
        let mut known: BTreeMap<[Option<usize>; 2], u32> = BTreeMap::new();
        for more in (self.of.team..self.of.pipelines).step_by(self.of.team as usize) {
            let runs = [0..more, more..self.of.pipelines];
            let whole = |run: &Range<u32>| self.islands.iter().any(|island| within(&island.members, run));
            let enough = runs.iter().any(whole);
            let way = |run: Range<u32>| match (whole(&run), enough) {
                (false, false) if self.of.pipelines > FEW => Some(ANYWHERE),
                (false, true) => None,
                _ => Some(self.way(rings, run)),
            };
            known.insert(runs.map(way), more);
        }
        let mut list: Vec<_> = known.into_iter().map(|(ways, more)| (more, ways)).collect();
        list.sort_unstable_by(|a, b| b.cmp(a));
        list
    }

    /// The transfers of one of these.
    pub fn transfers(&self, way: usize) -> Arc<Setting> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).all[way])
    }

    /// The transfers of those pipelines in a row that alone run as many micro-batches.
    fn way(&self, rings: &Rings<'_>, run: Range<u32>) -> usize {
        let mut alike: BTreeMap<usize, (u32, &Island)> = BTreeMap::new();
        for island in self.islands.iter().filter(|i| within(&i.members, &run)) {
            alike.entry(island.kind).or_insert((0, island)).0 += 1;
        }
        let largest = alike.values().max_by_key(|(count, i)| (i.members.len(), *count));
        let key = largest.map_or(Alike::Range(run.start, run.end), |(count, island)| {
            // Only links between zones carry what several islands send; a few cases are enough where some run more.
            let count = if run.len() as u32 == self.of.pipelines { *count } else { rounded(*count) };
            Alike::Islands(island.kind, if rings.zones().several() { count } else { 1 })
        });
        if let Some(way) = self.known.lock().unwrap_or_else(PoisonError::into_inner).of.get(&key) {
            return *way;
        }
        let setting = match (largest, key) {
            (Some((_, island)), Alike::Islands(_, count)) => {
                self.transfers_of(rings, island.members.clone(), &run, count)
            }
            // What the run is in.
            _ => {
                let touched = |i: &&Island| i.members.start < run.end && run.start < i.members.end;
                let touched = || self.islands.iter().filter(touched).map(|i| &i.members);
                let first = touched().map(|m| m.start).min().unwrap_or(run.start);
                let end = touched().map(|m| m.end).max().unwrap_or(run.end);
                self.transfers_of(rings, first..end, &run, 1)
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.all.iter().position(|s| s.transfers_like(&setting));
        let way = same.unwrap_or_else(|| {
            known.all.push(Arc::new(setting));
            known.all.len() - 1
        });
        known.of.insert(key, way);
        way
    }

    /// The transfers of the largest class that those of these pipelines fold into that are in a run, where there are `times` as many.
    /// The first of them are as if all ran as much: until those who run less have done their last forward pass, all are in the state in
    /// which they would be then.
    fn transfers_of(&self, rings: &Rings<'_>, members: Range<u32>, run: &Range<u32>, times: u32) -> Setting {
        let how = (self.of.micro_batch, self.of.overlap_p2p);
        let of_classes = |run: &Range<u32>| -> Vec<(Class, Setting)> {
            let layout = self.lay_out(rings, members.clone(), run);
            // Exchanges of experts between nodes may leave the pods of some pipelines and not of others.
            let folding = if rings.unlike() { Folding::none(&layout) } else { Folding::of(&layout) };
            let mine = folding.classes.into_iter().filter(|c| layout.pipelines[c.pipeline].group == 0);
            let of = |class: Class| {
                let setting = Setting::of_class(rings.scenario(), &layout, &class, class.count * times, how);
                (class, setting)
            };
            mine.map(of).collect()
        };
        let own = of_classes(run).into_iter();
        let largest = own.max_by_key(|(c, _)| (c.count, std::cmp::Reverse(c.pipeline)));
        let (_, own) = largest.expect("a run is not empty");
        if within(&members, run) {
            return own;
        }
        own.after(&of_classes(&members).into_iter().map(|(_, setting)| setting).collect::<Vec<_>>())
    }

    /// These pipelines without layers, those of the run in a group of their own: what folding looks at.
    fn lay_out(&self, rings: &Rings<'_>, members: Range<u32>, run: &Range<u32>) -> Layout {
        let mut layout = Layout {
            pipelines: Vec::new(),
            ranks: Vec::new(),
            syncs: Vec::new(),
            apart: self.of.apart(rings),
            apart_leaves: BTreeMap::new(),
            evidence: Evidence::Measured,
            spread: 0.0,
        };
        for member in members {
            let first = layout.ranks.len();
            for (s, shape) in self.of.stages.iter().enumerate() {
                layout.ranks.push(Rank {
                    pipeline: layout.pipelines.len(),
                    stage: s as u32,
                    layers: LayerRange { first: s as u32, last: s as u32 }.into(),
                    tp: shape.split.tp,
                    cp: shape.split.cp,
                    ep: shape.split.ep,
                    recompute: shape.recompute,
                    nodes: vec![self.of.node(rings, member, s)],
                    // What is shared more only slows down: the bound knows of NICs alone.
                    uplinks: Vec::new(),
                    devices: Vec::new(),
                    times: LayerSums::default(),
                    crossings: Vec::new(),
                });
            }
            let group = usize::from(!run.contains(&member));
            let stages = first..layout.ranks.len();
            layout.pipelines.push(Pipeline { group, micro_batches: 2 - group as u32, stages });
        }
        layout
    }
}
