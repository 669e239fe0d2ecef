//! A template at a micro-batch size: its stages' costs, and what is known of them over every cut.

use super::fill::{Beat, Fills};
use super::setting::Apart;
use super::stage::{Position, StageCost, Tables};
use super::{DAY, Factor, NEVER, Setting, longest};
use crate::space::{Recipe, Template};
use sim_models::plan::Schedule;
use std::sync::{Arc, OnceLock};

/// Why a template has no costs: its layers have no times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMeasured;

/// Costs of a template at a micro-batch size.
#[derive(Debug)]
pub struct TemplateCost {
    /// By stage.
    pub stages: Vec<Arc<StageCost>>,
    /// Layers of the model.
    pub layers: usize,
    /// Pipelines that come together.
    pub team: u32,
    /// How its plans train.
    pub recipe: Recipe,
    /// Bytes of a parameter that is gathered for one of a gradient that is reduced.
    pub gathered: Factor,
    /// What one ring is taken to last at most, ps: a day, or where every micro-batch has its rings what [`longest`] says.
    pub(super) longest_ring: u64,
    /// Running sums over layers: the least bytes of gradients that any stage would send.
    gradients: Vec<u64>,
    /// The least optimizer step of any stage.
    pub least_update: u64,
    /// How its layers may be shared out between its kinds.
    pub(super) fills: OnceLock<Fills>,
    /// See [`TemplateCost::alone`].
    alone: [OnceLock<(Arc<Setting>, Beat)>; 2],
}

impl TemplateCost {
    /// The costs of `template`.
    ///
    /// # Errors
    /// [`NotMeasured`] when a stage's kind has no times at its micro-batch and TP.
    pub fn new(tables: &Tables<'_>, template: &Template) -> Result<Self, NotMeasured> {
        let count = template.stages.len();
        let stage =
            |(s, shape): (usize, &crate::space::StageShape)| tables.stage(*shape, Position::of(s, count));
        let stages: Vec<Arc<StageCost>> =
            template.stages.iter().enumerate().map(stage).collect::<Result<_, _>>()?;
        let layers = tables.scenario().model.layers() as usize;
        let mut gradients = vec![0u64];
        // Stages of a kind are alike but for the first and the last.
        let mut unlike: Vec<&Arc<StageCost>> = stages.iter().collect();
        unlike.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for l in 0..layers {
            let least = unlike.iter().map(|s| s.gradients(l, l + 1)).min().unwrap_or(0);
            gradients.push(gradients[l].saturating_add(least));
        }
        let updates = unlike.iter().flat_map(|s| (0..layers).map(|l| s.update(l, l + 1, u64::MAX)));
        let least_update = updates.min().unwrap_or(0);
        let training = &tables.scenario().training;
        let gathered = training.precision.activation_bytes() as f64 / training.gradient_bytes.max(1) as f64;
        let recipe = tables.recipe();
        let team = template.team();
        Ok(TemplateCost {
            stages,
            layers,
            team,
            recipe,
            gathered: Factor::floor(gathered),
            longest_ring: if recipe.zero > 1 { longest(tables.micro_batches()) } else { DAY },
            gradients,
            least_update,
            fills: OnceLock::new(),
            alone: Default::default(),
        })
    }

    /// The least bytes of gradients of layers that several stages hold between them.
    pub fn gradients(&self, first: usize, end: usize) -> u64 {
        self.gradients[end] - self.gradients[first]
    }

    /// Forward passes of stage `s` before its first backward pass, less the one that it follows in turn, when there are enough
    /// micro-batches.
    pub fn warm_up(&self, s: usize) -> u64 {
        match self.recipe.schedule {
            Schedule::GPipe => NEVER,
            // As many as may be in flight, whatever the stage.
            Schedule::ZeroBubble => self.stages.len() as u64 - 1,
            _ => (self.stages.len() - 1 - s) as u64,
        }
    }

    /// Micro-batches whose activations stage `s` holds at most at once.
    pub fn in_flight(&self, s: usize, micro_batches: u32) -> u32 {
        self.recipe.schedule.in_flight(s as u32, self.stages.len() as u32, micro_batches)
    }

    /// What one micro-batch costs stage `s`: both passes and the transfers that block it.
    pub fn step(&self, s: usize, first: usize, end: usize, around: &Setting) -> u64 {
        let (down, up) = around.holds(s);
        self.stages[s].work(first, end) + down + up
    }

    /// The least transfers of one pipeline, by whether its stages are on different nodes, and what limits it with these; looked into
    /// once.
    pub(crate) fn alone(&self, apart: Apart, least: impl FnOnce() -> Setting) -> &(Arc<Setting>, Beat) {
        self.alone[usize::from(apart == Apart::Always)].get_or_init(|| {
            let around = least();
            let bottleneck = self.bottleneck(&around).unwrap_or(1).max(1);
            let beat = Beat { bottleneck, slack: around.slack() };
            (Arc::new(around), beat)
        })
    }

    /// No less than this is the step time of the slowest stage of any contiguous partition that fits with one micro-batch in
    /// flight; `None` when none does.
    pub fn bottleneck(&self, around: &Setting) -> Option<u64> {
        let borders = self.balanced(around, |s| self.stages[s].fitting(1, u64::MAX))?;
        Some(self.longest_step(&borders, around))
    }

    /// The step time of the slowest stage of a partition.
    pub(super) fn longest_step(&self, borders: &[usize], around: &Setting) -> u64 {
        borders.windows(2).enumerate().map(|(s, b)| self.step(s, b[0], b[1], around)).max().unwrap_or(0)
    }

    /// The contiguous partition whose slowest stage is fastest, among those where each stage's layers end no later than `fitting`
    /// says for the first of them, which grows with it: borders, first 0, last the number of layers. `None` when there is none.
    pub(super) fn balanced(
        &self,
        around: &Setting,
        fitting: impl Fn(usize) -> Arc<[u32]>,
    ) -> Option<Vec<usize>> {
        const NONE: u64 = u64::MAX;
        let (layers, stages) = (self.layers, self.stages.len());
        if stages > layers {
            return None;
        }
        // By border: the least that the stages so far take for the layers before it. Where it is known it grows with the border:
        // without its last layers a cut takes no longer.
        let mut best = vec![NONE; layers + 1];
        best[0] = 0;
        let mut from = vec![0u32; stages * (layers + 1)];
        for s in 0..stages {
            let mut next = vec![NONE; layers + 1];
            let mut first = s;
            let fitting = fitting(s);
            let last = |first: usize| fitting[first] as usize;
            for end in s + 1..=layers - (stages - 1 - s) {
                // From the first border on from which the stage fits and takes no longer than those before it.
                while first + 1 < end && (last(first) < end || best[first] < self.step(s, first, end, around))
                {
                    first += 1;
                }
                let mut with = |first: usize| {
                    if first >= s && last(first) >= end && best[first] < NONE {
                        let value = best[first].max(self.step(s, first, end, around)).min(NEVER);
                        if value < next[end] {
                            next[end] = value;
                            from[s * (layers + 1) + end] = first as u32;
                        }
                    }
                };
                with(first);
                if let Some(before) = first.checked_sub(1) {
                    with(before);
                }
            }
            best = next;
        }
        if best[layers] == NONE {
            return None;
        }
        let mut borders = vec![layers; stages + 1];
        for s in (0..stages).rev() {
            borders[s] = from[s * (layers + 1) + borders[s + 1]] as usize;
        }
        Some(borders)
    }

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches to run in a plan
    /// of so many pipelines at most.
    pub fn least_excess(&self, micro_batches: u32, replicas: u64) -> i128 {
        let in_flight = |s| self.in_flight(s, micro_batches);
        self.minimax(|s, first, end| self.stages[s].excess(first, end, in_flight(s), replicas))
    }

    /// Whether some cut fits with that many micro-batches to run, in a plan of so many replicas at most.
    pub fn fits(&self, micro_batches: u32, replicas: u64) -> bool {
        // By border, the first one from it on from which the stages after fit; the last entry is past all of them.
        let none = self.layers + 1;
        let mut next: Vec<usize> = vec![self.layers; none + 1];
        next[none] = none;
        for (s, stage) in self.stages.iter().enumerate().rev() {
            let fitting = stage.fitting(self.in_flight(s, micro_batches), replicas);
            let mut own = vec![none; none + 1];
            for first in (s..self.layers).rev() {
                let fits = next[first + 1] <= fitting[first] as usize;
                own[first] = if fits { first } else { own[first + 1] };
            }
            next = own;
        }
        next[0] == 0
    }

    /// Whether no cut fits with as many micro-batches in flight as the schedule has.
    pub fn lacks_memory(&self) -> bool {
        !self.fits(self.stages.len() as u32, u64::MAX)
    }

    /// The most micro-batches, up to `most`, with which some cut fits in a plan of so many replicas at most: those in flight grow
    /// with them.
    pub fn most_that_fit(&self, most: u32, replicas: u64) -> u32 {
        let fits = |n: u32| self.fits(n, replicas);
        if most > 0 && fits(most) {
            return most;
        }
        let (mut low, mut high) = (0, most);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        low
    }

    /// The least over every contiguous partition of the largest value of its stages; values grow with the layers.
    #[allow(clippy::needless_range_loop, reason = "an index into several tables")]
    fn minimax(&self, value: impl Fn(usize, usize, usize) -> i128) -> i128 {
        let mut best = vec![i128::MAX; self.layers + 1];
        best[0] = i128::MIN;
        for s in 0..self.stages.len() {
            let mut next = vec![i128::MAX; self.layers + 1];
            for end in s + 1..=self.layers {
                for first in (s..end).rev() {
                    let own = value(s, first, end);
                    if own >= next[end] {
                        break;
                    }
                    if best[first] < i128::MAX {
                        next[end] = next[end].min(best[first].max(own));
                    }
                }
            }
            best = next;
        }
        best[self.layers]
    }
}
