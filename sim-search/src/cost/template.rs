//! A template at a micro-batch size: its stages' costs, and what is known of them over every cut.

use super::stage::{Position, StageCost, Tables};
use super::{NEVER, Setting};
use crate::space::Template;
use sim_models::plan::Schedule;
use std::sync::{Arc, OnceLock};

/// Why a template has no costs: its layers have no times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMeasured;

/// No partition of the layers fits: bytes that the best one lacks on its fullest device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFit(pub i128);

/// Costs of a template at a micro-batch size.
#[derive(Debug)]
pub struct TemplateCost {
    /// By stage.
    pub stages: Vec<Arc<StageCost>>,
    /// Layers of the model.
    pub layers: usize,
    /// Order of the passes.
    pub schedule: Schedule,
    /// Running sums over layers: the least bytes of gradients that any stage would send.
    gradients: Vec<u64>,
    /// The least optimizer step of any stage.
    pub least_update: u64,
    /// The least step of the slowest stage, transfers and memory aside.
    pace: OnceLock<u64>,
}

impl TemplateCost {
    /// The costs of `template` in micro-batches of `micro_batch` under `schedule`.
    ///
    /// # Errors
    /// [`NotMeasured`] when a stage's kind has no times at its micro-batch and TP.
    pub fn new(
        tables: &Tables<'_>,
        template: &Template,
        micro_batch: u32,
        schedule: Schedule,
    ) -> Result<Self, NotMeasured> {
        let count = template.stages.len();
        let stage = |(s, shape): (usize, &crate::space::StageShape)| {
            tables.stage(shape.kind as usize, shape.tp, micro_batch, Position::of(s, count))
        };
        let stages: Vec<Arc<StageCost>> =
            template.stages.iter().enumerate().map(stage).collect::<Result<_, _>>()?;
        let layers = tables.scenario().model.layers() as usize;
        let mut gradients = vec![0u64];
        for l in 0..layers {
            let least = stages.iter().map(|s| s.gradients(l, l + 1)).min().unwrap_or(0);
            gradients.push(gradients[l].saturating_add(least));
        }
        let updates = stages.iter().flat_map(|s| (0..layers).map(|l| s.update(l, l + 1)));
        let least_update = updates.min().unwrap_or(0);
        Ok(TemplateCost { stages, layers, schedule, gradients, least_update, pace: OnceLock::new() })
    }

    /// The least bytes of gradients of layers that several stages hold between them.
    pub fn gradients(&self, first: usize, end: usize) -> u64 {
        self.gradients[end] - self.gradients[first]
    }

    /// Forward passes of stage `s` before its first backward pass, less the one that it follows in turn, when there are enough
    /// micro-batches.
    pub fn warm_up(&self, s: usize) -> u64 {
        match self.schedule {
            Schedule::GPipe => NEVER,
            _ => (self.stages.len() - 1 - s) as u64,
        }
    }

    /// Micro-batches whose activations stage `s` holds at most at once.
    pub fn in_flight(&self, s: usize, micro_batches: u32) -> u32 {
        self.schedule.in_flight(s as u32, self.stages.len() as u32, micro_batches)
    }

    /// The largest excess of memory of one partition; bytes, not positive when it fits.
    pub fn partition_excess(&self, borders: &[usize], micro_batches: u32) -> i128 {
        let excess =
            |s: usize| self.stages[s].excess(borders[s], borders[s + 1], self.in_flight(s, micro_batches));
        (0..self.stages.len()).map(excess).max().unwrap_or(0)
    }

    /// What one micro-batch costs stage `s`: both passes and the transfers that block it.
    pub fn step(&self, s: usize, first: usize, end: usize, around: &Setting) -> u64 {
        let (down, up) = around.sends(s);
        self.stages[s].both(first, end) + down + up
    }

    /// The least step time of the slowest stage, over every contiguous partition, memory aside.
    pub fn bottleneck(&self, around: &Setting) -> u64 {
        let step = |s, first, end| i128::from(self.step(s, first, end, around));
        u64::try_from(self.minimax(step)).unwrap_or(NEVER)
    }

    /// The same, transfers aside.
    pub fn pace(&self) -> u64 {
        let both = |s: usize, first, end| i128::from(self.stages[s].both(first, end));
        *self.pace.get_or_init(|| u64::try_from(self.minimax(both)).unwrap_or(NEVER))
    }

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches to run.
    pub fn least_excess(&self, micro_batches: u32) -> i128 {
        self.minimax(|s, first, end| self.stages[s].excess(first, end, self.in_flight(s, micro_batches)))
    }

    /// The most micro-batches, up to `most`, with which some cut fits: those in flight grow with them.
    pub fn most_that_fit(&self, most: u32) -> u32 {
        let fits = |n: u32| self.least_excess(n) <= 0;
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
