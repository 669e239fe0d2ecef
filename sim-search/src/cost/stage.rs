//! One stage: times, memory and gradient bytes of layers `first .. end`, for every such range.

use super::{NotMeasured, floor_ps};
use crate::space::Kind;
use sim_models::device::LayerCost;
use sim_models::memory::{self, StageMemory};
use sim_models::plan::{LayerRange, Plan};
use sim_models::scenario::Scenario;
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

/// Costs of a stage of one kind at one TP, micro-batch and position. Times are ps; layers are `first .. end`.
#[derive(Debug)]
pub struct StageCost {
    /// Running sums over layers: forward passes, both passes, optimizer steps.
    forward: Vec<u64>,
    both: Vec<u64>,
    update: Vec<u64>,
    layers: usize,
    /// Memory of a device with one micro-batch in flight, by `first * (layers + 1) + end`, and what each further one adds.
    one: Vec<u64>,
    more: Vec<u64>,
    /// `[in flight - 1][first]`: the last end of layers from `first` on that fit.
    fitting: Vec<Vec<u32>>,
    /// Running sums over layers: bytes of gradients, all tensor-parallel ranks together.
    gradients: Vec<u64>,
    /// Memory of a device.
    memory: u64,
    /// What the framework adds to an optimizer step once an iteration, ps.
    once: u64,
    /// Its kind.
    pub kind: usize,
    /// Tensor parallelism.
    pub tp: u32,
}

impl StageCost {
    fn new(
        scenario: &Scenario,
        (k, kind): (usize, &Kind),
        tp: u32,
        micro_batch: u32,
        position: Position,
    ) -> Result<StageCost, NotMeasured> {
        let model = &scenario.model;
        let layers = model.layers() as usize;
        let group = &scenario.groups[kind.group];
        let times = group.layers.at(micro_batch, tp).ok();
        let times = times.filter(|t| t.running().len() == layers + 1).ok_or(NotMeasured)?;
        let plan = Plan { micro_batch, ..Plan::default() };
        let (stage, stages) = position.example();
        let (mut one, mut more) =
            (vec![0; (layers + 1) * (layers + 1)], vec![0; (layers + 1) * (layers + 1)]);
        for first in 0..layers {
            for end in first + 1..=layers {
                let range = LayerRange { first: first as u32, last: end as u32 - 1 }.into();
                let stage = StageMemory::plain(&range, tp, stage, stages, 1);
                let need = memory::of_stage(scenario, &plan, &stage);
                one[first * (layers + 1) + end] = need.total().0;
                more[first * (layers + 1) + end] = need.activations.0;
            }
        }
        let element = scenario.training.gradient_bytes;
        let mut gradients = vec![0u64];
        for l in 0..layers as u32 {
            let bytes = model.parameters(l, tp).saturating_mul(u64::from(tp) * element);
            gradients.push(gradients[l as usize].saturating_add(bytes));
        }
        let (memory, once) = (group.gpu.memory.0, floor_ps(scenario.training.overheads.iteration_s));
        let fitting = Vec::new();
        let sums = |time: &dyn Fn(&LayerCost) -> u64| times.running().iter().map(time).collect();
        let mut cost = StageCost {
            forward: sums(&|t| t.forward.as_ps()),
            both: sums(&|t| t.forward.as_ps() + t.backward.as_ps()),
            update: sums(&|t| t.update.as_ps()),
            layers,
            one,
            more,
            fitting,
            gradients,
            memory,
            once,
            kind: k,
            tp,
        };
        let most = scenario.search.max_stages.max(1);
        cost.fitting =
            (1..=most).map(|n| (0..layers).map(|first| cost.last_that_fits(first, n)).collect()).collect();
        Ok(cost)
    }

    fn last_that_fits(&self, first: usize, in_flight: u32) -> u32 {
        let fits = |end: &usize| self.excess(first, *end, in_flight) <= 0;
        (first + 1..=self.layers).take_while(fits).last().unwrap_or(first) as u32
    }

    /// The last end of layers from `first` on that fit with so many micro-batches in flight; `first` when none do.
    pub fn fitting(&self, first: usize, in_flight: u32) -> usize {
        let known = self.fitting.get(in_flight.max(1) as usize - 1).and_then(|ends| ends.get(first));
        known.map_or_else(|| self.last_that_fits(first, in_flight), |end| *end) as usize
    }

    /// Forward pass of one micro-batch.
    pub fn forward(&self, first: usize, end: usize) -> u64 {
        self.forward[end] - self.forward[first]
    }

    /// Backward pass of one micro-batch.
    pub fn backward(&self, first: usize, end: usize) -> u64 {
        self.both(first, end) - self.forward(first, end)
    }

    /// Both.
    pub fn both(&self, first: usize, end: usize) -> u64 {
        self.both[end] - self.both[first]
    }

    /// Optimizer step, with what is added once an iteration.
    pub fn update(&self, first: usize, end: usize) -> u64 {
        self.once + self.update[end] - self.update[first]
    }

    /// Bytes by which the layers with `in_flight` micro-batches exceed the device (negative: to spare).
    pub fn excess(&self, first: usize, end: usize, in_flight: u32) -> i128 {
        let at = first * (self.layers + 1) + end;
        let more = u128::from(self.more[at]) * u128::from(in_flight.max(1) - 1);
        i128::try_from(u128::from(self.one[at]) + more).unwrap_or(i128::MAX) - i128::from(self.memory)
    }

    /// Bytes of the layers' gradients, all tensor-parallel ranks together.
    pub fn gradients(&self, first: usize, end: usize) -> u64 {
        self.gradients[end] - self.gradients[first]
    }
}

type Known = BTreeMap<(usize, u32, u32, Position), Result<Arc<StageCost>, NotMeasured>>;

/// Stage costs of one scenario, each computed once: templates share them.
#[derive(Debug)]
pub struct Tables<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    known: Mutex<Known>,
}

impl<'a> Tables<'a> {
    /// None known yet.
    pub fn new(scenario: &'a Scenario, kinds: &'a [Kind]) -> Tables<'a> {
        Tables { scenario, kinds, known: Mutex::default() }
    }

    /// The scenario.
    pub fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Its kinds.
    pub fn kinds(&self) -> &'a [Kind] {
        self.kinds
    }

    /// The costs of a stage.
    ///
    /// # Errors
    /// When its layers have no times there.
    pub fn stage(
        &self,
        kind: usize,
        tp: u32,
        micro_batch: u32,
        position: Position,
    ) -> Result<Arc<StageCost>, NotMeasured> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            StageCost::new(self.scenario, (kind, &self.kinds[kind]), tp, micro_batch, position).map(Arc::new)
        };
        known.entry((kind, tp, micro_batch, position)).or_insert_with(new).clone()
    }
}
