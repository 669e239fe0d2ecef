//! A checked plan, laid out on devices: every pipeline with its stages, and who shares which layers' gradients.

use crate::crossings::{self, Crossing};
use crate::device::{Evidence, LayerCost};
use crate::layer_times::{LayerConfig, LayerSums, PassSent};
use crate::plan::{LayerRange, Layers, Plan, Recompute, Stage};
use crate::plan_check::{self, PlanFault};
use crate::scenario::{DeviceId, NodeId, Scenario};
use crate::schedule::{PassKind, Shape};
use crate::timeline::Timeline;
use crate::uplinks::Uplinks;
use crate::workload::Model;
use sim_core::SimDuration;
use std::collections::BTreeMap;

/// One pipeline of the plan.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Index of its group in [`Plan::pipelines`].
    pub group: usize,
    /// Micro-batches it takes in an iteration.
    pub micro_batches: u32,
    /// Its stages, as indices into [`Layout::ranks`], first to last.
    pub stages: std::ops::Range<usize>,
}

/// One stage of one pipeline: devices that run in lock step.
#[derive(Clone, Debug)]
pub struct Rank {
    /// Its pipeline, an index into [`Layout::pipelines`].
    pub pipeline: usize,
    /// Its stage in the pipeline.
    pub stage: u32,
    /// Its layers.
    pub layers: Layers,
    /// Tensor parallelism.
    pub tp: u32,
    /// Context parallelism.
    pub cp: u32,
    /// Expert parallelism, over the stage's replicas too.
    pub ep: u32,
    /// What its backward passes recompute.
    pub recompute: Recompute,
    /// Its devices, `tp x cp` of them.
    pub devices: Vec<DeviceId>,
    /// Their nodes, each with as many of them.
    pub nodes: Vec<NodeId>,
    /// How its devices on each of them reach other nodes; empty in a scenario without leaf switches.
    pub uplinks: Vec<Option<Uplinks>>,
    /// Times of layers for one micro-batch.
    pub times: LayerSums,
    /// The links that exchanges inside its layers take to other nodes; empty where none leaves a node.
    pub crossings: Vec<Crossing>,
}

/// Layers whose gradients the same ranks share.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The layers.
    pub layers: LayerRange,
    /// The ranks that hold them, node by node: the order of the ring.
    pub ranks: Vec<usize>,
    /// Devices that hold the same dense parameters of them: more than ranks where sequences are cut.
    pub devices: u64,
}

/// A plan laid out. See the head of this file.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Pipelines, in the plan's order.
    pub pipelines: Vec<Pipeline>,
    /// Stages of all pipelines, pipeline by pipeline.
    pub ranks: Vec<Rank>,
    /// Gradient synchronisation: layer ranges in order, only those of which some parameters are on more than one device.
    pub syncs: Vec<SyncGroup>,
    /// Nodes whose NIC or GPUs change on their own, each with a number that those which change alike share.
    pub apart: BTreeMap<NodeId, u32>,
    /// Leaf switches whose uplinks change on their own, each with a number that those which change alike share.
    pub apart_leaves: BTreeMap<u32, u32>,
    /// How its layer times are known: the worst of them.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of true over given layer time: the widest of them.
    pub spread: f64,
}

/// Nodes of some devices, each once, in order of appearance.
pub(crate) fn nodes_of(scenario: &Scenario, devices: &[DeviceId]) -> Vec<NodeId> {
    let mut nodes = Vec::with_capacity(1);
    for device in devices {
        let node = scenario.node(*device);
        if nodes.last() != Some(&node) && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// How the layers of one of a stage's replicas are split, for their times. `devices` are those of all its replicas, of which this
/// one's begin at `first`.
pub(crate) fn layer_config(
    scenario: &Scenario,
    plan: &Plan,
    stage: &Stage,
    devices: &[DeviceId],
    first: usize,
) -> LayerConfig {
    let nodes = |from: usize, count: u32, step: u32| {
        let own = devices.iter().skip(from).step_by(step.max(1) as usize);
        let picked: Vec<DeviceId> = own.take(count as usize).copied().collect();
        nodes_of(scenario, &picked).len().max(1) as u32
    };
    LayerConfig {
        micro_batch: plan.micro_batch,
        tp: stage.tp,
        cp: stage.cp,
        ep: stage.ep,
        sequence_parallel: plan.sequence_parallel && stage.tp > 1,
        overlap_tp: plan.overlap_tp && (stage.tp > 1 || stage.ep > 1),
        piped: stage.tp > 1
            && plan.pipelines.iter().any(|p| p.stages.len() > 1)
            && scenario.groups.iter().map(|g| u64::from(g.nodes)).sum::<u64>() > 1,
        nodes: [
            nodes(first, stage.tp, 1),
            nodes(first, stage.cp, stage.tp),
            nodes(first / stage.ep as usize * stage.ep as usize, stage.ep, 1),
        ],
    }
}

impl Rank {
    /// The first of its nodes.
    pub fn node(&self) -> NodeId {
        self.nodes[0]
    }

    /// Nodes that one of its tensor-parallel groups spreads over.
    pub fn spread(&self) -> u32 {
        (self.nodes.len() as u32 / self.cp.max(1)).max(1)
    }

    /// Time of a pass over some of its layers, one micro-batch.
    pub fn pass(&self, kind: PassKind, layers: LayerRange, split_weights: bool) -> SimDuration {
        let cost = self.cost(layers);
        let again = match self.recompute {
            Recompute::None => SimDuration::ZERO,
            Recompute::Selective => cost.again,
            // Embedding and head are not done again.
            Recompute::Full => self.blocks(layers).forward,
        };
        match kind {
            PassKind::Forward => cost.forward,
            PassKind::Weight => cost.weight,
            PassKind::Backward if split_weights => {
                cost.backward.saturating_sub(cost.weight).saturating_add(again)
            }
            PassKind::Backward => cost.backward.saturating_add(again),
        }
    }

    /// What a pass over some of its layers sends to other nodes.
    pub fn pass_sent(&self, kind: PassKind, layers: LayerRange, split_weights: bool) -> PassSent {
        if !self.times.leaves_node() {
            return PassSent::default();
        }
        let sent = self.times.sent(layers);
        let all = match kind {
            PassKind::Forward => sent.forward,
            PassKind::Backward if self.recompute == Recompute::Full => {
                let again = self.inner(layers).map(|blocks| self.times.sent(blocks).forward);
                sent.backward.plus(again.unwrap_or_default())
            }
            PassKind::Backward => sent.backward,
            PassKind::Weight => PassSent::default(),
        };
        all.within(self.pass(kind, layers, split_weights))
    }

    /// What a pass over some of its layers waits for inside them, as far as it is known apart.
    pub fn pass_wait(&self, kind: PassKind, layers: LayerRange) -> SimDuration {
        let cost = self.cost(layers);
        match kind {
            PassKind::Forward => cost.forward_wait,
            PassKind::Backward if self.recompute == Recompute::Full => {
                cost.backward_wait.saturating_add(self.blocks(layers).forward_wait)
            }
            PassKind::Backward => cost.backward_wait,
            PassKind::Weight => SimDuration::ZERO,
        }
    }

    /// What one micro-batch's passes wait for inside their layers, as far as it is known apart.
    pub fn wait(&self) -> SimDuration {
        let of = |r: &LayerRange| {
            let wait = |kind| self.pass_wait(kind, *r);
            wait(PassKind::Forward).saturating_add(wait(PassKind::Backward))
        };
        self.layers.chunks().iter().fold(SimDuration::ZERO, |sum, r| sum.saturating_add(of(r)))
    }

    /// Sum over the blocks among some of its layers.
    fn blocks(&self, layers: LayerRange) -> LayerCost {
        self.inner(layers).map(|blocks| self.cost(blocks)).unwrap_or_default()
    }

    /// The blocks among some of its layers.
    fn inner(&self, layers: LayerRange) -> Option<LayerRange> {
        let head = self.times.running().len().saturating_sub(2) as u32;
        let (first, last) = (layers.first.max(1), layers.last.min(head.saturating_sub(1)));
        (first <= last).then_some(LayerRange { first, last })
    }

    /// Sum over some of its layers.
    pub fn cost(&self, layers: LayerRange) -> LayerCost {
        self.times.cost(layers).expect("the check found times for every layer")
    }

    /// Time of its optimizer step, all of it.
    pub fn update(&self) -> SimDuration {
        self.layers.chunks().iter().fold(SimDuration::ZERO, |sum, r| sum.saturating_add(self.cost(*r).update))
    }
}

/// The nodes that [`Layout::apart`] numbers.
pub fn apart(scenario: &Scenario) -> BTreeMap<NodeId, u32> {
    type Changes<'a> = (Option<&'a Timeline>, Vec<(u32, &'a Timeline)>);
    let replay = &scenario.replay;
    let mut changes: BTreeMap<NodeId, Changes<'_>> = BTreeMap::new();
    for (node, nic) in &replay.nics {
        changes.entry(*node).or_default().0 = Some(nic);
    }
    for (device, speed) in &replay.speeds {
        let place = device.index % scenario.group(*device).gpus_per_node;
        changes.entry(scenario.node(*device)).or_default().1.push((place, speed));
    }
    numbered(changes.iter().map(|(node, change)| (*node, change)))
}

/// Equal values get equal numbers, in order of first appearance.
fn numbered<K: Ord, V: PartialEq>(list: impl Iterator<Item = (K, V)>) -> BTreeMap<K, u32> {
    let mut seen: Vec<V> = Vec::new();
    let number = |(key, value): (K, V)| {
        let at = seen.iter().position(|s| *s == value).unwrap_or_else(|| {
            seen.push(value);
            seen.len() - 1
        });
        (key, at as u32)
    };
    list.map(number).collect()
}

impl Layout {
    /// Lays `plan` out.
    ///
    /// # Errors
    /// Everything that [`plan_check::check`] finds.
    pub fn new(scenario: &Scenario, plan: &Plan) -> Result<Layout, Vec<PlanFault>> {
        let faults = plan_check::check(scenario, plan);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut layout = Layout {
            pipelines: Vec::new(),
            ranks: Vec::new(),
            syncs: Vec::new(),
            apart: apart(scenario),
            apart_leaves: numbered(scenario.replay.leaves.iter().map(|(leaf, line)| (*leaf, line))),
            evidence: Evidence::Measured,
            spread: 0.0,
        };
        for (group, pipelines) in plan.pipelines.iter().enumerate() {
            let devices: Vec<Vec<DeviceId>> = pipelines
                .stages
                .iter()
                .map(|s| {
                    let id = |(name, index): (&str, u32)| {
                        scenario.group_index(name).map(|g| DeviceId { group: g as u32, index })
                    };
                    s.devices().filter_map(id).collect()
                })
                .collect();
            // By stage: the node group of the replica before, and its times.
            let mut known: Vec<Option<(u32, LayerSums)>> = vec![None; devices.len()];
            for replica in 0..pipelines.replicas as usize {
                let first = layout.ranks.len();
                for (s, stage) in pipelines.stages.iter().enumerate() {
                    let width = stage.width() as usize;
                    let own = &devices[s][replica * width..(replica + 1) * width];
                    let group = own[0].group;
                    let times = match &known[s] {
                        Some((of, times)) if *of == group => times.clone(),
                        _ => {
                            let config = layer_config(scenario, plan, stage, &devices[s], replica * width);
                            layout.times(scenario, group, &config)
                        }
                    };
                    known[s] = Some((group, times.clone()));
                    let nodes = nodes_of(scenario, own);
                    let mut rank = Rank {
                        pipeline: layout.pipelines.len(),
                        stage: s as u32,
                        layers: stage.layers.clone(),
                        tp: stage.tp,
                        cp: stage.cp,
                        ep: stage.ep,
                        recompute: stage.recompute,
                        uplinks: Uplinks::of(scenario, own, &nodes),
                        nodes,
                        devices: own.to_vec(),
                        times,
                        crossings: Vec::new(),
                    };
                    if rank.times.leaves_node() {
                        rank.crossings = crossings::of(scenario, &rank, &devices[s], replica * width);
                    }
                    layout.ranks.push(rank);
                }
                let stages = first..layout.ranks.len();
                layout.pipelines.push(Pipeline { group, micro_batches: pipelines.micro_batches, stages });
            }
        }
        layout.find_syncs(&scenario.model);
        Ok(layout)
    }

    fn times(&mut self, scenario: &Scenario, group: u32, config: &LayerConfig) -> LayerSums {
        let times = scenario.groups[group as usize].layers.of(config);
        let times = times.expect("the check found times for every stage");
        self.evidence = self.evidence.max(times.evidence);
        self.spread = self.spread.max(times.spread);
        times
    }

    /// The stages of the pipeline that `rank` belongs to.
    pub fn stage_count(&self, rank: &Rank) -> u32 {
        self.pipelines[rank.pipeline].stages.len() as u32
    }

    /// Devices that hold the same dense parameters as one of a rank's: of its layers, those that fewest hold. At least 1.
    pub fn replicas(&self, rank: &Rank) -> u64 {
        let held = self.syncs.iter().filter(|s| rank.layers.contains(s.layers.first));
        held.map(|s| s.devices).min().unwrap_or(1)
    }

    /// What the order of a pipeline's passes depends on.
    pub fn shape(&self, plan: &Plan, pipeline: &Pipeline) -> Shape {
        Shape {
            schedule: plan.schedule,
            stages: pipeline.stages.len() as u32,
            chunks: self.ranks[pipeline.stages.start].layers.chunks().len() as u32,
            micro_batches: pipeline.micro_batches,
            in_flight: plan.in_flight,
        }
    }

    /// Devices among those of these ranks that hold the same experts, where expert parallelism shares them out; else 1.
    pub(crate) fn expert_copies(&self, ranks: &[usize]) -> u64 {
        let ranks = || ranks.iter().map(|r| &self.ranks[*r]);
        match ranks().map(|r| r.ep).max().unwrap_or(1) {
            ep if ep > 1 => ranks().map(|r| u64::from(r.tp * r.cp)).sum::<u64>() / u64::from(ep),
            _ => 1,
        }
    }

    /// Between two borders of any range of layers, the ranks that hold a layer are the same.
    fn find_syncs(&mut self, model: &Model) {
        let layers = model.layers();
        let mut border = vec![false; layers as usize + 1];
        border[0] = true;
        border[layers as usize] = true;
        for range in self.ranks.iter().flat_map(|r| r.layers.chunks()) {
            border[range.first as usize] = true;
        }
        // Who holds the layers from each border on.
        let mut holders: Vec<Vec<usize>> = vec![Vec::new(); layers as usize];
        for (r, rank) in self.ranks.iter().enumerate() {
            for range in rank.layers.chunks() {
                for layer in range.iter().filter(|l| border[*l as usize]) {
                    holders[layer as usize].push(r);
                }
            }
        }
        let borders: Vec<u32> = (0..=layers).filter(|l| border[*l as usize]).collect();
        for pair in borders.windows(2) {
            let layers = LayerRange { first: pair[0], last: pair[1] - 1 };
            let mut ranks = std::mem::take(&mut holders[pair[0] as usize]);
            let devices: u64 = ranks.iter().map(|r| u64::from(self.ranks[*r].cp)).sum();
            let experts = layers.iter().any(|l| model.experts_of(l).is_some());
            if devices > 1 || (experts && self.expert_copies(&ranks) > 1) {
                ranks.sort_by_key(|&r| (self.ranks[r].node(), r));
                self.syncs.push(SyncGroup { layers, ranks, devices });
            }
        }
    }
}
