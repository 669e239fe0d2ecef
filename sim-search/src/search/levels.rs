//! Levels of time: what each template can run within one, and which combinations are therefore within it.

use super::{Choice, Combination, Root, Search};
use crate::cost::{Rings, View};
use rayon::prelude::*;
use std::collections::BTreeSet;

impl Search<'_> {
    /// How many micro-batches each choice that matters can run within `level`. Levels only rise, so the last answer is
    /// where to start.
    ///
    /// First by a quotient for all, which is never too few; then exactly, for the leading choices of roots that could
    /// still hold something, and then for the options of those that still can.
    pub(super) fn raise(&mut self, level: u64, view: View) {
        let mut most: Vec<u64> = self.choices.par_iter().map(|c| self.at_most(c, level)).collect();
        let mut needed = vec![false; self.choices.len()];
        for root in &self.roots {
            if let Some(lead) = root.lead.filter(|_| self.may_hold(root, &most)) {
                needed[lead] = true;
            }
        }
        self.measure(&needed, level, view, &mut most);
        let mut needed = vec![false; self.choices.len()];
        for root in &self.roots {
            let need = u64::from(self.micro_batches(root.frame.micro_batch));
            let best: Vec<u64> = root.options.iter().map(|list| greatest(list, &most)).collect();
            let all = root.lead.map_or(0, |l| most[l]) + best.iter().sum::<u64>();
            for (list, best) in root.options.iter().zip(&best) {
                for &c in list {
                    needed[c] |= all - best + most[c] >= need;
                }
            }
        }
        self.measure(&needed, level, view, &mut most);
    }

    /// No fewer micro-batches than all pipelines of a choice can run within the level: a stage's steps alone, less the
    /// last transfers.
    fn at_most(&self, choice: &Choice, level: u64) -> u64 {
        let entry = &self.entries[choice.entry];
        let each = level.saturating_add(entry.cost.slack()) / entry.bottleneck;
        let each = each.min(entry.cost.over_zone_link(choice.pipelines, level));
        each.min(u64::from(self.micro_batches(choice.frame.micro_batch))) * u64::from(choice.pipelines)
    }

    /// Whether a root can run its batch, if each choice can run `most`.
    fn may_hold(&self, root: &Root, most: &[u64]) -> bool {
        let options: u64 = root.options.iter().map(|list| greatest(list, most)).sum();
        root.lead.map_or(0, |l| most[l]) + options >= u64::from(self.micro_batches(root.frame.micro_batch))
    }

    /// Finds out exactly what the needed choices can run within the level.
    fn measure(&mut self, needed: &[bool], level: u64, view: View, most: &mut [u64]) {
        let several_zones = self.scenario.groups.iter().any(|g| g.zone != self.scenario.groups[0].zone);
        let (entries, rings) = (&self.entries, Rings::new(self.scenario, &self.kinds));
        self.choices.par_iter_mut().zip(most).zip(needed).for_each(|((choice, most), needed)| {
            if !needed {
                return;
            }
            let (cost, own) = (&entries[choice.entry].cost, choice.pipelines);
            let mut high = (*most / u64::from(own)) as u32;
            for across in [false, true] {
                let at = usize::from(across);
                if across && !several_zones {
                    choice.within[1] = choice.within[0];
                    continue;
                }
                let sync = rings.sync(cost, own, own, across, view);
                choice.within[at] = largest(choice.within[at], high, |n| cost.within(n, &sync, view, level));
                // Sharing across zones takes no less time.
                high = choice.within[at];
            }
            *most = u64::from(choice.within[0]) * u64::from(own);
        });
    }

    /// Goes back to a lower level: what waits and is not within it is thrown out.
    pub(super) fn lower(&mut self, level: u64) {
        let waited = std::mem::take(&mut self.waiting);
        self.choices.iter_mut().for_each(|c| c.within = [0; 2]);
        self.raise(level, View::Bound);
        self.open_combinations();
        let kept: BTreeSet<(usize, &Vec<usize>)> =
            self.waiting.iter().map(|c| (c.root, &c.options)).collect();
        let thrown = waited.iter().filter(|c| !kept.contains(&(c.root, &c.options))).count() as u64;
        self.counts.considered += thrown;
        self.counts.bounded += thrown;
    }

    /// Takes in the combinations within the level that were not taken yet; whether there are any, taken or not.
    pub(super) fn open_combinations(&mut self) -> bool {
        let this = &*self;
        let found: Vec<Vec<Combination>> =
            (0..this.roots.len()).into_par_iter().map(|r| this.combinations(r)).collect();
        let any = found.iter().any(|list| !list.is_empty());
        for c in found.into_iter().flatten() {
            if !self.taken.contains(&(c.root, c.options.clone())) {
                self.waiting.insert(c);
            }
        }
        any
    }

    /// The combinations of a root within the level.
    fn combinations(&self, r: usize) -> Vec<Combination> {
        let root = &self.roots[r];
        let need = u64::from(self.micro_batches(root.frame.micro_batch));
        let most = |c: usize| u64::from(self.choices[c].within[0]) * u64::from(self.choices[c].pipelines);
        // The best that the kinds from each on can add.
        let mut rest = vec![0u64; root.options.len() + 1];
        for (k, options) in root.options.iter().enumerate().rev() {
            rest[k] = rest[k + 1] + options.iter().map(|c| most(*c)).max().unwrap_or(0);
        }
        let mut list = Vec::new();
        let mut stack = vec![(root.lead.map_or(0, most), Vec::new())];
        while let Some((sum, options)) = stack.pop() {
            let k = options.len();
            if sum + rest[k] < need {
                continue;
            }
            if k < root.options.len() {
                for (o, c) in root.options[k].iter().enumerate().filter(|(_, c)| most(**c) > 0) {
                    stack.push((sum + most(*c), [&options[..], &[o]].concat()));
                }
                stack.push((sum, [&options[..], &[root.options[k].len()]].concat()));
            } else if let Some(sum) = self.whole(root, &options).filter(|sum| *sum >= need) {
                list.push(Combination { spare: std::cmp::Reverse((sum << 20) / need), root: r, options });
            }
        }
        list
    }

    /// The combinations of one template: pipelines that join kinds and nothing else, or pipelines of one kind.
    pub(super) fn alone(&self) -> Vec<Combination> {
        let mut list = Vec::new();
        for (r, root) in self.roots.iter().enumerate() {
            let out: Vec<usize> = root.options.iter().map(Vec::len).collect();
            let spare = std::cmp::Reverse(0);
            if root.lead.is_some() {
                list.push(Combination { spare, root: r, options: out });
            } else {
                for (k, options) in root.options.iter().enumerate() {
                    for o in 0..options.len() {
                        let mut options = out.clone();
                        options[k] = o;
                        list.push(Combination { spare, root: r, options });
                    }
                }
            }
        }
        list
    }

    /// The parts of a combination: lead first, then kind by kind.
    pub(super) fn parts(&self, root: &Root, options: &[usize]) -> Vec<usize> {
        let chosen = options.iter().zip(&root.options).filter_map(|(o, list)| list.get(*o).copied());
        root.lead.into_iter().chain(chosen).collect()
    }

    /// Whether some other part lies wholly in other zones, for each part.
    pub(super) fn across(&self, parts: &[usize]) -> Vec<bool> {
        let zones = |c: &usize| &self.entries[self.choices[*c].entry].zones;
        parts.iter().map(|c| parts.iter().any(|d| zones(c).is_disjoint(zones(d)))).collect()
    }

    /// Micro-batches that a combination can run within the level; `None` when a part cannot run one.
    fn whole(&self, root: &Root, options: &[usize]) -> Option<u64> {
        let parts = self.parts(root, options);
        let across = self.across(&parts);
        let run = |(c, across): (&usize, &bool)| {
            let choice = &self.choices[*c];
            let n = choice.within[usize::from(*across)];
            (n > 0).then(|| u64::from(n) * u64::from(choice.pipelines))
        };
        parts.iter().zip(&across).map(run).sum()
    }
}

/// The greatest of some values, 0 of none.
fn greatest(list: &[usize], values: &[u64]) -> u64 {
    list.iter().map(|c| values[*c]).max().unwrap_or(0)
}

/// The largest number in `low ..= high` that fits, `low` if none above it does; what fits, all smaller ones do.
fn largest(low: u32, high: u32, fits: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (low, high.max(low));
    // Levels rise slowly: the answer is near `low` after the first.
    let mut step = 1;
    while low > 0 && low < high {
        let next = (low + step).min(high);
        if fits(next) {
            low = next;
            step *= 2;
        } else {
            high = next - 1;
            break;
        }
    }
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}
