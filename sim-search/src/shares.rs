//! Micro-batches to pipelines, so that the last one ends soonest.

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
/// micro-batches of up to two groups that differ by one. Empty when a pipeline would get none, or they would take 53 days and
/// more.
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
    let Some(mut surplus) = capacity(low).checked_sub(u128::from(total)) else { return Vec::new() };
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
