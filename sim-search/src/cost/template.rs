//! A template at a micro-batch size: bounds of an iteration from one stage's layers, whatever the others hold.

use super::setting::Crossing;
use super::stage::{Position, StageCost, Tables};
use super::{NEVER, Setting};
use crate::space::Template;
use sim_models::plan::Schedule;
use std::sync::Arc;

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
    /// `[s][l]`: the least time of the forward passes of stages `0 .. s` that hold layers `0 .. l`.
    forward_before: Vec<Vec<u64>>,
    /// The same for backward passes.
    backward_before: Vec<Vec<u64>>,
    /// `[s][l]`: the least time of both passes of stages `s ..` that hold layers `l ..`.
    below: Vec<Vec<u64>>,
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
        let empty = Vec::new();
        let mut cost = TemplateCost {
            stages,
            layers,
            schedule,
            forward_before: empty.clone(),
            backward_before: empty.clone(),
            below: empty,
        };
        cost.forward_before = cost.sums_before(StageCost::forward);
        cost.backward_before = cost.sums_before(StageCost::backward);
        cost.below = cost.sums_below();
        Ok(cost)
    }

    fn sums_before(&self, time: impl Fn(&StageCost, usize, usize) -> u64) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![NEVER; self.layers + 1]];
        rows[0][0] = 0;
        for (s, stage) in self.stages.iter().enumerate() {
            let least = |end: usize| {
                (s..end).map(|first| rows[s][first].saturating_add(time(stage, first, end))).min()
            };
            let row = (0..=self.layers).map(|end| least(end).unwrap_or(NEVER).min(NEVER)).collect();
            rows.push(row);
        }
        rows
    }

    fn sums_below(&self) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![NEVER; self.layers + 1]; self.stages.len() + 1];
        rows[self.stages.len()][self.layers] = 0;
        for (s, stage) in self.stages.iter().enumerate().rev() {
            for first in 0..self.layers {
                let least = (first + 1..=self.layers)
                    .map(|end| rows[s + 1][end].saturating_add(stage.both(first, end)))
                    .min();
                rows[s][first] = least.unwrap_or(NEVER).min(NEVER);
            }
        }
        rows
    }

    /// Micro-batches whose activations stage `s` holds at most at once.
    pub fn in_flight(&self, s: usize, micro_batches: u32) -> u32 {
        self.schedule.in_flight(s as u32, self.stages.len() as u32, micro_batches)
    }

    /// Whether layers fit into the memory of stage `s`.
    pub fn fits(&self, s: usize, first: usize, end: usize, micro_batches: u32) -> bool {
        self.stages[s].excess(first, end, self.in_flight(s, micro_batches)) <= 0
    }

    /// When stage `s` of a pipeline of this template that holds layers `first .. end` and runs `micro_batches` has done its
    /// last pass, at the soonest, whatever the other stages and pipelines hold.
    ///
    /// What lies before its first pass, its own passes and the transfers that block it, and the idle time that the way
    /// down and back forces on it. See docs/search.md for why nothing is counted twice.
    pub fn passes_end(
        &self,
        s: usize,
        first: usize,
        end: usize,
        micro_batches: u32,
        around: &Setting,
    ) -> u64 {
        let n = u64::from(micro_batches);
        let stage = &self.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let warm_up = match self.schedule {
            Schedule::GPipe => n - 1,
            _ => (self.stages.len() - 1 - s) as u64,
        };
        let (sends_down, sends_up) = around.sends(s);
        let below = self.below[s + 1][end] + around.there_and_back(s);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let filled = warm_up.min(n - 1);
        let down = below.saturating_sub(filled.saturating_mul(f + sends_down));
        let back = below.saturating_sub(filled.saturating_mul(b + sends_up)).saturating_sub(sends_down);
        let idle = if n - 1 > warm_up { down + back } else { down.max(back) };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        let blocked = (n - 1).saturating_mul(sends_down + sends_up);
        let lead = self.forward_before[s][first] + around.way_down(s);
        n.saturating_mul(f + b).saturating_add(blocked).saturating_add(lead + idle)
    }

    /// A lower bound of the iteration of a plan with such a stage: after its passes come the synchronisation of its
    /// gradients and its optimizer step, or the way back up and those of the first stage's first layer.
    pub fn stage_bound(
        &self,
        s: usize,
        first: usize,
        end: usize,
        micro_batches: u32,
        around: &Setting,
    ) -> u64 {
        let stage = &self.stages[s];
        let ends = stage.update(first, end) + around.ring(s).time(stage, first, end);
        let head = &self.stages[0];
        let up = self.backward_before[s][first] + around.way_up(s);
        let up = if s > 0 { up + head.update(0, 1) + around.ring(0).time(head, 0, 1) } else { up };
        let done = self.passes_end(s, first, end, micro_batches, around);
        let crossed = around.crossing.as_ref().map_or(0, |c| {
            if !c.stages.contains(&s) {
                0
            } else if c.stages.start == 0 {
                // The stages before hold the layers before, and end no sooner than this one.
                self.released(s, first, end, micro_batches, around, c).max(done) + self.crossed(0, end, c)
            } else if s == c.stages.start && c.stages.end == self.stages.len() {
                // This stage and those after it hold all layers from here on; none ends before its pipeline's pace allows.
                let pace = c.before[s][first].max(c.after[s][first]);
                let n = u64::from(micro_batches).saturating_sub(self.stages.len() as u64);
                n.saturating_mul(pace) + self.crossed(first, self.layers, c)
            } else {
                done + self.crossed(first, end, c)
            }
        });
        done.saturating_add(ends.max(up)).max(crossed)
    }

    /// The time that the rings of these layers take on the link that they all cross.
    fn crossed(&self, first: usize, end: usize, crossing: &Crossing) -> u64 {
        let least = self.stages.iter().map(|s| s.gradients(first, end)).min().unwrap_or(0);
        crossing.latency + (least.saturating_sub((end - first) as u64) as f64 * crossing.a_byte) as u64
    }

    /// When stage `s` has done its last pass, at the soonest, by the pace of the stages before and after it.
    fn released(
        &self,
        s: usize,
        first: usize,
        end: usize,
        micro_batches: u32,
        around: &Setting,
        crossing: &Crossing,
    ) -> u64 {
        let (n, stages) = (u64::from(micro_batches), self.stages.len() as u64);
        let own = self.stages[s].both(first, end);
        // A stage before has done all but its warm-up when it sends the last micro-batch on, which then goes down and back.
        let before = if s > 0 {
            let below = self.below[s + 1][end] + around.there_and_back(s);
            n.saturating_sub(stages).saturating_mul(crossing.before[s][first]) + own + below
        } else {
            0
        };
        // A stage after has done everything but what it sends.
        let after = if s + 1 < self.stages.len() {
            n.saturating_sub(1).saturating_mul(crossing.after[s + 1][end]) + own
        } else {
            0
        };
        before.max(after)
    }

    /// `[s][l]`: the least step of the slowest of stages `0 .. s` that hold layers `0 .. l`; and of stages `s ..` that hold
    /// layers `l ..`.
    #[allow(clippy::needless_range_loop, reason = "an index into several tables")]
    pub(super) fn slowest(&self, around: &Setting) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
        let stages = self.stages.len();
        let mut before = vec![vec![NEVER; self.layers + 1]; stages + 1];
        before[0][0] = 0;
        for s in 0..stages {
            for end in s + 1..=self.layers {
                let mut least = NEVER;
                for first in (s..end).rev() {
                    let own = self.step(s, first, end, around);
                    if own >= least {
                        break;
                    }
                    least = least.min(before[s][first].max(own));
                }
                before[s + 1][end] = least;
            }
        }
        let mut after = vec![vec![NEVER; self.layers + 1]; stages + 1];
        after[stages][self.layers] = 0;
        for s in (0..stages).rev() {
            for first in s..self.layers {
                let mut least = NEVER;
                for end in first + 1..=self.layers {
                    let own = self.step(s, first, end, around);
                    if own >= least {
                        break;
                    }
                    least = least.min(after[s + 1][end].max(own));
                }
                after[s][first] = least;
            }
        }
        (before, after)
    }

    /// The largest bound of the stages of one partition: borders of the stages, first 0, last the number of layers.
    pub fn partition_bound(&self, borders: &[usize], micro_batches: u32, around: &Setting) -> u64 {
        let bound = |s: usize| self.stage_bound(s, borders[s], borders[s + 1], micro_batches, around);
        (0..self.stages.len()).map(bound).max().unwrap_or(0)
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

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches to run.
    pub fn least_excess(&self, micro_batches: u32) -> i128 {
        self.minimax(|s, first, end| self.stages[s].excess(first, end, self.in_flight(s, micro_batches)))
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
