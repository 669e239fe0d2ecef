//! The plans to simulate first: of the combinations that look best, those whose plan does; then what is near the best.

use super::{ROUND, Search, Stopped, Watch, with_worker};
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

/// Rounds of those that look best.
const ROUNDS: usize = 2;

/// Rounds of what is near the best, at most.
const NEAR_ROUNDS: usize = 12;

impl Search<'_> {
    /// Simulates what looks best.
    pub(super) fn seed(&mut self, watch: &mut dyn Watch) -> Option<Stopped> {
        // The families apart: an estimate of several templates leaves out more than one of a single one, and other recipes
        // would crowd out the usual ones.
        let mut families = self.families();
        for family in &mut families {
            family.sort_unstable();
            family.truncate(CANDIDATES);
            let this = &*self;
            let mut plans: Vec<(u64, Key)> = family
                .par_iter()
                .filter_map(|(_, key)| {
                    with_worker(&this.workers, |worker| {
                        let placed = worker.placed(this.tree, key).as_ref().ok()?;
                        let inner = placed.best_cuts()?;
                        let time = placed.estimate(&inner);
                        let parts = this.tree.parts(this.tree.root(key)?, key);
                        let price = this.tree.price(&parts, &this.tree.counts(&parts, key));
                        let value = this.options.objective.value(price, time);
                        Some((value, [&key[..], &inner].concat()))
                    })
                })
                .collect();
            plans.sort_unstable();
            plans.truncate(ROUND * ROUNDS);
            *family = plans;
        }
        let (usual, others) = families.split_at(2);
        let rounds = (0..ROUNDS).map(|round| (usual, round)).chain([(others, 0)]);
        let of = |(families, round): (&[Vec<(u64, Key)>], usize)| -> Vec<(u64, Key)> {
            let half = |f: &Vec<_>| f.iter().skip(round * ROUND / 2).take(ROUND / 2).cloned().collect();
            families.iter().flat_map(|f| -> Vec<_> { half(f) }).collect()
        };
        let rounds: Vec<Vec<(u64, Key)>> = rounds.map(of).collect();
        for round in rounds {
            if let Some(stopped) = self.try_all(round.into_iter().map(|(_, key)| key).collect(), watch) {
                return Some(stopped);
            }
        }
        self.improve(watch)
    }

    /// Simulates what is near the best plans, as long as that helps.
    pub(super) fn improve(&mut self, watch: &mut dyn Watch) -> Option<Stopped> {
        for _ in 0..NEAR_ROUNDS {
            let best = self.ranked.first().map(|r| r.value);
            let mut near = BTreeSet::new();
            for ranked in &self.ranked {
                near.extend(self.near(&ranked.key));
            }
            let near: Vec<Key> =
                near.into_iter().filter(|key| !self.tried.contains(key)).take(2 * ROUND).collect();
            if let Some(stopped) = self.try_all(near, watch) {
                return Some(stopped);
            }
            if self.ranked.first().map(|r| r.value) == best {
                break;
            }
        }
        None
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
        let roots: Vec<&Root> = usual.into_iter().chain(others).map(|(_, root)| root).collect();
        let found: Vec<Vec<(u64, Key, bool)>> = roots.par_iter().map(|r| self.of_root(r)).collect();
        let mut families = [const { Vec::new() }; 4];
        for (root, found) in roots.iter().zip(found) {
            for (time, key, several) in found {
                families[usize::from(several) + 2 * usize::from(other(root))].push((time, key));
            }
        }
        families
    }

    fn of_root(&self, root: &Root) -> Vec<(u64, Key, bool)> {
        let rate = |c: &usize| {
            let pace = &self.tree.choices[*c].paces[0];
            u64::from(pace.most).saturating_mul(1 << 50) / pace.beat.bottleneck
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
            let mut options: Vec<(u64, u32)> = menu.iter().map(|(t, c)| (rate(c), *t)).collect();
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
    fn candidates(&self, root: &Root, key: &Key) -> Vec<(u64, Key, bool)> {
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
            let timed = self.tree.timed(root.frame, *p, Sharers::by_itself(pipelines));
            let time = timed.time(n).or_else(|| timed.time(1))?;
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
