//! Plans that a replay knows, and what runs of each when nodes are away: pipelines that miss a device sit out, and the
//! others take their micro-batches.

use super::uses::{Segment, Uses, holds};
use super::world::{Frame, World, with_latencies};
use sim_core::{
    Digest, Executor, Network, NoObserver, RunOptions, SimError, SimTime, TaskGraph, TaskId, graph::TaskView,
};
use sim_models::fold::Folding;
use sim_models::iteration::memory_needs;
use sim_models::layout::Layout;
use sim_models::lower::Lowering;
use sim_models::memory;
use sim_models::plan::{DeviceRange, PipelineGroup, Plan, Stage};
use sim_models::scenario::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A plan, by its number among those met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub u32);

/// Footprints of a compiled plan that are kept: the oldest goes first.
const MOST_FOOTPRINTS: usize = 64;

/// What an iteration was.
#[derive(Clone, Debug)]
pub(crate) struct Footprint {
    pub(crate) segments: Vec<Segment>,
    pub(crate) ps: u64,
    pub(crate) digest: Digest,
}

impl Footprint {
    /// Its length on the replay's clock: rounded up to a nanosecond, and never none.
    pub(crate) fn ns(&self) -> u64 {
        self.ps.div_ceil(1_000).max(1)
    }
}

/// A plan, or alike ones, lowered.
pub(crate) struct Compiled {
    graph: TaskGraph,
    /// Channels it may use.
    pub(crate) channels: Vec<u32>,
    memory: Vec<Rc<Footprint>>,
    oldest: usize,
    /// Lengths in a world that stands still, by the rates of its channels; `None` when it never ends there.
    still: BTreeMap<Vec<u64>, Option<u64>>,
}

/// What of a plan runs while some nodes are away.
pub(crate) struct Variant {
    pub(crate) of: PlanId,
    /// Pipelines that sit out, in order.
    pub(crate) broken: Vec<u32>,
    /// Nodes it runs on.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Over the plan and who sits out.
    pub(crate) digest: Digest,
    /// What it, or one just like it, was lowered to.
    pub(crate) compiled: usize,
}

/// A pipeline of a plan as it was met.
pub(crate) struct Line {
    /// Its group in the plan.
    pub(crate) group: usize,
    nodes: BTreeSet<NodeId>,
    /// State by stage: bytes of each node.
    pub(crate) stages: Vec<Vec<(NodeId, u64)>>,
}

/// A plan as it was met.
struct Known {
    plan: Plan,
    lines: Vec<Line>,
    nodes: BTreeSet<NodeId>,
    /// Pipelines that cannot be told apart but by their place, as numbers of classes; `None` where places matter.
    classes: Option<Vec<usize>>,
    digest: Digest,
}

type Key = (PlanId, Vec<u32>, Vec<u64>);

/// See the head of this file.
pub(crate) struct Plans {
    known: Vec<Known>,
    variants: Vec<Variant>,
    compiled: Vec<Compiled>,
    /// `None` for what cannot run.
    by_key: BTreeMap<Key, Option<usize>>,
    compiled_by: BTreeMap<Key, Option<usize>>,
    lowering: Lowering,
    executor: Executor,
    /// Iterations simulated, and reused.
    pub(crate) simulated: u64,
    pub(crate) reused: u64,
    pub(crate) memoise: bool,
}

/// How an iteration went.
pub(crate) enum Ran {
    /// It ended.
    Done(Rc<Footprint>),
    /// It did not by the limit; or it never will, since nothing moves.
    Unfinished {
        /// The latter.
        stalled: bool,
    },
}

impl Plans {
    pub(crate) fn new(memoise: bool) -> Plans {
        Plans {
            known: Vec::new(),
            variants: Vec::new(),
            compiled: Vec::new(),
            by_key: BTreeMap::new(),
            compiled_by: BTreeMap::new(),
            lowering: Lowering::new(),
            executor: Executor::new(),
            simulated: 0,
            reused: 0,
            memoise,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn plan(&self, id: PlanId) -> &Plan {
        &self.known[id.0 as usize].plan
    }

    pub(crate) fn nodes(&self, id: PlanId) -> &BTreeSet<NodeId> {
        &self.known[id.0 as usize].nodes
    }

    pub(crate) fn lines(&self, id: PlanId) -> &[Line] {
        &self.known[id.0 as usize].lines
    }

    pub(crate) fn of_variant(&self, at: usize) -> &Variant {
        &self.variants[at]
    }

    pub(crate) fn channels(&self, at: usize) -> &[u32] {
        &self.compiled[self.variants[at].compiled].channels
    }

    /// A variant's plan and where it lies.
    pub(crate) fn laid_out(&self, frame: &Frame, at: usize) -> Option<(Plan, Layout)> {
        let variant = &self.variants[at];
        let plan = without(&self.known[variant.of.0 as usize].plan, &variant.broken)?;
        let layout = Layout::new(&frame.scenario, &plan).ok()?;
        Some((plan, layout))
    }

    /// The number of a plan, a new one if it was not met; `None` when it is none for the scenario.
    pub(crate) fn meet(&mut self, frame: &Frame, plan: &Plan) -> Option<PlanId> {
        if let Some(at) = self.known.iter().position(|k| k.plan == *plan) {
            return Some(PlanId(at as u32));
        }
        let scenario = &frame.scenario;
        let layout = Layout::new(scenario, plan).ok()?;
        let line = |p: &sim_models::layout::Pipeline| {
            let stage = |rank: &sim_models::layout::Rank| {
                let memory = memory::of_rank(scenario, plan, &layout, rank);
                let mut bytes: BTreeMap<NodeId, u64> = BTreeMap::new();
                for device in &rank.devices {
                    *bytes.entry(scenario.node(*device)).or_default() +=
                        memory.parameters.0 + memory.optimizer.0;
                }
                bytes.into_iter().collect()
            };
            let stages: Vec<Vec<(NodeId, u64)>> = layout.ranks[p.stages.clone()].iter().map(stage).collect();
            Line { group: p.group, nodes: stages.iter().flatten().map(|n| n.0).collect(), stages }
        };
        let lines: Vec<Line> = layout.pipelines.iter().map(line).collect();
        let nodes: BTreeSet<NodeId> = lines.iter().flat_map(|l| &l.nodes).copied().collect();
        let classes = classes(frame, &lines, &nodes);
        self.known.push(Known { plan: plan.clone(), lines, nodes, classes, digest: digest_of(plan) });
        Some(PlanId(self.known.len() as u32 - 1))
    }

    /// What runs of a plan while `down` are away, at these latencies.
    pub(crate) fn variant(
        &mut self,
        frame: &Frame,
        id: PlanId,
        down: &[NodeId],
        latencies: &[u64],
    ) -> Option<usize> {
        let known = &self.known[id.0 as usize];
        let broken: Vec<u32> = if down.is_empty() {
            Vec::new()
        } else {
            let away = |(_, line): &(usize, &Line)| down.iter().any(|n| line.nodes.contains(n));
            known.lines.iter().enumerate().filter(away).map(|(i, _)| i as u32).collect()
        };
        let key = (id, broken, latencies.to_vec());
        if let Some(found) = self.by_key.get(&key) {
            return *found;
        }
        let whole = (0..).zip(&known.lines).filter(|(i, _)| key.1.binary_search(i).is_err());
        let nodes = whole.flat_map(|(_, line)| &line.nodes).copied().collect();
        let mut digest = known.digest;
        key.1.iter().for_each(|b| digest.add(u64::from(*b), 1));
        let alike = match &known.classes {
            Some(classes) if self.memoise => last_of_each(classes, &key.1),
            _ => key.1.clone(),
        };
        let compiled = self.compile(frame, (id, alike, key.2.clone()));
        let variant = compiled.map(|compiled| {
            self.variants.push(Variant { of: id, broken: key.1.clone(), nodes, digest, compiled });
            self.variants.len() - 1
        });
        self.by_key.insert(key, variant);
        variant
    }

    fn compile(&mut self, frame: &Frame, key: Key) -> Option<usize> {
        if let Some(known) = self.compiled_by.get(&key) {
            return *known;
        }
        let plan = without(&self.known[key.0.0 as usize].plan, &key.1);
        let compiled = plan.and_then(|plan| self.lower(frame, &plan, &key.2)).map(|compiled| {
            self.compiled.push(compiled);
            self.compiled.len() - 1
        });
        self.compiled_by.insert(key, compiled);
        compiled
    }

    fn lower(&mut self, frame: &Frame, plan: &Plan, latencies: &[u64]) -> Option<Compiled> {
        let changed = with_latencies(&frame.scenario, latencies);
        let scenario = changed.as_ref().unwrap_or(&frame.scenario);
        let layout = Layout::new(scenario, plan).ok()?;
        if memory_needs(scenario, plan, &layout).iter().any(|(need, has)| need > has) {
            return None;
        }
        let folding = Folding::of(&layout);
        self.lowering.lower(scenario, &frame.fabric, plan, &layout, &folding).ok()?;
        let graph = std::mem::take(&mut self.lowering.graph);
        let mut channels = BTreeSet::new();
        for task in 0..graph.len() {
            if let TaskView::Transfer(t) = graph.view(TaskId(task as u32)) {
                channels.extend(t.uses.iter().filter_map(|(r, _)| frame.channel_of[r.index()]));
            }
        }
        let channels = channels.into_iter().collect();
        Some(Compiled { graph, channels, memory: Vec::new(), oldest: 0, still: BTreeMap::new() })
    }

    /// One iteration from `start` on, no further than `limit`; `net` is the world's from `base` on.
    pub(crate) fn run(
        &mut self,
        world: &World,
        at: usize,
        net: &Network,
        base: u64,
        start: u64,
        limit: u64,
    ) -> Ran {
        let compiled = &mut self.compiled[self.variants[at].compiled];
        if self.memoise {
            let found = compiled.memory.iter().rposition(|f| holds(&f.segments, world.channels(), start));
            if let Some(found) = found {
                self.reused += 1;
                let footprint = Rc::clone(&compiled.memory[found]);
                return within(footprint, start, limit);
            }
        }
        self.simulated += 1;
        let Some(origin) = SimTime::from_ns(start - base) else {
            return Ran::Unfinished { stalled: false };
        };
        // Past the limit nothing is of interest; the clock's own end lies later.
        let cutoff = (limit - start).checked_mul(1_000).map(SimTime::from_ps);
        let options = RunOptions { origin, cutoff, event_budget: None };
        let channel_of = &world.frame.channel_of;
        let mut uses = Uses::new(&compiled.graph, net, channel_of, world.channels().len(), origin);
        let outcome = if compiled.channels.is_empty() {
            self.executor.run(&compiled.graph, net, &options, &mut NoObserver)
        } else {
            self.executor.run(&compiled.graph, net, &options, &mut uses)
        };
        let outcome = match outcome {
            Ok(outcome) if outcome.finished => outcome,
            Err(SimError::Stalled { .. }) => return Ran::Unfinished { stalled: true },
            _ => return Ran::Unfinished { stalled: false },
        };
        let footprint =
            Rc::new(Footprint { segments: uses.segments, ps: outcome.end.as_ps(), digest: outcome.digest });
        if self.memoise {
            if compiled.memory.len() < MOST_FOOTPRINTS {
                compiled.memory.push(Rc::clone(&footprint));
            } else {
                compiled.memory[compiled.oldest] = Rc::clone(&footprint);
                compiled.oldest = (compiled.oldest + 1) % MOST_FOOTPRINTS;
            }
        }
        within(footprint, start, limit)
    }

    /// The length of an iteration in a world that stands still, ns; `None` when it never ends.
    pub(crate) fn still(&mut self, frame: &Frame, at: usize, rates: &[u64]) -> Option<u64> {
        let compiled = &mut self.compiled[self.variants[at].compiled];
        let key: Vec<u64> = compiled.channels.iter().map(|c| rates[*c as usize]).collect();
        if let Some(known) = compiled.still.get(&key) {
            return *known;
        }
        let net = frame.still(rates);
        let outcome = self.executor.run(&compiled.graph, &net, &RunOptions::default(), &mut NoObserver);
        let ns = outcome.ok().filter(|o| o.finished).map(|o| o.end.as_ps().div_ceil(1_000).max(1));
        compiled.still.insert(key, ns);
        ns
    }

    /// How long a graph of transfers takes from `start` on, ns rounded up; `None` when not by `limit`.
    pub(crate) fn move_bytes(
        &mut self,
        graph: &TaskGraph,
        net: &Network,
        base: u64,
        start: u64,
        limit: u64,
    ) -> Option<u64> {
        if graph.is_empty() {
            return Some(0);
        }
        let origin = SimTime::from_ns(start.checked_sub(base)?)?;
        let cutoff = limit.checked_sub(start)?.checked_mul(1_000).map(SimTime::from_ps);
        let options = RunOptions { origin, cutoff, event_budget: None };
        let outcome = self.executor.run(graph, net, &options, &mut NoObserver).ok()?;
        outcome.finished.then(|| outcome.end.as_ps().div_ceil(1_000))
    }
}

/// Classes of pipelines that stand on nodes of their own and of the same groups, of one group of the plan: which of a class
/// sit out makes no difference to the others. `None` where two pipelines share a node, or a node has a channel of its own.
fn classes(frame: &Frame, lines: &[Line], nodes: &BTreeSet<NodeId>) -> Option<Vec<usize>> {
    use super::world::Of;
    let links_only = frame.of.iter().all(|of| matches!(of, Of::Link(_)));
    if !links_only || lines.iter().map(|l| l.nodes.len()).sum::<usize>() != nodes.len() {
        return None;
    }
    let mut seen: BTreeMap<(usize, Vec<Vec<u32>>), usize> = BTreeMap::new();
    let class = |line: &Line| {
        let groups = line.stages.iter().map(|s| s.iter().map(|n| n.0.group).collect()).collect();
        let next = seen.len();
        *seen.entry((line.group, groups)).or_insert(next)
    };
    Some(lines.iter().map(class).collect())
}

/// As many of each class as are broken, the last ones.
fn last_of_each(classes: &[usize], broken: &[u32]) -> Vec<u32> {
    let mut left: BTreeMap<usize, usize> = BTreeMap::new();
    for b in broken {
        *left.entry(classes[*b as usize]).or_default() += 1;
    }
    let mut out: Vec<u32> = Vec::with_capacity(broken.len());
    for (i, class) in classes.iter().enumerate().rev() {
        if let Some(count) = left.get_mut(class).filter(|c| **c > 0) {
            *count -= 1;
            out.push(i as u32);
        }
    }
    out.reverse();
    out
}

fn within(footprint: Rc<Footprint>, start: u64, limit: u64) -> Ran {
    if start.saturating_add(footprint.ns()) > limit {
        Ran::Unfinished { stalled: false }
    } else {
        Ran::Done(footprint)
    }
}

/// Integers of a plan's text, the same on every machine.
fn digest_of(plan: &Plan) -> Digest {
    let text = format!("{plan:?}");
    let mut digest = Digest::EMPTY;
    for bytes in text.as_bytes().chunks(16) {
        let mut word = [0u8; 16];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = u128::from_le_bytes(word);
        digest.add(word as u64, (word >> 64) as u64);
    }
    digest
}

/// The plan without the pipelines of these numbers (over all groups, in order); the others take their micro-batches, as
/// evenly over the share they have as whole ones go, the earlier one first. `None` when none is left.
pub(crate) fn without(plan: &Plan, broken: &[u32]) -> Option<Plan> {
    if broken.is_empty() {
        return Some(plan.clone());
    }
    // (group, replica, its micro-batches)
    let mut left = Vec::new();
    let mut number = 0u32;
    for (g, group) in plan.pipelines.iter().enumerate() {
        for replica in 0..group.replicas {
            if broken.binary_search(&number).is_err() {
                left.push((g, replica, u64::from(group.micro_batches)));
            }
            number += 1;
        }
    }
    let total = plan.micro_batch_count();
    let kept: u64 = left.iter().map(|l| l.2).sum();
    if kept == 0 {
        return None;
    }
    let mut shares: Vec<u64> =
        left.iter().map(|l| (u128::from(total) * u128::from(l.2) / u128::from(kept)) as u64).collect();
    let mut rest = total - shares.iter().sum::<u64>();
    for share in &mut shares {
        if rest > 0 {
            *share += 1;
            rest -= 1;
        }
    }
    let mut pipelines: Vec<PipelineGroup> = Vec::new();
    let mut from = 0;
    while from < left.len() {
        let (g, share) = (left[from].0, shares[from]);
        let mut to = from;
        while to < left.len() && left[to].0 == g && shares[to] == share {
            to += 1;
        }
        let group = &plan.pipelines[g];
        let stage = |stage: &Stage| {
            let devices: Vec<(&str, u32)> = stage.devices().collect();
            let each = devices.len() / group.replicas.max(1) as usize;
            let kept =
                left[from..to].iter().flat_map(|l| &devices[l.1 as usize * each..(l.1 as usize + 1) * each]);
            Stage { devices: ranges(kept.map(|(name, i)| (*name, *i))), ..stage.clone() }
        };
        let mut kept = group.clone();
        kept.replicas = (to - from) as u32;
        kept.micro_batches = u32::try_from(share).ok()?;
        kept.stages = group.stages.iter().map(stage).collect();
        pipelines.push(kept);
        from = to;
    }
    Some(Plan { pipelines, ..plan.clone() })
}

/// Devices as ranges.
pub(crate) fn ranges<'a>(devices: impl Iterator<Item = (&'a str, u32)>) -> Vec<DeviceRange> {
    let mut list: Vec<DeviceRange> = Vec::new();
    for (name, i) in devices {
        match list.last_mut() {
            Some(last) if last.group == name && last.last + 1 == i => last.last = i,
            _ => list.push(DeviceRange { group: name.into(), first: i, last: i }),
        }
    }
    list
}
