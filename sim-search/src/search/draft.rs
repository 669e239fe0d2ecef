//! From a combination to a plan: micro-batches to pipelines, layers to stages, devices to both; with the plan's own bound,
//! and an estimate that says which plans to simulate first.

use super::{Combination, Ended, Entry, Outcome, SCHEDULE, Search};
use crate::cost::{NoFit, Rings, Sync, View};
use crate::place::{Part, place};
use crate::rules::Rule;
use crate::shares::{Sharer, shares};
use sim_core::SimTime;
use sim_models::iteration::Simulator;
use sim_models::plan::Plan;

/// A plan but for its devices.
pub(super) struct Draft<'s> {
    parts: Vec<DraftPart<'s>>,
    /// No plan with these layers and shares is faster; ps.
    bound: u64,
}

struct DraftPart<'s> {
    entry: &'s Entry,
    own: u32,
    borders: Vec<usize>,
    /// Pipelines and their micro-batches.
    groups: Vec<(u32, u32)>,
    sync: Sync,
}

/// Why a combination gives no plan.
pub(super) struct NoDraft {
    rule: Rule,
    lacks: Option<(NoFit, usize)>,
}

impl<'a> Search<'a> {
    /// One share and one partition for each part of a combination.
    pub(super) fn draft(&self, c: &Combination) -> Result<Draft<'_>, NoDraft> {
        let none = |rule, lacks| NoDraft { rule, lacks };
        let root = &self.roots[c.root];
        let chosen = self.parts(root, &c.options);
        let across = self.across(&chosen);
        let total = self.micro_batches(root.frame.micro_batch);
        let all: u32 = chosen.iter().map(|p| self.choices[*p].pipelines).sum();
        let rings = Rings::new(self.scenario, &self.kinds);
        // Shares by what each part can do within the level and by what one more micro-batch costs it at least.
        let (mut sharers, mut likely) = (Vec::new(), Vec::new());
        for (part, across) in chosen.iter().zip(&across) {
            let choice = &self.choices[*part];
            let entry = &self.entries[choice.entry];
            let sync = rings.sync(&entry.cost, choice.pipelines, all, *across, View::Estimate);
            let n = choice.within[usize::from(*across)].max(1);
            let time = entry.cost.bound(n, &sync, View::Estimate).ok_or_else(|| none(Rule::Memory, None))?;
            let one = time.saturating_sub(u64::from(n - 1).saturating_mul(entry.bottleneck));
            sharers.push(Sharer { pipelines: choice.pipelines, one, each: entry.bottleneck });
            likely.push(sync);
        }
        let shared = shares(&sharers, total);
        if shared.is_empty() {
            return Err(none(Rule::TooFewMicroBatches, None));
        }
        let (mut parts, mut bound, mut rings_at) = (Vec::new(), 0, Vec::new());
        for (((part, across), likely), groups) in chosen.iter().zip(&across).zip(likely).zip(shared) {
            let choice = &self.choices[*part];
            let entry = &self.entries[choice.entry];
            let most = groups.iter().map(|(_, n)| *n).max().unwrap_or(1);
            // A cut that fits in memory but in no time that can be told.
            let lacks = |lacks: NoFit| match lacks {
                NoFit(excess) if excess <= 0 => none(Rule::TooLarge, None),
                lacks => none(Rule::Memory, Some((lacks, choice.entry))),
            };
            let borders = entry.cost.partition(most, &likely).map_err(lacks)?;
            let sync = rings.sync(&entry.cost, choice.pipelines, all, *across, View::Bound);
            for (_, n) in &groups {
                bound = bound.max(entry.cost.partition_bound(&borders, *n, &sync));
                if sync.shared {
                    rings_at.push(entry.cost.releases(&borders, *n, &sync));
                }
            }
            parts.push(DraftPart { entry, own: choice.pipelines, borders, groups, sync });
        }
        // A ring waits for all pipelines that hold its layer.
        let layers = rings_at.first().map_or(0, Vec::len);
        let ring = |l: usize| {
            let of_layer = rings_at.iter().map(|r| r[l]);
            of_layer.fold((0, u64::MAX), |(end, time), (e, t)| (end.max(e), time.min(t)))
        };
        bound = bound.max(one_after_another((0..layers).map(ring).collect()));
        Ok(Draft { parts, bound })
    }

    /// What the iteration of a draft is likely to take, ps. Pipelines cut at unlike layers share gradients in many small
    /// rings, each as slow as its slowest hop.
    pub(super) fn estimate(&self, draft: &Draft<'_>) -> u64 {
        let rings = Rings::new(self.scenario, &self.kinds);
        let all: u32 = draft.parts.iter().map(|p| p.own).sum();
        let mut cuts: Vec<usize> = draft.parts.iter().flat_map(|p| p.borders.iter().copied()).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let stage_of = |p: &DraftPart<'_>, layer: usize| p.borders.partition_point(|b| *b <= layer) - 1;
        let mut segments = Vec::new();
        for cut in cuts.windows(2) {
            let holders = draft.parts.iter().map(|p| (&p.entry.cost, stage_of(p, cut[0]), p.own));
            segments.push((cut[0], rings.likely((cut[0], cut[1]), &holders.collect::<Vec<_>>(), all)));
        }
        let shared = draft.parts.iter().any(|p| p.sync.shared);
        let (mut most, mut released) = (0u64, vec![(0u64, 0u64); segments.len()]);
        for part in &draft.parts {
            for (_, n) in &part.groups {
                for (s, stage) in part.borders.windows(2).enumerate() {
                    let end = part.entry.cost.passes_end(s, stage[0], stage[1], *n, View::Estimate);
                    let mut after = part.entry.cost.stages[s].update(stage[0], stage[1]);
                    for ((layer, time), released) in segments.iter().zip(&mut released) {
                        if (stage[0]..stage[1]).contains(layer) {
                            after = after.saturating_add(*time);
                            *released = (released.0.max(end), *time);
                        }
                    }
                    most = most.max(end.saturating_add(after));
                }
            }
        }
        if shared { most.max(one_after_another(released)) } else { most }
    }

    /// Simulates the plan of one combination.
    pub(super) fn try_one(
        &self,
        simulator: &mut Simulator<'_>,
        c: &Combination,
        cutoff: Option<SimTime>,
    ) -> Outcome {
        let pruned = |rule, lacks| Outcome { ended: Ended::Pruned(rule), plan: None, lacks };
        let draft = match self.draft(c) {
            Ok(draft) => draft,
            Err(none) => return pruned(none.rule, none.lacks),
        };
        if cutoff.is_some_and(|c| draft.bound > c.as_ps()) {
            return Outcome { ended: Ended::Bounded, plan: None, lacks: None };
        }
        let frame = self.roots[c.root].frame;
        let mut placed = Vec::new();
        for p in &draft.parts {
            for &(replicas, micro_batches) in &p.groups {
                placed.push(Part {
                    template: &p.entry.template,
                    borders: &p.borders,
                    replicas,
                    micro_batches,
                });
            }
        }
        let Some(pipelines) = place(self.scenario, &self.kinds, &placed, frame.place) else {
            return pruned(Rule::Devices, None);
        };
        let plan = Plan { micro_batch: frame.micro_batch, schedule: SCHEDULE, pipelines, ..Plan::default() };
        match self.simulate(simulator, &plan, cutoff) {
            Ok(time) => Outcome { ended: Ended::Simulated(time), plan: Some(plan), lacks: None },
            Err(rule) => pruned(rule, None),
        }
    }
}

/// The least end of rings that share a link, as (when its gradients are there, how long it takes): the link does one thing
/// after another.
fn one_after_another(mut rings: Vec<(u64, u64)>) -> u64 {
    rings.sort_unstable();
    let (mut left, mut bound) = (0u64, 0u64);
    for (end, time) in rings.into_iter().rev() {
        left = left.saturating_add(time);
        bound = bound.max(end.saturating_add(left));
    }
    bound
}
