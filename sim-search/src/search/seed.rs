//! The plans to simulate first: of the combinations that look best, those whose plan does; then what is near the best.

use super::{ROUND, Search, Stopped, Watch, with_worker};
use crate::cost::placed::Placed;
use crate::cost::setting::Sharers;
use crate::shares::{Sharer, shares};
use crate::tree::{Key, Root};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Combinations of several templates that are looked at under one root: about so many.
const A_ROOT: usize = 600;

/// Roots that are looked at, of usual recipes and of others: those whose bounds are least.
const USUAL_ROOTS: usize = 1 << 12;
const OTHER_ROOTS: usize = 1024;

/// Combinations whose plans are estimated, by family: of one template and of several, of usual recipes and of others.
const CANDIDATES: usize = 384;

/// Options of a kind are compared by what they run in the least time of the root and one part of so many more.
const ROOM: u64 = 8;

/// Rounds of those that look best: of usual recipes, and at most.
const ROUNDS: usize = 2;
const MOST_ROUNDS: usize = 12;

impl Search<'_> {
    /// Simulates what looks best.
    pub(super) fn seed(&mut self, watch: &mut dyn Watch) -> Option<Stopped> {
        // The families apart: an estimate of several templates leaves out more than one of a single one, and other recipes
        // would crowd out the usual ones.
        let mut families = self.families();
        for family in &mut families {
            family.sort_unstable();
            family.truncate(CANDIDATES);
            let mut plans = self.likely(family.iter().map(|(_, key)| key));
            plans.truncate(ROUND / 2 * MOST_ROUNDS);
            *family = plans;
        }
        let (usual, others) = families.split_at(2);
        for (families, sure) in [(usual, ROUNDS), (others, 1)] {
            for round in 0..MOST_ROUNDS {
                let half = |f: &Vec<(u64, Key)>| -> Vec<(u64, Key)> {
                    f.iter().skip(round * ROUND / 2).take(ROUND / 2).cloned().collect()
                };
                let keys: Vec<Key> = families.iter().flat_map(half).map(|(_, key)| key).collect();
                let best = self.best();
                if let Some(stopped) = self.try_all(keys, watch) {
                    return Some(stopped);
                }
                // More of them, as long as that helps.
                if round + 1 >= sure && self.best() == best {
                    break;
                }
            }
        }
        self.improve(watch)
    }

    /// The likeliest plans of combinations with shares, by an estimate of their value, least first.
    pub(super) fn likely<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Vec<(u64, Key)> {
        let likeliest = |key: &&Key| self.estimated(key, |placed, _| placed.likely_cuts());
        let keys: Vec<&Key> = keys.collect();
        let mut plans: Vec<(u64, Key)> = keys.par_iter().with_max_len(1).filter_map(likeliest).collect();
        plans.sort_unstable();
        plans
    }

    /// A plan with the shares of a key, and an estimate of its value; `cuts`: of its time and its inner borders, by those that the key
    /// goes on with.
    pub(super) fn estimated(
        &self,
        key: &Key,
        cuts: impl Fn(&Placed<'_>, &[u32]) -> Option<(u64, Key)>,
    ) -> Option<(u64, Key)> {
        let parts = self.tree.parts(self.tree.root(key)?, key);
        let (shares, inner) = key.split_at(self.tree.head() + 2 * parts.len());
        let (time, inner) =
            with_worker(&self.workers, |worker| cuts(worker.placed(self.tree, key).as_ref().ok()?, inner))?;
        let price = self.tree.price(&parts, &self.tree.counts(&parts, key));
        Some((self.options.objective.value(price, time), [shares, &inner].concat()))
    }

    /// Combinations with shares, by an estimate of their time: of one template and of several, by usual recipes; the same by
    /// others.
    fn families(&self) -> [Vec<(u64, Key)>; 4] {
        let other = |root: &&Root| self.tree.frames[root.frame].fresh;
        let all = self.least.iter().zip(&self.tree.roots);
        let (mut others, mut usual): (Vec<(&u64, &Root)>, Vec<_>) = all.partition(|(_, root)| other(root));
        for (list, most) in [(&mut usual, USUAL_ROOTS), (&mut others, OTHER_ROOTS)] {
            list.sort_by_key(|(least, _)| *least);
            list.truncate(most);
        }
        let roots: Vec<(&u64, &Root)> = usual.into_iter().chain(others).collect();
        let found: Vec<Vec<(u64, Key, bool)>> =
            roots.par_iter().with_max_len(1).map(|(least, root)| self.of_root(root, **least)).collect();
        let mut families = [const { Vec::new() }; 4];
        for ((_, root), found) in roots.iter().zip(found) {
            for (time, key, several) in found {
                families[usize::from(several) + 2 * usize::from(other(root))].push((time, key));
            }
        }
        families
    }

    fn of_root(&self, root: &Root, least: u64) -> Vec<(u64, Key, bool)> {
        let need = self.tree.micro_batches(root.frame);
        let rate = |c: &usize| {
            let choice = &self.tree.choices[*c];
            let pace = &choice.paces[0];
            let busy = u64::from(pace.most).saturating_mul(1 << 50) / pace.beat.bottleneck;
            (choice.at_most(least.saturating_add(least / ROOM), None, need), busy)
        };
        let start = vec![root.frame as u32, root.lead.map_or(0, |l| l.0)];
        // The fastest options of each kind, as many as give about so many combinations.
        let kinds = root.menus.iter().filter(|m| !m.is_empty()).count().max(1) as u32;
        let mut each = 1usize;
        while (each + 2).pow(kinds.min(12)) <= A_ROOT {
            each += 1;
        }
        let mut lists = vec![start];
        for menu in &root.menus {
            let mut options: Vec<((u64, u64), u32)> = menu.iter().map(|(t, c)| (rate(c), *t)).collect();
            options.sort_unstable_by(|a, b| b.cmp(a));
            options.truncate(if root.lead.is_some() { 1 } else { each });
            let extend = |key: &Key| {
                let with = std::iter::once(0).chain(options.iter().map(|(_, t)| *t));
                with.map(|t| [&key[..], &[t]].concat()).collect::<Vec<_>>()
            };
            lists = lists.iter().flat_map(extend).collect();
        }
        lists.iter().flat_map(|key| self.candidates(root, key)).collect()
    }

    /// A combination with the numbers of pipelines that look best: all that fit, or as many of one part as keep to the first
    /// node groups of its kind.
    pub(super) fn candidates(&self, root: &Root, key: &Key) -> Vec<(u64, Key, bool)> {
        let parts = self.tree.parts(root, key);
        if !self.tree.is_new(root, &parts) {
            return Vec::new();
        }
        let most: Vec<u32> = parts.iter().map(|p| self.tree.choices[*p].pipelines()).collect();
        let mut numbers = BTreeSet::from([most.clone()]);
        for (i, p) in parts.iter().enumerate() {
            let template = &self.tree.templates[self.tree.choices[*p].template];
            for (k, kind) in self.tree.kinds.iter().enumerate().filter(|(k, _)| template.devices(*k) > 0) {
                for group in kind.devices.chunk_by(|a, b| a.group == b.group) {
                    let first = kind.devices.partition_point(|d| d < &group[0]) as u32;
                    let fewer = template.whole(first / template.devices(k));
                    if (1..most[i]).contains(&fewer) {
                        let mut counts = most.clone();
                        counts[i] = fewer;
                        numbers.insert(counts);
                    }
                }
            }
        }
        let of = |counts: &Vec<u32>| self.candidate(root, self.tree.counted(key, &parts, counts));
        numbers.iter().filter_map(of).collect()
    }

    /// A combination with so many pipelines and the shares that look best, and its time by them.
    fn candidate(&self, root: &Root, mut key: Key) -> Option<(u64, Key, bool)> {
        let parts = self.tree.parts(root, &key);
        let counts = self.tree.counts(&parts, &key);
        if !self.tree.is_new_with(root, &parts, &counts) {
            return None;
        }
        let total = self.tree.micro_batches(root.frame);
        let pace = |(p, n): (&usize, &u32)| (self.tree.choices[*p].pace(*n).beat.bottleneck, *n);
        let paces: Vec<(u64, u32)> = parts.iter().zip(&counts).map(pace).collect();
        let all: f64 = paces.iter().map(|(bottleneck, n)| f64::from(*n) / *bottleneck as f64).sum();
        let mut sharers = Vec::new();
        for (p, (each, pipelines)) in parts.iter().zip(paces) {
            let n = ((f64::from(total) / all / each as f64) as u32).clamp(1, total);
            let alone = self.tree.pipelines(root.frame, *p, Sharers::by_itself(pipelines));
            let time = alone.likely(n).or_else(|| alone.likely(1))?;
            let one = time.saturating_sub(u64::from(n - 1).saturating_mul(each));
            sharers.push(Sharer { pipelines, one, each });
        }
        let groups = shares(&sharers, total);
        if groups.is_empty() {
            return None;
        }
        let (mut most, mut given) = (0, Vec::with_capacity(parts.len()));
        for (s, groups) in sharers.iter().zip(&groups) {
            let n = groups.iter().map(|g| g.1).max().unwrap_or(1);
            most = most.max(s.one.saturating_add(u64::from(n - 1).saturating_mul(s.each)));
            given.push(groups.iter().map(|(pipelines, n)| pipelines * n).sum());
        }
        if !self.tree.align(&parts, &counts, &mut given) {
            return None;
        }
        key.extend(given);
        let value = self.options.objective.value(self.tree.price(&parts, &counts), most);
        Some((value, key, parts.len() > 1))
    }

    /// Simulates plans before their turn, in rounds.
    pub(super) fn try_all(&mut self, keys: Vec<Key>, watch: &mut dyn Watch) -> Option<Stopped> {
        let keys: Vec<Key> = keys.into_iter().filter(|key| !self.tried.contains(key)).collect();
        for round in keys.chunks(ROUND) {
            if let Some(stopped) = self.ask(None, watch) {
                return Some(stopped);
            }
            let cutoff = self.cutoff();
            let this = &*self;
            let outcomes: Vec<_> = round
                .par_iter()
                .with_max_len(1)
                .map(|key| with_worker(&this.workers, |worker| worker.simulate(this.tree, key, cutoff)))
                .collect();
            for (key, outcome) in round.iter().zip(outcomes) {
                if self.tried.insert(key.clone()) {
                    if self.owns(key) {
                        self.counts.considered += 1;
                        self.settle(key.clone(), outcome);
                    } else {
                        self.settle_elsewhere(key.clone(), outcome);
                    }
                }
            }
            self.rounds += 1;
        }
        None
    }
}
