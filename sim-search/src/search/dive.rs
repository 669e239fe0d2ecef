//! A good plan of a combination as soon as it is opened: the sooner the best time falls, the less is opened after it.

use super::{ROUND, Search, Stopped, Watch, Worker};
use crate::tree::{Key, Root, Timed};
use std::sync::Arc;

/// Plans that a round leads to at most.
const PROBES: usize = ROUND / 4;

impl<'t> Search<'t> {
    /// The plan of a combination with numbers of pipelines whose bounds are least, with the largest of them, where that is below
    /// `limit`. Its parts run the batch within `bound`.
    pub(super) fn likeliest(
        &self,
        worker: &mut Worker<'t>,
        (root, key): (&Root, &Key),
        counts: &[u32],
        timed: &[Arc<Timed>],
        (bound, limit): (u64, u64),
    ) -> Option<(u64, Key)> {
        let need = self.tree.micro_batches(root.frame);
        let mut each: Vec<u32> = timed.iter().map(|t| t.capacity(bound, need)).collect();
        let mut shares: Vec<u32> = counts.iter().zip(&each).map(|(c, n)| n.saturating_mul(*c)).collect();
        // What is too much is taken from the parts that end last.
        let mut surplus = shares.iter().copied().fold(0, u32::saturating_add).checked_sub(need)?;
        while surplus > 0 {
            let time = |i: usize| timed[i].time(each[i]).unwrap_or(u64::MAX);
            let slowest = (0..counts.len()).filter(|i| each[*i] > 1).max_by_key(|i| (time(*i), *i))?;
            let fewer = surplus.min(counts[slowest]);
            (shares[slowest], surplus) = (shares[slowest] - fewer, surplus - fewer);
            each[slowest] = shares[slowest].div_ceil(counts[slowest]);
        }
        let parts = self.tree.parts(root, key);
        if !self.tree.align(&parts, counts, &mut shares) {
            return None;
        }
        let with = [&key[..], &shares].concat();
        let placed = worker.placed(self.tree, &with).as_ref().ok()?;
        let (_, inner) = placed.likely_cuts()?;
        let value = placed.value(&inner);
        (value < limit).then(|| (value, [&with[..], &inner].concat()))
    }

    /// Simulates the best of the plans that a round led to, and what is near them when they are better than all before.
    pub(super) fn probe(&mut self, mut probes: Vec<(u64, Key)>, watch: &mut dyn Watch) -> Option<Stopped> {
        let best = self.ranked.first().map_or(u64::MAX, |best| best.value);
        probes.retain(|(value, key)| *value < best && !self.tried.contains(key));
        probes.sort_unstable();
        probes.truncate(PROBES);
        if probes.is_empty() {
            return None;
        }
        if let Some(stopped) = self.try_all(probes.into_iter().map(|(_, key)| key).collect(), watch) {
            return Some(stopped);
        }
        match self.ranked.first().is_some_and(|now| now.value < best) {
            true => self.improve(watch),
            false => None,
        }
    }
}
