//! Every plan of the space, simulated to its end: no bound, no dynamic program. What the search is held against, and a
//! planner for small spaces.

use crate::rules::Rule;
use crate::search::{
    Counts, Ended, Found, Options, Outcome, Progress, Ranked, Stop, Stopped, choose, with_worker, workers,
};
use crate::space::Kind;
use crate::tree::{Key, Tree};
use rayon::prelude::*;
use sim_core::Digest;
use sim_models::lower::Fabric;
use sim_models::scenario::Scenario;
use std::collections::BTreeSet;

/// Plans simulated in one round.
const ROUND: usize = 256;

pub(crate) fn search(
    scenario: &Scenario,
    fabric: &Fabric,
    kinds: &[Kind],
    options: &Options,
    stop: &mut Stop<'_>,
) -> Found {
    let tree = Tree::open(scenario, kinds, false);
    let workers = workers(&tree, fabric, options);
    let mut counts = Counts {
        considered: tree.considered,
        pruned: tree.pruned.clone(),
        expanded: tree.expanded,
        ..Counts::default()
    };
    let (mut ranked, mut rounds, mut digest) = (BTreeSet::new(), 0, Digest::EMPTY);
    let mut looked_at = 0u64;
    let mut pareto = Vec::new();
    let mut walk = Walk::new(&tree);
    let mut round: Vec<Key> = Vec::with_capacity(ROUND);
    let stopped = loop {
        round.clear();
        round.extend(std::iter::from_fn(|| walk.next()).take(ROUND));
        if round.is_empty() {
            break Stopped::Done;
        }
        let best_ps = ranked.first().map(|r: &Ranked| r.time_ps);
        let simulated = counts.simulated;
        let enough = simulated >= options.max_simulations || looked_at >= options.most_nodes();
        let limit = enough.then_some(Stopped::Simulations);
        if let Some(stopped) = limit.or_else(|| stop(&Progress { rounds, simulated, best_ps, level_ps: 0 })) {
            counts.considered += round.len() as u64;
            counts.open += round.len() as u64;
            break stopped;
        }
        looked_at += round.len() as u64;
        let outcomes: Vec<Outcome> = round
            .par_iter()
            .map(|key| with_worker(&workers, |worker| worker.simulate(&tree, key, None)))
            .collect();
        for (key, outcome) in round.iter().zip(outcomes) {
            counts.considered += 1;
            digest.add(rounds, key.len() as u64);
            key.iter().for_each(|part| digest.add(u64::from(*part), 0));
            let time = match outcome.ended {
                Ended::Pruned(rule) => {
                    *counts.pruned.entry(rule).or_default() += 1;
                    1 + rule as u64
                }
                Ended::Simulated(time) => {
                    counts.simulated += 1;
                    time.unwrap_or(u64::MAX)
                }
            };
            digest.add(time, 0);
            if let (Ended::Simulated(Some(value)), Some(candidate)) = (outcome.ended, outcome.plan) {
                let (time_ps, plan) = (candidate.time_ps, candidate.plan.clone());
                choose(&mut pareto, candidate);
                ranked.insert(Ranked { value, time_ps, key: key.clone(), plan });
                while ranked.len() > options.top {
                    ranked.pop_last();
                }
            }
        }
        rounds += 1;
    };
    // Roots, combinations and shares that were gone through; those that hold no share are thrown out by a rule.
    counts.considered += walk.opened + walk.empty;
    counts.expanded += walk.opened;
    if walk.empty > 0 {
        *counts.pruned.entry(Rule::TooFewMicroBatches).or_default() += walk.empty;
    }
    if stopped != Stopped::Done {
        // What was not reached is one node.
        counts.considered += 1;
        counts.open += 1;
    }
    let best = ranked.first().map(|r: &Ranked| r.value);
    let lower_bound_ps = match (stopped, best) {
        (_, None) => u64::MAX,
        (Stopped::Done, Some(best)) => best,
        (_, Some(_)) => 0,
    };
    Found {
        ranked: ranked.into_iter().collect(),
        counts,
        plans_represented: tree.plans_represented(),
        lower_bound_ps,
        pareto,
        stopped,
        rounds,
        digest,
        dealt: None,
        nearest_miss: None,
        log: Vec::new(),
        space: tree.digest().to_string(),
    }
}

/// All plans, in the order of their keys.
struct Walk<'t> {
    tree: &'t Tree<'t>,
    /// Nodes to open, the next one last.
    stack: Vec<Key>,
    /// The plan given last, and the inner borders of each of its parts.
    last: Option<(Key, Vec<usize>)>,
    /// Nodes that led to others, and that hold nothing.
    opened: u64,
    empty: u64,
}

impl<'t> Walk<'t> {
    fn new(tree: &'t Tree<'t>) -> Self {
        let key = crate::tree::Root::key;
        let stack = tree.roots.iter().rev().map(key).collect();
        Walk { tree, stack, last: None, opened: 0, empty: 0 }
    }

    fn next(&mut self) -> Option<Key> {
        if let Some((key, borders)) = &mut self.last {
            if next_cut(key, borders, self.tree.scenario.model.layers()) {
                return Some(key.clone());
            }
            self.last = None;
        }
        loop {
            let key = self.stack.pop()?;
            let root = self.tree.root(&key)?;
            let parts = self.tree.parts(root, &key);
            let head = self.tree.head();
            let mut children = Vec::new();
            if key.len() < head {
                let menu = root.menus[key.len() - 2].iter().map(|(option, _)| *option);
                for option in std::iter::once(0).chain(menu) {
                    let child = [&key[..], &[option]].concat();
                    let parts = self.tree.parts(root, &child);
                    if child.len() < head || self.tree.is_new(root, &parts) {
                        children.push(child);
                    }
                }
            } else if key.len() == head {
                let numbers: Vec<&[u32]> = parts.iter().map(|p| &self.tree.choices[*p].numbers[..]).collect();
                all_numbers(&numbers, &mut Vec::new(), &mut |counts| {
                    if self.tree.is_new_with(root, &parts, counts) {
                        children.push(self.tree.counted(&key, &parts, counts));
                    }
                });
            } else if key.len() == head + parts.len() {
                let total = self.tree.micro_batches(root.frame);
                let step = |(p, n): (&usize, u32)| (n, self.tree.choices[*p].cost.team);
                let counts: Vec<(u32, u32)> =
                    parts.iter().zip(self.tree.counts(&parts, &key)).map(step).collect();
                all_shares(&counts, total, &key, &mut children);
            } else {
                let borders: Vec<usize> =
                    parts.iter().map(|p| self.tree.choices[*p].cost.stages.len() - 1).collect();
                let mut plan = key;
                borders.iter().for_each(|n| plan.extend(1..=*n as u32));
                // Without borders the node is the plan itself.
                self.opened += u64::from(borders.iter().any(|n| *n > 0));
                self.last = Some((plan.clone(), borders));
                return Some(plan);
            }
            if children.is_empty() {
                self.empty += 1;
            } else {
                self.opened += 1;
            }
            self.stack.extend(children.into_iter().rev());
        }
    }
}

/// The next inner borders at the end of a key, the last part moving fastest; whether there are any.
fn next_cut(key: &mut [u32], borders: &[usize], layers: u32) -> bool {
    let mut end = key.len();
    for n in borders.iter().rev() {
        let mine = &mut key[end - n..end];
        // The last border that can move, and those after it behind it.
        if let Some(at) = (0..*n).rev().find(|at| mine[*at] < layers - (n - at) as u32) {
            mine[at] += 1;
            for after in at + 1..*n {
                mine[after] = mine[after - 1] + 1;
            }
            return true;
        }
        for (at, border) in mine.iter_mut().enumerate() {
            *border = at as u32 + 1;
        }
        end -= n;
    }
    false
}

/// Every number of pipelines of each part.
fn all_numbers(numbers: &[&[u32]], path: &mut Vec<u32>, give: &mut dyn FnMut(&[u32])) {
    let Some(here) = numbers.get(path.len()) else { return give(path) };
    for n in *here {
        path.push(*n);
        all_numbers(numbers, path, give);
        path.pop();
    }
}

/// Every way to share out `total` micro-batches so that each pipeline of each part has one, and those that come together as
/// many.
fn all_shares(pipelines: &[(u32, u32)], total: u32, path: &Key, list: &mut Vec<Key>) {
    let ((first, team), rest) = match pipelines.split_first() {
        Some(((first, team), [])) => {
            if total >= *first && total.is_multiple_of(*team) {
                list.push([&path[..], &[total]].concat());
            }
            return;
        }
        Some(split) => split,
        None => return,
    };
    let others: u32 = rest.iter().map(|(pipelines, _)| pipelines).sum();
    for mine in (*first..=total.saturating_sub(others)).step_by(*team as usize) {
        all_shares(rest, total - mine, &[&path[..], &[mine]].concat(), list);
    }
}
