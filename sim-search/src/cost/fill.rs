//! How many micro-batches a pipeline can run within a time at most, by what filling and emptying it takes, cuts and memory aside.
//!
//! A 1F1B pipeline of S stages, the slowest of which takes t for a micro-batch, runs n of them in no less than
//! (n - S - 1) t + 2 W if n > S, and W + (n - 1) t / 2 always, where W is both passes of one micro-batch through all stages:
//! docs/search.md says why. W and t depend on how many layers each kind holds.

use super::borders::Borders;
use super::{Setting, TemplateCost};
use sim_models::plan::Schedule;
use std::ops::Range;

/// The layers shared out between the kinds of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fill {
    /// Both passes of a micro-batch through all stages, ps; at least.
    work: u64,
    /// A micro-batch on the slowest stage, ps; at least.
    step: u64,
    /// From when one of its stages has done its last pass to the end of the iteration, ps; at least.
    sends: u64,
}

/// Ways to share the layers out, none of which is worse than another in everything; none are known of other schedules and of more
/// than two kinds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fills {
    list: Vec<Fill>,
    stages: u64,
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
    pub(crate) fn at_most(&self, fills: &Fills, time: u64) -> u64 {
        let steps = time.saturating_add(self.slack) / self.bottleneck;
        let (stages, spare) = (fills.stages, self.spare(time));
        let of = |&Fill { work, step, sends }: &Fill| {
            let Some(left) = spare.checked_sub(work) else { return 0 };
            let step = step.max(self.bottleneck);
            let few = left.saturating_mul(2) / step + 1;
            // To the end of the last backward pass, and to that of the first stage that is done.
            let many = left.checked_sub(work.max(sends)).map_or(0, |left| left / step + stages + 1);
            few.min(many.max(stages))
        };
        fills.list.iter().map(of).max().map_or(steps, |most| most.min(steps))
    }

    /// No fewer than a pipeline can have so far that one of its stages is done by `time`, if gradients wait for that.
    pub(crate) fn done_by(&self, fills: &Fills, time: u64) -> u64 {
        let spare = self.spare(time);
        let of = |&Fill { work, step, .. }: &Fill| spare.saturating_sub(work) / step.max(self.bottleneck);
        fills.list.iter().map(of).max().map_or(u64::MAX, |most| most + fills.stages + 1)
    }

    fn spare(&self, time: u64) -> u64 {
        time.saturating_add(self.slack.saturating_mul(2))
    }
}

impl TemplateCost {
    /// How its layers may be shared out, rings aside.
    pub(crate) fn fills(&self) -> &Fills {
        self.fills.get_or_init(|| self.shared_out(|_, _| 0))
    }

    /// The same where it is known what gradients go over.
    pub(crate) fn fills_in(&self, around: &Setting) -> Fills {
        if !self.recipe.waits() {
            return self.fills().clone();
        }
        let (stages, common) = (self.stages.len(), around.common());
        let borders = common.most.unwrap_or(stages).min(stages - 1);
        let borders =
            if common.at == Borders::ALL { borders } else { borders.min(common.at.between(self.layers)) };
        self.shared_out(|runs, border| {
            let layers = [0..border, border..self.layers];
            // Those of a run one after another, wherever they are cut: a stage has its part of them at least.
            let (mut whole, mut largest) = (0, 0);
            for (run, layers) in runs.iter().zip(&layers) {
                let time = |s: usize| {
                    let sent = around.ring(s).time(self, &self.stages[s], layers.start, layers.end);
                    sent.reduce + sent.gather
                };
                let time = run.clone().map(time).min().unwrap_or(0).saturating_sub(stages as u64);
                (whole, largest) = (whole + time, largest.max(time / run.len() as u64));
            }
            let shared = around.links().iter().filter_map(|link| {
                let first = runs.iter().position(|run| run.start == link.stages.start)?;
                let last = runs.iter().position(|run| run.end == link.stages.end)?;
                Some(link.to_the_end(self, layers[first].start, layers[last].end))
            });
            shared.fold(largest.max(whole / (borders as u64 + 1)), u64::max)
        })
    }

    /// `sends`: by the runs of stages of a kind and the border between them.
    fn shared_out(&self, sends: impl Fn(&[Range<usize>], usize) -> u64) -> Fills {
        let stages = self.stages.len();
        if self.recipe.schedule != Schedule::OneFOneB || self.layers < stages {
            return Fills::default();
        }
        // Stages of one kind are alike.
        let mut runs: Vec<Range<usize>> = Vec::new();
        for run in self.stages.chunk_by(|a, b| a.kind == b.kind) {
            let first = runs.last().map_or(0, |run| run.end);
            runs.push(first..first + run.len());
        }
        let of = |run: &Range<usize>, first: usize, end: usize| {
            let work = self.stages[run.start].both(first, end);
            (work, work.div_ceil(run.len() as u64))
        };
        let mut all: Vec<Fill> = match &runs[..] {
            [run] => {
                let (work, step) = of(run, 0, self.layers);
                vec![Fill { work, step, sends: sends(&runs, self.layers) }]
            }
            [a, b] => (a.len()..=self.layers - b.len())
                .map(|border| {
                    let (a, b) = (of(a, 0, border), of(b, border, self.layers));
                    Fill { work: a.0 + b.0, step: a.1.max(b.1), sends: sends(&runs, border) }
                })
                .collect(),
            _ => Vec::new(),
        };
        all.sort_unstable();
        let mut list: Vec<Fill> = Vec::with_capacity(all.len());
        for fill in all {
            if !list.iter().any(|better| better.step <= fill.step && better.sends <= fill.sends) {
                list.push(fill);
            }
        }
        Fills { list, stages: stages as u64 }
    }
}
