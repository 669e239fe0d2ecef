//! How many micro-batches a pipeline can run within a time at most, by what filling and emptying it takes, cuts and memory aside.
//!
//! A 1F1B pipeline of S stages, the slowest of which takes t for a micro-batch, runs n of them in no less than
//! (n - S - 1) t + 2 W if n > S, and W + (n - 1) t / 2 always, where W is both passes of one micro-batch through all stages:
//! docs/search.md says why. W and t depend on how many layers each kind holds.

use super::TemplateCost;
use super::stage::StageCost;
use sim_models::plan::Schedule;
use std::sync::Arc;

/// The layers shared out between the kinds of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fill {
    /// Both passes of a micro-batch through all stages, ps; at least.
    work: u64,
    /// A micro-batch on the slowest stage, ps; at least.
    step: u64,
}

/// What limits a pipeline however its layers are cut: its slowest stage's least step, and the longest transfers that hold a stage
/// for a micro-batch; ps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) bottleneck: u64,
    pub(crate) slack: u64,
}

impl Beat {
    /// No fewer micro-batches than a pipeline can run within `time`.
    pub(crate) fn at_most(&self, cost: &TemplateCost, time: u64) -> u64 {
        let steps = time.saturating_add(self.slack) / self.bottleneck;
        let (stages, spare) = (cost.stages.len() as u64, self.spare(time));
        let of = |&Fill { work, step }: &Fill| {
            let Some(left) = spare.checked_sub(work) else { return 0 };
            let step = step.max(self.bottleneck);
            let few = left.saturating_mul(2) / step + 1;
            let many = left.checked_sub(work).map_or(0, |left| left / step + stages + 1);
            few.min(many.max(stages))
        };
        cost.fills().iter().map(of).max().map_or(steps, |most| most.min(steps))
    }

    /// No fewer than a pipeline can have so far that one of its stages is done by `time`, if gradients wait for that.
    pub(crate) fn done_by(&self, cost: &TemplateCost, time: u64) -> u64 {
        let (stages, spare) = (cost.stages.len() as u64, self.spare(time));
        let of = |&Fill { work, step }: &Fill| spare.saturating_sub(work) / step.max(self.bottleneck);
        cost.fills().iter().map(of).max().map_or(u64::MAX, |most| most + stages + 1)
    }

    fn spare(&self, time: u64) -> u64 {
        time.saturating_add(self.slack.saturating_mul(2))
    }
}

impl TemplateCost {
    /// Ways to share the layers out, none of which is both slower and longer than another; none are known of other schedules and
    /// of more than two kinds.
    pub(super) fn fills(&self) -> &[Fill] {
        self.fills.get_or_init(|| self.shared_out())
    }

    fn shared_out(&self) -> Vec<Fill> {
        if self.recipe.schedule != Schedule::OneFOneB {
            return Vec::new();
        }
        // Stages of one kind are alike.
        let runs: Vec<&[Arc<StageCost>]> = self.stages.chunk_by(|a, b| a.kind == b.kind).collect();
        let of = |run: &[Arc<StageCost>], first: usize, end: usize| {
            let work = run[0].both(first, end);
            Fill { work, step: work.div_ceil(run.len() as u64) }
        };
        let mut list: Vec<Fill> = match runs[..] {
            [run] => vec![of(run, 0, self.layers)],
            [a, b] if self.layers >= self.stages.len() => (a.len()..=self.layers - b.len())
                .map(|border| {
                    let (a, b) = (of(a, 0, border), of(b, border, self.layers));
                    Fill { work: a.work + b.work, step: a.step.max(b.step) }
                })
                .collect(),
            _ => Vec::new(),
        };
        list.sort_unstable();
        let mut least = u64::MAX;
        list.retain(|fill| {
            let better = fill.step < least;
            least = least.min(fill.step);
            better
        });
        list
    }
}
