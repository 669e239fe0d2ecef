//! Layers to stages, and micro-batches to pipelines: one good answer each, by cost.

use crate::cost::TemplateCost;
use sim_models::plan::Schedule;

/// The contiguous partition with the least of max over stages of (all steps of the stage, after one pass over the stages
/// before it), among those that fit in memory; borders of the stages, first 0, last the number of layers.
///
/// # Errors
/// The least excess of memory over all partitions, in bytes, when none fits.
pub fn partition(
    cost: &TemplateCost<'_>,
    micro_batches: u32,
    schedule: Schedule,
) -> Result<Vec<usize>, i128> {
    let mut low = cost.bottleneck().saturating_mul(u64::from(micro_batches));
    let all: u64 = cost.stages.iter().map(|s| s.step(0, cost.layers)).max().unwrap_or(0);
    let mut high = all.saturating_mul(u64::from(micro_batches) + cost.stages.len() as u64);
    let Some(mut best) = within(cost, micro_batches, schedule, high) else {
        return Err(least_excess(cost, micro_batches, schedule));
    };
    if let Some(borders) = within(cost, micro_batches, schedule, low) {
        return Ok(borders);
    }
    // To a thousandth: the estimate is no better.
    while high - low > low / 1000 + 1 {
        let middle = low + (high - low) / 2;
        match within(cost, micro_batches, schedule, middle) {
            Some(borders) => (best, high) = (borders, middle),
            None => low = middle,
        }
    }
    Ok(best)
}

/// A partition in which no stage passes `limit`, if there is one. For each border, the least time of a pass over the
/// stages before it is the best to have, so one number a border is enough.
fn within(cost: &TemplateCost<'_>, micro_batches: u32, schedule: Schedule, limit: u64) -> Option<Vec<usize>> {
    let (stages, layers) = (cost.stages.len(), cost.layers);
    const NONE: u64 = u64::MAX;
    let mut before = vec![NONE; layers + 1];
    before[0] = 0;
    let mut from = vec![vec![0; layers + 1]; stages];
    for (s, stage) in cost.stages.iter().enumerate() {
        let in_flight = schedule.in_flight(s as u32, stages as u32, micro_batches);
        let mut after = vec![NONE; layers + 1];
        for end in s + 1..=layers {
            for first in (s..end).rev() {
                let step = stage.step(first, end);
                if step.saturating_mul(u64::from(micro_batches)) > limit
                    || stage.excess(first, end, in_flight) > 0
                {
                    break;
                }
                if before[first] == NONE {
                    continue;
                }
                let own = before[first].saturating_add(step.saturating_mul(u64::from(micro_batches)));
                let pass = before[first].saturating_add(step);
                if own <= limit && pass < after[end] {
                    after[end] = pass;
                    from[s][end] = first;
                }
            }
        }
        before = after;
    }
    if before[layers] == NONE {
        return None;
    }
    let mut borders = vec![layers];
    for s in (0..stages).rev() {
        borders.push(from[s][borders[borders.len() - 1]]);
    }
    borders.reverse();
    Some(borders)
}

/// The least, over every partition, of the largest excess of memory of its stages; bytes.
fn least_excess(cost: &TemplateCost<'_>, micro_batches: u32, schedule: Schedule) -> i128 {
    let stages = cost.stages.len() as u32;
    cost.least_excess(|s| schedule.in_flight(s as u32, stages, micro_batches))
}

/// Pipelines of one template, as the sharing sees them.
#[derive(Clone, Copy, Debug)]
pub struct Sharer {
    /// How many pipelines. At least 1.
    pub pipelines: u32,
    /// Time of a pipeline that runs one micro-batch, and what each further one adds; ps, `each` at least 1.
    pub one: u64,
    /// See `one`.
    pub each: u64,
}

/// Shares out `total` micro-batches so that the last pipeline ends soonest: for each sharer, the pipelines and
/// micro-batches of up to two groups that differ by one. Empty when a pipeline would get none.
pub fn shares(sharers: &[Sharer], total: u32) -> Vec<Vec<(u32, u32)>> {
    let fit = |s: &Sharer, limit: u64| match limit.checked_sub(s.one) {
        Some(rest) => (rest / s.each).saturating_add(1),
        None => 0,
    };
    let capacity = |limit: u64| -> u128 {
        sharers.iter().map(|s| u128::from(fit(s, limit)) * u128::from(s.pipelines)).sum()
    };
    let (mut low, mut high) = (0u64, 1u64 << 62);
    while low < high {
        let middle = low + (high - low) / 2;
        if capacity(middle) >= u128::from(total) { high = middle } else { low = middle + 1 }
    }
    // At `low` there is room for at least `total`, just below it there is not: the surplus is taken from pipelines that
    // end at `low` exactly, one micro-batch each; at least one of those must keep it.
    let mut surplus = capacity(low) - u128::from(total);
    let mut groups = Vec::with_capacity(sharers.len());
    for s in sharers {
        let most = fit(s, low) as u32;
        let at_limit = most > 0 && s.one + u64::from(most - 1) * s.each == low;
        let fewer = if at_limit { surplus.min(u128::from(s.pipelines)) as u32 } else { 0 };
        surplus -= u128::from(fewer);
        let all = [(s.pipelines - fewer, most), (fewer, most.saturating_sub(1))];
        let kept: Vec<(u32, u32)> = all.into_iter().filter(|(pipelines, _)| *pipelines > 0).collect();
        if kept.iter().any(|(_, micro_batches)| *micro_batches == 0) {
            return Vec::new();
        }
        groups.push(kept);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The shares add up, and no other share of so many ends sooner (checked against greedy filling).
        #[test]
        fn shares_are_whole_and_end_soonest(
            sharers in prop::collection::vec((1u32..5, 1u64..50, 1u64..20), 1..4),
            total in 1u32..60,
        ) {
            let sharers: Vec<Sharer> =
                sharers.into_iter().map(|(pipelines, one, each)| Sharer { pipelines, one, each }).collect();
            let groups = shares(&sharers, total);
            let mut ends = Vec::new();
            for s in &sharers {
                ends.extend((0..s.pipelines).map(|_| (s.one, s.each, 0u32)));
            }
            // Greedy: each micro-batch goes where it ends soonest.
            for _ in 0..total {
                let next = |e: &(u64, u64, u32)| e.0 + u64::from(e.2) * e.1;
                let at = (0..ends.len()).min_by_key(|i| next(&ends[*i])).unwrap();
                ends[at].2 += 1;
            }
            let end = |one: u64, each: u64, n: u32| one + u64::from(n - 1) * each;
            let best = ends.iter().filter(|e| e.2 > 0).map(|e| end(e.0, e.1, e.2)).max().unwrap();
            if groups.is_empty() {
                prop_assume!(true);
            } else {
                let given: u32 = groups.iter().flatten().map(|(p, n)| p * n).sum();
                prop_assert_eq!(given, total);
                let got = sharers.iter().zip(&groups).flat_map(|(s, g)| g.iter().map(|(_, n)| end(s.one, s.each, *n)));
                prop_assert_eq!(got.max().unwrap(), best);
            }
        }
    }
}
