//! A good plan of a combination as soon as it is opened: the sooner the best time falls, the less is opened after it.

use super::bounds::room;
use super::expand::State;
use super::{ROUND, Search, Stopped, Watch, Worker};
use crate::tree::{Key, Root};

/// Plans that a round leads to at most.
const PROBES: usize = ROUND / 4;

impl<'t> Search<'t> {
    /// The plan of a combination with numbers of pipelines whose bounds are least, with the largest of them, where that is below
    /// `limit`; `None` where its devices are not known.
    pub(super) fn likeliest(
        &self,
        worker: &mut Worker<'t>,
        (root, key): (&Root, &Key),
        (bound, state): (u64, &State),
        limit: u64,
    ) -> Option<(u64, Key)> {
        let parts = state.on.as_ref()?;
        // Its parts run the batch within that, or it is not known when they do.
        let room = room((bound, state.enough)).min(limit);
        let (need, rings) = (self.tree.micro_batches(root.frame), &self.tree.rings);
        let mut shares: Vec<u32> = parts.iter().map(|part| part.capacity(rings, room, (1, need))).collect();
        // What is too much is taken from the parts that end last.
        let mut surplus = shares.iter().copied().fold(0, u32::saturating_add).checked_sub(need)?;
        while surplus > 0 {
            let spare = |i: usize| shares[i] - parts[i].pipelines.min(shares[i]);
            let time = |i: usize| parts[i].likely(shares[i].div_ceil(parts[i].pipelines)).unwrap_or(u64::MAX);
            let slowest = (0..parts.len()).filter(|i| spare(*i) > 0).max_by_key(|i| (time(*i), *i))?;
            let fewer = surplus.min(parts[slowest].pipelines).min(spare(slowest));
            (shares[slowest], surplus) = (shares[slowest] - fewer, surplus - fewer);
        }
        let choices = self.tree.parts(root, key);
        let counts: Vec<u32> = parts.iter().map(|part| part.pipelines).collect();
        if !self.tree.align(&choices, &counts, &mut shares) {
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
        let best = self.best();
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
