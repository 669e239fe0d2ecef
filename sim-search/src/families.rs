//! What a search threw out, by families of plans: which rule did it, how many plans that were, and how near the best of each
//! came.
//!
//! A family is what a root of the tree decides: the micro-batch, how plans train, and which kinds of GPU pipelines join, split how, or that each kind forms pipelines of its own. Every plan of the space is in one. What became of it is read off
//! the log that a search keeps ([`crate::Options::log`]).

use crate::rules::Rule;
use crate::search::{Fate, Found};
use crate::space::{Recipe, Split};
use crate::tree::{Key, Tree, Under};
use std::collections::BTreeMap;

/// What became of plans, by number; they add up to those that a family holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans {
    /// Plans that the space holds.
    pub represented: u128,
    /// Thrown out because a bound is above the best: of theirs, or of a node that they are under.
    pub bounded: u128,
    /// Thrown out by a rule.
    pub pruned: BTreeMap<Rule, u128>,
    /// Simulated, those cut off included.
    pub simulated: u128,
    /// Left when the search stopped.
    pub open: u128,
}

impl Plans {
    /// The share that never reached the simulator.
    pub fn never_simulated(&self) -> f64 {
        if self.represented == 0 {
            return 1.0;
        }
        1.0 - self.simulated as f64 / self.represented as f64
    }

    fn add(&mut self, other: &Plans) {
        self.represented = self.represented.saturating_add(other.represented);
        self.bounded = self.bounded.saturating_add(other.bounded);
        for (rule, n) in &other.pruned {
            let sum = self.pruned.entry(*rule).or_default();
            *sum = sum.saturating_add(*n);
        }
        self.simulated += other.simulated;
        self.open = self.open.saturating_add(other.open);
    }
}

/// What the plans of a family have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Common {
    /// Samples of a micro-batch.
    pub micro_batch: u32,
    /// How they train, where that is not the usual way: `ZeRO 1, sequence parallelism`.
    pub recipe: String,
    /// GPU and split of the kinds that one pipeline joins, first stages first; empty where each kind forms pipelines of its own.
    pub joined: Vec<(String, Split)>,
}

/// Plans of one kind, and what became of them.
#[derive(Clone, Debug)]
pub struct Family {
    /// What they have in common.
    pub common: Common,
    /// Most stages of their joint pipelines; of each kind by itself, 0.
    pub most_stages: u32,
    /// What became of them.
    pub plans: Plans,
    /// Nodes of the tree in the log.
    pub nodes: u64,
    /// The best that was simulated to its end, by value.
    pub best: Option<u64>,
    /// The least bound of those thrown out or left.
    pub least_bound: Option<u64>,
}

/// Templates that a rule threw out before any plan of them was counted, by kinds and micro-batch.
#[derive(Clone, Debug)]
pub struct Thrown {
    /// Micro-batch, and the kinds that they join with their splits.
    pub common: Common,
    /// Which rule.
    pub rule: Rule,
    /// Templates: numbers of stages.
    pub templates: u64,
    /// The fewest bytes that one of them lacks on a device.
    pub least_lacking_bytes: Option<u64>,
}

/// Everything that did not become the answer.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The whole space.
    pub all: Plans,
    /// By family, the one with the best plan simulated first.
    pub families: Vec<Family>,
    /// Templates that are in no plan of the space, because they do not fit or were not measured.
    pub templates: Vec<Thrown>,
}

/// What became of the plans of a search of `tree` that kept its log, and is no shard.
pub(crate) fn rejected(tree: &Tree<'_>, found: &Found) -> Rejected {
    let under = Under::new(tree);
    // Below this value a node was left; from it on, nothing under it is better than the best.
    let best = found.ranked.first().map_or(u64::MAX, |best| best.value);
    let common = |micro_batch: u32, recipe: &Recipe, template: Option<usize>| {
        let mut joined: Vec<(String, Split)> = Vec::new();
        for stage in template.iter().flat_map(|t| &tree.templates[*t].stages) {
            let of = (tree.kinds[stage.kind as usize].gpu.clone(), stage.split);
            if joined.last() != Some(&of) {
                joined.push(of);
            }
        }
        Common { micro_batch, recipe: recipe.words(), joined }
    };
    // The nodes of each root, in the order of their keys.
    let mut nodes: BTreeMap<(u32, u32), BTreeMap<&Key, Fate>> = BTreeMap::new();
    for (key, fate) in found.log.iter().filter(|(key, _)| key.len() >= 2) {
        nodes.entry((key[0], key[1])).or_default().insert(key, *fate);
    }
    let mut families: BTreeMap<Common, Family> = BTreeMap::new();
    for root in &tree.roots {
        let key = root.key();
        let template = root.lead.map(|(t, _)| t as usize - 1);
        let frame = &tree.frames[root.frame];
        let common = common(frame.micro_batch, &frame.recipe, template);
        let family = families.entry(common.clone()).or_insert_with(|| Family {
            common,
            most_stages: 0,
            plans: Plans::default(),
            nodes: 0,
            best: None,
            least_bound: None,
        });
        let stages = template.map_or(0, |t| tree.templates[t].stages.len() as u32);
        family.most_stages = family.most_stages.max(stages);
        let none = BTreeMap::new();
        let mine = nodes.get(&(key[0], key[1])).unwrap_or(&none);
        family.nodes += mine.len() as u64;
        for fate in mine.values() {
            match fate {
                Fate::Simulated(Some(value)) => {
                    family.best = Some(family.best.map_or(*value, |b| b.min(*value)));
                }
                Fate::Bound(bound) | Fate::Rest(bound) => {
                    family.least_bound = Some(family.least_bound.map_or(*bound, |b| b.min(*bound)));
                }
                Fate::Simulated(None) | Fate::Rule(_) => {}
            }
        }
        family.plans.add(&of_root(&under, &key, mine, best));
    }
    let mut families: Vec<Family> = families.into_values().collect();
    // Of those of which none was simulated to its end, the one that was looked into most first.
    let near = |f: &Family| (f.best.unwrap_or(u64::MAX), std::cmp::Reverse(f.nodes));
    families.sort_by(|a, b| (near(a), &a.common).cmp(&(near(b), &b.common)));
    let mut all = Plans::default();
    families.iter().for_each(|f| all.add(&f.plans));
    let mut templates: BTreeMap<(Common, Rule), Thrown> = BTreeMap::new();
    for some in &tree.thrown_out {
        for (template, rule, lacks) in tree.lacks(some) {
            let common = common(some.micro_batch, &some.recipe, Some(template));
            let thrown = templates.entry((common.clone(), rule)).or_insert_with(|| Thrown {
                common,
                rule,
                templates: 0,
                least_lacking_bytes: None,
            });
            thrown.templates += 1;
            if let Some(lacks) = lacks.and_then(|l| u64::try_from(l).ok()) {
                thrown.least_lacking_bytes = Some(thrown.least_lacking_bytes.map_or(lacks, |l| l.min(lacks)));
            }
        }
    }
    Rejected { all, families, templates: templates.into_values().collect() }
}

/// What became of the plans under one root. What its nodes do not say, a bound excluded.
fn of_root(under: &Under<'_, '_>, root: &Key, nodes: &BTreeMap<&Key, Fate>, best: u64) -> Plans {
    let mut plans = Plans { represented: under.plans(root), ..Plans::default() };
    // Nodes that are left, and what was settled of them.
    let mut left: Vec<(&Key, u128)> = Vec::new();
    for (key, fate) in nodes {
        while left.last().is_some_and(|(open, _)| !key.starts_with(open)) {
            let (_, more) = left.pop().unwrap_or((key, 0));
            plans.open = plans.open.saturating_add(more);
        }
        let settled = match fate {
            Fate::Simulated(_) => {
                plans.simulated += 1;
                1
            }
            Fate::Rule(rule) => {
                let n = under.plans(key);
                let sum = plans.pruned.entry(*rule).or_default();
                *sum = sum.saturating_add(n);
                n
            }
            Fate::Bound(bound) | Fate::Rest(bound) => {
                let n = under.plans(key);
                if *bound < best {
                    left.iter_mut().for_each(|(_, open)| *open = open.saturating_sub(n));
                    left.push((key, n));
                    continue;
                }
                n
            }
        };
        left.iter_mut().for_each(|(_, open)| *open = open.saturating_sub(settled));
    }
    plans.open = left.into_iter().fold(plans.open, |sum, (_, more)| sum.saturating_add(more));
    let pruned: u128 = plans.pruned.values().fold(0, |sum, n| sum.saturating_add(*n));
    let known = pruned.saturating_add(plans.simulated).saturating_add(plans.open);
    plans.bounded = plans.represented.saturating_sub(known);
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::small::Small;
    use crate::space::kinds;
    use crate::tree::Root;
    use crate::{Method, Options, Stopped, search_explained};

    /// Plans under a node are those under its children, from roots down to shares; of many alike some are looked at.
    #[test]
    fn plans_are_counted_alike_from_every_level() {
        let mut scenario = Small { batch: 4, nodes: (1, 1), wan: Some((20, 5)), changing: false }.scenario();
        scenario.search.max_stages = 2;
        let kinds = kinds(&scenario);
        let tree = Tree::open(&scenario, &kinds, true);
        let under = Under::new(&tree);
        let mut looked_at = 0;
        for root in tree.roots.iter().step_by(2) {
            let mut open = vec![root.key()];
            while let Some(key) = open.pop() {
                let parts = tree.parts(root, &key);
                let children = children(&tree, root, &key, &parts);
                let sum: u128 = children.iter().map(|c| under.plans(c)).sum();
                assert_eq!(under.plans(&key), sum, "{key:?}");
                looked_at += 1;
                let deeper = children.into_iter().filter(|c| c.len() < tree.head() + 2 * parts.len().max(1));
                open.extend(deeper.step_by(7));
            }
        }
        assert!(looked_at > 60, "{looked_at}");
    }

    /// Every child of a node above cuts.
    fn children(tree: &Tree<'_>, root: &Root, key: &Key, parts: &[usize]) -> Vec<Key> {
        let total = tree.micro_batches(root.frame);
        if key.len() < tree.head() {
            let options = root.menus[key.len() - 2].iter().map(|(t, _)| *t);
            return std::iter::once(0).chain(options).map(|o| [&key[..], &[o]].concat()).collect();
        }
        let product = |lists: Vec<Vec<u32>>| {
            let mut all: Vec<Vec<u32>> = vec![Vec::new()];
            for list in lists {
                let with = |of: &Vec<u32>| -> Vec<Vec<u32>> {
                    list.iter().map(|n| [&of[..], &[*n]].concat()).collect()
                };
                all = all.iter().flat_map(with).collect();
            }
            all
        };
        if key.len() == tree.head() {
            let mut counts = product(parts.iter().map(|c| tree.choices[*c].numbers.clone()).collect());
            counts.retain(|n| !n.is_empty() && n.iter().sum::<u32>() <= total);
            counts.retain(|n| tree.is_new_with(root, parts, n));
            return counts.iter().map(|n| tree.counted(key, parts, n)).collect();
        }
        let mut shares =
            product(tree.counts(parts, key).into_iter().map(|n| (n..=total).collect()).collect());
        shares.retain(|s| s.iter().sum::<u32>() == total);
        shares.iter().map(|s| [&key[..], s].concat()).collect()
    }

    #[test]
    fn what_was_thrown_out_adds_up() {
        for (batch, max_simulations) in [(8, u64::MAX), (16, 60)] {
            let scenario = Small { batch, nodes: (1, 1), wan: Some((20, 5)), changing: true }.scenario();
            let options =
                Options { max_simulations, log: true, method: Method::default(), ..Options::default() };
            let (found, rejected) = search_explained(&scenario, &options, None, &mut |_: &_| None).unwrap();
            let rejected = rejected.unwrap();
            let sum = |p: &Plans| p.bounded + p.simulated + p.open + p.pruned.values().sum::<u128>();
            assert_eq!(rejected.all.represented, found.plans_represented);
            assert_eq!(rejected.all.simulated, u128::from(found.counts.simulated));
            assert_eq!(sum(&rejected.all), rejected.all.represented);
            for family in &rejected.families {
                assert_eq!(sum(&family.plans), family.plans.represented, "{family:?}");
            }
            assert_eq!(rejected.families[0].best, Some(found.ranked[0].value));
            assert_eq!(rejected.all.open == 0, found.stopped == Stopped::Done, "{:?}", rejected.all);
            // Each is told of once, as the search counted it when it opened its tree.
            let by = |rule| rejected.templates.iter().filter(|t| t.rule == rule).map(|t| t.templates).sum();
            let measured: u64 = by(Rule::NotMeasured);
            assert_eq!(found.counts.pruned.get(&Rule::NotMeasured), Some(&measured));
            assert!(measured > 0 && rejected.templates.iter().any(|t| t.rule == Rule::NotMeasured));
        }
    }
}
