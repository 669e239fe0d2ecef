//! From a good deal to a better one: blocks that move from job to job.

use super::{Dealer, Key};
use crate::search::Stop;

/// Moves that may fail to help in a row.
const TRIED: usize = 4;

impl Dealer<'_> {
    /// Moves a block from one job to another, alone or for one of another group, whichever is likely to help most, as long as it
    /// helps.
    pub(super) fn climb(&mut self, stop: &mut Stop<'_>) {
        let Some((best, key)) = &self.best else { return };
        let (mut value, mut times, mut key) = (best.value, best.times_ps.clone(), key.clone());
        let mut tried = 0;
        while tried < TRIED && self.simulations < self.options.max_simulations {
            let next = self.moves(&key, &times).into_iter().find(|(_, key)| !self.settled.contains(key));
            let Some((_, next)) = next else { return };
            if self.look(std::slice::from_ref(&next), Some(stop)).is_some() {
                return;
            }
            self.counts.considered += 1;
            tried += 1;
            if let Some(better) = self.settle(&next, false).filter(|(new, _)| *new < value) {
                (value, times) = better;
                (key, tried) = (next, 0);
            }
            self.rounds += 1;
        }
    }

    /// Deals that differ from this one by a block or two, with what they are likely worth, best first.
    fn moves(&self, key: &Key, times: &[u64]) -> Vec<(u128, Key)> {
        let groups = self.blocks.len();
        // As its work says, from what it took.
        let likely = |new: &[u32]| {
            let of = |(i, j): (usize, &usize)| {
                let own = i * groups..(i + 1) * groups;
                let least = |key: &[u32]| self.work.least(*j, &self.counts(&key[own.clone()]));
                let (before, after) = (least(key).max(1), least(new));
                match after {
                    u128::MAX => after,
                    _ => self.jobs[*j].worth((times[*j] as f64 * after as f64 / before as f64) as u64),
                }
            };
            self.dealt_to.iter().enumerate().map(of).fold(0, u128::saturating_add)
        };
        let mut list = Vec::new();
        let jobs = 0..self.dealt_to.len();
        for (from, to) in jobs.clone().flat_map(|from| jobs.clone().map(move |to| (from, to))) {
            for g in (0..groups).filter(|_| from != to) {
                for back in std::iter::once(None).chain((0..groups).filter(|b| *b != g).map(Some)) {
                    let mut new = key.clone();
                    let mut pass = |from: usize, to: usize, g: usize| {
                        let has = new[from * groups + g] > 0;
                        if has {
                            new[from * groups + g] -= 1;
                            new[to * groups + g] += 1;
                        }
                        has
                    };
                    if pass(from, to, g) && back.is_none_or(|b| pass(to, from, b)) {
                        list.push((likely(&new), new));
                    }
                }
            }
        }
        list.retain(|(value, key)| {
            *value < u128::MAX && key.chunks(groups).all(|own| own.iter().any(|o| *o > 0))
        });
        list.sort();
        list
    }

    /// The blocks of each group shared out in proportion to `weight`; `None` where a job would get none.
    pub(super) fn shared_out(&self, weight: &dyn Fn(usize) -> f64) -> Option<Key> {
        let groups = self.blocks.len();
        let all: f64 = self.dealt_to.iter().map(|j| weight(*j)).sum();
        let mut key = vec![0; self.dealt_to.len() * groups];
        for (g, blocks) in self.blocks.iter().enumerate() {
            let (mut given, mut sum) = (0, 0.0);
            for (i, j) in self.dealt_to.iter().enumerate() {
                sum += weight(*j);
                let last = i + 1 == self.dealt_to.len();
                let upto = if last { *blocks } else { (sum / all * f64::from(*blocks) + 0.5) as u32 };
                let upto = upto.clamp(given, *blocks);
                key[i * groups + g] = upto - given;
                given = upto;
            }
        }
        key.chunks(groups).all(|own| own.iter().any(|o| *o > 0)).then_some(key)
    }
}
