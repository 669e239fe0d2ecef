//! One stage: times, memory and gradient bytes of layers `first .. end`, for every such range.

use super::{NotMeasured, floor_ps};
use crate::space::{Kind, Recipe, Split, StageShape, cp_degrees};
use sim_models::device::LayerCost;
use sim_models::layer_times::LayerConfig;
use sim_models::memory::{self, StageMemory};
use sim_models::plan::{LayerRange, Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;
use sim_models::schedule::Shape;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a stage stands in its pipeline: what it keeps for transfers differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// The only stage.
    Only,
    /// The first of several.
    First,
    /// Between others.
    Middle,
    /// The last of several.
    Last,
}

impl Position {
    /// Of stage `s` of `stages`.
    pub fn of(s: usize, stages: usize) -> Position {
        match (s == 0, s + 1 == stages) {
            (true, true) => Position::Only,
            (true, false) => Position::First,
            (false, true) => Position::Last,
            (false, false) => Position::Middle,
        }
    }

    /// A stage and a number of stages that stand so.
    fn example(self) -> (u32, u32) {
        match self {
            Position::Only => (0, 1),
            Position::First => (0, 3),
            Position::Middle => (1, 3),
            Position::Last => (2, 3),
        }
    }
}

/// Memory of a device that holds some layers, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    /// With one micro-batch in flight.
    one: u64,
    /// What replicas share out of it.
    shared: u64,
    /// What each further micro-batch adds.
    more: u64,
}

/// By `first * (layers + 1) + end`.
type Needs = Vec<Need>;

/// The last ends that fit, by micro-batches in flight and replicas.
type Fitting = BTreeMap<(u32, u64), Arc<[u32]>>;

/// Costs of a stage of one kind at one TP, micro-batch and position. Times are ps; layers are `first .. end`.
#[derive(Debug)]
pub struct StageCost {
    /// Running sums over layers: forward passes, both passes, these and weight gradients in a pass of their own, optimizer steps.
    forward: Vec<u64>,
    both: Vec<u64>,
    work: Vec<u64>,
    update: Vec<u64>,
    layers: usize,
    needs: Arc<Needs>,
    /// Among how many each replica shares it out at most, and replicas of the plan at most.
    sharers: u64,
    most: u64,
    /// Whether replicas share out the optimizer step.
    sharded: bool,
    /// See [`StageCost::fitting`].
    fitting: Mutex<Fitting>,
    /// Running sums over layers: bytes of gradients that go around all replicas, all tensor-parallel ranks together.
    gradients: Vec<u64>,
    /// The same of one rank's experts, where they have rings of their own; empty where not.
    experts: Vec<u64>,
    /// Of all that may go around in one ring: dense parameters and all experts.
    whole: Vec<u64>,
    /// Memory of a device.
    memory: u64,
    /// What the framework adds to an optimizer step once an iteration, ps.
    once: u64,
    /// Its kind.
    pub kind: usize,
    /// How its layers are split.
    pub split: Split,
}

impl StageCost {
    fn new(tables: &Tables<'_>, shape: StageShape, position: Position) -> Result<StageCost, NotMeasured> {
        let (scenario, recipe, Split { tp, cp, ep }) = (tables.scenario, tables.recipe, shape.split);
        let model = &scenario.model;
        let layers = model.layers() as usize;
        let group = &scenario.groups[tables.kinds[shape.kind as usize].group];
        let config = LayerConfig {
            cp,
            ep,
            nodes: [1, 1, ep.div_ceil(group.gpus_per_node.max(1))],
            sequence_parallel: recipe.sequence_parallel && tp > 1,
            ..LayerConfig::new(tables.micro_batch, tp)
        };
        let times = group.layers.of(&config).ok();
        let times = times.filter(|t| t.running().len() == layers + 1).ok_or(NotMeasured)?;
        if shape.recompute == Recompute::Selective && times.total().again.as_ps() == 0 {
            // Only whole layers are known.
            return Err(NotMeasured);
        }
        let element = scenario.training.gradient_bytes;
        let sums = |of: &dyn Fn(u32) -> u64| -> Vec<u64> {
            let add = |sum: &mut u64, l: u32| {
                *sum = sum.saturating_add(of(l).saturating_mul(element));
                Some(*sum)
            };
            std::iter::once(0).chain((0..layers as u32).scan(0, add)).collect()
        };
        let all = |l| model.parameters(l, tp).saturating_mul(u64::from(tp));
        let dense = |l| model.dense_parameters(l, tp).saturating_mul(u64::from(tp));
        let (gradients, experts) = match ep {
            0 | 1 => (sums(&all), Vec::new()),
            ep => (sums(&dense), sums(&|l| model.expert_parameters(l, tp, ep))),
        };
        let (memory, once) = (group.gpu.memory.0, floor_ps(scenario.training.overheads.iteration_s));
        let running = times.running();
        let split = recipe.schedule == Schedule::ZeroBubble;
        // Embedding and head are not done again.
        let blocks =
            |i: usize| running[i.clamp(1, layers.max(2) - 1)].forward.as_ps() - running[1].forward.as_ps();
        let again = |i: usize| match shape.recompute {
            Recompute::None => 0,
            Recompute::Selective => running[i].again.as_ps(),
            Recompute::Full => blocks(i),
        };
        let weight = |t: &LayerCost| if split { t.weight.as_ps() } else { 0 };
        let both =
            |(i, t): (usize, &LayerCost)| t.forward.as_ps() + t.backward.as_ps() - weight(t) + again(i);
        Ok(StageCost {
            forward: running.iter().map(|t| t.forward.as_ps()).collect(),
            both: running.iter().enumerate().map(both).collect(),
            work: running.iter().enumerate().map(|(i, t)| both((i, t)) + weight(t)).collect(),
            update: running.iter().map(|t| t.update.as_ps()).collect(),
            layers,
            needs: tables.needs(shape, position),
            sharers: if model.experts.is_some() { tp.into() } else { 1 },
            most: tables.most,
            sharded: recipe.zero > 0,
            fitting: Mutex::default(),
            gradients,
            experts,
            whole: sums(&all),
            memory,
            once,
            kind: shape.kind as usize,
            split: shape.split,
        })
    }

    /// By first layer, the last end of layers from it on that fit with so many micro-batches in flight in a plan of so many replicas at
    /// most: the first layer itself where none do. They grow with it.
    pub fn fitting(&self, in_flight: u32, replicas: u64) -> Arc<[u32]> {
        // More replicas than that share nothing more out.
        let replicas = if self.sharded { replicas.clamp(1, self.most) } else { self.most };
        let key = (in_flight.max(1), replicas);
        if let Some(known) = self.fitting.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let mut end = 0;
        let last = |first: usize| {
            end = end.max(first);
            // Fewer layers take no more.
            while end < self.layers && self.excess(first, end + 1, in_flight, replicas) <= 0 {
                end += 1;
            }
            end as u32
        };
        let ends: Arc<[u32]> = (0..self.layers).map(last).collect();
        self.fitting.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&ends));
        ends
    }

    /// Forward pass of one micro-batch.
    pub fn forward(&self, first: usize, end: usize) -> u64 {
        self.forward[end] - self.forward[first]
    }

    /// Backward pass of one micro-batch.
    pub fn backward(&self, first: usize, end: usize) -> u64 {
        self.both(first, end) - self.forward(first, end)
    }

    /// Both, as they follow each other through the stages.
    pub fn both(&self, first: usize, end: usize) -> u64 {
        self.both[end] - self.both[first]
    }

    /// All that one micro-batch has the stage do: both, and weight gradients where they have a pass of their own.
    pub fn work(&self, first: usize, end: usize) -> u64 {
        self.work[end] - self.work[first]
    }

    /// Optimizer step in a plan of so many replicas at most, with what is added once an iteration.
    pub fn update(&self, first: usize, end: usize, replicas: u64) -> u64 {
        let all = self.update[end] - self.update[first];
        self.once + if self.sharded { all / replicas.clamp(1, self.most) } else { all }
    }

    /// Bytes by which the layers with `in_flight` micro-batches exceed the device (negative: to spare), at least, in a plan of so
    /// many replicas at most.
    pub fn excess(&self, first: usize, end: usize, in_flight: u32, replicas: u64) -> i128 {
        let Need { one, shared, more } = self.needs[first * (self.layers + 1) + end];
        let more = u128::from(more) * u128::from(in_flight.max(1) - 1);
        let part = if shared == 0 { 0 } else { shared / (replicas.clamp(1, self.most) * self.sharers) };
        let own = one - shared + part;
        i128::try_from(u128::from(own) + more).unwrap_or(i128::MAX) - i128::from(self.memory)
    }

    /// Bytes of the layers' gradients, all tensor-parallel ranks together.
    pub fn gradients(&self, first: usize, end: usize) -> u64 {
        self.gradients[end] - self.gradients[first]
    }

    /// Bytes of the gradients of one rank's experts among the layers, where these have rings of their own.
    pub fn experts(&self, first: usize, end: usize) -> u64 {
        if self.experts.is_empty() { 0 } else { self.experts[end] - self.experts[first] }
    }

    /// No ring of as many layers, whatever pipelines it is of, has more bytes; of other paddings aside.
    pub fn most_gradients(&self, layers: usize) -> u64 {
        (0..=self.layers - layers).map(|l| self.whole[l + layers] - self.whole[l]).max().unwrap_or(0)
    }
}

type Known = BTreeMap<(StageShape, Position), Result<Arc<StageCost>, NotMeasured>>;

/// Stage costs of one scenario at a micro-batch size under a recipe, each computed once: templates share them.
#[derive(Debug)]
pub struct Tables<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    micro_batch: u32,
    recipe: Recipe,
    /// Devices with the same parameters in a plan at most: pipelines of a device, one a micro-batch, times what context
    /// parallelism makes of each.
    most: u64,
    known: Mutex<Known>,
    /// By how layers are split, what is recomputed, and position.
    needs: Mutex<BTreeMap<(Split, Recompute, Position), Arc<Needs>>>,
}

impl<'a> Tables<'a> {
    /// None known yet. The micro-batch is at least 1.
    pub fn new(scenario: &'a Scenario, kinds: &'a [Kind], micro_batch: u32, recipe: Recipe) -> Tables<'a> {
        let devices = kinds.iter().map(|k| k.devices.len() as u64).sum::<u64>();
        let copies = cp_degrees(scenario).into_iter().max().unwrap_or(1);
        let pipelines = u64::from(scenario.training.global_batch / micro_batch);
        let most = devices.min(pipelines.saturating_mul(copies.into())).max(1);
        let (known, needs) = Default::default();
        Tables { scenario, kinds, micro_batch, recipe, most, known, needs }
    }

    /// The scenario.
    pub fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Micro-batches of an iteration. At least 1.
    pub fn micro_batches(&self) -> u32 {
        (self.scenario.training.global_batch / self.micro_batch).max(1)
    }

    /// How plans train.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// The costs of a stage.
    ///
    /// # Errors
    /// When its layers have no times there.
    pub fn stage(&self, shape: StageShape, position: Position) -> Result<Arc<StageCost>, NotMeasured> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || StageCost::new(self, shape, position).map(Arc::new);
        known.entry((shape, position)).or_insert_with(new).clone()
    }

    /// Memory of any layers of a stage. It does not depend on its kind.
    fn needs(&self, shape: StageShape, position: Position) -> Arc<Needs> {
        let key = (shape.split, shape.recompute, position);
        if let Some(needs) = self.needs.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(needs);
        }
        let model = &self.scenario.model;
        let layers = model.layers() as usize;
        let mut needs = vec![Need::default(); (layers + 1) * (layers + 1)];
        // Of layers of the same sorts: blocks with experts are alike, and so are those without.
        let mut known: BTreeMap<_, Need> = BTreeMap::new();
        for first in 0..layers {
            let mut experts = 0;
            for end in first + 1..=layers {
                experts += u32::from(model.experts_of(end as u32 - 1).is_some());
                let sorts = (first == 0, end == layers, end - first, experts);
                let need = known.entry(sorts).or_insert_with(|| self.need(shape, position, (first, end)));
                needs[first * (layers + 1) + end] = *need;
            }
        }
        let needs = Arc::new(needs);
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&needs));
        needs
    }

    /// Memory of layers `first .. end` of a stage.
    fn need(&self, shape: StageShape, position: Position, (first, end): (usize, usize)) -> Need {
        let Recipe { zero, sequence_parallel, .. } = self.recipe;
        let plan = Plan { micro_batch: self.micro_batch, zero, sequence_parallel, ..Plan::default() };
        let (stage, stages) = position.example();
        let layers = LayerRange { first: first as u32, last: end as u32 - 1 }.into();
        let of = |micro_batches: u32, replicas: u64| {
            let stage = StageMemory {
                layers: &layers,
                tp: shape.split.tp,
                cp: shape.split.cp,
                ep: shape.split.ep,
                recompute: shape.recompute,
                stage,
                // All of them are in flight at once.
                shape: Shape { schedule: Schedule::GPipe, stages, chunks: 1, micro_batches, in_flight: None },
                replicas,
            };
            memory::of_stage(self.scenario, &plan, &stage)
        };
        let (one, two) = (of(1, 1), of(2, 1));
        // Of each of its parts a byte is left to each, of dense parameters and of experts.
        let left = if zero > 0 { of(1, u64::MAX >> 16).total().0.saturating_sub(6) } else { one.total().0 };
        Need {
            one: one.total().0,
            shared: one.total().0.saturating_sub(left),
            more: two.activations.0 - one.activations.0,
        }
    }
}
