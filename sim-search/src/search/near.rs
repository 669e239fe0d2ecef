//! What is near the best plans: one border, share or number moved a little, or one choice of the combination another one.

use super::{ROUND, Search, Stopped, Watch};
use crate::cost::placed::Placed;
use crate::tree::{Key, Menu, Root};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rounds of what is near the best, at most.
const NEAR_ROUNDS: usize = 12;

/// Combinations of which others are looked at that differ in one choice: of the best plans.
const NEIGHBOURS: usize = 3;

/// Those of them whose plans are estimated.
const OTHERS: usize = 384;

impl Search<'_> {
    /// Simulates what is near the best plans, as long as that helps.
    pub(super) fn improve(&mut self, watch: &mut dyn Watch) -> Option<Stopped> {
        for _ in 0..NEAR_ROUNDS {
            let best = self.best();
            let mut near = BTreeSet::new();
            for ranked in &self.ranked {
                near.extend(self.near(&ranked.key));
            }
            near.retain(|key| !self.tried.contains(key));
            if let Some(stopped) = self.try_all(self.likeliest_of(near, 2 * ROUND), watch) {
                return Some(stopped);
            }
            if self.best() == best
                && let Some(stopped) = self.try_all(self.others(), watch)
            {
                return Some(stopped);
            }
            if self.best() == best {
                break;
            }
        }
        None
    }

    /// So many of these plans, those that look best.
    fn likeliest_of(&self, plans: BTreeSet<Key>, most: usize) -> Vec<Key> {
        if plans.len() <= most {
            return plans.into_iter().collect();
        }
        let plans: Vec<Key> = plans.into_iter().collect();
        // Those of equal shares one after another.
        let own = |placed: &Placed<'_>, inner: &[u32]| Some((placed.estimate(inner), inner.to_vec()));
        let mut list: Vec<(u64, Key)> = plans.par_iter().filter_map(|key| self.estimated(key, own)).collect();
        list.sort_unstable();
        list.into_iter().take(most).map(|(_, key)| key).collect()
    }

    /// The value of the best plan so far, the largest there is without one.
    pub(super) fn best(&self) -> u64 {
        self.ranked.first().map_or(u64::MAX, |best| best.value)
    }

    /// The likeliest plans of combinations that differ from those of the best plans in one choice.
    fn others(&self) -> Vec<Key> {
        let head = self.tree.head();
        let mut best: Vec<&Key> = Vec::new();
        for ranked in &self.ranked {
            if best.len() < NEIGHBOURS && !best.iter().any(|key| key[..head] == ranked.key[..head]) {
                best.push(&ranked.key);
            }
        }
        let mut keys: Vec<(&Root, Key)> = best.iter().flat_map(|key| self.beside(key)).collect();
        keys.sort_by(|a, b| a.1.cmp(&b.1));
        keys.dedup_by(|a, b| a.1 == b.1);
        let of = |(root, key): &(&Root, Key)| self.candidates(root, key);
        let mut candidates: Vec<(u64, Key, bool)> = keys.par_iter().with_max_len(1).flat_map(of).collect();
        candidates.sort_unstable();
        candidates.truncate(OTHERS);
        let likely = self.likely(candidates.iter().map(|(_, key, _)| key));
        let new = likely.into_iter().map(|(_, key)| key).filter(|key| !self.tried.contains(key));
        new.take(ROUND).collect()
    }

    /// Combinations that differ from one in one choice: the option of a kind, the frame, or one kind's part of the leading
    /// template.
    fn beside(&self, key: &Key) -> Vec<(&Root, Key)> {
        let mut list = Vec::new();
        let Some(own) = self.tree.root(key) else { return list };
        let head = &key[..self.tree.head()];
        for (k, menu) in own.menus.iter().enumerate() {
            for option in std::iter::once(0).chain(menu.iter().map(|(option, _)| *option)) {
                let mut other = head.to_vec();
                other[2 + k] = option;
                list.push((own, other));
            }
        }
        let lead = |root: &Root| root.lead.map(|(_, c)| &self.tree.templates[self.tree.choices[c].template]);
        for root in &self.tree.roots {
            let near = match (lead(own), lead(root)) {
                (None, None) => true,
                (Some(a), Some(b)) if root.frame == own.frame => a.differs_once(b),
                (Some(a), Some(b)) => a == b,
                _ => false,
            };
            if near {
                // What no longer fits beside it stays out.
                let there = |(option, menu): (&u32, &Arc<Menu>)| {
                    menu.binary_search_by_key(option, |(t, _)| *t).map_or(0, |_| *option)
                };
                let options = head[2..].iter().zip(&root.menus).map(there);
                list.push((root, root.key().into_iter().chain(options).collect()));
            }
        }
        list
    }

    /// Plans with one border, one share or one number of pipelines moved a little.
    fn near(&self, key: &Key) -> Vec<Key> {
        let mut list = Vec::new();
        let Some(root) = self.tree.root(key) else { return list };
        let parts = self.tree.parts(root, key);
        let (head, layers) = (self.tree.head(), self.tree.scenario.model.layers());
        let (shares, counts) = (head + parts.len(), self.tree.counts(&parts, key));
        let mut first = shares + parts.len();
        for p in &parts {
            let borders = self.tree.choices[*p].cost.stages.len() - 1;
            for at in first..first + borders {
                let before = if at > first { key[at - 1] } else { 0 };
                let after = if at + 1 < first + borders { key[at + 1] } else { layers };
                for to in [key[at] - 1, key[at] + 1] {
                    if to > before && to < after {
                        let mut moved = key.clone();
                        moved[at] = to;
                        list.push(moved);
                    }
                }
            }
            first += borders;
        }
        let team = |c: usize| self.tree.choices[c].cost.team;
        for (i, p) in parts.iter().enumerate() {
            // The next numbers of pipelines.
            let numbers = &self.tree.choices[*p].numbers;
            let at = numbers.partition_point(|n| *n > counts[i]);
            for to in [at.wrapping_sub(1), at + 1].into_iter().filter_map(|at| numbers.get(at)) {
                if *to <= key[shares + i] {
                    let mut moved = key.clone();
                    moved[head + i] = numbers[0] - to;
                    list.push(moved);
                }
            }
            for j in (0..parts.len()).filter(|j| *j != i) {
                for step in BTreeSet::from([1, team(*p), counts[i], counts[j]]) {
                    let whole = step.is_multiple_of(team(*p)) && step.is_multiple_of(team(parts[j]));
                    if whole && key[shares + i] >= step + counts[i] {
                        let mut moved = key.clone();
                        moved[shares + i] -= step;
                        moved[shares + j] += step;
                        list.push(moved);
                    }
                }
            }
        }
        list
    }
}
