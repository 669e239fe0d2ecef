//! A template at a micro-batch size: its stages' costs, and what is known of them over every cut.

use super::stage::{Position, StageCost, Tables};
use super::{NEVER, Setting};
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
    /// How its plans train.
    pub recipe: Recipe,
    /// Bytes of a parameter that is gathered for one of a gradient that is reduced.
    pub gathered: f64,
    /// Running sums over layers: the least bytes of gradients that any stage would send.
    gradients: Vec<u64>,
    /// The least optimizer step of any stage.
    pub least_update: u64,
    /// The least step of the slowest stage, transfers and memory aside.
    pace: OnceLock<u64>,
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
        for l in 0..layers {
            let least = stages.iter().map(|s| s.gradients(l, l + 1)).min().unwrap_or(0);
            gradients.push(gradients[l].saturating_add(least));
        }
        let updates = stages.iter().flat_map(|s| (0..layers).map(|l| s.update(l, l + 1, u64::MAX)));
        let least_update = updates.min().unwrap_or(0);
        let training = &tables.scenario().training;
        let gathered = training.precision.activation_bytes() as f64 / training.gradient_bytes.max(1) as f64;
        let (recipe, pace) = (tables.recipe(), OnceLock::new());
        Ok(TemplateCost { stages, layers, recipe, gathered, gradients, least_update, pace })
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

    /// No less than this is the step time of the slowest stage of any contiguous partition, memory aside.
    pub fn bottleneck(&self, around: &Setting) -> u64 {
        let held = |s: usize| around.holds(s).0 + around.holds(s).1;
        self.least_step(&held)
    }

    /// The same, transfers aside.
    pub fn pace(&self) -> u64 {
        *self.pace.get_or_init(|| self.least_step(&|_| 0))
    }

    /// The least step of the slowest stage where each but the layers' work takes `held`: of partitions that may leave stages
    /// empty, or of the stage that is slowest with one layer.
    fn least_step(&self, held: &dyn Fn(usize) -> u64) -> u64 {
        let layers = self.layers;
        // By border: the least that the stages so far take for the layers before it. It grows with the border.
        let mut best = vec![NEVER; layers + 1];
        best[0] = 0;
        let mut next = best.clone();
        let mut slowest = 0;
        for (s, stage) in self.stages.iter().enumerate() {
            let held = held(s);
            let one = |l: usize| stage.work(l, l + 1);
            slowest = slowest.max(held + (0..layers).map(one).min().unwrap_or(0));
            // The first border from which this stage takes no longer than those before it.
            let mut first = 0;
            for (end, next) in next.iter_mut().enumerate() {
                while first < end && best[first] < stage.work(first, end) + held {
                    first += 1;
                }
                let before = first.checked_sub(1).map_or(NEVER, |b| stage.work(b, end) + held);
                *next = best[first].min(before);
            }
            std::mem::swap(&mut best, &mut next);
        }
        best[layers].max(slowest)
    }

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches to run in a plan
    /// of so many pipelines at most.
    pub fn least_excess(&self, micro_batches: u32, replicas: u64) -> i128 {
        let in_flight = |s| self.in_flight(s, micro_batches);
        self.minimax(|s, first, end| self.stages[s].excess(first, end, in_flight(s), replicas))
    }

    /// Whether some cut fits with that many micro-batches to run, however many pipelines share out what they hold.
    pub fn fits(&self, micro_batches: u32) -> bool {
        // By border, the first one from it on from which the stages after fit; the last entry is past all of them.
        let none = self.layers + 1;
        let mut next: Vec<usize> = vec![self.layers; none + 1];
        next[none] = none;
        for (s, stage) in self.stages.iter().enumerate().rev() {
            let in_flight = self.in_flight(s, micro_batches);
            let mut own = vec![none; none + 1];
            for first in (s..self.layers).rev() {
                let fits = next[first + 1] <= stage.fitting(first, in_flight, u64::MAX);
                own[first] = if fits { first } else { own[first + 1] };
            }
            next = own;
        }
        next[0] == 0
    }

    /// Whether no cut fits with as many micro-batches in flight as the schedule has.
    pub fn lacks_memory(&self) -> bool {
        !self.fits(self.stages.len() as u32)
    }

    /// The most micro-batches, up to `most`, with which some cut fits: those in flight grow with them.
    pub fn most_that_fit(&self, most: u32) -> u32 {
        let fits = |n: u32| self.fits(n);
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
